"""Lottery tickets: sparse networks that train from early weights as well as the dense network does.

Tickets are found and tested in the float network, whose initial weights are those of every training of the project. A
quantised network would not do: its binary points are placed by trained values and its batch normalisation is folded
away, so one made from freshly drawn weights trains worse for reasons that have nothing to do with the mask, and the
test of re-drawn weights would measure that. ``deploy`` quantises a finished ticket, with its mask frozen.
"""

"""Bit widths as trained parameters: of every weight, channel or tensor, and of every activation.

The method is high-granularity quantisation (C. Sun et al., arXiv:2405.00645): numbers of fraction bits are real
parameters, rounded in the forward pass; a weight whose bits reach zero is pruned. What is charged for them here are
estimated adder bits instead of bit operations, and a controller chooses the price.
"""

"""Level-1 like events from Pythia 8 and a toy detector: objects in hardware words for every bunch crossing.

The detector is a toy with round numbers (towers of 0.087, two resolution terms, no material, no tracker): its rates
and efficiencies are not those of any experiment.
"""

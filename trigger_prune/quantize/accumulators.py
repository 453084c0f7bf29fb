"""The type of an exact accumulator."""

from __future__ import annotations

from trigger_prune.cost.network import WeightLayer
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding


def accumulator_type(layer: WeightLayer) -> FixedPoint:
    """The narrowest signed type that holds every partial sum of a layer exactly, whatever the order of summation."""
    width = max(layer.accumulator_bound.bit_length() + 1, 2)
    return FixedPoint(width, width - layer.accumulator_fraction, True, Rounding.AP_TRN, Overflow.AP_WRAP)

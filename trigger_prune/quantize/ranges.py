"""Choosing where the binary point of a weight or an activation sits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding, bits_for_range

_CANDIDATES = 5
"""How many positions of the binary point are tried, downwards from the one that holds every value."""


def best_type(values: ArrayLike, width: int, *, signed: bool, rounding: Rounding) -> FixedPoint:
    """The saturating type of ``width`` bits with the smallest mean squared error on ``values`` (any shape).

    Truncating types are judged as if half an LSB had been added, because the bias of the layer before holds it.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    largest = float(np.abs(flat).max(initial=0.0))
    top = bits_for_range(-largest if signed else 0.0, largest)[0] if largest > 0 else 0
    judged = Rounding.AP_RND if rounding is Rounding.AP_TRN else rounding
    errors = []
    for integer in range(top, top - _CANDIDATES, -1):
        trial = FixedPoint(width, integer, signed, judged, Overflow.AP_SAT)
        errors.append((float(np.square(trial.quantize(flat) - flat).mean()), -integer))
    integer = -min(errors)[1]
    return FixedPoint(width, integer, signed, rounding, Overflow.AP_SAT)


def bias_type(bias: NDArray[np.float64] | None, fraction: int) -> FixedPoint:
    """A type for biases on the accumulator's grid, with room for the bias to grow by a factor four in training."""
    largest = 4.0 * float(np.abs(bias).max(initial=0.0)) if bias is not None else 0.0
    integer = bits_for_range(-largest, largest)[0] if largest > 0 else 2 - fraction
    return FixedPoint(max(2, integer + fraction), max(integer, 2 - fraction), True, Rounding.AP_RND_CONV, Overflow.AP_SAT)

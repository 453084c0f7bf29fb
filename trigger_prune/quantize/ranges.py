"""Choosing where the binary point of a weight or an activation sits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding, bits_for_range

_MAX_BIAS_BITS = 24
"""A bias is stored as float32, which holds every code of so many bits."""

_GROWTH = 4.0
"""Room for a bias to grow in training."""


def best_type(values: ArrayLike, width: int, *, signed: bool, rounding: Rounding) -> FixedPoint:
    """The saturating type of ``width`` bits with the smallest mean squared error on ``values`` (any shape).

    All positions of the binary point are considered; of equally good ones the widest range wins. Truncating types are
    judged as if half an LSB had been added, because the bias of the layer before holds it. Raises FixedPointError for
    a value that is NaN or infinite.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    low, high = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 0.0)
    largest = max(-low, high, 0.0) if signed else max(high, 0.0)
    if largest == 0.0:
        return FixedPoint(width, 0, signed, rounding, Overflow.AP_SAT)
    judged = Rounding.AP_RND if rounding is Rounding.AP_TRN else rounding
    # The largest code is one LSB short of the power of two that the integer bits hold, so one bit more can be better;
    # with that bit nothing saturates, and every further bit only halves the grid.
    integer = bits_for_range(-largest if signed else 0.0, largest)[0] + 1
    best = FixedPoint(width, integer, signed, judged, Overflow.AP_SAT)
    smallest = _mean_square(best.quantize(flat) - flat)
    while True:
        integer -= 1
        trial = FixedPoint(width, integer, signed, judged, Overflow.AP_SAT)
        # What saturation alone costs only grows from here on.
        if _mean_square(flat - np.clip(flat, trial.min_value, trial.max_value)) >= smallest:
            return FixedPoint(width, best.integer, signed, rounding, Overflow.AP_SAT)
        error = _mean_square(trial.quantize(flat) - flat)
        if error < smallest:
            best, smallest = trial, error


def _mean_square(differences: NDArray[np.float64]) -> float:
    return float(np.square(differences).mean())


def bias_type(bias: NDArray[np.float64] | None, fraction: int, at_least: float = 0.0) -> FixedPoint:
    """A type for biases on the accumulator's grid of ``fraction`` bits, with room to grow by a factor four in training.

    at_least    magnitude that must fit in any case, so that a bias that starts at zero can move. The grid is coarser
                than asked when 24 bits would not do.
    """
    largest = max(at_least, _GROWTH * float(np.abs(bias).max(initial=0.0))) if bias is not None else 0.0
    integer = max(bits_for_range(-largest, largest)[0] if largest > 0 else 2 - fraction, 2 - fraction)
    width = min(integer + fraction, _MAX_BIAS_BITS)
    return FixedPoint(width, integer, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)

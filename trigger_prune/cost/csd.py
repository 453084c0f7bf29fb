"""Canonical signed digits: an integer as the shortest sum of signed powers of two.

Every integer has exactly one representation with digits -1, 0, 1 in which no two neighbouring digits are both non-zero,
and none has fewer non-zero digits (Reitwiesner, "Binary arithmetic", Advances in Computers 1, 1960). A product with a
constant weight then takes one shifted copy of the input per non-zero digit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def csd_count(codes: ArrayLike) -> NDArray[np.int64]:
    """Number of non-zero canonical signed digits of integers, any shape (int64 range)."""
    plus, minus = _digit_masks(codes)
    counts: NDArray[np.int64] = np.bitwise_count(plus | minus).astype(np.int64)
    return counts


def csd_digits(codes: ArrayLike) -> NDArray[np.int8]:
    """Digits of integers of any shape; the last axis, 64 or fewer long, counts powers of two upwards from 2**0."""
    plus, minus = _digit_masks(codes)
    used = int(np.bitwise_or.reduce(plus | minus, axis=None)) if plus.size else 0
    shifts = np.arange(used.bit_length(), dtype=np.uint64)
    digits = ((plus[..., None] >> shifts) & np.uint64(1)).astype(np.int8)
    digits -= ((minus[..., None] >> shifts) & np.uint64(1)).astype(np.int8)
    return digits


def _digit_masks(codes: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Bit masks of the digits +1 and of the digits -1."""
    n = np.asarray(codes, dtype=np.int64)
    magnitude = np.where(n < 0, -n, n).astype(np.uint64)  # -2**63 negates to itself and is right as unsigned
    # The bits in which n + n/2 and n/2 differ are the digits (Prodinger, Integers 0, A8, 2000).
    half = magnitude >> np.uint64(1)
    sum_ = magnitude + half
    differing = sum_ ^ half
    plus, minus = sum_ & differing, half & differing
    return np.where(n < 0, minus, plus), np.where(n < 0, plus, minus)

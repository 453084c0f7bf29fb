"""Adder trees of one weight layer, with exact integer ranges.

Every output is a sum of shifted inputs, one per non-zero canonical signed digit of its weights, plus its bias, added up
in a balanced tree. The range of every intermediate sum follows from the ranges of the inputs by interval arithmetic, so
its width is the least that can never overflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.csd import csd_digits
from trigger_prune.errors import CostError

MAX_CODE = 2**52
"""Largest accumulator whose width is computed exactly."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest code of each of some integers, both ``(n,)``; equal where the integer is a constant."""

    low: Ints
    high: Ints

    @property
    def constant(self) -> NDArray[np.bool_]:
        """True where only one value occurs: no wire is needed."""
        is_constant: NDArray[np.bool_] = self.low == self.high
        return is_constant

    @property
    def widths(self) -> Ints:
        """Bits of each integer, sign bit included where it can be negative; 0 for a constant."""
        return np.where(self.constant, 0, bit_widths(self.low, self.high))


@dataclass(frozen=True)
class AdderTrees:
    """The trees of one layer.

    adder_bits   bits of all adders; bits that pass an adder unchanged, below the other operand's LSB, are not counted
    terms        shifted inputs (and biases) that are added up
    inputs       inputs that reach any of the trees
    level_bits   widest adder of every level, first level first (``depth`` long)
    live_bits    bits alive after 0, 1, ... depth levels of adders, as if no two outputs shared anything
    sums         range of every output's accumulator, in units of the accumulator's LSB
    zero_lsbs    low bits of every output's accumulator that are always 0, ``(out,)``
    """

    adder_bits: int
    terms: int
    inputs: int
    level_bits: tuple[int, ...]
    live_bits: tuple[int, ...]
    sums: Ranges
    zero_lsbs: Ints

    @property
    def depth(self) -> int:
        """Adders on the longest path."""
        return len(self.level_bits)


def bit_widths(low: Ints, high: Ints) -> Ints:
    """Bits that hold every integer from ``low`` to ``high``, two's complement where ``low`` is negative."""
    largest = np.maximum(np.maximum(high, -low - 1), 0)
    return np.frexp(largest.astype(np.float64))[1].astype(np.int64) + (low < 0)


def build_trees(weight: Ints, bias: Ints, inputs: Ranges, name: str = "layer") -> AdderTrees:
    """Adder trees of ``weight @ x + bias``.

    weight ``(out, n)`` and bias ``(out,)`` are codes that share one accumulator LSB; ``inputs`` gives the range of
    every weight's input, either ``(n,)`` or, where outputs see different inputs, ``(out, n)``. Raises CostError when an
    accumulator could exceed 2**52, beyond which widths are no longer exact.
    """
    low, high = np.broadcast_to(inputs.low, weight.shape), np.broadcast_to(inputs.high, weight.shape)
    reach = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    bound = float((np.abs(weight).astype(np.float64) * reach).sum(axis=1).max(initial=0) + np.abs(bias).max(initial=0))
    if bound >= MAX_CODE:
        raise CostError(
            f"layer {name}: its accumulator can reach {bound:.3g} LSBs, more than 2**52",
            hint="use fewer bits for the weights or the inputs of this layer",
        )
    variable = low != high
    base = bias + np.where(variable, 0, weight * low).sum(axis=1)
    out, column, shift = np.nonzero(digits := csd_digits(np.where(variable, weight, 0)))
    sign = digits[out, column, shift].astype(np.int64)
    x_low, x_high = low[out, column], high[out, column]
    factor = sign << shift
    lows, highs = np.minimum(factor * x_low, factor * x_high), np.maximum(factor * x_low, factor * x_high)
    in_use = np.zeros(len(weight), dtype=bool)
    in_use[out] = True
    biased = np.flatnonzero(in_use & (base != 0))
    trailing_zeros = np.bitwise_count(((base[biased] & -base[biased]) - 1).astype(np.uint64)).astype(np.int64)
    outs, lsbs = np.concatenate([out, biased]), np.concatenate([shift, trailing_zeros])
    lows, highs = np.concatenate([lows, base[biased]]), np.concatenate([highs, base[biased]])
    order = np.lexsort((highs, lows, lsbs, outs))  # by LSB; the rest makes the result independent of the inputs' order
    adder_bits, level_bits, live_bits = 0, [], []
    outs, lsbs, lows, highs = outs[order], lsbs[order], lows[order], highs[order]
    while True:
        live_bits.append(int((bit_widths(lows, highs) - lsbs)[lows != highs].sum()))
        counts = np.bincount(outs, minlength=len(weight))
        if counts.max(initial=0) <= 1:
            break
        place = np.arange(len(outs)) - (np.cumsum(counts) - counts)[outs]
        left = np.flatnonzero(place % 2 == 0)
        paired = place[left] + 1 < counts[outs[left]]
        right = np.where(paired, left + 1, left)
        higher_lsb = np.maximum(lsbs[left], lsbs[right])
        lows, highs = lows[left] + np.where(paired, lows[right], 0), highs[left] + np.where(paired, highs[right], 0)
        adders = np.maximum(bit_widths(lows, highs) - higher_lsb, 1)[paired]
        adder_bits += int(adders.sum())
        level_bits.append(int(adders.max()))
        outs, lsbs = outs[left], lsbs[left]  # sorted: the left operand has the lower LSB
    sum_low, sum_high = base.copy(), base.copy()
    sum_low[outs], sum_high[outs] = lows, highs
    zero_lsbs = np.zeros(len(weight), dtype=np.int64)
    zero_lsbs[outs] = lsbs
    reached = int((digits != 0).any(axis=(0, 2)).sum())
    return AdderTrees(
        adder_bits, len(order), reached, tuple(level_bits), tuple(live_bits), Ranges(sum_low, sum_high), zero_lsbs
    )

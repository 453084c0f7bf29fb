"""What single outputs of a layer cost, for thousands of alternative weight rows at once.

The model is that of ``cost.analytic``, per output: adders of a balanced tree over canonical signed digits with exact
integer ranges (``cost.adder_tree``), the ReLU and the saturation behind them. What outputs share is not in it; the
factor of a layer (``LayerRows.factor``) makes up for that on average and comes from a measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.adder_tree import Ranges, bit_widths
from trigger_prune.cost.analytic import ADDER_LUT, RELU_LUT, SATURATION_LUT
from trigger_prune.cost.csd import csd_digits
from trigger_prune.cost.dataflow import LiveLayer, _input_ranges, live_layers
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.fixed_point import Overflow

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RowBits:
    """Bits of adders, of the ReLU and of saturation, each ``(rows,)``: of every output on its own."""

    adder: Ints
    relu: Ints
    saturation: Ints

    @property
    def cost(self) -> NDArray[np.float64]:
        """LUTs by the weights of ``cost.analytic``, without its factor for sharing."""
        total: NDArray[np.float64] = ADDER_LUT * self.adder + RELU_LUT * self.relu + SATURATION_LUT * self.saturation
        return total


@dataclass(frozen=True)
class LayerRows:
    """One layer as the model sees it.

    layer     types, ReLU and positions; its weights are not read
    inputs    range of every weight's input, ``(fan_in,)`` or ``(out, fan_in)``
    alive     ``(out,)``: only these outputs cost anything
    factor    measured cost over modelled cost of the layer
    """

    layer: WeightLayer
    inputs: Ranges
    alive: NDArray[np.bool_]
    factor: float

    def bits(self, outputs: Ints, weight: Ints, bias: Ints) -> RowBits:
        """Bits of alternative rows: ``weight`` ``(rows, fan_in)`` and ``bias`` ``(rows,)`` as codes.

        outputs   ``(rows,)``: which output each row would be, for the ranges of its inputs
        """
        ranges = self.inputs
        if ranges.low.ndim == 2:
            ranges = Ranges(ranges.low[outputs], ranges.high[outputs])
        fraction = max(
            self.layer.input_type.fraction + self.layer.weight_type.fraction,
            self.layer.bias_type.fraction,
        )
        shift = fraction - self.layer.input_type.fraction - self.layer.weight_type.fraction
        base = bias << (fraction - self.layer.bias_type.fraction)
        adder, zero_lsbs = _trees(weight << shift, base, ranges)
        at_low, at_high = (weight << shift) * ranges.low, (weight << shift) * ranges.high
        # narrower than what the tree adds up, in which 7 x is 8 x - x with both at their extremes
        sums = Ranges(base + np.minimum(at_low, at_high).sum(axis=1), base + np.maximum(at_low, at_high).sum(axis=1))
        return RowBits(adder, *self._conversions(sums, zero_lsbs, fraction))

    def costs(self, outputs: Ints, weight: Ints, bias: Ints) -> NDArray[np.float64]:
        """Modelled cost of alternative rows, all positions together; 0 for an output that is not alive."""
        cost = self.bits(outputs, weight, bias).cost * (self.factor * self.layer.positions)
        return np.where(self.alive[outputs], cost, 0.0)

    def _conversions(self, sums: Ranges, zero_lsbs: Ints, fraction: int) -> tuple[Ints, Ints]:
        """As ``cost.analytic.conversion_bits``, for every row."""
        fixed = self.layer.output_type
        dropped = 0 if fixed is None else fraction - fixed.fraction
        varies = ~sums.constant
        kept = np.maximum(bit_widths(sums.low, sums.high) - np.maximum(dropped, zero_lsbs), 0)
        rectified = varies & (sums.low < 0) & (sums.high > 0) & self.layer.relu
        relu = np.where(rectified, kept, 0)
        if fixed is None or fixed.overflow is Overflow.AP_WRAP:
            return relu, np.zeros_like(relu)
        comparisons = (np.ldexp(sums.high.astype(np.float64), -dropped) > fixed.max_code).astype(np.int64)
        if not self.layer.relu:
            comparisons += np.ldexp(sums.low.astype(np.float64), -dropped) < fixed.min_code
        return relu, np.where(varies, comparisons * (kept + fixed.width), 0)


def layer_rows(spec: NetworkSpec, factors: Mapping[str, float] | None = None) -> dict[str, LayerRows]:
    """The model of every layer with the input ranges and dead outputs of ``spec``; factor 1 where none is given."""
    rows: dict[str, LayerRows] = {}
    before: LiveLayer | None = None
    for live in live_layers(spec):
        known = before is not None and before.layer.output_type == live.layer.input_type
        inputs = _input_ranges(live.layer, before.outputs if known and before is not None else None)
        rows[live.layer.name] = LayerRows(live.layer, inputs, live.alive, (factors or {}).get(live.layer.name, 1.0))
        before = live
    return rows


def _trees(weight: Ints, base: Ints, inputs: Ranges) -> tuple[Ints, Ints]:
    """Adder bits and constant-zero low bits of every row; ``build_trees`` gives the same, summed."""
    low, high = np.broadcast_to(inputs.low, weight.shape), np.broadcast_to(inputs.high, weight.shape)
    variable = low != high
    base = base + np.where(variable, 0, weight * low).sum(axis=1)
    row, column, shift = np.nonzero(digits := csd_digits(np.where(variable, weight, 0)))
    factor = digits[row, column, shift].astype(np.int64) << shift
    at_low, at_high = factor * low[row, column], factor * high[row, column]
    used = np.zeros(len(weight), dtype=bool)
    used[row] = True
    biased = np.flatnonzero(used & (base != 0))
    trailing = np.bitwise_count(((base[biased] & -base[biased]) - 1).astype(np.uint64)).astype(np.int64)
    rows, lsbs = np.concatenate([row, biased]), np.concatenate([shift, trailing])
    lows = np.concatenate([np.minimum(at_low, at_high), base[biased]])
    highs = np.concatenate([np.maximum(at_low, at_high), base[biased]])
    order = np.lexsort((highs, lows, lsbs, rows))
    rows, lsbs, lows, highs = rows[order], lsbs[order], lows[order], highs[order]
    bits = np.zeros(len(weight), dtype=np.int64)
    while True:
        counts = np.bincount(rows, minlength=len(weight))
        if counts.max(initial=0) <= 1:
            break
        place = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
        left = np.flatnonzero(place % 2 == 0)
        paired = place[left] + 1 < counts[rows[left]]
        right = np.where(paired, left + 1, left)
        higher_lsb = np.maximum(lsbs[left], lsbs[right])
        lows, highs = lows[left] + np.where(paired, lows[right], 0), highs[left] + np.where(paired, highs[right], 0)
        rows, lsbs = rows[left], lsbs[left]
        adders = np.where(paired, np.maximum(bit_widths(lows, highs) - higher_lsb, 1), 0)
        bits += np.bincount(rows, weights=adders, minlength=len(weight)).astype(np.int64)
    zero_lsbs = np.zeros(len(weight), dtype=np.int64)
    zero_lsbs[rows] = lsbs
    return bits, zero_lsbs

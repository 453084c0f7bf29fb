"""What of a network's weights reaches the hardware: dead outputs, constants, and the exact range of every wire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.adder_tree import MAX_CODE, AdderTrees, Ranges, build_trees
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint, Overflow

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Channels = tuple[FixedPoint | None, ...]


@dataclass(frozen=True)
class LiveLayer:
    """One layer as it is built.

    alive     ``(out,)``, outputs that vary and that something later uses; only they have adders
    trees     their adder trees
    sums      range of every output's accumulator code, ``(out,)``
    outputs   range of every output's code in the output type, or its channel's own where channels differ (in
              accumulator codes where there is none), ``(out,)``
    """

    layer: WeightLayer
    alive: Bools
    trees: AdderTrees
    sums: Ranges
    outputs: Ranges


def live_layers(spec: NetworkSpec) -> tuple[LiveLayer, ...]:
    """The layers of a chain without what synthesis would remove.

    An output is a constant when its range holds one value, and dead when every weight on it that matters is zero.
    Which weights of the next layer belong to an output is known for dense on dense, convolution on convolution, and
    dense on a flattened convolution (channel first, torch's order). Where the shapes fit none of these, every output
    counts as used and may take any value of its type. A network that is no chain (a sum of two branches) must not have
    layers that fit by accident. Raises CostError for accumulators beyond 2**52.
    """
    layers = spec.layers
    inputs: list[Ranges] = []
    sums: list[Ranges] = []
    outputs: list[Ranges] = []
    for i, layer in enumerate(layers):
        before = layers[i - 1]
        known = i > 0 and before.output_type == layer.input_type and _fits(before.output_channels, layer.input_channels)
        inputs.append(_input_ranges(layer, outputs[-1] if known else None))
        sums.append(_sum_ranges(layer, inputs[-1]))
        outputs.append(_convert(sums[-1], layer))
    alive = _alive_outputs(layers, [~ranges.constant for ranges in outputs])
    return tuple(
        LiveLayer(layer, alive[i], _trees(layer, alive[i], inputs[i]), sums[i], outputs[i])
        for i, layer in enumerate(layers)
    )


def channels_in(layer: WeightLayer) -> int:
    """Inputs of a dense layer, input channels of a convolution."""
    return int(layer.weight.shape[1]) * layer.groups


def _alive_outputs(layers: tuple[WeightLayer, ...], vary: list[Bools]) -> list[Bools]:
    """Backwards: which outputs of every layer vary and are used by something that is itself alive."""
    alive = [vary[-1]] if layers else []
    for layer, following, varies in zip(layers[-2::-1], layers[:0:-1], vary[-2::-1], strict=True):
        used = _used_inputs(following, alive[0])
        n_out = len(layer.weight)
        if used.size == n_out:
            alive.insert(0, used & varies)
        elif following.kind == "dense" and layer.kind != "dense" and used.size % n_out == 0:
            alive.insert(0, np.any(used.reshape(n_out, -1), axis=1).ravel() & varies)
        else:
            alive.insert(0, varies)
    return alive


def _used_inputs(layer: WeightLayer, alive: Bools) -> Bools:
    """Inputs (channels) with a non-zero weight towards any live output."""
    per_group = (layer.weight != 0).reshape(*layer.weight.shape[:2], -1).any(axis=2) & alive[:, None]
    per_group = per_group.reshape(layer.groups, -1, layer.weight.shape[1])
    used: Bools = np.any(per_group, axis=1).ravel()
    return used


def _accumulator_codes(layer: WeightLayer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Weights ``(out, n)`` and biases ``(out,)`` in units that make every product an accumulator code."""
    fraction = layer.accumulator_fraction
    shift = fraction - layer.input_type.fraction - layer.weight_type.fraction
    weight = layer.weight.astype(np.int64)
    if layer.input_channels:
        # a channel on a coarser grid: the zeros below its LSB move into its weights
        coarser = [layer.input_type.fraction - t.fraction if t else 0 for t in layer.input_channels]
        weight = weight << _by_weight(layer, np.array(coarser, dtype=np.int64))
    weight = weight.reshape(len(weight), -1) << shift
    bias = layer.bias.astype(np.int64) << max(fraction - layer.bias_type.fraction, 0)
    return weight, bias


def _by_weight(layer: WeightLayer, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """One value per input (channel), broadcastable to the weight ``(out, in / groups, ...)``."""
    out, per_group = layer.weight.shape[:2]
    group = np.arange(out) // (out // layer.groups)
    chosen = values[group[:, None] * per_group + np.arange(per_group)]
    shaped: NDArray[np.int64] = chosen.reshape(*chosen.shape, *[1] * (layer.weight.ndim - 2))
    return shaped


def _fits(written: Channels, read: Channels) -> bool:
    """Whether the channels that a layer writes are those that the next one reads, flattened or not."""
    if not written or not read:
        return written == read
    repeat = len(read) // len(written)
    return tuple(fixed for fixed in written for _ in range(repeat)) == read


def _trees(layer: WeightLayer, alive: Bools, inputs: Ranges) -> AdderTrees:
    weight, bias = _accumulator_codes(layer)
    return build_trees(np.where(alive[:, None], weight, 0), np.where(alive, bias, 0), inputs, layer.name)


def _sum_ranges(layer: WeightLayer, inputs: Ranges) -> Ranges:
    if layer.accumulator_bound >= MAX_CODE:
        raise CostError(
            f"layer {layer.name}: its accumulator can reach {layer.accumulator_bound:.3g} LSBs, more than 2**52",
            hint="use fewer bits for the weights or the inputs of this layer",
        )
    weight, bias = _accumulator_codes(layer)
    at_low, at_high = weight * inputs.low, weight * inputs.high
    return Ranges(
        bias + np.minimum(at_low, at_high).sum(axis=1, dtype=np.int64),
        bias + np.maximum(at_low, at_high).sum(axis=1, dtype=np.int64),
    )


def _input_ranges(layer: WeightLayer, incoming: Ranges | None) -> Ranges:
    """Range of the input of every weight: ``(n,)`` for dense, ``(out, in / groups * kernel)`` for convolutions."""
    n_in, fixed = channels_in(layer), layer.input_type
    low, high = np.full(n_in, fixed.min_code), np.full(n_in, fixed.max_code)
    if layer.input_channels:
        low = np.array([t.min_code if t else 0 for t in layer.input_channels])
        high = np.array([t.max_code if t else 0 for t in layer.input_channels])
    if incoming is not None and n_in % incoming.low.size == 0:
        repeat = n_in // incoming.low.size
        if repeat == 1 or layer.kind == "dense":
            low, high = np.repeat(incoming.low, repeat), np.repeat(incoming.high, repeat)
    if layer.kind == "dense":
        return Ranges(low, high)
    # Zero padding at the borders puts 0 into every channel's range.
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    group = np.arange(len(layer.weight)) // (len(layer.weight) // layer.groups)
    channel = group[:, None] * layer.weight.shape[1] + np.arange(layer.weight.shape[1])
    kernel = layer.weight[0, 0].size
    return Ranges(np.repeat(low[channel], kernel, axis=1), np.repeat(high[channel], kernel, axis=1))


def _convert(sums: Ranges, layer: WeightLayer) -> Ranges:
    """Range after the ReLU and the conversion to the output type."""
    low, high = sums.low, sums.high
    if layer.relu:
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    fixed = layer.output_type
    if fixed is None:
        return Ranges(low, high)
    if not layer.output_channels:
        return _converted(low, high, fixed, layer.accumulator_fraction)
    parts = [
        _converted(low[channel : channel + 1], high[channel : channel + 1], each, layer.accumulator_fraction)
        if each
        else Ranges(np.zeros(1, np.int64), np.zeros(1, np.int64))
        for channel, each in enumerate(layer.output_channels)
    ]
    return Ranges(np.concatenate([part.low for part in parts]), np.concatenate([part.high for part in parts]))


def _converted(low: Ints, high: Ints, fixed: FixedPoint, accumulator_fraction: int) -> Ranges:
    """Codes in ``fixed`` of the accumulator codes from ``low`` to ``high``."""
    lsb = 2.0**-accumulator_fraction
    width = min(52, 64 + fixed.fraction)  # wide enough for any accumulator
    free = FixedPoint(width, width - fixed.fraction, True, fixed.rounding, Overflow.AP_SAT)
    first, last = free.to_code(low * lsb), free.to_code(high * lsb)
    inside = (first >= fixed.min_code) & (last <= fixed.max_code)
    if fixed.overflow in (Overflow.AP_SAT, Overflow.AP_SAT_SYM):
        return Ranges(np.clip(first, fixed.min_code, fixed.max_code), np.clip(last, fixed.min_code, fixed.max_code))
    lowest = min(fixed.min_code, 0)
    constant = low == high
    exact_first = fixed.to_code(low * lsb)
    first = np.where(inside, first, np.where(constant, exact_first, lowest))
    last = np.where(inside, last, np.where(constant, exact_first, fixed.max_code))
    return Ranges(first, last)

"""What of a network's weights reaches the hardware: dead outputs, constants, and the exact range of every wire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.adder_tree import AdderTrees, Ranges, build_trees
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.fixed_point import FixedPoint, Overflow


@dataclass(frozen=True)
class LiveLayer:
    """One layer as it is built: only outputs that something later uses.

    ``alive`` is ``(out,)``; ``fraction`` the fraction bits of the accumulator; ``outputs`` the range of every output's
    code, in the output type, or in accumulator codes where the layer has no output type.
    """

    layer: WeightLayer
    alive: NDArray[np.bool_]
    fraction: int
    trees: AdderTrees
    outputs: Ranges


def live_layers(spec: NetworkSpec) -> tuple[LiveLayer, ...]:
    """The layers of a chain without what synthesis would remove.

    An output is dead when every weight on it in the next layer is zero; an output is a constant when its range holds
    one value. Which weights of the next layer belong to an output is known for dense on dense, convolution on
    convolution, and dense on a flattened convolution (channel first, torch's order). Where the shapes fit none of
    these, every output counts as used and may take any value of its type. Raises CostError for accumulators beyond
    2**52.
    """
    layers = spec.layers
    built: list[LiveLayer] = []
    alive_next = _alive_outputs(layers)
    incoming: Ranges | None = None
    previous: FixedPoint | None = None
    for layer, alive in zip(layers, alive_next, strict=True):
        built.append(_build(layer, alive, incoming if previous == layer.input_type else None))
        incoming, previous = built[-1].outputs, layer.output_type
    return tuple(built)


def channels_in(layer: WeightLayer) -> int:
    """Inputs of a dense layer, input channels of a convolution."""
    return int(layer.weight.shape[1]) * layer.groups


def _alive_outputs(layers: tuple[WeightLayer, ...]) -> list[NDArray[np.bool_]]:
    """Backwards: which outputs of every layer are used by something that is itself used."""
    alive: list[NDArray[np.bool_]] = [np.ones(len(layers[-1].weight), dtype=bool)] if layers else []
    for layer, following in zip(layers[-2::-1], layers[:0:-1], strict=True):
        used = _used_inputs(following, alive[0])
        n_out = len(layer.weight)
        if used.size == n_out:
            alive.insert(0, used)
        elif following.kind == "dense" and layer.kind != "dense" and used.size % n_out == 0:
            alive.insert(0, np.any(used.reshape(n_out, -1), axis=1).ravel())
        else:
            alive.insert(0, np.ones(n_out, dtype=bool))
    return alive


def _used_inputs(layer: WeightLayer, alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Inputs (channels) with a non-zero weight towards any live output."""
    per_group = (layer.weight != 0).reshape(*layer.weight.shape[:2], -1).any(axis=2) & alive[:, None]
    per_group = per_group.reshape(layer.groups, -1, layer.weight.shape[1])
    used: NDArray[np.bool_] = np.any(per_group, axis=1).ravel()
    return used


def _build(layer: WeightLayer, alive: NDArray[np.bool_], incoming: Ranges | None) -> LiveLayer:
    product_fraction = layer.input_type.fraction + layer.weight_type.fraction
    fraction = max(product_fraction, layer.bias_type.fraction) if layer.bias.any() else product_fraction
    weight = (layer.weight * alive.reshape(-1, *(1 for _ in layer.weight.shape[1:]))) << (fraction - product_fraction)
    bias = np.where(alive, layer.bias, 0)
    bias = bias << max(fraction - layer.bias_type.fraction, 0)
    columns = _input_ranges(layer, incoming)
    trees = build_trees(weight.reshape(len(weight), -1), bias, columns, layer.name)
    return LiveLayer(layer, alive, fraction, trees, _convert(trees.sums, layer, fraction))


def _input_ranges(layer: WeightLayer, incoming: Ranges | None) -> Ranges:
    """Range of the input of every weight: ``(n,)`` for dense, ``(out, in / groups * kernel)`` for convolutions."""
    n_in, fixed = channels_in(layer), layer.input_type
    low, high = np.full(n_in, fixed.min_code), np.full(n_in, fixed.max_code)
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


def _convert(sums: Ranges, layer: WeightLayer, fraction: int) -> Ranges:
    """Range after the ReLU and the conversion to the output type."""
    low, high = sums.low, sums.high
    if layer.relu:
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    fixed = layer.output_type
    if fixed is None:
        return Ranges(low, high)
    lsb = 2.0**-fraction
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

"""Variants of a network: the same graph with other integers in some places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trigger_prune.fixed_point import FixedPoint, Rounding
from trigger_prune.quantize.layers import QuantWeightLayer
from trigger_prune.quantize.ranges import best_type, bias_type


@dataclass(frozen=True, eq=False)
class LayerState:
    """What a weight layer computes with: values already on their grids, and the types of those grids."""

    weight: Tensor
    bias: Tensor | None
    weight_type: FixedPoint
    bias_type: FixedPoint

    def content(self) -> tuple[bytes | None, ...]:
        """Equal for two states if and only if they compute the same."""
        return tuple(
            None if values is None else (values.detach().cpu().numpy() + 0.0).tobytes()
            for values in (self.weight, self.bias)
        )


@dataclass(frozen=True, eq=False)
class Variant:
    """A network that differs from another one in the named layers and quantisers only."""

    layers: Mapping[str, LayerState] = field(default_factory=dict)
    quantisers: Mapping[str, FixedPoint] = field(default_factory=dict)

    @property
    def changed(self) -> frozenset[str]:
        """Names of the modules that differ."""
        return frozenset((*self.layers, *self.quantisers))

    def content(self) -> tuple[object, ...]:
        """Equal for two variants of one network if and only if they compute the same."""
        return (
            tuple((name, self.layers[name].content()) for name in sorted(self.layers)),
            tuple((name, str(self.quantisers[name])) for name in sorted(self.quantisers)),
        )


def state_of(layer: QuantWeightLayer, mask: Tensor | None = None) -> LayerState:
    """The layer as it is, or with another mask."""
    with torch.no_grad():
        kept = layer.weight_mask if mask is None else mask.to(layer.weight)
        weight = layer.weight_type.fake_quantize(layer.weight * kept)
        return LayerState(weight, layer.quantized_bias(), layer.weight_type, layer.bias_type)


def requantised_state(
    layer: QuantWeightLayer,
    bits: int,
    input_fraction: int | None,
    following: FixedPoint | None,
    mask: Tensor | None = None,
) -> LayerState:
    """The layer with weights of ``bits`` bits, the binary point where it fits the kept weights best.

    input_fraction   fraction bits of the layer's input, None when it has no type
    following        type that the sums are converted to
    The bias moves to the grid of the new accumulator, as quantising the network with so many bits would have put it;
    where the input has no type it keeps its own. With the bits that the layer has already nothing changes.
    """
    if bits == layer.weight_type.width:
        return state_of(layer, mask)
    with torch.no_grad():
        kept = layer.weight * (layer.weight_mask if mask is None else mask.to(layer.weight))
        new = best_type(kept.double().cpu().numpy(), bits, signed=True, rounding=Rounding.AP_RND_CONV)
        weight = new.fake_quantize(kept)
        if layer.bias is None or input_fraction is None:
            return LayerState(weight, layer.quantized_bias(), new, layer.bias_type)
        values = layer.bias.detach().double().cpu().numpy()
        wide = bias_type(values, input_fraction + new.fraction, at_least=(following or new).max_value)
        return LayerState(weight, wide.fake_quantize(layer.bias), new, wide)


def moved_bias(layer: QuantWeightLayer, shift: float) -> LayerState:
    """The layer with ``shift`` added to its bias; its type takes a finer grid where the shift needs it."""
    state = state_of(layer)
    if state.bias is None or shift == 0.0:
        return state
    with torch.no_grad():
        bias = layer.bias.detach() + shift
        fixed = layer.bias_type
        largest = float(np.abs(bias.double().cpu().numpy()).max(initial=0.0))
        if largest > fixed.max_value:
            fixed = bias_type(np.array([largest]), fixed.fraction)
        return LayerState(state.weight, fixed.fake_quantize(bias), state.weight_type, fixed)

"""The integers of a network's weight layers: what a refinement moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trigger_prune.cost.network import NetworkSpec
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure.masks import prunable_layers

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LayerCodes:
    """Codes of one layer: ``weight`` ``(out, fan_in)`` and ``bias`` ``(out,)``; bias zeros where there is none."""

    weight: Ints
    bias: Ints

    def copy(self) -> LayerCodes:
        """Arrays of its own."""
        return LayerCodes(self.weight.copy(), self.bias.copy())


Codes = dict[str, LayerCodes]


def codes_of(spec: NetworkSpec) -> Codes:
    """The codes of every layer of ``spec``, as arrays of their own."""
    return {
        layer.name: LayerCodes(layer.weight.reshape(len(layer.weight), -1).copy(), layer.bias.copy())
        for layer in spec.layers
    }


def copy_codes(codes: Codes) -> Codes:
    """The same codes in arrays of their own."""
    return {name: layer.copy() for name, layer in codes.items()}


def with_codes(spec: NetworkSpec, codes: Mapping[str, LayerCodes]) -> NetworkSpec:
    """``spec`` with other weights and biases; layers that ``codes`` does not name stay."""
    layers = tuple(
        replace(layer, weight=codes[layer.name].weight.reshape(layer.weight.shape), bias=codes[layer.name].bias)
        if layer.name in codes
        else layer
        for layer in spec.layers
    )
    return replace(spec, layers=layers)


def write_codes(network: nn.Module, codes: Mapping[str, LayerCodes]) -> None:
    """Put the master weights and biases of ``network`` exactly on the grid values of ``codes``, in place.

    From now on exactly the weights whose code is zero are masked, so that fine-tuning keeps them; frozen layers are
    left alone.
    """
    every = weight_layers(network)
    with torch.no_grad():
        for name in prunable_layers(network):
            layer, wanted = every[name], codes[name]
            values = torch.from_numpy(wanted.weight.astype(np.float64) * layer.weight_type.lsb)
            layer.weight.copy_(values.reshape(layer.weight.shape))
            layer.weight_mask.copy_((layer.weight != 0).to(layer.weight_mask))
            if layer.bias is not None:
                layer.bias.copy_(torch.from_numpy(wanted.bias.astype(np.float64) * layer.bias_type.lsb))

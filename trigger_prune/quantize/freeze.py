"""The quantised network as plain layers that hold the quantised weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from trigger_prune.quantize.layers import WEIGHT_LAYERS, QuantConv1d, QuantLinear, QuantWeightLayer

Network = TypeVar("Network", bound=nn.Module)


def freeze(network: Network, *, double: bool = False) -> Network:
    """A copy in eval mode whose weight layers are plain nn.Linear / nn.Conv with the quantised, masked weights.

    Activation quantisers stay. It computes the same numbers as ``network`` and is what code generators trace;
    ``double`` gives float64 parameters.
    """
    frozen = copy.deepcopy(network).eval()
    plain: dict[int, nn.Module] = {}
    # a layer may be registered under two names
    for name, layer in list(frozen.named_modules(remove_duplicate=False)):
        if isinstance(layer, WEIGHT_LAYERS):
            frozen.set_submodule(name, plain.setdefault(id(layer), _plain(layer)))
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    return frozen.double() if double else frozen


def _plain(layer: QuantWeightLayer) -> nn.Module:
    has_bias = layer.bias is not None
    plain: nn.Linear | nn.Conv1d | nn.Conv2d
    if isinstance(layer, QuantLinear):
        plain = nn.Linear(layer.in_features, layer.out_features, bias=has_bias)
    else:
        kind = nn.Conv1d if isinstance(layer, QuantConv1d) else nn.Conv2d
        plain = kind(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            groups=layer.groups,
            bias=has_bias,
        )
    with torch.no_grad():
        plain.weight.copy_(layer.quantized_weight())
        bias = layer.quantized_bias()
        if bias is not None and plain.bias is not None:
            plain.bias.copy_(bias)
    return plain.to(layer.weight).eval()

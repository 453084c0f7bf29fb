"""Physically smaller layers: dropping inputs that nothing needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, QuantWeightLayer

_WITH_INPUTS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def resize_inputs(layer: Any, kept: Sequence[int]) -> None:
    """Keep only the input columns (features or channels) ``kept`` of one Linear or ungrouped Conv layer, in place."""
    if not isinstance(layer, _WITH_INPUTS) or getattr(layer, "groups", 1) != 1:
        raise ModelError(f"cannot drop inputs of {type(layer).__name__}: only Linear and ungrouped Conv layers can shrink")
    index = torch.as_tensor(list(kept), device=layer.weight.device)
    layer.weight = nn.Parameter(layer.weight.detach()[:, index].clone(), requires_grad=layer.weight.requires_grad)
    if "weight_mask" in dict(layer.named_buffers(recurse=False)):
        layer.register_buffer("weight_mask", layer.get_buffer("weight_mask")[:, index].clone())
    if isinstance(layer, nn.Linear):
        layer.in_features = len(index)
    else:
        layer.in_channels = len(index)


def input_layers(network: fx.GraphModule) -> list[QuantWeightLayer] | None:
    """The weight layers that read the network's input directly, or None when anything else reads it too.

    Only then can an input be dropped: a Flatten, a pool or a sum in between mixes features with positions.
    """
    placeholder = next(node for node in network.graph.nodes if node.op == "placeholder")
    layers = []
    for user in placeholder.users:
        layer = module_of(network, user)
        if not isinstance(layer, WEIGHT_LAYERS) or getattr(layer, "groups", 1) != 1:
            return None
        layers.append(layer)
    return layers


def merge_inputs(network: fx.GraphModule, source: int, into: int) -> None:
    """Add the weights of input ``source`` to those of input ``into`` and mask ``source``, in place.

    Exact (before quantisation) when both inputs always have the same value.
    """
    for layer in _require_input_layers(network):
        with torch.no_grad():
            kept = layer.weight * layer.weight_mask
            layer.weight[:, into] = kept[:, into] + kept[:, source]
            layer.weight_mask[:, into] = torch.maximum(layer.weight_mask[:, into], layer.weight_mask[:, source])
            layer.weight_mask[:, source] = 0


def fold_constant_input(network: fx.GraphModule, source: int, value: float) -> None:
    """Move the contribution of an input that always has one value into the biases and mask the input, in place.

    Exact for Linear layers and for convolutions without padding; a padded convolution raises ModelError.
    """
    for layer in _require_input_layers(network):
        with torch.no_grad():
            if value != 0.0:
                if layer.bias is None:
                    raise ModelError("an input is constant, but the layer that reads it has no bias to take it up")
                if not isinstance(layer, nn.Linear) and any(_as_tuple(layer.padding)):
                    raise ModelError("an input is constant, but the convolution that reads it pads with zeros")
                weight = (layer.weight * layer.weight_mask)[:, source]
                layer.bias += value * weight.reshape(len(weight), -1).sum(dim=1)
            layer.weight_mask[:, source] = 0


def used_inputs(network: fx.GraphModule) -> list[int]:
    """Inputs with at least one non-zero integer weight; all of them when the input is not read by weight layers only."""
    layers = input_layers(network)
    n_inputs = network.meta["input_shape"][0]
    if layers is None:
        return list(range(n_inputs))
    used = torch.zeros(n_inputs, dtype=torch.bool)
    for layer in layers:
        weight = layer.quantized_weight().detach().cpu()
        used |= (weight.transpose(0, 1).reshape(n_inputs, -1) != 0).any(dim=1)
    return [int(i) for i in torch.nonzero(used).ravel()]


def drop_inputs(network: fx.GraphModule, kept: Sequence[int]) -> None:
    """Shrink the network to the inputs ``kept``, in place; its input shape changes with it."""
    for layer in _require_input_layers(network):
        resize_inputs(layer, kept)
    shape = network.meta["input_shape"]
    network.meta["input_shape"] = (len(kept), *shape[1:])


def _require_input_layers(network: fx.GraphModule) -> list[QuantWeightLayer]:
    layers = input_layers(network)
    if layers is None:
        raise ModelError(
            "inputs of this network cannot be dropped: something other than a Linear or ungrouped Conv layer reads them",
            hint="set prune.drop_redundant_inputs to false",
        )
    return layers


def _as_tuple(padding: Any) -> tuple[int, ...]:
    if isinstance(padding, str):
        return (0,) if padding == "valid" else (1,)
    return tuple(padding)

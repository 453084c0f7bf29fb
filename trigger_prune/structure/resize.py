"""Physically smaller layers: dropping outputs and inputs that nothing needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, QuantWeightLayer, weight_layers
from trigger_prune.quantize.ranges import best_type, bias_type

_WITH_INPUTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def resize_layer(layer: Any, outputs: Sequence[int], inputs: Sequence[int]) -> None:
    """Keep only the outputs and the inputs (features or channels) given of one Linear or Conv layer, in place.

    Of a grouped convolution whole groups go where neither an output nor an input of them is kept; the groups that are
    left must keep equally many of each. Weight, bias and mask (of a quantised layer) shrink together.
    Raises ModelError for another layer, for indices that are none, repeated or not there, and for uneven groups.
    """
    if not isinstance(layer, _WITH_INPUTS):
        raise ModelError(f"cannot shrink a {type(layer).__name__}: only Linear and Conv layers can")
    groups = getattr(layer, "groups", 1)
    n_outputs, per_group = layer.weight.shape[:2]
    for what, kept, count in (("outputs", outputs, n_outputs), ("inputs", inputs, per_group * groups)):
        if not kept or len(set(kept)) != len(kept) or not all(0 <= index < count for index in kept):
            raise ModelError(f"{list(kept)} are not {what} of a layer that has {count}")
    rows, columns = _by_group(outputs, groups, n_outputs // groups), _by_group(inputs, groups, per_group)
    used = [group for group in range(groups) if rows[group] or columns[group]]
    if len({(len(rows[group]), len(columns[group])) for group in used}) != 1:
        raise ModelError("the groups of a convolution must keep equally many outputs and inputs")

    def cut(values: Tensor) -> Tensor:
        parts = values.reshape(groups, -1, *values.shape[1:])
        return torch.cat([parts[group][rows[group]][:, columns[group]] for group in used])

    _set_parameter(layer, "weight", cut(layer.weight.detach()))
    if layer.bias is not None:
        bias = layer.bias.detach().reshape(groups, -1)
        _set_parameter(layer, "bias", torch.cat([bias[group][rows[group]] for group in used]))
    if "weight_mask" in dict(layer.named_buffers(recurse=False)):
        layer.register_buffer("weight_mask", cut(layer.get_buffer("weight_mask")))
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = len(inputs), len(outputs)
    else:
        layer.in_channels, layer.out_channels, layer.groups = len(inputs), len(outputs), len(used)


def resize_inputs(layer: Any, kept: Sequence[int]) -> None:
    """Keep only the input columns (features or channels) ``kept`` of one Linear or ungrouped Conv layer, in place.

    Raises ModelError for another layer, and for columns that are none, repeated or not there.
    """
    if not isinstance(layer, _WITH_INPUTS) or getattr(layer, "groups", 1) != 1:
        raise ModelError(
            f"cannot drop inputs of {type(layer).__name__}: only Linear and ungrouped Conv layers can shrink"
        )
    resize_layer(layer, range(layer.weight.shape[0]), kept)


def resize_norm(norm: Any, kept: Sequence[int]) -> None:
    """Keep only the channels ``kept`` of a BatchNorm, in place."""
    index = torch.as_tensor(list(kept), device=norm.running_mean.device)
    for name in ("weight", "bias"):
        if getattr(norm, name) is not None:
            _set_parameter(norm, name, getattr(norm, name).detach()[index])
    for name in ("running_mean", "running_var"):
        norm.register_buffer(name, norm.get_buffer(name)[index].clone())
    norm.num_features = len(index)


def _set_parameter(module: nn.Module, name: str, value: Tensor) -> None:
    setattr(module, name, nn.Parameter(value.clone(), requires_grad=getattr(module, name).requires_grad))


def _by_group(indices: Sequence[int], groups: int, size: int) -> list[list[int]]:
    """Indices within each group, in the order given."""
    return [[index - group * size for index in indices if index // size == group] for group in range(groups)]


def input_layers(network: nn.Module) -> list[QuantWeightLayer] | None:
    """The weight layers that read the network's input directly, or None when anything else reads it too (or may do so,
    because the network is no graph).

    Only then can an input be dropped: a Flatten, a pool or a sum in between mixes features with positions, a grouped
    convolution ties channels together, and a frozen layer stays as the user made it.
    """
    if not isinstance(network, fx.GraphModule):
        return None
    placeholder = next(node for node in network.graph.nodes if node.op == "placeholder")
    layers = []
    for user in placeholder.users:
        layer = module_of(network, user)
        if not isinstance(layer, WEIGHT_LAYERS) or getattr(layer, "groups", 1) != 1 or not layer.weight.requires_grad:
            return None
        layers.append(layer)
    return layers or None


def merge_inputs(network: fx.GraphModule, source: int, into: int) -> None:
    """Add the weights of input ``source`` to those of input ``into`` and mask ``source``, in place.

    Exact (before quantisation) when both inputs always have the same value. A sum that does not fit the layer's weight
    type gives the layer a new type of the same width; its bias type, on the finer of the two grids, stays.
    """
    layers = _require_input_layers(network, source, into)
    if source == into:
        raise ModelError(f"input {source} cannot be merged into itself")
    for layer in layers:
        with torch.no_grad():
            kept = layer.weight * layer.weight_mask
            layer.weight[:, into] = kept[:, into] + kept[:, source]
            layer.weight_mask[:, into] = torch.maximum(layer.weight_mask[:, into], layer.weight_mask[:, source])
            layer.weight_mask[:, source] = 0
        _refit_weight_type(layer, into)


def _refit_weight_type(layer: QuantWeightLayer, column: int) -> None:
    """A new binary point, if the weights of one input saturate."""
    old = layer.weight_type
    weight = (layer.weight * layer.weight_mask).detach().double().cpu().numpy()
    margin = old.lsb / 2
    if weight[:, column].max() > old.max_value + margin or weight[:, column].min() < old.min_value - margin:
        layer.weight_type = best_type(weight, old.width, signed=old.signed, rounding=old.rounding)


def fold_constant_input(network: fx.GraphModule, source: int, value: float) -> None:
    """Move the contribution of an input that always has one value into the biases and mask the input, in place.

    value   on the input grid; the quantised network's outputs stay the same bit for bit

    Raises ModelError, and changes nothing, for a layer without bias and for a convolution with padding, which sees
    zeros instead of ``value`` at the border.
    """
    layers = _require_input_layers(network, source)
    for layer in layers if value != 0.0 else []:
        if layer.bias is None:
            raise ModelError("an input is constant, but the layer that reads it has no bias to take it up")
        if not isinstance(layer, nn.Linear) and _pads(layer):
            raise ModelError("an input is constant, but the convolution that reads it pads with zeros")
    for layer in layers:
        with torch.no_grad():
            weight = layer.quantized_weight()[:, source]
            layer.weight_mask[:, source] = 0
            if value != 0.0:
                layer.bias.copy_(layer.quantized_bias())
                layer.bias += value * weight.reshape(len(weight), -1).sum(dim=1)
        bias = None if layer.bias is None else layer.bias.detach().double().cpu().numpy()
        if bias is not None and abs(bias).max() > layer.bias_type.max_value:
            layer.bias_type = bias_type(bias, layer.bias_type.fraction)


def remember_full_shapes(network: nn.Module) -> None:
    """Note shapes before the first shrink: a stored network is compared with its float model by them."""
    shapes = {name: tuple(layer.weight.shape) for name, layer in weight_layers(network).items()}
    meta: Any = network.meta
    meta.setdefault("full_shapes", shapes)


def drop_inputs(network: fx.GraphModule, kept: Sequence[int]) -> None:
    """Shrink the network to the inputs ``kept``, in place; its input shape changes with it."""
    remember_full_shapes(network)
    for layer in _require_input_layers(network):
        resize_inputs(layer, kept)
    shape = network.meta["input_shape"]
    network.meta["input_shape"] = (len(kept), *shape[1:])


def _require_input_layers(network: fx.GraphModule, *inputs: int) -> list[QuantWeightLayer]:
    layers = input_layers(network)
    if layers is None:
        raise ModelError(
            "inputs of this network cannot be dropped: something other than trained Linear or ungrouped Conv layers "
            "reads them",
            hint="set prune.drop_redundant_inputs to false",
        )
    for index in inputs:
        if not 0 <= index < network.meta["input_shape"][0]:
            raise ModelError(f"the network has no input {index}; it takes {network.meta['input_shape'][0]}")
    return layers


def _pads(layer: Any) -> bool:
    if isinstance(layer.padding, str):
        return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)
    return any(layer.padding)

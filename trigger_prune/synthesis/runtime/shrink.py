"""Takes dead neurons out of a quantised network, for processors, which multiply zeros like all other numbers.

A neuron (a filter of a convolution) is dead when all its weights are zero, so that its output never changes, or when
nothing reads it. The first kind moves into the biases of the layer behind it. The smaller network has the same outputs,
bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.graph import PASS_THROUGH, module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer
from trigger_prune.quantize.ranges import bias_type
from trigger_prune.structure.resize import resize_inputs

_FLOAT32_BITS = 24


@dataclass(frozen=True)
class Shrunk:
    """The smaller network; ``removed`` counts neurons by layer, and ``remark`` says why nothing could be removed."""

    network: fx.GraphModule
    removed: dict[str, int]
    remark: str = ""


@dataclass(frozen=True)
class _Pair:
    """Two ungrouped weight layers, and what lies between: operations that treat every channel on its own."""

    name: str
    first: Any
    between: tuple[nn.Module, ...]
    last: Any
    positions: tuple[int, ...]  # shape of one channel of the first one's output; () of a Linear


def remove_dead_neurons(network: fx.GraphModule) -> Shrunk:
    """A smaller copy of a quantised network; ``network`` itself is left as it was.

    Outputs of the network and its inputs stay. A network in which a wire has two readers (sums, concatenations) is
    returned whole: a channel there is tied to others.
    """
    network = copy.deepcopy(network).cpu()
    pairs = _pairs(network)
    if pairs is None:
        return Shrunk(network, {}, "the network branches: its neurons are tied to each other and none was removed")
    removed: dict[str, int] = {}
    changed = True
    while changed:
        changed = False
        for pair in pairs:
            count = _shrink(pair)
            removed[pair.name] = removed.get(pair.name, 0) + count
            changed = changed or count > 0
    return Shrunk(network, {name: count for name, count in removed.items() if count})


def _pairs(network: fx.GraphModule) -> list[_Pair] | None:
    with torch.no_grad():
        ShapeProp(network).propagate(torch.zeros((1, *input_shape_of(network))))
    pairs: list[_Pair] = []
    first: fx.Node | None = None
    between: list[nn.Module] = []
    for node in network.graph.nodes:
        if node.op == "output":
            break
        if len(node.users) != 1 or node.op not in ("placeholder", "call_module"):
            return None
        module: Any = module_of(network, node)
        if isinstance(module, WEIGHT_LAYERS) and getattr(module, "groups", 1) == 1:
            if first is not None:
                positions = tuple(first.meta["tensor_meta"].shape[2:])
                pairs.append(_Pair(str(first.target), module_of(network, first), tuple(between), module, positions))
            first, between = node, []
        elif first is not None and _channel_wise(module):
            between.append(module)
        else:
            first = None
    return pairs


def _channel_wise(module: Any) -> bool:
    if isinstance(module, WEIGHT_LAYERS):
        return bool(getattr(module, "groups", 1) == module.weight.shape[0])
    return isinstance(module, (nn.ReLU, FixedQuantizer, *PASS_THROUGH))


def _shrink(pair: _Pair) -> int:
    """Remove what is dead between the two layers now; returns the number of neurons."""
    channels = pair.first.weight.shape[0]
    values = _constant_values(pair)
    per_channel = values.numel() // channels
    readers = pair.last.quantized_weight().detach().double()
    if isinstance(pair.last, nn.Linear):
        columns = readers.reshape(len(readers), channels, per_channel)
        contribution = torch.einsum("ocp,cp->oc", columns, values.reshape(channels, per_channel))
        same = torch.ones(channels, dtype=torch.bool)
    else:
        columns = readers.reshape(len(readers), channels, -1)
        value = values.reshape(channels, per_channel)
        same = (value == value[:, :1]).all(dim=1)
        if _pads(pair.last):
            same &= value[:, 0] == 0  # at the border the convolution sees zeros instead
        contribution = columns.sum(dim=2) * value[:, 0]
    unread = (columns == 0).all(dim=2).all(dim=0)
    silent = (pair.first.quantized_weight().detach().reshape(channels, -1) == 0).all(dim=1) & same
    no_effect = (contribution == 0).all(dim=0)
    for moved in (silent & ~unread, silent & ~unread & no_effect):
        dead = unread | moved
        if dead.all():
            dead[0] = False  # a layer without neurons cannot be computed
        if _fold(pair, contribution[:, moved & dead].sum(dim=1)):
            break
    if dead.any():
        _resize(pair, [int(index) for index in torch.nonzero(~dead).ravel()], per_channel)
    return int(dead.sum())


def _constant_values(pair: _Pair) -> Tensor:
    """What the layer behind sees of every neuron that always gives its bias, ``(channels, ...)`` or flattened."""
    bias = pair.first.quantized_bias()
    channels = pair.first.weight.shape[0]
    start = torch.zeros(channels) if bias is None else bias.detach()
    x = start.double().reshape(1, channels, *[1] * len(pair.positions)).expand(1, channels, *pair.positions)
    with torch.no_grad():
        for module in pair.between:
            x = copy.deepcopy(module).double()(x)
    return x[0]


def _fold(pair: _Pair, contribution: Tensor) -> bool:
    """Add a constant to the last layer's biases; False, and nothing is changed, where that is not exact."""
    if not contribution.any():
        return True
    layer = pair.last
    if layer.bias is None:
        return False
    bias = (layer.quantized_bias().detach().double() + contribution).numpy()
    fixed = _type_for(bias, layer.bias_type)
    if fixed is None or (bias.astype(np.float32) != bias).any():
        return False
    with torch.no_grad():
        layer.bias.copy_(torch.from_numpy(bias))
    layer.bias_type = fixed
    return True


def _type_for(bias: Any, old: FixedPoint) -> FixedPoint | None:
    """A type that holds ``bias`` exactly: the old one, or one with a finer grid; None when 24 bits do not do."""
    if old.contains(bias).all():
        return old
    for fraction in range(old.fraction, old.fraction + _FLOAT32_BITS):
        fixed = bias_type(bias, fraction)
        if fixed.contains(bias).all():
            return fixed
    return None


def _resize(pair: _Pair, kept: Sequence[int], per_channel: int) -> None:
    for layer in (pair.first, *(module for module in pair.between if isinstance(module, WEIGHT_LAYERS))):
        _keep_outputs(layer, kept)
    if isinstance(pair.last, nn.Linear):
        kept = [channel * per_channel + offset for channel in kept for offset in range(per_channel)]
    resize_inputs(pair.last, kept)


def _keep_outputs(layer: Any, kept: Sequence[int]) -> None:
    index = torch.as_tensor(list(kept))
    for name in ("weight", "bias"):
        old = getattr(layer, name)
        if old is not None:
            setattr(layer, name, nn.Parameter(old.detach()[index].clone(), requires_grad=old.requires_grad))
    layer.weight_mask = layer.weight_mask[index].clone()
    if isinstance(layer, nn.Linear):
        layer.out_features = len(index)
        return
    layer.out_channels = len(index)
    if layer.groups > 1:  # one filter per channel
        layer.in_channels = layer.groups = len(index)


def _pads(layer: Any) -> bool:
    if isinstance(layer.padding, str):
        return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)
    return any(layer.padding)

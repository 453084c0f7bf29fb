"""Physical shrink of a quantised network: the same outputs, bit for bit, from fewer neurons and inputs.

torch-pruning's dependency graph is not used here. It follows autograd, where the fake quantisation of every weight
shows up as one more operation, and it misplaces columns behind a concatenation that follows a flatten or reads an input
directly (seen with 1.6.1). Quantised networks consist of few kinds of operations, which ``follow_wires`` knows all.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.layers import ChannelQuantizer, QuantWeightLayer, weight_layers
from trigger_prune.quantize.ranges import bias_type
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.structure.resize import remember_full_shapes, resize_layer
from trigger_prune.structure.shrink.choice import Choice, choose, reason_for
from trigger_prune.structure.shrink.wires import Analysis, follow_wires

_FLOAT32_BITS = 24


@dataclass(frozen=True)
class ShrunkNetwork:
    """A quantised network without what has no effect.

    network          reads ``x[:, kept_inputs]`` of the events that the network before read
    removed          by layer: indices of the neurons or filters that are gone, counted in the network before
    kept_inputs      features it still reads, and ``dropped_inputs`` those that the firmware no longer needs; both count
                     the second axis of the events of the network before
    remarks          neurons without effect that stay, and why
    """

    network: fx.GraphModule
    removed: dict[str, tuple[int, ...]]
    kept_inputs: tuple[int, ...]
    dropped_inputs: tuple[int, ...]
    remarks: tuple[str, ...]


def shrink_network(network: fx.GraphModule, *, keep_inputs: bool = False) -> ShrunkNetwork:
    """A smaller copy of a quantised network on the CPU; ``network`` itself is left as it was.

    Removed are neurons, filters and inputs that nothing reads, and neurons whose output is the same for every input
    that the input type can hold (because all their weights are masked or rounded to zero, or because their sum never
    leaves the flat part of the ReLU or of the quantiser): their constant goes through the activation quantiser into
    the biases behind it, whose types are widened where needed. That is repeated until nothing more can go. A layer that
    loses all its neurons keeps one. With ``keep_inputs`` the network reads the same events as before.
    A weights-only network loses attention heads as well, see ``shrink_weights_only``.
    """
    if is_weights_only(network):
        from trigger_prune.structure.shrink.weights_only import shrink_weights_only

        return shrink_weights_only(network, keep_inputs=keep_inputs)
    smaller = copy.deepcopy(network).cpu()
    remember_full_shapes(smaller)
    rows = {name: list(range(layer.weight.shape[0])) for name, layer in weight_layers(smaller).items()}
    full = {name: len(kept) for name, kept in rows.items()}
    features = list(range(input_shape_of(smaller)[0]))
    while True:
        analysis = _analyse(smaller)
        choice = _foldable(analysis, keep_inputs)
        if choice.is_empty:
            break
        _apply(smaller, analysis, choice)
        for name, part in choice.layers.items():
            rows[name] = _kept(rows[name], part.outputs)
        (gone,) = choice.features.values()
        features = _kept(features, gone)
    removed = {name: tuple(sorted(set(range(full[name])) - set(kept))) for name, kept in rows.items()}
    dropped = tuple(sorted(set(range(input_shape_of(network)[0])) - set(features)))
    return ShrunkNetwork(
        smaller,
        {name: indices for name, indices in removed.items() if indices},
        tuple(features),
        dropped,
        _remarks(analysis, choice, rows),
    )


def drop_unread_inputs(network: fx.GraphModule) -> tuple[int, ...]:
    """Take the inputs that only zero weights read out of ``network``, in place; returns the indices that are kept.

    Neurons stay, but for those that cannot exist without such an input (a sum of the input and a layer).
    """
    remember_full_shapes(network)
    analysis = _analyse(network)
    choice = choose(analysis, neurons=False)
    (gone,) = choice.features.values()
    _apply(network, analysis, choice)
    return tuple(_kept(list(range(len(gone))), gone))


def _analyse(network: fx.GraphModule) -> Analysis:
    parameter = next(network.parameters())
    example = torch.zeros((1, *input_shape_of(network)), device=parameter.device, dtype=parameter.dtype)
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        return follow_wires(network, (example,), input_type_of(network))
    finally:
        for module, mode in modes.items():
            module.training = mode


def _foldable(analysis: Analysis, keep_inputs: bool) -> Choice:
    """The largest choice whose constants all fit into biases."""
    stay: set[str] = set()
    while True:
        choice = choose(analysis, inputs=not keep_inputs, stay=stay)
        unfit = {
            name
            for name, part in choice.layers.items()
            if part.contribution.any() and _folded_bias(analysis.layers[name].module, part.contribution) is None
        }
        if not unfit - stay:
            return choice
        stay |= unfit


def _apply(network: fx.GraphModule, analysis: Analysis, choice: Choice) -> None:
    for name, part in choice.layers.items():
        module = analysis.layers[name].module
        module.weight_mask[part.fillers.to(module.weight_mask.device)] = 0
        if part.contribution.any():
            _fold(module, part.contribution)
        if part.outputs.any() or part.inputs.any():
            resize_layer(module, _indices(~part.outputs), _indices(~part.inputs))
        if name in (scales := network.meta.get("batch_norm_scales", {})):
            scales[name] = scales[name][~part.outputs.cpu()]
    for name, gone in choice.norms.items():
        quantizer = network.get_submodule(name)
        if isinstance(quantizer, ChannelQuantizer):
            left = [quantizer.types[index] for index in _indices(~gone)]
            network.set_submodule(name, ChannelQuantizer(left))
    (gone,) = choice.features.values()
    shape = input_shape_of(network)
    network.meta["input_shape"] = (len(gone) - int(gone.sum()), *shape[1:])


def _folded_bias(layer: QuantWeightLayer, contribution: Tensor) -> tuple[NDArray[Any], FixedPoint] | None:
    """The bias with the contribution in it, and a type that holds it exactly; None when 24 bits do not do."""
    bias = layer.quantized_bias()
    before = torch.zeros(len(contribution)) if bias is None else bias.detach().cpu()
    values = (before.double() + contribution).numpy()
    if (values.astype(np.float32) != values).any():
        return None
    if bias is not None and layer.bias_type.contains(values).all():
        return values, layer.bias_type
    for fraction in range(layer.bias_type.fraction, layer.bias_type.fraction + _FLOAT32_BITS):
        fixed = bias_type(values, fraction)
        if fixed.contains(values).all():
            return values, fixed
    return None


def _fold(layer: QuantWeightLayer, contribution: Tensor) -> None:
    folded = _folded_bias(layer, contribution)
    if folded is None:
        return
    values, fixed = folded
    value = torch.from_numpy(values).to(layer.weight)
    if layer.bias is None:
        layer.bias = nn.Parameter(value, requires_grad=layer.weight.requires_grad)
    else:
        with torch.no_grad():
            layer.bias.copy_(value)
    layer.bias_type = fixed


def _remarks(analysis: Analysis, choice: Choice, rows: dict[str, list[int]]) -> tuple[str, ...]:
    found: list[str] = []
    for name, layer in analysis.layers.items():
        silent = (layer.module.quantized_weight().detach() == 0).flatten(1).all(dim=1)
        by_reason: dict[str, list[int]] = {}
        for index in _indices(silent):
            by_reason.setdefault(reason_for(analysis, choice, layer.outputs[index]), []).append(rows[name][index])
        found += [f"{name}: neurons {indices} have no weights but stay: {why}" for why, indices in by_reason.items()]
    return tuple(found)


def _kept(items: list[int], gone: Tensor) -> list[int]:
    return [item for item, out in zip(items, gone.tolist(), strict=True) if not out]


def _indices(chosen: Tensor) -> list[int]:
    return [int(index) for index in torch.nonzero(chosen).flatten()]

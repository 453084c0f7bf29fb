"""Physical shrink of a network with float activations: attention heads, and what its traced graph shows to be idle."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.graph import trace
from trigger_prune.quantize.layers import QuantWeightLayer, weight_layers
from trigger_prune.quantize.weights_only import float_bias_type
from trigger_prune.structure.resize import remember_full_shapes, resize_layer, resize_norm
from trigger_prune.structure.shrink.choice import Choice, choose, reason_for
from trigger_prune.structure.shrink.heads import attention_blocks, shrink_heads
from trigger_prune.structure.shrink.quantised import ShrunkNetwork
from trigger_prune.structure.shrink.wires import Analysis, follow_wires

_CHECKED_EVENTS = 64
_TOLERANCE = 1e-6
"""Of the largest output: constants move into float32 biases, which rounds them."""


def shrink_weights_only(network: nn.Module, *, keep_inputs: bool = False) -> ShrunkNetwork:
    """A smaller copy of a weights-only network on the CPU; ``network`` itself is left as it was.

    Heads that add nothing go first, as in ``shrink_heads``; ``removed`` lists them by attention block. Then neurons,
    filters and inputs go as in ``shrink_network``, as far as torch.fx can trace the forward and the operations between
    two layers are known; a width that a normalisation or a reshape depends on stays. Outputs agree with those before to
    1e-6 of the largest one, which is checked on random events. Raises ModelError when they do not.
    """
    smaller = copy.deepcopy(network).cpu()
    remember_full_shapes(smaller)
    removed: dict[str, tuple[int, ...]] = {}
    if any(True for _ in attention_blocks(smaller)):
        found = shrink_heads(smaller)
        smaller, removed = found.model, dict(found.removed)
    rows = {name: list(range(len(layer.weight))) for name, layer in weight_layers(smaller).items()}
    full = {name: len(kept) for name, kept in rows.items()}
    features = list(range(input_shape_of(smaller)[0]))
    remarks: tuple[str, ...] = ()
    while True:
        try:
            analysis = _analyse(smaller)
        except ModelError as error:
            remarks = (f"only attention heads were looked at: {error.message}",)
            break
        choice = choose(analysis, inputs=not keep_inputs)
        if choice.is_empty:
            remarks = _remarks(analysis, choice, rows)
            break
        _apply(smaller, choice)
        for name, part in choice.layers.items():
            rows[name] = _kept(rows[name], part.outputs)
        (gone,) = choice.features.values()
        features = _kept(features, gone)
    _require_same(network, smaller, features)
    for name, kept in rows.items():
        if len(kept) < full[name]:
            removed[name] = tuple(sorted(set(range(full[name])) - set(kept)))
    dropped = tuple(sorted(set(range(input_shape_of(network)[0])) - set(features)))
    return ShrunkNetwork(smaller, removed, tuple(features), dropped, remarks)  # type: ignore[arg-type]


def removable_units(network: nn.Module) -> dict[str, Tensor]:
    """By weight layer: number of each output, int64; equal numbers only leave together, -1 never leaves.

    Raises ModelError for a forward that cannot be traced.
    """
    analysis = _analyse(copy.deepcopy(network).cpu())
    ties = analysis.ties
    stay = {*ties.kept, *(root for ids in analysis.features.values() for root in ties.roots(ids).tolist())}
    found = {name: ties.roots(layer.outputs) for name, layer in analysis.layers.items()}
    return {
        name: torch.tensor([-1 if root in stay else root for root in found[name].tolist()])
        if name in found
        else torch.full((len(layer.weight),), -1)
        for name, layer in weight_layers(network).items()
    }


def _analyse(network: nn.Module) -> Analysis:
    parameter = next(network.parameters())
    example = torch.zeros((1, *input_shape_of(network)), dtype=parameter.dtype)
    analysis = follow_wires(trace(network), (example,), input_type_of(network))
    twins = weight_layers(network)
    for name, layer in analysis.layers.items():
        if name not in twins:
            for numbers in (layer.inputs, layer.outputs):
                analysis.ties.keep(numbers, f"layer {name!r} is not quantised")
    return analysis


def _apply(network: nn.Module, choice: Choice) -> None:
    layers = weight_layers(network)
    for name, part in choice.layers.items():
        if name not in layers:
            continue
        layer = layers[name]
        layer.weight_mask[part.fillers] = 0
        if part.contribution.any():
            _fold(layer, part.contribution)
        if part.outputs.any() or part.inputs.any():
            resize_layer(layer, _indices(~part.outputs), _indices(~part.inputs))
    for name, gone in choice.norms.items():
        if gone.any():
            resize_norm(network.get_submodule(name), _indices(~gone))
    (gone,) = choice.features.values()
    shape, meta = input_shape_of(network), _meta(network)
    meta["input_shape"] = (len(gone) - int(gone.sum()), *shape[1:])


def _fold(layer: QuantWeightLayer, contribution: Tensor) -> None:
    bias = layer.quantized_bias()
    value = contribution.to(layer.weight) if bias is None else bias.detach() + contribution.to(layer.weight)
    if layer.bias is None:
        layer.bias = nn.Parameter(value, requires_grad=layer.weight.requires_grad)
    else:
        with torch.no_grad():
            layer.bias.copy_(value)
    if float(value.abs().max()) > layer.bias_type.max_value:
        layer.bias_type = float_bias_type(float(value.abs().max()))


def _require_same(before: nn.Module, after: nn.Module, features: list[int]) -> None:
    fixed, rng = input_type_of(before), np.random.default_rng(0)
    codes = rng.integers(fixed.min_code, fixed.max_code, (_CHECKED_EVENTS, *input_shape_of(before)), endpoint=True)
    events = torch.from_numpy(codes * fixed.lsb)
    with torch.no_grad():
        expected, found = _double(before)(events), _double(after)(events[:, features])
    difference = float((expected - found).abs().max())
    if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise ModelError(
            f"{type(before).__name__}: the shrunk network differs from the masked one by {difference:g}",
            hint="report this model; prune single weights (structure weight) until then",
        )


def _double(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).cpu().double().eval()


def _remarks(analysis: Analysis, choice: Choice, rows: dict[str, list[int]]) -> tuple[str, ...]:
    found: list[str] = []
    for name, layer in analysis.layers.items():
        if name not in rows:
            continue
        silent = (layer.module.quantized_weight().detach() == 0).flatten(1).all(dim=1)
        by_reason: dict[str, list[int]] = {}
        for index in _indices(silent):
            by_reason.setdefault(reason_for(analysis, choice, layer.outputs[index]), []).append(rows[name][index])
        found += [f"{name}: neurons {indices} have no weights but stay: {why}" for why, indices in by_reason.items()]
    return tuple(found)


def _meta(network: nn.Module) -> dict[str, Any]:
    meta: Any = network.meta
    return meta  # type: ignore[no-any-return]


def _kept(items: list[int], gone: Tensor) -> list[int]:
    return [item for item, out in zip(items, gone.tolist(), strict=True) if not out]


def _indices(chosen: Tensor) -> list[int]:
    return [int(index) for index in torch.nonzero(chosen).flatten()]

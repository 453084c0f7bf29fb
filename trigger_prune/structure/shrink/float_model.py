"""Physical shrink of a float model: real smaller layers that compute what the masked ones compute in eval mode."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.graph import trace
from trigger_prune.structure.shrink.choice import Choice, choose, reason_for
from trigger_prune.structure.shrink.dependency_graph import remove_channels
from trigger_prune.structure.shrink.operations import PLAIN_LAYERS
from trigger_prune.structure.shrink.wires import Analysis, follow_wires

_CHECKED_EVENTS = 64
_CHECK_TOLERANCE = 1e-5
"""Of the largest output. Constants move into float32 biases, which rounds them."""


@dataclass(frozen=True)
class ShrunkModel:
    """A float model without what its masks removed.

    model         of the class of the one before; its inputs are ``x[:, kept]`` with ``kept`` from ``kept_inputs``
    removed       by layer: indices of the neurons or filters that are gone, counted in the model before
    kept_inputs   for every input of the forward, the indices along its second axis that are still read
    remarks       masked neurons that stay, and why; layers that torch-pruning did not follow
    """

    model: nn.Module
    removed: dict[str, tuple[int, ...]]
    kept_inputs: tuple[tuple[int, ...], ...]
    remarks: tuple[str, ...]


def shrink_model(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    example_inputs: Tensor | Sequence[Tensor],
    *,
    keep_inputs: bool = False,
) -> ShrunkModel:
    """A smaller copy of ``model`` whose weights are masked; ``model`` itself is left as it was.

    masks            0/1 for every weight of a Linear or Conv layer, by its name; layers without a mask are whole
    example_inputs   what the forward takes, with the batch axis (one event is enough)
    keep_inputs      leave the inputs as they are

    Neurons and filters that nothing reads go, and those that are constant in eval mode, with their BatchNorm entries:
    the constant moves into the biases (or the BatchNorm) behind them. What is removed together comes from
    torch-pruning's dependency graph (G. Fang et al., CVPR 2023) where it agrees with the traced graph. Before it is
    returned the model is compared with the masked one on random inputs, in float64.
    Raises ModelError for masks that do not fit, a forward that torch.fx cannot trace, and outputs that differ.
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    masked = _masked(model, masks)
    smaller = copy.deepcopy(masked)
    rows = {
        name: list(range(layer.weight.shape[0]))
        for name, layer in smaller.named_modules()
        if isinstance(layer, PLAIN_LAYERS)
    }
    before = {name: len(kept) for name, kept in rows.items()}
    kept_inputs = [list(range(x.shape[1])) for x in inputs]
    remarks: dict[str, None] = {}
    while True:
        example = tuple(x[:1][:, kept] for x, kept in zip(inputs, kept_inputs, strict=True))
        analysis = follow_wires(trace(smaller), example, None)
        choice = choose(analysis, inputs=not keep_inputs)
        if choice.is_empty:
            break
        _fold(smaller, analysis, choice)
        remarks |= dict.fromkeys(remove_channels(smaller, example, analysis, choice))
        for name, part in choice.layers.items():
            rows[name] = _kept(rows[name], part.outputs)
        kept_inputs = [_kept(kept, gone) for kept, gone in zip(kept_inputs, choice.features.values(), strict=True)]
    _require_same(masked, smaller, inputs, kept_inputs)
    removed = {name: tuple(sorted(set(range(before[name])) - set(kept))) for name, kept in rows.items()}
    return ShrunkModel(
        smaller,
        {name: indices for name, indices in removed.items() if indices},
        tuple(tuple(kept) for kept in kept_inputs),
        (*remarks, *_stayed(analysis, choice, rows)),
    )


def _masked(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    try:
        masked = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied: {error}",
            hint="make weight normalisation and torch.nn.utils.prune masks permanent (remove_weight_norm, remove)",
        ) from error
    layers = {name: layer for name, layer in masked.named_modules() if isinstance(layer, PLAIN_LAYERS)}
    for name, mask in masks.items():
        if name not in layers:
            raise ModelError(f"there is a mask for {name!r}, which is no Linear or Conv layer of the model",
                             hint=f"layers: {', '.join(layers)}")  # fmt: skip
        weight = layers[name].weight
        if mask.shape != weight.shape:
            raise ModelError(f"layer {name!r}: mask of shape {tuple(mask.shape)} for {tuple(weight.shape)} weights")
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ModelError(f"layer {name!r}: a mask holds 0 (removed) and 1 (kept) only")
        with torch.no_grad():
            weight.mul_(mask.to(weight))
    return masked


def _fold(model: nn.Module, analysis: Analysis, choice: Choice) -> None:
    for name, part in choice.layers.items():
        layer: Any = model.get_submodule(name)
        with torch.no_grad():
            layer.weight[part.fillers.to(layer.weight.device)] = 0
        if not part.contribution.any():
            continue
        norm: Any = None
        if layer.bias is None and (following := analysis.layers[name].norm) is not None:
            norm = model.get_submodule(following)
        with torch.no_grad():
            if norm is not None:
                norm.running_mean -= part.contribution.to(norm.running_mean)
            elif layer.bias is not None:
                layer.bias += part.contribution.to(layer.bias)
            else:
                bias = part.contribution.to(layer.weight)
                layer.bias = nn.Parameter(bias, requires_grad=layer.weight.requires_grad)


def _require_same(masked: nn.Module, smaller: nn.Module, inputs: tuple[Tensor, ...], kept: list[list[int]]) -> None:
    generator = torch.Generator().manual_seed(0)
    events = [
        torch.randn((_CHECKED_EVENTS, *x.shape[1:]), generator=generator, dtype=torch.float64)
        if x.is_floating_point()
        else x.cpu()
        for x in inputs
    ]
    with torch.no_grad():
        expected = _outputs(_double(masked)(*events))
        found = _outputs(_double(smaller)(*(x[:, index] for x, index in zip(events, kept, strict=True))))
    for one, other in zip(expected, found, strict=True):
        difference = float((one - other).abs().max())
        if not difference <= _CHECK_TOLERANCE * max(1.0, float(one.abs().max())):
            raise ModelError(
                f"{type(masked).__name__}: the shrunk model differs from the masked one by {difference:g}",
                hint="report this model; until then keep it masked",
            )


def _double(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).cpu().double().eval()


def _outputs(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    values = result.values() if isinstance(result, dict) else result if isinstance(result, (list, tuple)) else []
    return [tensor for value in values for tensor in _outputs(value)]


def _stayed(analysis: Analysis, choice: Choice, rows: dict[str, list[int]]) -> tuple[str, ...]:
    found: list[str] = []
    for name, layer in analysis.layers.items():
        silent = (layer.module.weight.detach() == 0).flatten(1).all(dim=1)
        by_reason: dict[str, list[int]] = {}
        for index in torch.nonzero(silent).flatten().tolist():
            by_reason.setdefault(reason_for(analysis, choice, layer.outputs[index]), []).append(rows[name][index])
        found += [f"{name}: neurons {indices} have no weights but stay: {why}" for why, indices in by_reason.items()]
    return tuple(found)


def _kept(items: list[int], gone: Tensor) -> list[int]:
    return [item for item, out in zip(items, gone.tolist(), strict=True) if not out]

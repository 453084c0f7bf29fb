"""Masks of a whole network: which weights are kept, with exact counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.layers import QuantWeightLayer, weight_layers

Scope = Literal["global", "layer"]


def prunable_layers(network: nn.Module) -> dict[str, QuantWeightLayer]:
    """Weight layers whose weights may be removed, by name in order of definition.

    Frozen ones (a fixed mean over positions, say) may not.
    """
    return {name: layer for name, layer in weight_layers(network).items() if layer.weight.requires_grad}


LAYER_SHARE = 0.5
"""Under a global ranking no layer becomes sparser than this part of the network's density. Without it a thin layer of
small weights (a head, say) can lose all of them, and then nothing is left to train."""


def lowest_scores_mask(scores: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    """``mask`` with more zeros: exactly ``round(sparsity * size)`` of them, at the lowest scores that were still kept.

    scores, mask   same shape; ties go to the lower flat index
    Zeros of ``mask`` stay zero, so a mask already sparser than ``sparsity`` comes back unchanged.
    """
    kept = mask.flatten() != 0
    n_more = round(sparsity * kept.numel()) - int((~kept).sum())
    result = mask.clone().flatten()
    if n_more > 0:
        candidates = kept.nonzero().flatten()
        order = torch.argsort(scores.flatten()[candidates], stable=True)
        result[candidates[order[:n_more]]] = 0
    return result.reshape(mask.shape)


def _protected(scores: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    """Flat scores in which the best weights of a layer, its share of the density, are out of reach of any ranking."""
    flat = scores.flatten().clone()
    kept = mask.flatten().nonzero().flatten()
    share = min(len(kept), math.ceil(LAYER_SHARE * (1.0 - sparsity) * flat.numel()))
    if share:
        order = torch.argsort(flat[kept], stable=True)
        flat[kept[order[len(kept) - share :]]] = torch.inf
    return flat


def _best_of_rows(scores: Tensor, mask: Tensor) -> Tensor:
    """Flat positions of the best kept weight of every row that has one: an output without weights is a constant, and
    a class that has one is lost."""
    rows = scores.double().masked_fill(mask == 0, -torch.inf).flatten(1)
    alive = (mask != 0).flatten(1).any(dim=1)
    best = rows.argmax(dim=1) + torch.arange(len(rows), device=rows.device) * rows.shape[1]
    return best[alive]


def raise_sparsity(network: nn.Module, scores: dict[str, Tensor], sparsity: float, scope: Scope) -> None:
    """Mask the lowest scores until a fraction ``sparsity`` of the prunable weights is masked, in place.

    scores    one per weight of every prunable layer, higher = keep
    scope     ``global`` ranks all layers together, but leaves every layer ``LAYER_SHARE`` of the network's density,
              and every output of the last layer its best weight where there are enough; ``layer`` applies the
              fraction to each layer
    The count is exact; weights already masked stay masked; ties go to the lower index, in order of the layers.
    Raises ModelError for a network without prunable layer and for a sparsity outside 0..1.
    """
    layers = _require_prunable(network)
    if not 0.0 <= sparsity <= 1.0:
        raise ModelError(f"sparsity {sparsity} is outside 0..1")
    if scope == "layer":
        for name, layer in layers.items():
            layer.weight_mask.copy_(lowest_scores_mask(scores[name], layer.weight_mask, sparsity))
        return
    flat = {name: _protected(scores[name], layer.weight_mask, sparsity) for name, layer in layers.items()}
    last = list(layers)[-1]
    outputs = flat[last].clone()
    outputs[_best_of_rows(scores[last], layers[last].weight_mask)] = torch.inf
    out_of_reach = sum(int(torch.isinf(values).sum()) for values in {**flat, last: outputs}.values())
    if out_of_reach <= sum(values.numel() for values in flat.values()) * (1.0 - sparsity):
        flat[last] = outputs
    joined = lowest_scores_mask(
        torch.cat(list(flat.values())),
        torch.cat([layer.weight_mask.flatten() for layer in layers.values()]),
        sparsity,
    )
    parts = torch.split(joined, [layer.weight_mask.numel() for layer in layers.values()])
    for layer, part in zip(layers.values(), parts, strict=True):
        layer.weight_mask.copy_(part.reshape(layer.weight_mask.shape))


def masked_fraction(network: nn.Module) -> float:
    """Fraction of prunable weights that are masked. Raises ModelError for a network without prunable layer."""
    masks = [layer.weight_mask for layer in _require_prunable(network).values()]
    return 1.0 - sum(int(torch.count_nonzero(mask)) for mask in masks) / sum(mask.numel() for mask in masks)


def _require_prunable(network: nn.Module) -> dict[str, QuantWeightLayer]:
    layers = prunable_layers(network)
    if not layers:
        raise ModelError("the network has no weight layer to prune", hint="every weight layer of it is frozen")
    return layers


def zero_masked(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Set masked master weights and their optimiser moments to zero.

    The gradient of a masked weight is zero, but Adam's momentum and the weight decay would go on moving it.
    """
    with torch.no_grad():
        for layer in prunable_layers(network).values():
            layer.weight.mul_(layer.weight_mask)
            for value in optimizer.state.get(layer.weight, {}).values():
                if isinstance(value, Tensor) and value.shape == layer.weight.shape:
                    value.mul_(layer.weight_mask)


@contextmanager
def restored(network: nn.Module) -> Iterator[None]:
    """Parameters, buffers and training modes are put back bit for bit on the way out, also after an exception."""
    tensors = [*network.parameters(), *network.buffers()]
    copies = [tensor.detach().clone() for tensor in tensors]
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)
        for module, mode in modes.items():
            module.training = mode

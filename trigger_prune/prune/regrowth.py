"""Regrowth: weak weights are masked and as many masked ones are given back, at zero.

SET gives back at random (D. Mocanu et al. 2018, arXiv:1707.04780), RigL where the gradient of the loss by the masked
weight is largest (U. Evci et al. 2020, arXiv:1911.11134). On a ramp, with the cut first: S. Liu et al. 2021
(arXiv:2106.10404).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from trigger_prune.importance._base import named_weight_layers
from trigger_prune.importance.derivatives import twin_of
from trigger_prune.quantize.layers import QuantWeightLayer
from trigger_prune.structure.masks import LAYER_SHARE, Scope, prunable_layers
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.loss import event_losses, weighted_mean

_GRADIENT_EVENTS = 2048
"""Training events of one gradient: more than a batch, since few exchanges are made."""


def cosine(step: int, last_step: int, fraction: float) -> float:
    """Fraction of the kept weights exchanged at ``step``: ``fraction / 2 * (1 + cos(pi step / last_step))``, then 0."""
    if step >= last_step:
        return 0.0
    return fraction / 2 * (1 + math.cos(math.pi * step / last_step))


def random_growth(network: nn.Module, draws: torch.Generator) -> dict[str, Tensor]:
    """A number from 0..1 for every prunable weight, by layer: SET."""
    return {
        name: torch.rand(layer.weight.shape, generator=draws, dtype=torch.float64).to(layer.weight.device)
        for name, layer in prunable_layers(network).items()
    }


def draw_events(train: Batches, draws: torch.Generator) -> Batches:
    """Random events of weight above zero for one gradient."""
    used = train.take(train.weights > 0)
    rows = torch.randperm(len(used), generator=draws)[:_GRADIENT_EVENTS]
    return used.take(rows.to(used.features.device))


def dense_gradients(network: nn.Module, events: Batches, settings: FitSettings) -> dict[str, Tensor]:
    """Gradient of the training's loss on ``events`` by every effective (quantised) weight, masked ones included: RigL.

    By layer, float64, shaped like the weight. The network computes as it does in evaluation, and is not changed.
    """
    layers = prunable_layers(network)
    twin = twin_of(network, list(layers))
    for layer in named_weight_layers(twin.network, list(layers)).values():
        # its weight is masked already; this lets the gradient through to the zeros
        layer.weight_mask.fill_(1)
    weights = {name: weight.clone().requires_grad_() for name, weight in twin.weights.items()}
    targets = events.targets.double() if events.targets.is_floating_point() else events.targets
    events = replace(events, features=events.features.double(), targets=targets).to(twin.device)
    outputs = twin.outputs(weights, events.features)
    if settings.batch_loss is not None:
        loss = settings.batch_loss(outputs, events)
    else:
        loss = weighted_mean(event_losses(outputs, events.targets, settings.task), events.weights)
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def exchange(
    layers: Mapping[str, QuantWeightLayer],
    scores: Mapping[str, Tensor],
    growth: Mapping[str, Tensor],
    fraction: float,
    scope: Scope,
) -> int:
    """Mask ``round(fraction * kept)`` kept weights and give as many masked ones back, in place; returns how many.

    scores   one per weight by layer: the lowest kept ones are masked. Ties go to the lower index
    growth   one per weight by layer: of all that is then masked the highest come back; what was masked just now is
             among them and, chosen again, stays as it was (as in RigL). Ties go to the lower index
    scope    ``global``: over all layers together, but the best weights of every layer, ``LAYER_SHARE`` of the
             density, stay; ``layer``: within each, whose count then stays the same
    A weight given back starts at zero; its moments are zero already if ``zero_masked`` followed the last step.
    """
    if scope == "layer":
        return sum(_exchange({name: layer}, scores, growth, fraction, 0.0) for name, layer in layers.items())
    return _exchange(layers, scores, growth, fraction, LAYER_SHARE)


def _exchange(
    layers: Mapping[str, QuantWeightLayer],
    scores: Mapping[str, Tensor],
    growth: Mapping[str, Tensor],
    fraction: float,
    share: float,
) -> int:
    kept = torch.cat([layer.weight_mask.flatten() != 0 for layer in layers.values()])
    device = kept.device
    score = torch.cat([scores[name].double().flatten().to(device) for name in layers])
    gain = torch.cat([growth[name].double().flatten().to(device) for name in layers])
    n_kept = int(kept.sum())
    droppable = kept.clone()
    start = 0
    for layer in layers.values():
        stop = start + layer.weight_mask.numel()
        best = _order(score[start:stop], kept[start:stop])
        n_safe = min(len(best), math.ceil(share * n_kept / len(kept) * (stop - start)))
        droppable[start + best[len(best) - n_safe :]] = False
        start = stop
    n = min(round(fraction * n_kept), int(droppable.sum()))
    remaining = kept.clone()
    remaining[_order(score, droppable)[:n]] = False
    grown = remaining.clone()
    grown[_order(-gain, ~remaining)[:n]] = True
    new = grown & ~kept
    sizes = [layer.weight_mask.numel() for layer in layers.values()]
    with torch.no_grad():
        for layer, mask, fresh in zip(layers.values(), torch.split(grown, sizes), torch.split(new, sizes), strict=True):
            layer.weight[fresh.reshape(layer.weight.shape)] = 0
            layer.weight_mask.copy_(mask.reshape(layer.weight_mask.shape))
    return n


def _order(values: Tensor, among: Tensor) -> Tensor:
    """Indices where ``among`` holds, by rising value; equal ones by rising index."""
    places = among.nonzero().flatten()
    return places[torch.argsort(values[places], stable=True)]

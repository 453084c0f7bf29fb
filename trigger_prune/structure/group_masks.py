"""Masking whole groups, with exact counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.structure._base import Groups
from trigger_prune.structure.masks import LAYER_SHARE, Scope, prunable_layers


def removed_groups(network: nn.Module, groups: Groups) -> Tensor:
    """Which groups have no weight left, bool ``(count,)``."""
    layers = prunable_layers(network)
    return groups.sums({name: layers[name].weight_mask for name in groups.ids}) == 0


def removed_fraction(network: nn.Module, groups: Groups) -> float:
    """Fraction of groups that have no weight left."""
    return float(removed_groups(network, groups).double().mean())


def remove_groups(network: nn.Module, groups: Groups, scores: Tensor, fraction: float, scope: Scope) -> None:
    """Mask the lowest-scored groups until exactly ``round(fraction * count)`` are removed, in place.

    scores    ``(count,)``, higher = keep; ties go to the lower group number
    scope     ``global`` ranks all groups together, but leaves every layer ``LAYER_SHARE`` of the density;
              ``layer`` removes the fraction of each layer's groups (a group counts for its first layer)
    Groups already removed stay removed and count. Where cells limit what may go, no more goes than they allow.
    Raises ModelError for a fraction outside 0..1 or scores of another shape.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ModelError(f"a fraction of {fraction} of the groups is outside 0..1")
    if scores.shape != (groups.count,):
        raise ModelError(f"{tuple(scores.shape)} scores for {groups.count} groups of structure {groups.structure!r}")
    removed = removed_groups(network, groups)
    allowed = ~removed & _removable(groups, scores, removed)
    homes = groups.home()
    names = list(groups.ids)
    home = torch.tensor([names.index(name) for name in homes])
    chosen = removed.clone()
    if scope == "layer":
        for number in range(len(names)):
            mine = home == number
            _take(chosen, scores, allowed & mine, round(fraction * int(mine.sum())) - int((removed & mine).sum()))
    else:
        for number in range(len(names)):
            allowed &= ~_protected(scores, (home == number), removed, fraction)
        _take(chosen, scores, allowed, round(fraction * groups.count) - int(removed.sum()))
    mask_groups(network, groups, chosen)


def mask_groups(network: nn.Module, groups: Groups, chosen: Tensor) -> None:
    """Mask every weight of the groups ``chosen`` (bool ``(count,)``), in place."""
    layers = prunable_layers(network)
    for name, ids in groups.ids.items():
        mask = layers[name].weight_mask
        inside = ids.to(mask.device)
        mask[(inside >= 0) & chosen.to(mask.device)[inside.clamp(min=0)]] = 0


def _take(chosen: Tensor, scores: Tensor, allowed: Tensor, n_more: int) -> None:
    candidates = allowed.nonzero().flatten()
    if n_more > 0:
        order = torch.argsort(scores.double().cpu()[candidates], stable=True)
        chosen[candidates[order[:n_more]]] = True


def _protected(scores: Tensor, mine: Tensor, removed: Tensor, fraction: float) -> Tensor:
    """The best groups of a layer, its share of the density: out of reach of any ranking."""
    kept = (mine & ~removed).nonzero().flatten()
    share = min(len(kept), math.ceil(LAYER_SHARE * (1.0 - fraction) * int(mine.sum())))
    result = torch.zeros_like(mine)
    order = torch.argsort(scores.double().cpu()[kept], stable=True)
    result[kept[order[len(kept) - share :]]] = True
    return result


def _removable(groups: Groups, scores: Tensor, removed: Tensor) -> Tensor:
    """Groups whose cell may lose them: in each cell the lowest ``removable_per_cell``, those already gone first."""
    if groups.cells is None or groups.removable_per_cell is None:
        return torch.ones(groups.count, dtype=torch.bool)
    ranked = torch.where(removed, -torch.inf, scores.double().cpu())
    order = torch.argsort(ranked, stable=True)
    order = order[torch.argsort(groups.cells[order], stable=True)]
    cells = groups.cells[order]
    first = torch.searchsorted(cells, cells)
    result = torch.zeros(groups.count, dtype=torch.bool)
    result[order] = torch.arange(groups.count) - first < groups.removable_per_cell
    return result

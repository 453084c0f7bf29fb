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
    Groups already removed stay removed and count. Fewer go where more may not: what cells and the shares of the layers
    keep stays. Raises ModelError for a fraction outside 0..1, scores of another shape or NaN, and a fraction per layer
    of groups that are whole layers.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ModelError(f"a fraction of {fraction} of the groups is outside 0..1")
    if scores.shape != (groups.count,):
        raise ModelError(f"{tuple(scores.shape)} scores for {groups.count} groups of structure {groups.structure!r}")
    if groups.whole_layers and scope == "layer":
        raise ModelError(
            f"a group of structure {groups.structure!r} is a whole layer: there is no fraction of each layer to remove",
            hint="rank all layers together: scope global",
        )
    scores = scores.detach().double().cpu()
    if bool(torch.isnan(scores).any()):
        raise ModelError(f"{int(torch.isnan(scores).sum())} scores of structure {groups.structure!r} are NaN")
    removed = removed_groups(network, groups)
    allowed = ~removed & _removable(groups, scores, removed)
    home = groups.home_numbers()
    chosen = removed.clone()
    if scope == "layer":
        for number in range(len(groups.ids)):
            mine = home == number
            _take(chosen, scores, allowed & mine, round(fraction * int(mine.sum())) - int((removed & mine).sum()))
    else:
        for number in range(0 if groups.whole_layers else len(groups.ids)):
            allowed &= ~_protected(scores, home == number, removed, allowed, fraction)
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
    chosen[candidates[_lowest(scores[candidates], n_more)]] = True


def _lowest(values: Tensor, n: int) -> Tensor:
    """The ``n`` lowest values, bool; ties go to the lower index. A selection, much faster than sorting."""
    if n <= 0 or n >= len(values):
        return torch.full(values.shape, n > 0, dtype=torch.bool)
    threshold = torch.kthvalue(values, n).values
    result = values < threshold
    tied = (values == threshold).nonzero().flatten()
    result[tied[: n - int(result.sum())]] = True
    return result


def _protected(scores: Tensor, mine: Tensor, removed: Tensor, allowed: Tensor, fraction: float) -> Tensor:
    """The best groups of a layer, its share of the density: out of reach of any ranking.

    What its cell keeps anyway comes first, so that a cell that may lose two groups can lose two.
    """
    kept = (mine & ~removed).nonzero().flatten()
    share = min(len(kept), math.ceil(LAYER_SHARE * (1.0 - fraction) * int(mine.sum())))
    result = torch.zeros_like(mine)
    reachable = torch.where(allowed[kept], scores[kept], torch.inf)
    result[kept[~_lowest(reachable, len(kept) - share)]] = True
    return result


def _removable(groups: Groups, scores: Tensor, removed: Tensor) -> Tensor:
    """Groups whose cell may lose them: in each cell the lowest so many, those already gone first."""
    if groups.cells is None or groups.removable_per_cell is None:
        return torch.ones(groups.count, dtype=torch.bool)
    order = torch.argsort(torch.where(removed, -torch.inf, scores), stable=True)
    order = order[torch.argsort(groups.cells[order], stable=True)]
    cells = groups.cells[order]
    limit = groups.removable_per_cell
    result = torch.zeros(groups.count, dtype=torch.bool)
    rank = torch.arange(groups.count) - torch.searchsorted(cells, cells)
    result[order] = rank < (limit[cells] if isinstance(limit, Tensor) else limit)
    return result

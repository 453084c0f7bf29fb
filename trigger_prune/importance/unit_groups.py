"""Scores of groups by criteria that judge whole neurons and channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trigger_prune.importance._base import named_weight_layers
from trigger_prune.structure._base import Groups


def mean_over_units(network: nn.Module, groups: Groups, units: dict[str, Tensor]) -> Tensor:
    """Mean score of the units (neurons, channels) of which a group has kept weights, float64 ``(count,)`` on the CPU.

    units   score of every unit by layer, ``(units,)``
    Every unit counts once, however many weights of it a group has. A group without kept weight scores 0.
    """
    total = torch.zeros(groups.count, dtype=torch.float64)
    found = torch.zeros_like(total)
    for name, layer in named_weight_layers(network, list(groups.ids)).items():
        ids = groups.ids[name].flatten(1).cpu()
        inside = (ids >= 0) & (layer.weight_mask.flatten(1) != 0).cpu()
        rows = torch.arange(len(ids)).unsqueeze(1).expand_as(ids)
        group, unit = torch.unique(torch.stack([ids[inside], rows[inside]]), dim=1)
        total.index_add_(0, group, units[name].double().cpu()[unit])
        found.index_add_(0, group, torch.ones_like(group, dtype=torch.float64))
    return total / found.clamp_min(1)

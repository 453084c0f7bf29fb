"""Numbers of groups over all layers, from numbers within each layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.layers import QuantWeightLayer
from trigger_prune.structure.masks import prunable_layers


def layers_to_part(structure: str, network: nn.Module) -> dict[str, QuantWeightLayer]:
    """The prunable layers. Raises ModelError, in the name of the structure, when there is none."""
    layers = prunable_layers(network)
    if not layers:
        raise ModelError(
            f"structure {structure!r}: the network has no quantised weight layer to prune",
            hint="quantize_model makes such layers; a frozen layer is never pruned",
        )
    return layers


def joined(local: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Numbers 0, 1, ... over all layers from numbers that start at 0 in each layer, and how many there are.

    local   by layer name, int64, every number up to the layer's highest occurs; -1 = in no group, stays
    """
    result, count = {}, 0
    for name, ids in local.items():
        result[name] = torch.where(ids >= 0, ids + count, ids)
        count += int(ids.max()) + 1
    return result, count


def without_gaps(marks: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Numbers 0, 1, ... in the order in which marks first occur, the same mark in two layers being one group.

    marks   by layer name, int64; -1 = in no group. Layers without any group are left out
    """
    kept = {name: values for name, values in marks.items() if bool((values >= 0).any())}
    if not kept:
        return {}, 0
    flat = torch.cat([values[values >= 0].flatten() for values in kept.values()])
    found, inverse = torch.unique(flat, return_inverse=True)
    first = torch.full((len(found),), len(flat), dtype=torch.int64)
    first.scatter_reduce_(0, inverse, torch.arange(len(flat)), "amin")
    number = torch.empty_like(first)
    number[torch.argsort(first)] = torch.arange(len(found))
    result = {}
    for name, values in kept.items():
        position = torch.searchsorted(found, values).clamp(max=len(found) - 1)
        result[name] = torch.where(values >= 0, number[position], values)
    return result, len(found)


def over_inputs(marks: Tensor, shape: torch.Size) -> Tensor:
    """One mark per output ``(n_outputs,)``, repeated over the weights of each output: the shape of the weight."""
    return marks.reshape(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()

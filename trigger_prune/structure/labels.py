"""Names of groups for reports."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from trigger_prune.errors import ModelError
from trigger_prune.structure._base import Groups

_NUMBERED = {"dsp": "multiplier", "bram": "memory word slice", "head": "head"}
"""Structures whose groups are counted within their layer."""


def labels(groups: Groups, numbers: Sequence[int] | None = None) -> list[str]:
    """A readable name for each group, e.g. ``fc1 neuron 3``; all layers of a group that reaches over several.

    numbers   the groups to name, all of them by default
    Raises ModelError for a number that is no group.
    """
    wanted = range(groups.count) if numbers is None else numbers
    for number in () if numbers is None else numbers:
        if not 0 <= number < groups.count:
            raise ModelError(f"{number} is no group: structure {groups.structure!r} has {groups.count}")
    ends = {name: _ends(ids, groups.count) for name, ids in groups.ids.items()}
    lowest = {name: int(ids[ids >= 0].min()) for name, ids in groups.ids.items() if bool((ids >= 0).any())}
    result = []
    for number in wanted:
        parts = [
            _part(groups.structure, name, tuple(ids.shape), first[number], last[number], number - lowest.get(name, 0))
            for (name, ids), (first, last) in zip(groups.ids.items(), ends.values(), strict=True)
            if first[number] >= 0
        ]
        if groups.structure == "input":
            result.append(f"input {number}")
        else:
            result.append(parts[0] if groups.structure == "head" else " + ".join(parts))
    return result


def _ends(ids: Tensor, count: int) -> tuple[list[int], list[int]]:
    """Flat position of the first and of the last weight of each group in one layer; -1 where it has none."""
    flat = ids.flatten().cpu()
    where = (flat >= 0).nonzero().flatten()
    first = torch.full((count,), flat.numel(), dtype=torch.int64)
    first.scatter_reduce_(0, flat[where], where, "amin")
    last = torch.full((count,), -1, dtype=torch.int64)
    last.scatter_reduce_(0, flat[where], where, "amax")
    return torch.where(last >= 0, first, -1).tolist(), last.tolist()


def _part(structure: str, layer: str, shape: tuple[int, ...], first: int, last: int, number: int) -> str:
    row, per_row = first // prod(shape[1:]), prod(shape[1:])
    if structure in ("weight", "n_m"):
        index = [first // prod(shape[axis + 1 :]) % size for axis, size in enumerate(shape)]
        return f"{layer} weight {index}"
    if structure == "block":
        return f"{layer} block [{row}:{last // per_row + 1}, {first % per_row}:{last % per_row + 1}]"
    if structure in ("neuron", "filter"):
        kind = "neuron" if len(shape) == 2 else "filter"
        rows = f"{row}" if last // per_row == row else f"{row} to {last // per_row}"
        return f"{layer} {kind} {rows}"
    if structure == "layer":
        return f"layer {layer}"
    if structure == "head":
        layer = layer.rpartition(".")[0] or "attention"
    return f"{layer} {_NUMBERED.get(structure, structure)} {number}"

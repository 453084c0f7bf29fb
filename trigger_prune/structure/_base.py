"""Groups: what is removed together, and the registry of structures by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from trigger_prune.errors import ConfigError, ModelError


@dataclass(frozen=True, eq=False)
class Groups:
    """The prunable weights of a network, parted into groups that are masked together.

    structure   name of the structure that made them
    ids         by layer name, int64 and shaped like the weight: number of the group, 0 .. count-1; -1 = in no group,
                never removed. A group may reach over several layers (the summands of a residual add)
    count       number of groups; every number occurs in ``ids``
    cells       int64 ``(count,)`` or None: the cell each group belongs to, 0, 1, ..., where only so many of a cell's
                groups may go (N:M)
    removable_per_cell   how many: one number for all cells, or int64 ``(cells,)``: a row may end in a smaller cell
    whole_layers         a group is a layer as a whole: a global ranking then has no share of a layer to protect

    Raises ModelError when a number does not occur or lies outside 0..count-1, or when cells and their limit do not come
    together.
    """

    structure: str
    ids: dict[str, Tensor]
    count: int
    cells: Tensor | None = None
    removable_per_cell: int | Tensor | None = None
    whole_layers: bool = False

    def __post_init__(self) -> None:
        found = self.sizes()
        if self.count < 1 or bool((found == 0).any()):
            raise ModelError(f"structure {self.structure!r}: of {self.count} groups some have no weight")
        if (self.cells is None) != (self.removable_per_cell is None):
            raise ModelError(f"structure {self.structure!r}: cells and removable_per_cell come together")
        if self.cells is not None and self.cells.shape != (self.count,):
            raise ModelError(f"structure {self.structure!r}: {tuple(self.cells.shape)} cells for {self.count} groups")
        limits = self.removable_per_cell
        if self.cells is not None and isinstance(limits, Tensor) and int(self.cells.max()) >= len(limits):
            raise ModelError(f"structure {self.structure!r}: {len(limits)} limits for cell {int(self.cells.max())}")

    def sizes(self) -> Tensor:
        """Weights of each group, int64 ``(count,)``."""
        result = torch.zeros(self.count, dtype=torch.int64)
        for name, ids in self.ids.items():
            inside = ids[ids >= 0].flatten().cpu()
            if len(inside) and int(inside.max()) >= self.count:
                raise ModelError(f"structure {self.structure!r}: layer {name!r} has a group beyond {self.count - 1}")
            result += torch.bincount(inside, minlength=self.count)
        return result

    def sums(self, values: dict[str, Tensor]) -> Tensor:
        """Sum of ``values`` (one per weight, by layer) over each group, float64 ``(count,)``, on the CPU."""
        result = torch.zeros(self.count, dtype=torch.float64)
        for name, ids in self.ids.items():
            inside = (ids >= 0).flatten().cpu()
            result.index_add_(0, ids.flatten().cpu()[inside], values[name].detach().double().flatten().cpu()[inside])
        return result

    def home(self) -> list[str]:
        """Layer that each group counts for under a share per layer: the first that holds a weight of it."""
        names = list(self.ids)
        return [names[number] for number in self.home_numbers().tolist()]

    def home_numbers(self) -> Tensor:
        """``home`` as the position of the layer in ``ids``, int64 ``(count,)``, on the CPU."""
        result = torch.full((self.count,), -1, dtype=torch.int64)
        for number, ids in reversed(list(enumerate(self.ids.values()))):
            result[ids[ids >= 0].cpu()] = number
        return result


class Structure(Protocol):
    """A way to part the weights of a network into groups."""

    @property
    def name(self) -> str:
        """Name in project.yaml and in reports."""
        ...

    def groups(self, network: fx.GraphModule) -> Groups:
        """The groups of a quantised network. Raises ModelError naming layer and remedy where they are impossible."""
        ...


_STRUCTURES: dict[str, Callable[..., Structure]] = {}


def register_structure(name: str, make: Callable[..., Structure]) -> None:
    """Makes a structure known by its name. ``make`` takes the structure's own options as keywords."""
    _STRUCTURES[name] = make


def structure_names() -> tuple[str, ...]:
    """Names in alphabetical order."""
    return tuple(sorted(_STRUCTURES))


def structure_by_name(name: str, **options: Any) -> Structure:
    """The structure. Raises ConfigError for an unknown name (listing those there are) or an option it does not have."""
    if name not in _STRUCTURES:
        close = difflib.get_close_matches(name, _STRUCTURES, n=1)
        raise ConfigError(
            f"unknown structure {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
            hint=f"structures: {', '.join(structure_names())}",
        )
    try:
        return _STRUCTURES[name](**options)
    except TypeError as error:
        known = ", ".join(inspect.signature(_STRUCTURES[name]).parameters)
        raise ConfigError(
            f"structure {name!r} cannot be made of these options: {error}", hint=f"its options: {known or 'none'}"
        ) from error

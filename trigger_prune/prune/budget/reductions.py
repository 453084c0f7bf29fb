"""What may be taken from one layer, in the order in which it goes: whole groups, or signed digits of single weights.

A product with a constant takes one adder per canonical signed digit of the constant. A weight that is worth keeping may
still be worth fewer digits: 7 = 8 - 1 as 8 saves an adder for an eighth of its value. With ``digit_reductions`` a
weight therefore goes in steps, each to the nearest code of fewer digits, the last one to zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trigger_prune.cost.csd import csd_count
from trigger_prune.cost.network import WeightLayer
from trigger_prune.structure._base import Groups

GROWTH_BITS = 2
"""An adder behind an input of w bits has about w + 2."""

_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Removal:
    """What the removal of each group would do, in float64 ``(count,)``.

    loss    predicted increase of the loss
    price   resource that it would save, in any unit, above zero; within a layer the least loss per price goes first
    """

    loss: Tensor
    price: Tensor


@dataclass(frozen=True, eq=False)
class Reduced:
    """A layer after some of its reductions.

    layer     its weights as they are expected to become
    loss      predicted increase of the loss
    removed   numbers of the groups that are gone, int64
    weights   flat positions of weights that keep fewer digits, int64, and ``digits``, how many at most
    """

    layer: WeightLayer
    loss: float
    removed: _Ints
    weights: _Ints
    digits: _Ints


class Reductions(Protocol):
    """The reductions of a layer in their order."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def after(self, n: int) -> Reduced:
        """The layer after the first ``n``."""
        ...


@dataclass(frozen=True, eq=False)
class GroupReductions:
    """Whole groups go; ``order`` holds their numbers, int64."""

    layer: WeightLayer
    ids: _Ints
    order: _Ints
    loss: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Groups that can go."""
        return len(self.order)

    def after(self, n: int) -> Reduced:
        """See ``Reductions``."""
        gone, none = self.order[:n], np.empty(0, dtype=np.int64)
        layer = self.layer
        if n:
            layer = replace(layer, weight=np.where(np.isin(self.ids, gone), 0, layer.weight))
        return Reduced(layer, float(self.loss[:n].sum()), gone, none, none)


@dataclass(frozen=True, eq=False)
class DigitReductions:
    """Steps of single weights: ``weights`` flat positions, ``codes`` what they become, ``groups`` the numbers of their
    groups; a step to code 0 removes the weight."""

    layer: WeightLayer
    weights: _Ints
    codes: _Ints
    groups: _Ints
    loss: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Steps of all weights together."""
        return len(self.weights)

    def after(self, n: int) -> Reduced:
        """See ``Reductions``."""
        weight = self.layer.weight.copy()
        weight.reshape(-1)[self.weights[:n]] = self.codes[:n]  # of several steps of a weight the last one stays
        touched = np.unique(self.weights[:n])
        kept = touched[weight.reshape(-1)[touched] != 0]
        removed = self.groups[:n][self.codes[:n] == 0]
        digits = csd_count(weight.reshape(-1)[kept])
        return Reduced(replace(self.layer, weight=weight), float(self.loss[:n].sum()), removed, kept, digits)


def group_reductions(layer: WeightLayer, groups: Groups, left: _Ints, removal: Removal) -> GroupReductions:
    """The groups ``left`` of a layer, least loss per price first."""
    loss = removal.loss.numpy()[left]
    order = np.argsort(loss / removal.price.numpy()[left], kind="stable")
    ids = groups.ids[layer.name].cpu().numpy() if layer.name in groups.ids else np.empty(0, dtype=np.int64)
    return GroupReductions(layer, ids, left[order], loss[order])


def digit_reductions(layer: WeightLayer, groups: Groups, left: _Ints, removal: Removal) -> DigitReductions:
    """The steps of the single weights ``left`` (group numbers) of a layer, least loss per saved adder bit first.

    A step from w to w' of a weight whose removal is predicted to cost L costs L ((w - w') / w)^2: the prediction is
    quadratic in the weight. Of a weight's steps those are taken together that are better together than one by one.
    """
    number_at = groups.ids[layer.name].cpu().numpy().reshape(-1)
    position_of = np.full(int(number_at.max(initial=-1)) + 1, -1, dtype=np.int64)
    position_of[number_at[number_at >= 0]] = np.flatnonzero(number_at >= 0)
    positions = position_of[left]
    codes = layer.weight.reshape(-1)[positions]
    adder_bits = (layer.input_type.width + GROWTH_BITS) * layer.positions
    lowest, highest = layer.weight_type.min_code, layer.weight_type.max_code
    parts = []
    for code in np.unique(codes):
        mine = codes == code
        for level, (target, share, saved) in enumerate(ladder(int(code), lowest, highest)):
            loss = share * removal.loss.numpy()[left[mine]]
            n = int(mine.sum())
            parts.append((positions[mine], np.full(n, target), left[mine], loss, loss / saved, np.full(n, level)))
    if not parts:
        none = np.empty(0, dtype=np.int64)
        return DigitReductions(layer, none, none, none, np.empty(0))
    at, targets, numbers, losses, ratios, levels = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((levels, ratios / adder_bits))  # a weight's steps have rising ratios; ties keep their order
    return DigitReductions(layer, at[order], targets[order], numbers[order], losses[order])


@cache
def ladder(code: int, lowest: int, highest: int) -> tuple[tuple[int, float, int], ...]:
    """Steps from ``code`` down to 0: what it becomes, share of the loss of its removal, digits saved.

    lowest, highest   of the codes of its type
    The steps are the lower convex hull of loss over digits saved, so that each costs more per digit than the one
    before. A weight whose code is 0 already goes in one step, which is counted as one digit.
    """
    if code == 0:
        return ((0, 1.0, 1),)
    grid, counts = _grid(lowest, highest)
    digits = int(counts[code - lowest])
    hull: list[tuple[int, float, int]] = [(code, 0.0, 0)]  # code, loss, digits saved
    for keep in range(digits - 1, -1, -1):
        allowed = grid[counts <= keep]
        nearest = int(allowed[np.argmin(np.abs(allowed - code))])
        point = (nearest, ((code - nearest) / code) ** 2, digits - keep)
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return tuple((b[0], b[1] - a[1], b[2] - a[2]) for a, b in pairwise(hull))


@lru_cache(maxsize=64)
def _grid(lowest: int, highest: int) -> tuple[_Ints, _Ints]:
    grid = np.arange(lowest, highest + 1)
    return grid, csd_count(grid)


def _slope(a: tuple[int, float, int], b: tuple[int, float, int]) -> float:
    return (b[1] - a[1]) / (b[2] - a[2])


def reductions_of(layer: WeightLayer, groups: Groups, left: _Ints, removal: Removal, *, digits: bool) -> Reductions:
    """What may go of a layer that has the groups ``left``; with ``digits`` (structure weight) digit by digit."""
    if digits and len(left):
        return digit_reductions(layer, groups, left, removal)
    return group_reductions(layer, groups, left, removal)

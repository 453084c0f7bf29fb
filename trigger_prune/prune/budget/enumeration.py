"""All plans whose loss may still be below a ceiling, built layer by layer: exact if wide enough, else a beam search.

A partial plan is kept while *every* row of bounds allows a completion: the loss and each limited quantity alone, and
many sets of prices on the limits at once (``label_bounds``). A row's bound is what the partial plan has spent plus the
exact smallest completion, which depends only on the options of the *frontier*: the layers that still have a neighbour
ahead. (The resource-constrained shortest path with many Lagrangian bounds at once.) If more partial plans are left than
wanted, those with the largest bound go, and the smallest bound among them limits what is proven.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trigger_prune.prune.budget.label_bounds import LabelBounds, Step, Values
from trigger_prune.prune.budget.tables import Choice, Tables, feasible, total

Path = tuple[tuple[int, ...], tuple[int, ...]]
"""Layers and pairs that the signal passes."""
MAX_CELLS = 60_000
"""Largest table frontier x option."""


@dataclass(frozen=True, eq=False)
class Enumerated:
    """Best feasible plan found (None: none) and its loss; no feasible plan at all has a loss below ``bound``."""

    choice: Choice | None
    loss: float
    bound: float


@dataclass(frozen=True, eq=False)
class Prices:
    """``values`` [set, limit] on the limits [resource..., path...]; the paths that the last columns belong to."""

    values: Values
    paths: tuple[Path, ...]


class Enumeration:
    """The tables of one problem and its rows of bounds; then any number of searches."""

    def __init__(self, tables: Tables, prices: Prices) -> None:
        self.tables = tables
        top = tables.latency_limit or 0.0
        self.limits = np.concatenate([tables.limits, np.full(len(prices.paths), top)])
        self.prices = prices.values
        self.steps = self._steps(prices.paths)

    def _quantities(self, paths: Sequence[Path]) -> tuple[list[Values], list[Values]]:
        """Loss and limited quantities: [option, 1 + limit] per layer, [option, option, 1 + limit] per pair."""
        tables = self.tables
        own, between = [], []
        for layer, loss in enumerate(tables.loss):
            on_path = [tables.latency[layer] * (layer in layers) for layers, _ in paths]
            own.append(np.stack([loss, *tables.cost[layer], *on_path], axis=-1))
        for number, pair in enumerate(tables.pairs):
            on_path = [pair.latency * (number in numbers) for _, numbers in paths]
            between.append(np.stack([pair.loss, *pair.cost, *on_path], axis=-1))
        return own, between

    def _steps(self, paths: Sequence[Path]) -> list[Step]:
        """One step per layer; empty if a table would be too large."""
        sizes = self.tables.sizes
        own, between = self._quantities(paths)
        telling = [
            (number, pair)
            for number, pair in enumerate(self.tables.pairs)
            if between[number].any() or not pair.allowed.all()
        ]
        self.order = _order(own, [(pair.first, pair.second) for _, pair in telling], self.limits)
        place = {layer: number for number, layer in enumerate(self.order)}
        last = dict(place)  # when the last neighbour of each layer is decided
        for _, pair in telling:
            for layer, other in ((pair.first, pair.second), (pair.second, pair.first)):
                last[layer] = max(last[layer], place[other])
        frontier: list[int] = []
        steps = []
        for layer in self.order:
            size = sizes[layer]
            shape = tuple(sizes[other] for other in frontier)
            if int(np.prod(shape)) * size > MAX_CELLS:
                return []
            grid = np.indices((*shape, size)).reshape(len(shape) + 1, -1)
            position = dict(zip([*frontier, layer], grid, strict=True))
            spent = own[layer][position[layer]]
            allowed = np.ones(grid.shape[1], dtype=bool)
            for number, pair in telling:
                if layer in (pair.first, pair.second) and pair.first in position and pair.second in position:
                    at = (position[pair.first], position[layer])
                    spent = spent + between[number][at]
                    allowed &= pair.allowed[at]
            following = [other for other in [*frontier, layer] if last[other] > place[layer]]
            after = np.zeros(grid.shape[1], dtype=np.int64)
            for other in following:
                after = after * sizes[other] + position[other]
            shape_of = (-1, size)
            steps.append(
                Step(
                    spent.reshape(*shape_of, spent.shape[1]),
                    after.reshape(shape_of),
                    allowed.reshape(shape_of),
                    bool(allowed.all()),
                )
            )
            frontier = following
        return steps

    def search(self, ceiling: float, *, width: int, deadline: float) -> Enumerated:
        """Look for plans with a loss below ``ceiling``.

        ``width``: partial plans kept per layer; after the ``deadline`` (``time.monotonic``) only one.
        """
        bounds = LabelBounds(self.steps, self.limits, self.prices, ceiling)
        bound = ceiling
        spent = np.zeros((1, 1 + len(self.limits)))
        state = np.zeros(1, dtype=np.int64)
        history = []
        for number, step in enumerate(self.steps):
            parent, option = bounds.extend(number, spent, state)
            spent = spent[parent] + step.spent[state[parent], option]
            state = step.after[state[parent], option]
            keep, priced = bounds.cut(number, spent, state)
            parent, option, state, spent = parent[keep], option[keep], state[keep], spent[keep]
            most = 1 if time.monotonic() > deadline else width
            if len(parent) > most:
                order = np.argpartition(priced, most)
                bound = min(bound, float(priced[order[most:]].min()))
                keep = order[:most]
                parent, option, state, spent = parent[keep], option[keep], state[keep], spent[keep]
            if not len(parent):
                return Enumerated(None, np.inf, bound)
            history.append((parent.astype(np.int32), option.astype(np.int16)))
        loss = spent[:, 0]
        for label in np.argsort(loss):
            choice = np.zeros(len(self.order), dtype=np.int64)
            choice[self.order] = _walk_back(history, int(label))
            if feasible(self.tables, choice):
                found = total(self.tables, choice)[0]
                return Enumerated(choice, found, min(bound, found))
        return Enumerated(None, np.inf, bound)


def _order(own: list[Values], pairs: list[tuple[int, int]], limits: Values) -> list[int]:
    """Layers that influence each other together and in their order; first those whose options differ most in cost.

    The fine tuning comes last, when the limits leave few ways.
    """
    group = list(range(len(own)))
    for first, second in pairs:
        old, new = group[second], group[first]
        group = [new if number == old else number for number in group]
    scale = np.where(limits > 0, limits, 1.0)
    spread: dict[int, float] = dict.fromkeys(group, 0.0)
    for number, values in zip(group, own, strict=True):
        spread[number] = max(spread[number], float((np.ptp(values[:, 1:], axis=0) / scale).max(initial=0.0)))
    return sorted(range(len(own)), key=lambda layer: (-spread[group[layer]], group[layer], layer))


def _walk_back(history: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int16]]], label: int) -> Choice:
    choice = np.zeros(len(history), dtype=np.int64)
    for layer in reversed(range(len(history))):
        parent, option = history[layer]
        choice[layer] = option[label]
        label = int(parent[label])
    return choice

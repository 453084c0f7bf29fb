"""All plans whose loss may still be below a ceiling, built layer by layer; an exact search and a beam search in one.

A partial plan is kept while *every* row of bounds allows a completion: the loss and each limited quantity alone, and
several sets of prices on the limits at once. A row's bound is what the partial plan has spent plus the exact smallest
completion, which depends only on the options of the *frontier*: the layers that still have a neighbour ahead. (The
resource-constrained shortest path with many Lagrangian bounds at once.) If more partial plans are left than memory and
time allow, those with the largest bound go, and the smallest bound among them limits what is proven.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trigger_prune.prune.budget.tables import Choice, Tables, feasible, total

Values = npt.NDArray[np.float64]
Path = tuple[tuple[int, ...], tuple[int, ...]]
"""Layers and pairs that the signal passes."""
MAX_CELLS = 3_000_000
"""Largest table frontier x option x row."""


BLOCK = 12
"""Sets of prices that are tried at once; who fails them needs no further ones."""


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


@dataclass(frozen=True, eq=False)
class _Step:
    spent: Values  # [frontier before, option, quantity]
    priced: Values  # [frontier before, option, row]
    after: npt.NDArray[np.int64]  # [frontier before, option] -> frontier after
    allowed: npt.NDArray[np.bool_]  # [frontier before, option]


class Enumeration:
    """The tables of one problem and its rows of bounds; then any number of searches."""

    def __init__(self, tables: Tables, prices: Prices) -> None:
        self.tables = tables
        top = tables.latency_limit or 0.0
        self.limits = np.concatenate([tables.limits, np.full(len(prices.paths), top)])
        count = len(self.limits)
        priced = np.concatenate([np.ones((len(prices.values), 1)), prices.values], axis=1)
        # rows: the sets of prices, the loss alone, each limited quantity alone
        self.weights = np.concatenate([priced, np.eye(1 + count)])
        self.sets = len(priced)
        self.offset = np.concatenate([prices.values @ self.limits, [0.0]])
        alone = np.arange(self.sets, len(self.weights))
        self.blocks = [np.concatenate([alone, np.arange(min(self.sets, BLOCK))])]
        self.blocks += [np.arange(at, min(at + BLOCK, self.sets)) for at in range(BLOCK, self.sets, BLOCK)]
        self.steps = self._steps(prices.paths)
        self.rest: list[Values] = []
        if self.steps:
            self._complete()

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

    def _steps(self, paths: Sequence[Path]) -> list[_Step]:
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
            if int(np.prod(shape)) * size * len(self.weights) > MAX_CELLS:
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
                _Step(
                    spent.reshape(*shape_of, spent.shape[1]),
                    (spent @ self.weights.T).reshape(*shape_of, len(self.weights)),
                    after.reshape(shape_of),
                    allowed.reshape(shape_of),
                )
            )
            frontier = following
        return steps

    def _complete(self) -> None:
        """Smallest completion of every row, [frontier, row] after each layer, from the last layer backwards."""
        self.rest = [np.zeros((1, len(self.weights)))]
        for step in reversed(self.steps):
            later = step.priced + self.rest[0][step.after]
            later[~step.allowed] = np.inf
            self.rest.insert(0, later.min(1))

    def search(self, ceiling: float, *, width: int, deadline: float) -> Enumerated:
        """Look for plans with a loss of at most ``ceiling``.

        ``width``: partial plans kept per layer. ``deadline`` (``time.monotonic``): afterwards only one per layer.
        """
        slack = 1e-9 * np.maximum(1.0, np.abs(self.limits))
        highest = np.concatenate([ceiling + self.offset, self.limits + slack])
        offset = np.concatenate([self.offset, np.full(len(self.limits), np.inf)])  # a limit alone bounds no loss
        bound = ceiling
        block_weights = [np.ascontiguousarray(self.weights[rows].T) for rows in self.blocks]
        spent = np.zeros((1, 1 + len(self.limits)))
        state = np.zeros(1, dtype=np.int64)
        history = []
        for step, rest in zip(self.steps, self.rest[1:], strict=True):
            # one row alone leaves few of the extensions, then all rows are worth their time
            first = (spent @ self.weights[0])[:, None] + step.priced[state, :, 0] + rest[step.after[state], 0]
            parent, option = np.nonzero((first <= highest[0]) & step.allowed[state])
            before = state[parent]
            state = step.after[before, option]
            spent = spent[parent] + step.spent[before, option]
            priced = np.full(len(parent), -np.inf)
            for rows, weights in zip(self.blocks, block_weights, strict=True):
                least = spent @ weights
                least += rest[:, rows][state]
                keep = np.flatnonzero((least <= highest[rows]).all(1))
                least = least[keep] - offset[rows]
                priced = np.maximum(priced[keep], least.max(1))
                parent, option, state, spent = parent[keep], option[keep], state[keep], spent[keep]
            if time.monotonic() > deadline:
                width = 1
            if len(parent) > width:
                order = np.argpartition(priced, width)
                bound = min(bound, float(priced[order[width:]].min()))
                keep = order[:width]
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

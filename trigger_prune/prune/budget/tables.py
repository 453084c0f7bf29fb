"""The problem as arrays: limited quantities only, layers in topological order, impossible options removed.

Everything between two layers is a ``Pair``: the costs of an edge, option pairs that the II limit forbids, widths that
must agree. Equal widths of a group are pairs between successive members: agreement is transitive.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trigger_prune.prune.budget.options import ADDITIVE, Problem, Table
from trigger_prune.prune.budget.plan import tolerance

Mask = npt.NDArray[np.bool_]
Choice = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pair:
    """Costs [resource, first's option, second's option], latency, II and loss [first's, second's], permitted pairs.

    ``edge`` is False where the pair only couples: no signal runs from first to second.
    """

    first: int
    second: int
    cost: npt.NDArray[np.float64]
    latency: Table
    ii: Table
    loss: Table
    allowed: Mask
    edge: bool


@dataclass(frozen=True, eq=False)
class Tables:
    """Per layer: loss [option], cost [resource, option], latency and II [option]; ``kept`` maps back to the menus.

    ``limits`` belongs to ``resources`` (the limited additive ones); ``latency_limit`` and ``ii_limit``: None = none.
    """

    names: tuple[str, ...]
    kept: tuple[npt.NDArray[np.int64], ...]
    loss: tuple[npt.NDArray[np.float64], ...]
    cost: tuple[Table, ...]
    latency: tuple[npt.NDArray[np.float64], ...]
    ii: tuple[npt.NDArray[np.float64], ...]
    pairs: tuple[Pair, ...]
    resources: tuple[str, ...]
    limits: npt.NDArray[np.float64]
    latency_limit: float | None
    ii_limit: float | None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Options per layer."""
        return tuple(len(loss) for loss in self.loss)

    @property
    def is_chain(self) -> bool:
        """Whether every pair joins neighbours in the order and the signal runs through all layers."""
        joined = {pair.first for pair in self.pairs if pair.edge}
        return all(pair.second == pair.first + 1 for pair in self.pairs) and len(joined) == len(self.names) - 1

    def restrict(self, keep: Sequence[npt.NDArray[Any]]) -> Tables:
        """Only these options of each layer (a mask or positions)."""
        where = [np.flatnonzero(mask) if mask.dtype == bool else mask for mask in keep]
        pairs = []
        for pair in self.pairs:
            grid = np.ix_(where[pair.first], where[pair.second])
            pairs.append(
                replace(
                    pair,
                    cost=pair.cost[:, grid[0], grid[1]],
                    latency=pair.latency[grid],
                    ii=pair.ii[grid],
                    loss=pair.loss[grid],
                    allowed=pair.allowed[grid],
                )
            )
        return replace(
            self,
            kept=tuple(kept[w] for kept, w in zip(self.kept, where, strict=True)),
            loss=tuple(loss[w] for loss, w in zip(self.loss, where, strict=True)),
            cost=tuple(cost[:, w] for cost, w in zip(self.cost, where, strict=True)),
            latency=tuple(latency[w] for latency, w in zip(self.latency, where, strict=True)),
            ii=tuple(ii[w] for ii, w in zip(self.ii, where, strict=True)),
            pairs=tuple(pairs),
        )

    def choice_of(self, positions: Sequence[int] | Choice) -> dict[str, int]:
        """Layer -> position in the problem's own menu."""
        return {name: int(kept[p]) for name, kept, p in zip(self.names, self.kept, positions, strict=True)}


def tabulate(problem: Problem, limits: dict[str, float]) -> Tables:
    """Arrays of the limited quantities; nothing is removed yet."""
    names = problem.order()
    position = {name: index for index, name in enumerate(names)}
    by_name = {menu.name: menu for menu in problem.menus}
    menus = [by_name[name].options for name in names]
    resources = tuple(name for name in ADDITIVE if name in limits)

    def column(options: Sequence[Any], resource: str) -> npt.NDArray[np.float64]:
        return np.array([getattr(option.cost, resource) for option in options], dtype=np.float64)

    pairs: dict[tuple[int, int], Pair] = {}
    for edge in problem.edges:
        first, second = position[edge.producer], position[edge.consumer]
        shape = (len(menus[first]), len(menus[second]))
        tables = {resource: np.asarray(table, dtype=np.float64) for resource, table in edge.cost.items()}
        zero = np.zeros(shape)
        cost = np.array([tables.get(resource, zero) for resource in resources]).reshape(len(resources), *shape)
        latency, ii = tables.get("latency_cycles", zero), tables.get("ii", zero)
        pairs[first, second] = Pair(first, second, cost, latency, ii, zero, np.ones(shape, dtype=bool), True)
    for group in problem.equal_width:
        members = sorted({position[name] for name in group})
        for first, second in itertools.pairwise(members):
            widths = [np.array([option.output_width for option in menus[layer]]) for layer in (first, second)]
            agree = widths[0][:, None] == widths[1][None, :]
            zero = np.zeros(agree.shape)
            empty = Pair(first, second, np.zeros((len(resources), *agree.shape)), zero, zero, zero, agree, False)
            before = pairs.get((first, second), empty)
            pairs[first, second] = replace(before, allowed=before.allowed & agree)

    return Tables(
        names=names,
        kept=tuple(np.arange(len(options)) for options in menus),
        loss=tuple(np.array([option.loss_increase for option in options], dtype=np.float64) for options in menus),
        cost=tuple(
            np.array([column(options, resource) for resource in resources]).reshape(len(resources), len(options))
            for options in menus
        ),
        latency=tuple(column(options, "latency_cycles") for options in menus),
        ii=tuple(column(options, "ii") for options in menus),
        pairs=tuple(pairs[key] for key in sorted(pairs)),
        resources=resources,
        limits=np.array([limits[resource] for resource in resources], dtype=np.float64),
        latency_limit=limits.get("latency_cycles"),
        ii_limit=limits.get("ii"),
    )


def with_objective(tables: Tables, name: str) -> Tables:
    """The same tables with one limited quantity in the place of the loss, and without its limit.

    Additive quantities, and on a chain ``latency_cycles``.
    """
    if name == "latency_cycles":
        pairs = tuple(replace(pair, loss=pair.latency) for pair in tables.pairs)
        return replace(tables, loss=tables.latency, pairs=pairs, latency_limit=None)
    row = tables.resources.index(name)
    others = [number for number in range(len(tables.resources)) if number != row]
    return replace(
        tables,
        loss=tuple(cost[row] for cost in tables.cost),
        cost=tuple(cost[others] for cost in tables.cost),
        pairs=tuple(replace(pair, loss=pair.cost[row], cost=pair.cost[others]) for pair in tables.pairs),
        resources=tuple(tables.resources[number] for number in others),
        limits=tables.limits[others],
    )


def within_ii(tables: Tables) -> Tables | None:
    """Without options and pairs above the II limit, and without options left without a partner; None: none is left."""
    keep = [np.ones(size, dtype=bool) for size in tables.sizes]
    if tables.ii_limit is not None:
        top = tables.ii_limit + tolerance(tables.ii_limit)
        if top < 0:
            return None
        keep = [ii <= top for ii in tables.ii]
        tables = replace(tables, pairs=tuple(replace(p, allowed=p.allowed & (p.ii <= top)) for p in tables.pairs))
    changed = True
    while changed:
        changed = False
        for pair in tables.pairs:
            possible = pair.allowed & keep[pair.first][:, None] & keep[pair.second][None, :]
            for layer, supported in ((pair.first, possible.any(1)), (pair.second, possible.any(0))):
                if (keep[layer] & ~supported).any():
                    keep[layer] = keep[layer] & supported
                    changed = True
    if not all(mask.any() for mask in keep):
        return None
    return tables.restrict(keep)


def without_dominated(tables: Tables) -> Tables:
    """Drop options that another one of the same layer beats or equals everywhere.

    "Everywhere": loss, own cost, and every entry of every table with the layer's neighbours. Of equal options the
    first stays. Removing them never changes the smallest loss.
    """
    keep = []
    for layer, size in enumerate(tables.sizes):
        features = [tables.loss[layer][:, None], tables.cost[layer].T]
        if tables.latency_limit is not None:
            features.append(tables.latency[layer][:, None])
        for pair in tables.pairs:
            if layer not in (pair.first, pair.second):
                continue
            axis = 0 if layer == pair.first else 1
            for table in (*pair.cost, pair.latency, pair.loss, ~pair.allowed):
                rows = np.moveaxis(table, axis, 0).astype(np.float64)
                if (rows != rows[:1]).any():
                    features.append(np.unique(rows, axis=1))
        stacked = np.concatenate(features, axis=1)
        order = np.lexsort((np.arange(size), stacked.sum(1)))
        alive = np.ones(size, dtype=bool)
        for place, better in enumerate(order):
            if alive[better]:
                later = order[place + 1 :]
                alive[later[(stacked[better] <= stacked[later]).all(1)]] = False
        keep.append(alive)
    return tables.restrict(keep)


def total(tables: Tables, choice: Sequence[int] | Choice) -> tuple[float, npt.NDArray[np.float64], float]:
    """Loss, additive costs [resource] and longest path (cycles) of one choice."""
    loss = sum(float(values[p]) for values, p in zip(tables.loss, choice, strict=True))
    cost = np.sum([values[:, p] for values, p in zip(tables.cost, choice, strict=True)], axis=0)
    for pair in tables.pairs:
        cost = cost + pair.cost[:, choice[pair.first], choice[pair.second]]
        loss += float(pair.loss[choice[pair.first], choice[pair.second]])
    own = [float(values[p]) for values, p in zip(tables.latency, choice, strict=True)]
    between = [float(pair.latency[choice[pair.first], choice[pair.second]]) for pair in tables.pairs]
    return loss, cost, longest_path(tables, own, between)[0]


def longest_path(
    tables: Tables, own: Sequence[float], between: Sequence[float]
) -> tuple[float, tuple[int, ...], tuple[int, ...]]:
    """Length of the longest path, its layers and its pairs, for these latencies of layers and pairs."""
    arrival: list[float | None] = [None] * len(own)
    before: list[tuple[int, int] | None] = [None] * len(own)
    finish = [0.0] * len(own)
    incoming: dict[int, list[int]] = {}
    for number, pair in enumerate(tables.pairs):
        if pair.edge:
            incoming.setdefault(pair.second, []).append(number)
    for layer in range(len(own)):
        for number in incoming.get(layer, ()):
            time = finish[tables.pairs[number].first] + between[number]
            best = arrival[layer]
            if best is None or time > best:
                arrival[layer], before[layer] = time, (tables.pairs[number].first, number)
        finish[layer] = (arrival[layer] or 0.0) + own[layer]
    layer = int(np.argmax(finish))
    layers, pairs = [layer], []
    while (step := before[layer]) is not None:
        layer, number = step
        layers.append(layer)
        pairs.append(number)
    return max(finish), tuple(layers), tuple(pairs)


def exceeded_path(tables: Tables, choice: Sequence[int] | Choice) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Layers and pairs of the longest path where it is longer than the latency limit."""
    if tables.latency_limit is None:
        return None
    own = [float(values[p]) for values, p in zip(tables.latency, choice, strict=True)]
    between = [float(pair.latency[choice[pair.first], choice[pair.second]]) for pair in tables.pairs]
    length, layers, pairs = longest_path(tables, own, between)
    return (layers, pairs) if length > tables.latency_limit + tolerance(tables.latency_limit) else None


def positions_in(tables: Tables, restricted: Tables, choice: Sequence[int] | Choice) -> Choice:
    """Positions in all tables from positions in restricted ones."""
    chosen = restricted.choice_of(choice)
    return np.array([int(np.searchsorted(k, chosen[n])) for k, n in zip(tables.kept, tables.names, strict=True)])


def tightened(tables: Tables, choice: Sequence[int] | Choice) -> Tables:
    """Every limit that the choice exceeds, lowered by twice the excess."""
    _, cost, latency = total(tables, choice)
    top = tables.latency_limit
    return replace(
        tables,
        limits=tables.limits - 2 * np.maximum(cost - tables.limits, 0),
        latency_limit=None if top is None else top - 2 * max(latency - top, 0.0),
    )


def feasible(tables: Tables, choice: Sequence[int] | Choice) -> bool:
    """Whether the choice meets the additive limits, the latency limit and every pair's permission."""
    _, cost, latency = total(tables, choice)
    if any(c > limit + tolerance(limit) for c, limit in zip(cost, tables.limits, strict=True)):
        return False
    if tables.latency_limit is not None and latency > tables.latency_limit + tolerance(tables.latency_limit):
        return False
    return all(pair.allowed[choice[pair.first], choice[pair.second]] for pair in tables.pairs)

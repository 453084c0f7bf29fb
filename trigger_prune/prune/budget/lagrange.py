"""Proven lower bound on the loss by pricing the limits, and the options that the bound rules out.

Each limited quantity gets a price >= 0. For given prices the best plan is found exactly by elimination, limits or not;
its priced loss minus price x limit is a lower bound for every feasible plan. The best prices come from Kelley's cutting
planes (the dual view of Dantzig-Wolfe), with the next prices taken between the best so far and the new optimum
(in-out, Ben-Ameur and Neto 2007). On chains and trees this bound equals that of the linear relaxation; see Kellerer,
Pferschy and Pisinger, Knapsack Problems (2004), chapters 9 and 11. A latency limit on a graph with branches is one
limit per path; the paths that matter are added as they appear. Options that cannot be part of a better plan than the
best one met are dropped on the way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from trigger_prune.prune.budget.elimination import FORBIDDEN, Elimination, Values
from trigger_prune.prune.budget.enumeration import Path, Prices
from trigger_prune.prune.budget.tables import Choice, Tables, feasible, longest_path, total

MAX_ROUNDS = 300
DROP_EVERY = 8


class Priced:
    """The tables of one problem, laid out so that a set of prices is applied by one product."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.elimination = Elimination(tables.sizes, [(pair.first, pair.second) for pair in tables.pairs])
        spans = [float(np.ptp(loss)) for loss in (*tables.loss, *(pair.loss for pair in tables.pairs))]
        self.span = max(sum(spans), 1e-12)
        self._own = np.cumsum([0, *tables.sizes])
        count = len(tables.resources)
        self._loss = np.concatenate(tables.loss)
        self._cost = np.concatenate(tables.cost, axis=1)
        self._starts = np.cumsum([0, *(pair.allowed.size for pair in tables.pairs)])
        flat = [pair.cost.reshape(count, pair.allowed.size) for pair in tables.pairs]
        self._pair_cost = np.concatenate(flat, axis=1) if flat else np.zeros((count, 0))
        self._pair_loss = np.concatenate([pair.loss.ravel() for pair in tables.pairs] or [np.zeros(0)])
        self._blocked = np.concatenate([~pair.allowed.ravel() for pair in tables.pairs] or [np.zeros(0, dtype=bool)])

    def apply(self, prices: Values, paths: list[Path]) -> tuple[list[Values], list[Values]]:
        """Priced values per layer and per pair: loss + price x cost, forbidden pairs out of reach.

        ``prices``: of the resources, then of the paths' latencies.
        """
        tables = self.tables
        count = len(tables.resources)
        unary = np.split(self._loss + prices[:count] @ self._cost, self._own[1:-1])
        between = self._pair_loss + prices[:count] @ self._pair_cost
        if self._blocked.any():
            scale = self.span + float(np.abs(between).max()) + float(max(np.abs(values).max() for values in unary))
            between = np.where(self._blocked, FORBIDDEN * scale, between)
        pairwise = [
            between[start : start + pair.allowed.size].reshape(pair.allowed.shape)
            for start, pair in zip(self._starts, tables.pairs, strict=False)
        ]
        for price, (layers, numbers) in zip(prices[count:], paths, strict=True):
            if price > 0:
                for layer in layers:
                    unary[layer] = unary[layer] + price * tables.latency[layer]
                for number in numbers:
                    pairwise[number] = pairwise[number] + price * tables.pairs[number].latency
        return unary, pairwise


@dataclass(frozen=True, eq=False)
class Bound:
    """``value``: proven lower bound of all plans better than the incumbent.

    ``tables``: without the options that no such plan has; ``through`` [option] per layer of them: lower bound of all
    plans with that option. ``incumbent``: best feasible choice met, by position in the tables given (None: none).
    ``starts``: plans in ``tables`` from which to walk to a feasible one: the smallest that was met, the best priced.
    ``mixture``: the plans (position in the menu by layer) that together solve the linear relaxation.
    ``prices``: the best set first. ``infeasible``: the bound passed every possible loss, so no plan is feasible.
    """

    value: float
    incumbent: Choice | None
    tables: Tables
    through: tuple[npt.NDArray[np.float64], ...]
    starts: tuple[Choice, ...]
    mixture: tuple[dict[str, int], ...]
    prices: Prices
    infeasible: bool


class Pricing:
    """The search for the best prices. Prices are in units of loss per limit."""

    def __init__(self, tables: Tables, tolerance: float) -> None:
        self.root, self.relative = tables, tolerance
        self.priced = Priced(tables)
        self.positions = tuple(np.arange(size) for size in tables.sizes)  # of the options left, in the root's menus
        self.scale = np.where(tables.limits > 0, tables.limits, 1.0)
        self.limits = tables.limits / self.scale
        self.paths: list[Path] = []
        self.path_costs: list[list[float]] = []
        if tables.latency_limit is not None:
            middle = [float(pair.latency.mean()) for pair in tables.pairs]
            self._add(longest_path(tables, [float(values.mean()) for values in tables.latency], middle)[1:])
        self.columns: list[Choice] = []  # in the root's positions
        self.costs: list[Values] = []
        self.losses: list[float] = []
        self.tried: list[tuple[float, Values]] = []
        self.weights = np.zeros(0)
        self.incumbent: Choice | None = None
        self.best_loss = np.inf
        self.value, self.best = -np.inf, np.zeros(len(self.limits))

    def _add(self, path: Path) -> None:
        top = self.root.latency_limit or 0.0
        self.paths.append(path)
        self.path_costs.append([])
        self.scale = np.append(self.scale, top if top > 0 else 1.0)
        self.limits = np.append(self.limits, 1.0 if top > 0 else 0.0)

    def run(self, deadline: float) -> Bound:
        """Kelley's cutting planes with in-out steps until the bound cannot rise by more than the tolerance."""
        unit = self.priced.span
        worst = sum(float(loss.max()) for loss in (*self.root.loss, *(pair.loss for pair in self.root.pairs)))
        box = 10.0 * unit
        prices = np.full(len(self.limits), 1e6 * unit)  # the first plan is a small one: the loss does not count
        self._evaluate(np.zeros(len(self.limits)))  # a bound to start from, however poor
        for number in range(MAX_ROUNDS):
            improved = self._evaluate(prices)
            close = max(1e-9 * unit, self.relative * abs(self.value))
            if self.value > worst + close or time.monotonic() > deadline:
                break
            if self.value > self.best_loss - close:
                break
            if number % DROP_EVERY == DROP_EVERY - 1 and np.isfinite(self.best_loss):
                self._drop()
            mixed = self._master(box)
            if mixed is None:
                break
            ceiling, outer, self.weights = mixed
            if ceiling - self.value <= close:
                path = self._violated_path(self.weights)
                if path is not None:
                    self._add(path)
                    self.best, prices = np.append(self.best, 0.0), np.append(outer, 0.0)
                    continue
                if (outer < 0.999 * box).all() or box > 1e7 * unit:
                    break
                box *= 30.0
                continue
            prices = 0.5 * (self.best + outer) if improved else outer
        return self._result(self.value > worst + max(1e-9 * unit, self.relative * abs(self.value)))

    def _evaluate(self, prices: Values) -> bool:
        unary, pairwise = self.priced.apply(prices / self.scale, self.paths)
        value, choice = self.priced.elimination.minimise(unary, pairwise)
        value -= float(prices @ self.limits)
        self.tried.append((value, prices))
        column = np.array([int(at[p]) for at, p in zip(self.positions, choice, strict=True)])
        loss, cost, _ = total(self.root, column)
        if loss < self.best_loss and feasible(self.root, column):
            self.incumbent, self.best_loss = column, loss
        self.columns.append(column)
        self.costs.append(cost)
        self.losses.append(loss)
        if value > self.value:
            self.value, self.best = value, prices
            return True
        return False

    def _through(self) -> list[Values]:
        unary, pairwise = self.priced.apply(self.best / self.scale, self.paths)
        constant = float(self.best @ self.limits)
        return [values - constant for values in self.priced.elimination.marginals(unary, pairwise)]

    def _drop(self) -> None:
        margin = 1e-9 * self.priced.span
        keep = [values <= self.best_loss + margin for values in self._through()]
        if sum(map(np.sum, keep)) < 0.9 * sum(map(len, keep)) and all(mask.any() for mask in keep):
            self.positions = tuple(at[mask] for at, mask in zip(self.positions, keep, strict=True))
            self.priced = Priced(self.priced.tables.restrict(keep))

    def _path_costs(self) -> Values:
        """Latency [path, plan met]; computed once per path and plan."""
        tables = self.root
        for (layers, numbers), known in zip(self.paths, self.path_costs, strict=True):
            for choice in self.columns[len(known) :]:
                length = sum(float(tables.latency[layer][choice[layer]]) for layer in layers)
                pairs = (tables.pairs[number] for number in numbers)
                known.append(length + sum(float(p.latency[choice[p.first], choice[p.second]]) for p in pairs))
        return np.array(self.path_costs, dtype=np.float64).reshape(len(self.paths), len(self.columns))

    def _master(self, box: float) -> tuple[float, Values, Values] | None:
        """Cheapest mixture of the plans met within the limits (excess costs ``box`` each): value, prices, weights.

        None where rounding defeats the linear program: the prices so far are the answer then.
        """
        count, limits = len(self.losses), len(self.limits)
        if not limits:
            weights = np.zeros(count)
            weights[int(np.argmin(self.losses))] = 1.0
            return min(self.losses), np.zeros(0), weights
        costs = np.array(self.costs).T.reshape(limits - len(self.paths), count)
        rows = np.concatenate([costs, self._path_costs()]) / self.scale[:, None]
        answer = linprog(
            np.concatenate([self.losses, np.full(limits, box)]),
            A_ub=np.concatenate([rows, -np.eye(limits)], axis=1),
            b_ub=self.limits,
            A_eq=np.concatenate([np.ones(count), np.zeros(limits)])[None],
            b_eq=[1.0],
            method="highs-ds",
        )
        if answer.status != 0 or answer.x is None or answer.fun is None:
            return None
        return float(answer.fun), np.maximum(-answer.ineqlin.marginals, 0.0), answer.x[:count]

    def _violated_path(self, weights: Values) -> Path | None:
        """The longest path of the mixture where it is longer than the limit and not known yet."""
        tables = self.root
        if tables.latency_limit is None:
            return None
        own, between = np.zeros(len(tables.names)), np.zeros(len(tables.pairs))
        for weight, choice in zip(weights, self.columns, strict=True):
            if weight > 0:
                own += [weight * latency[p] for latency, p in zip(tables.latency, choice, strict=True)]
                between += [weight * p.latency[choice[p.first], choice[p.second]] for p in tables.pairs]
        length, layers, numbers = longest_path(tables, own.tolist(), between.tolist())
        if length <= tables.latency_limit * (1 + 1e-7) + 1e-9 or (layers, numbers) in self.paths:
            return None
        return layers, numbers

    def _result(self, infeasible: bool) -> Bound:
        unary, pairwise = self.priced.apply(self.best / self.scale, self.paths)
        smallest = self.priced.apply(np.full(len(self.limits), 1e6 * self.priced.span) / self.scale, self.paths)
        sets = [self.best] + [prices for _, prices in sorted(self.tried, key=lambda entry: -entry[0])]
        padded = [np.append(prices, np.zeros(len(self.limits) - len(prices))) for prices in sets]
        return Bound(
            value=self.value,
            incumbent=self.incumbent,
            tables=self.priced.tables,
            through=tuple(self._through()),
            starts=(
                self.priced.elimination.minimise(*smallest)[1],
                self.priced.elimination.minimise(unary, pairwise)[1],
            ),
            mixture=tuple(
                self.root.choice_of(column)
                for column, weight in zip(self.columns, self.weights, strict=False)
                if weight > 1e-6
            ),
            prices=Prices(np.array(padded).reshape(len(padded), len(self.limits)) / self.scale, tuple(self.paths)),
            infeasible=infeasible,
        )

"""Elimination, prices, dominance and enumeration, each against trying every plan."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from budget_problems import brute_force, random_limits, random_problem

from trigger_prune.prune.budget import label_bounds
from trigger_prune.prune.budget.elimination import Elimination
from trigger_prune.prune.budget.enumeration import Enumeration, Prices
from trigger_prune.prune.budget.label_bounds import LabelBounds
from trigger_prune.prune.budget.lagrange import Pricing
from trigger_prune.prune.budget.options import CostVector, EdgeCost, LayerMenu, Option, Problem
from trigger_prune.prune.budget.plan import limits_of
from trigger_prune.prune.budget.tables import Tables, feasible, tabulate, total, within_ii, without_dominated

SHAPES = ("chain", "branches", "residual", "loose")


@pytest.mark.parametrize("seed", range(60))
def test_elimination_finds_the_smallest_sum_and_all_marginals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 6))
    sizes = [int(size) for size in rng.integers(1, 4, count)]
    pairs = [pair for pair in itertools.combinations(range(count), 2) if rng.random() < 0.5]
    unary = [rng.random(size) for size in sizes]
    pairwise = [rng.random((sizes[a], sizes[b])) for a, b in pairs]
    through = [np.full(size, np.inf) for size in sizes]
    for choice in itertools.product(*map(range, sizes)):
        value = sum(unary[i][choice[i]] for i in range(count))
        value += sum(table[choice[a], choice[b]] for (a, b), table in zip(pairs, pairwise, strict=True))
        for layer, option in enumerate(choice):
            through[layer][option] = min(through[layer][option], value)
    elimination = Elimination(sizes, pairs)
    value, choice = elimination.minimise(unary, pairwise)
    assert value == pytest.approx(through[0].min())
    assert all(through[layer][option] == pytest.approx(value) for layer, option in enumerate(choice))
    for found, truth in zip(elimination.marginals(unary, pairwise), through, strict=True):
        np.testing.assert_allclose(found, truth, atol=1e-12)


def tables_of(seed: int) -> Tables | None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, layers=int(rng.integers(2, 6)), options=4, shape=SHAPES[seed % 4])
    limits = random_limits(rng, problem)
    return None if brute_force(problem, limits) is None else within_ii(tabulate(problem, limits_of(limits)))


def feasible_losses(tables: Tables) -> dict[tuple[int, ...], float]:
    return {
        choice: total(tables, choice)[0]
        for choice in itertools.product(*map(range, tables.sizes))
        if feasible(tables, choice)
    }


@pytest.mark.parametrize("seed", [seed for seed in range(1000, 1080) if tables_of(seed) is not None])
def test_prices_bound_every_plan_and_dominance_and_enumeration_keep_the_best(seed: int) -> None:
    tables = tables_of(seed)
    assert tables is not None
    losses = feasible_losses(tables)
    best = min(losses.values())

    bound = Pricing(tables, 1e-9).run(np.inf)
    assert not bound.infeasible and bound.value <= best + 1e-8
    # an option left out belongs to no plan better than the incumbent; one left in is bounded from below
    left = [list(kept) for kept in bound.tables.kept]
    incumbent = np.inf if bound.incumbent is None else total(tables, bound.incumbent)[0]
    for choice, loss in losses.items():
        for layer, option in enumerate(choice):
            original = int(tables.kept[layer][option])
            if original not in left[layer]:
                assert loss >= incumbent - 1e-8
            elif loss < incumbent:
                assert bound.through[layer][left[layer].index(original)] <= loss + 1e-8

    smaller = without_dominated(tables)
    assert min(feasible_losses(smaller).values()) == pytest.approx(best, abs=1e-12)

    prices = Prices(bound.prices.values[:4], bound.prices.paths)
    found = Enumeration(tables, prices).search(max(losses.values()) + 1, width=10**6, deadline=np.inf)
    assert found.loss == pytest.approx(best, abs=1e-9) and found.bound == pytest.approx(best, abs=1e-9)
    narrow = Enumeration(tables, prices).search(max(losses.values()) + 1, width=2, deadline=np.inf)
    assert narrow.bound <= best + 1e-9 <= narrow.loss + 2e-9


@pytest.mark.parametrize("seed", [seed for seed in range(1100, 1150) if tables_of(seed) is not None])
def test_fitted_prices_cut_no_partial_plan_that_a_better_plan_continues(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every layer: a partial plan that is cut has no completion below the ceiling, one left is bounded."""
    tables = tables_of(seed)
    assert tables is not None
    losses = feasible_losses(tables)
    monkeypatch.setattr(label_bounds, "SAMPLE", 3)
    bound = Pricing(tables, 1e-9).run(np.inf)
    prices = Prices(bound.prices.values[:1], bound.prices.paths)
    enumeration = Enumeration(tables, prices)
    for ceiling in (min(losses.values()) + 1e-6, float(np.median(list(losses.values())))):
        bounds = LabelBounds(enumeration.steps, enumeration.limits, prices.values, ceiling)
        # every combination, layer by layer, so that the partial plans need no history
        partial = [()]
        spent, state = np.zeros((1, 1 + len(enumeration.limits))), np.zeros(1, dtype=np.int64)
        for number, step in enumerate(enumeration.steps):
            parent, option = bounds.extend(number, spent, state)
            spent, state = spent[parent] + step.spent[state[parent], option], step.after[state[parent], option]
            partial = [(*partial[p], int(o)) for p, o in zip(parent, option, strict=True)]
            for cut in (bounds.cut, bounds.fit):
                if not len(partial):
                    break
                keep, reached = cut(number, spent, state)
                spent, state, partial = spent[keep], state[keep], [partial[k] for k in keep]
                layers = enumeration.order[: number + 1]
                continued = {}
                for choice, loss in losses.items():
                    start = tuple(choice[layer] for layer in layers)
                    continued[start] = min(loss, continued.get(start, np.inf))
                below = {start for start, loss in continued.items() if loss < ceiling - 1e-8}
                assert below <= set(partial)
                for start, value in zip(partial, reached, strict=True):
                    assert value <= continued.get(start, np.inf) + 1e-8


def test_fitted_prices_bound_better_than_those_of_the_whole_problem() -> None:
    """Two knapsack limits and partial plans that spent much of either one: most fall only to prices of their own."""
    rng = np.random.default_rng(4)
    menus = tuple(
        LayerMenu(
            f"layer{n}",
            tuple(
                Option(f"o{k}", float(rng.random()), CostVector(lut=int(rng.integers(99)), ff=int(rng.integers(99))))
                for k in range(12)
            ),
        )
        for n in range(16)
    )
    tables = tabulate(Problem(menus), {"lut": 400.0, "ff": 400.0})
    bound = Pricing(tables, 1e-9).run(np.inf)
    enumeration = Enumeration(bound.tables, Prices(bound.prices.values[:1], bound.prices.paths))
    bounds = LabelBounds(enumeration.steps, enumeration.limits, bound.prices.values[:1], bound.value * 1.1)
    spent, state = np.zeros((1, 3)), np.zeros(1, dtype=np.int64)
    for number, step in enumerate(enumeration.steps[:7]):
        parent, option = bounds.extend(number, spent, state)
        spent, state = spent[parent] + step.spent[state[parent], option], step.after[state[parent], option]
        keep, _ = bounds.cut(number, spent, state)
        spent, state = spent[keep], state[keep]
    count = len(spent)
    for _ in range(4):
        keep, _ = bounds.fit(6, spent, state)
        spent, state = spent[keep], state[keep]
    assert 0 < len(spent) < 0.7 * count


def test_dominated_options_are_dropped_only_where_the_neighbours_cannot_tell() -> None:
    first = LayerMenu("first", (Option("good", 0.0, CostVector(lut=1)), Option("bad", 1.0, CostVector(lut=2))))
    second = LayerMenu("second", (Option("x", 0.0), Option("same", 0.0)))
    plain = tabulate(Problem((first, second), (EdgeCost("first", "second"),)), {"lut": 10.0})
    assert without_dominated(plain).sizes == (1, 1)
    helped = Problem((first, second), (EdgeCost("first", "second", {"lut": np.array([[5.0, 5.0], [0.0, 0.0]])}),))
    assert without_dominated(tabulate(helped, {"lut": 10.0})).sizes == (2, 1)
    unlimited = tabulate(helped, {"dsp": 10.0})
    assert without_dominated(unlimited).sizes == (1, 1)

"""Elimination, prices, dominance and enumeration, each against trying every plan."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from budget_problems import brute_force, random_limits, random_problem

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
def test_no_partial_plan_is_cut_that_a_better_plan_continues(seed: int) -> None:
    """After every layer: a partial plan that is cut has no completion below the ceiling, one left is bounded."""
    tables = tables_of(seed)
    assert tables is not None
    losses = feasible_losses(tables)
    bound = Pricing(tables, 1e-9).run(np.inf)
    prices = Prices(bound.prices.values[:5], bound.prices.paths)
    enumeration = Enumeration(tables, prices)
    for ceiling in (min(losses.values()) + 1e-6, float(np.median(list(losses.values())))):
        bounds = LabelBounds(enumeration.steps, enumeration.limits, prices.values, ceiling)
        # every combination, layer by layer, so that the partial plans need no history
        partial: list[tuple[int, ...]] = [()]
        spent, state = np.zeros((1, 1 + len(enumeration.limits))), np.zeros(1, dtype=np.int64)
        for number, step in enumerate(enumeration.steps):
            parent, option = bounds.extend(number, spent, state)
            spent, state = spent[parent] + step.spent[state[parent], option], step.after[state[parent], option]
            partial = [(*partial[p], int(o)) for p, o in zip(parent, option, strict=True)]
            keep, reached = bounds.cut(number, spent, state)
            spent, state, partial = spent[keep], state[keep], [partial[k] for k in keep]
            layers = enumeration.order[: number + 1]
            continued: dict[tuple[int, ...], float] = {}
            for choice, loss in losses.items():
                start = tuple(choice[layer] for layer in layers)
                continued[start] = min(loss, continued.get(start, np.inf))
            assert {start for start, loss in continued.items() if loss < ceiling - 1e-8} <= set(partial)
            for start, value in zip(partial, reached, strict=True):
                assert value <= continued.get(start, np.inf) + 1e-8


@pytest.mark.parametrize("seed", [seed for seed in range(1200, 1212) if tables_of(seed) is not None])
def test_a_search_for_prices_cut_short_still_bounds_by_the_smallest_loss(seed: int) -> None:
    tables = tables_of(seed)
    assert tables is not None
    smallest = sum(float(loss.min()) for loss in tables.loss)
    bound = Pricing(tables, 1e-9).run(-np.inf)
    assert smallest - 1e-9 <= bound.value <= min(feasible_losses(tables).values()) + 1e-9


@pytest.mark.parametrize("seed", [1001, 1009, 1013, 1017, 1021])
def test_path_latencies_of_all_plans_met_are_kept_up_to_date(seed: int) -> None:
    """Branching graphs: paths join while plans are met; each entry against the sum over its path."""
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, layers=6, options=4, shape="branches")
    tables = within_ii(tabulate(problem, {"lut": 100.0, "latency_cycles": 6.0}))
    assert tables is not None
    pricing = Pricing(tables, 1e-9)
    pricing.run(np.inf)
    table = pricing._path_costs()
    assert table.shape == (len(pricing.paths), len(pricing.columns))
    for row, (layers, numbers) in zip(table, pricing.paths, strict=True):
        for value, choice in zip(row, pricing.columns, strict=True):
            length = sum(tables.latency[layer][choice[layer]] for layer in layers)
            for number in numbers:
                pair = tables.pairs[number]
                length += pair.latency[choice[pair.first], choice[pair.second]]
            assert value == pytest.approx(length)


def test_dominated_options_are_dropped_only_where_the_neighbours_cannot_tell() -> None:
    first = LayerMenu("first", (Option("good", 0.0, CostVector(lut=1)), Option("bad", 1.0, CostVector(lut=2))))
    second = LayerMenu("second", (Option("x", 0.0), Option("same", 0.0)))
    plain = tabulate(Problem((first, second), (EdgeCost("first", "second"),)), {"lut": 10.0})
    assert without_dominated(plain).sizes == (1, 1)
    helped = Problem((first, second), (EdgeCost("first", "second", {"lut": np.array([[5.0, 5.0], [0.0, 0.0]])}),))
    assert without_dominated(tabulate(helped, {"lut": 10.0})).sizes == (2, 1)
    unlimited = tabulate(helped, {"dsp": 10.0})
    assert without_dominated(unlimited).sizes == (1, 1)

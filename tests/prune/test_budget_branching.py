"""Bounds of many nodes and branch and bound, each against trying every plan."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from budget_problems import brute_force, random_limits, random_problem

from trigger_prune.prune.budget import branching, cores, node_plans
from trigger_prune.prune.budget.branching import Tree
from trigger_prune.prune.budget.enumeration import Enumeration, Prices
from trigger_prune.prune.budget.lagrange import Pricing
from trigger_prune.prune.budget.node_bounds import NodeBounds
from trigger_prune.prune.budget.options import CostVector, EdgeCost, LayerMenu, Option, Problem
from trigger_prune.prune.budget.plan import limits_of
from trigger_prune.prune.budget.solve import solve
from trigger_prune.prune.budget.tables import Tables, exceeded_path, feasible, tabulate, total, within_ii
from trigger_prune.target import Budget

SHAPES = ("chain", "branches", "residual", "loose")
Values = npt.NDArray[np.float64]


class Case:
    """One small problem: its tables, its nodes laid out, and every plan by option number."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        problem = random_problem(rng, layers=int(rng.integers(2, 6)), options=4, shape=SHAPES[seed % 4])
        limits = random_limits(rng, problem)
        tables = within_ii(tabulate(problem, limits_of(limits)))
        self.feasible = brute_force(problem, limits) is not None
        if tables is None or not self.feasible:
            return
        self.tables: Tables = tables
        everything = tuple(range(len(tables.names)))
        paths = ((everything, tuple(range(len(tables.pairs)))),) if tables.is_chain and tables.latency_limit else ()
        count = len(tables.resources) + len(paths)
        self.enumeration = Enumeration(tables, Prices(np.zeros((1, count)), paths))
        self.bounds = NodeBounds(self.enumeration.steps, self.enumeration.limits)
        self.count = count
        self.plans: list[tuple[tuple[int, ...], float, Values]] = []
        for choice in itertools.product(*map(range, tables.sizes)):
            if all(pair.allowed[choice[pair.first], choice[pair.second]] for pair in tables.pairs):
                loss, cost, latency = total(tables, choice)
                used = np.append(cost, latency) if paths else cost
                numbers = tuple(int(self.bounds.start[n] + choice[at]) for n, at in enumerate(self.enumeration.order))
                self.plans.append((numbers, loss, used))

    def masks(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.bool_]:
        masks = rng.random((count, self.bounds.options)) < 0.7
        masks[0] = True
        return masks


SEEDS = [seed for seed in range(2000, 2064) if Case(seed).feasible]


@pytest.mark.parametrize("seed", SEEDS)
def test_for_given_prices_bounds_are_the_smallest_priced_sums(seed: int) -> None:
    """To the last digit: of all plans of the node, and of those through each option."""
    case = Case(seed)
    rng = np.random.default_rng(seed)
    masks = case.masks(rng, 6)
    prices = rng.random((6, case.count)) * rng.choice([0.0, 0.01, 0.3], size=(6, 1))
    met: list[tuple[tuple[int, ...], float]] = []

    def hear(choice: npt.NDArray[np.int64], loss: Values) -> None:
        met.extend((tuple(plan + case.bounds.start), value) for plan, value in zip(choice.T, loss, strict=True))

    found = case.bounds.bound(masks, prices, lambda: 1e6, 1, hear)
    by_number = {numbers: (loss, used) for numbers, loss, used in case.plans}
    limits = case.bounds.limits
    for node in range(6):
        values = np.full(case.bounds.options, np.inf)
        for numbers, loss, used in case.plans:
            if masks[node, list(numbers)].all():
                at = list(numbers)
                values[at] = np.minimum(values[at], loss + prices[node] @ (used - limits))
        if not np.isfinite(values).any():
            assert node not in found.node
            continue
        row = int(np.flatnonzero(found.node == node)[0])
        assert found.value[row] == pytest.approx(values.min(), abs=1e-9)
        np.testing.assert_allclose(found.through[row], values, atol=1e-9)
        np.testing.assert_array_equal(found.prices[row], prices[node])
        chosen = np.flatnonzero(found.share[row])
        loss, used = by_number[
            tuple(int(chosen[case.bounds.step_of[chosen] == n][0]) for n in range(len(case.tables.names)))
        ]
        assert loss + prices[node] @ (used - limits) == pytest.approx(values.min(), abs=1e-9)
    for numbers, value in met:
        loss, used = by_number[numbers]
        assert value == pytest.approx(loss) and (used <= limits + 1e-9).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_fitted_prices_lose_no_plan_below_the_ceiling(seed: int) -> None:
    case = Case(seed)
    rng = np.random.default_rng(seed)
    masks = case.masks(rng, 12)
    losses = sorted(loss for _, loss, used in case.plans if (used <= case.bounds.limits).all())
    for ceiling in (losses[0] + 1e-6, losses[len(losses) // 2] + 1e-6):
        found = case.bounds.bound(masks, np.full((12, case.count), 0.01), lambda c=ceiling: c, 9, lambda *_: None)
        for node, mask in enumerate(masks):
            for numbers, loss, used in case.plans:
                at = list(numbers)
                if mask[at].all() and (used <= case.bounds.limits).all() and loss < ceiling:
                    row = int(np.flatnonzero(found.node == node)[0])
                    assert found.value[row] <= loss + 1e-9
                    assert (found.through[row][at] <= loss + 1e-9).all()


def test_fitting_raises_the_bounds_and_the_ceiling_ends_nodes() -> None:
    """Two knapsack limits, prices of zero to begin with: the fit comes near the best bound, found by linear search."""
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
    enumeration = Enumeration(tables, Prices(np.zeros((1, 2)), ()))
    bounds = NodeBounds(enumeration.steps, enumeration.limits)
    grid = np.array(list(itertools.product(np.linspace(0, 0.02, 41), repeat=2)))
    everything = np.ones((len(grid), bounds.options), dtype=bool)
    best = bounds.bound(everything, grid, lambda: 1e6, 1, lambda *_: None).value.max()
    start, zero = everything[:1], np.zeros((1, 2))
    first = bounds.bound(start, zero, lambda: best * 1.2, 1, lambda *_: None).value[0]
    # far above the best bound: options whose own bound passes the ceiling leave, and the node with the last of them
    fitted = bounds.bound(start, zero, lambda: best * 1.2, 60, lambda *_: None).value[0]
    assert first < 0.5 * best and 0.98 * best < fitted < 1.01 * best
    assert not len(bounds.bound(start, zero, lambda: best * 0.9, 60, lambda *_: None).node)


@pytest.mark.parametrize("few", [0, 5])
@pytest.mark.parametrize("batch", [1, 256])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_tree_finds_the_best_plan_and_its_bound_holds_whenever_it_is_stopped(
    seed: int, batch: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(seed)
    monkeypatch.setattr(branching, "BATCH", batch)
    monkeypatch.setattr(branching, "FEW_PLANS", few)
    monkeypatch.setattr(branching, "ITERATIONS", 2)
    losses = {numbers: loss for numbers, loss, used in case.plans if (used <= case.bounds.limits).all()}
    truth = min(losses.values())
    for start in (truth + 5.0, truth + 1e-6, truth - 1e-6):
        tree = Tree(case.bounds, np.zeros(case.count))
        known = [start]

        def met(choice: npt.NDArray[np.int64], loss: Values, known: list[float] = known) -> None:
            for plan, value in zip(choice.T, loss, strict=True):
                assert losses[tuple(plan + case.bounds.start)] == pytest.approx(value)
            known.append(float(loss.min()))

        proven, batches = -np.inf, 0
        while proven < min(known):
            one_batch = iter((False, True))
            proven = tree.search(ceiling=partial(min, known), met=met, stop=partial(next, one_batch))
            assert proven <= max(truth, min(known)) + 1e-9 and (proven <= truth + 1e-9 or start < truth)
            batches += 1
            assert batches < 10_000
        if start > truth:
            assert min(known) == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize("together", [1, 10**6])
@pytest.mark.parametrize("seed", SEEDS)
def test_completing_nodes_meets_the_best_plan_below_the_ceiling_and_no_other_nodes_plan(
    seed: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(seed)
    monkeypatch.setattr(node_plans, "MAX_PARTIAL", together)
    rng = np.random.default_rng(seed)
    masks = case.masks(rng, 10)
    masks = masks[np.logical_or.reduceat(masks, case.bounds.start, axis=1).all(1)]
    prices = rng.random((len(masks), case.count)) * 0.05
    within = {n: loss for n, loss, used in case.plans if (used <= case.bounds.limits).all()}
    held = {n: loss for n, loss in within.items() if masks[:, list(n)].all(1).any()}
    for ceiling in (1e6, min(within.values()) + 0.3):
        heard: dict[tuple[int, ...], float] = {}

        def met(choice: npt.NDArray[np.int64], loss: Values, heard: dict[tuple[int, ...], float] = heard) -> None:
            heard |= {
                tuple(plan + case.bounds.start): value for plan, value in zip(choice.T, loss.tolist(), strict=True)
            }

        node_plans.complete(case.bounds, masks, prices, ceiling=lambda top=ceiling: top, met=met)
        assert heard == pytest.approx({n: loss for n, loss in held.items() if loss < ceiling})


def test_a_core_is_a_part_of_a_larger_one_option_by_option() -> None:
    """The smaller core has its layers in another order: large costs come first."""
    rng = np.random.default_rng(5)
    menus = tuple(
        LayerMenu(
            f"layer{n}",
            tuple(
                Option(f"o{k}", float(rng.random()), CostVector(lut=int(rng.integers(1, 5) * 4 ** rng.integers(4))))
                for k in range(8)
            ),
        )
        for n in range(7)
    )
    bound = Pricing(tabulate(Problem(menus), {"lut": 150.0}), 1e-6).run(np.inf)
    ranked = np.sort(np.concatenate(bound.through))
    reordered = 0
    for more, less in itertools.combinations((len(ranked) - 1, 40, 30, 20), 2):
        large, small = (cores._Core(bound, float(ranked[size]), []) for size in (more, less))
        if small.empty:
            continue
        named = [
            [(int(layer), int(k)) for layer in core.order for k in core.tables.kept[layer]] for core in (large, small)
        ]
        assert [named[0][column] for column in large.columns(small)] == named[1]
        reordered += list(large.order) != list(small.order)
    assert reordered


def test_a_tree_goes_on_with_fewer_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options leave while nodes are open; the best plan and its proof stay."""
    shrunk = []
    restrict = Tree.restrict
    monkeypatch.setattr(Tree, "restrict", lambda self, *args: (shrunk.append(len(args[1])), restrict(self, *args))[1])
    monkeypatch.setattr(branching, "BATCH", 4)
    monkeypatch.setattr(branching, "FEW_PLANS", 0)
    monkeypatch.setattr(cores, "CORE", 6)
    monkeypatch.setattr(cores, "SHRINK", 1.0)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        menus = tuple(
            LayerMenu(
                f"layer{n}",
                tuple(
                    Option(
                        f"o{k}", float(rng.random()), CostVector(lut=int(rng.integers(60)), ff=int(rng.integers(60)))
                    )
                    for k in range(8)
                ),
            )
            for n in range(10)
        )
        problem, limits = Problem(menus), Budget(lut=200, ff=200)
        plan = solve(problem, limits, method="exact", relative_gap=0, time_limit_s=100)
        truth = solve(problem, limits, method="milp", relative_gap=0, time_limit_s=100).loss_increase
        assert plan.loss_increase == pytest.approx(truth, abs=1e-8) and plan.gap <= 1e-8
    assert len(shrunk) >= 4


def test_a_full_tree_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(SEEDS[0])
    monkeypatch.setattr(branching, "MAX_OPEN", 0)
    tree = Tree(case.bounds, np.zeros(case.count))
    assert tree.search(ceiling=lambda: 1e6, met=lambda *_: None, stop=lambda: False) == -np.inf
    assert tree.full


def diamonds(seed: int, count: int) -> Problem:
    """A chain of diamonds: two branches each, so that 2 to the power of ``count`` paths might be the longest."""
    rng = np.random.default_rng(seed)
    menus, edges = [], []
    for number in range(count):
        for part in ("stem", "left", "right"):
            cycles = rng.integers(1, 9, 3)
            menus.append(
                LayerMenu(
                    f"{part}{number}",
                    tuple(
                        Option(f"o{k}", float(rng.random() / c), CostVector(latency_cycles=int(c)))
                        for k, c in enumerate(cycles)
                    ),
                )
            )
        edges += [EdgeCost(f"stem{number}", f"{side}{number}") for side in ("left", "right")]
        if number:
            edges += [EdgeCost(f"{side}{number - 1}", f"stem{number}") for side in ("left", "right")]
    return Problem(tuple(menus), tuple(edges))


@pytest.mark.parametrize("most", [0, 40])
def test_latency_holds_on_paths_that_only_plans_show(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices see the longest path of a mixture; a plan's own may be another one, which then joins, up to a number."""
    joined, solved = 0, 0
    monkeypatch.setattr(cores, "MAX_PATHS", most)
    search = cores._Cores._branch

    def spy(self: cores._Cores, threshold: float) -> bool:
        nonlocal joined
        before = len(self.paths)
        again = search(self, threshold)
        joined += len(self.paths) - before
        return again

    monkeypatch.setattr(cores._Cores, "_branch", spy)
    for seed in range(25):
        problem = diamonds(seed, 2)
        free = solve(problem, Budget())
        limits = Budget(latency_cycles=int(free.cost.latency_cycles * 0.75))
        truth = brute_force(problem, limits)
        if truth is None:
            continue
        solved += 1
        plan = solve(problem, limits, method="exact", relative_gap=0)
        assert plan.loss_increase == pytest.approx(truth, abs=1e-9) and plan.gap <= 1e-8
    assert solved > 10 and (joined > 0) == (most > 0)


def test_the_path_that_exceeds_the_latency() -> None:
    problem = diamonds(1, 1)
    tables = tabulate(problem, {"latency_cycles": 9.0})
    for choice in itertools.product(range(3), repeat=3):
        stem, left, right = (int(values[k]) for values, k in zip(tables.latency, choice, strict=True))
        path = exceeded_path(tables, choice)
        assert (path is None) == (stem + max(left, right) <= 9) == feasible(tables, choice)
        if path is not None and left != right:
            assert set(path[0]) == ({0, 1} if left > right else {0, 2})
    assert exceeded_path(tabulate(problem, {}), (0, 0, 0)) is None

"""The solvers against trying every plan."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from budget_problems import brute_force, every_plan, meets, random_limits, random_problem

from trigger_prune.errors import BudgetError, ConfigError
from trigger_prune.prune.budget import branching, cores
from trigger_prune.prune.budget import exact as exact_module
from trigger_prune.prune.budget.lagrange import Bound
from trigger_prune.prune.budget.options import CostVector, EdgeCost, LayerMenu, Option, Problem
from trigger_prune.prune.budget.plan import InfeasibleBudgetError
from trigger_prune.prune.budget.progress import Progress
from trigger_prune.prune.budget.solve import solve
from trigger_prune.target import Budget

SHAPES = ("chain", "branches", "residual", "loose")


def small(seed: int, shape: str, layers: int = 5) -> tuple[Problem, Budget]:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, layers=int(rng.integers(1, layers + 1)), options=4, shape=shape)
    return problem, random_limits(rng, problem)


def loss_of(problem: Problem, limits: Budget, method: str) -> float | None:
    """None where the solver proves that nothing fits."""
    try:
        plan = solve(problem, limits, method=method, relative_gap=0)
    except InfeasibleBudgetError:
        return None
    except BudgetError as error:
        assert "no width in common" in str(error)
        return None
    assert meets(problem, dict(plan.choice), limits)
    assert plan.gap <= 1e-8 and plan.bound <= plan.loss_increase
    return plan.loss_increase


@pytest.mark.parametrize("seed", range(200))
def test_exact_equals_brute_force_with_several_limits_edges_branches_and_equal_widths(seed: int) -> None:
    problem, limits = small(seed, SHAPES[seed % 4])
    truth = brute_force(problem, limits)
    assert loss_of(problem, limits, "exact") == (truth if truth is None else pytest.approx(truth, abs=1e-9))


@pytest.mark.parametrize("seed", range(800, 900))
def test_exact_equals_brute_force_where_nodes_are_split_down_to_single_plans(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small nodes are not completed, cores begin with an option per layer, and leave the tree one by one."""
    monkeypatch.setattr(branching, "FEW_PLANS", 0)
    monkeypatch.setattr(branching, "BATCH", 2)
    monkeypatch.setattr(cores, "CORE", 1)
    monkeypatch.setattr(cores, "SHRINK", 1.0)
    problem, limits = small(seed, SHAPES[seed % 4])
    truth = brute_force(problem, limits)
    assert loss_of(problem, limits, "exact") == (truth if truth is None else pytest.approx(truth, abs=1e-9))


@pytest.mark.parametrize("open_nodes", [0, 2, 10_000])
@pytest.mark.parametrize("seed", range(0, 200, 4))
def test_the_stated_bound_is_below_the_brute_force_optimum_however_early_branching_ends(
    seed: int, open_nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without HiGHS, which would finish the proof, with one node and one set of prices at a time."""
    problem, limits = small(seed, SHAPES[seed // 4 % 4])
    truth = brute_force(problem, limits)
    if truth is None:
        return
    monkeypatch.setattr(branching, "BATCH", 1)
    monkeypatch.setattr(branching, "ITERATIONS", 1)
    monkeypatch.setattr(branching, "MAX_OPEN", open_nodes)
    monkeypatch.setattr(cores, "CORE", 1)
    monkeypatch.setattr(exact_module, "_grow", lambda *_: None)
    for wanted in (0.0, 0.05):
        try:
            plan = solve(problem, limits, method="exact", relative_gap=wanted, time_limit_s=100)
        except BudgetError as error:
            assert open_nodes < 10_000 and "no plan within the limits was found" in str(error)
            continue
        assert plan.bound <= truth + 1e-9 <= plan.loss_increase + 2e-9
        if open_nodes == 10_000:
            assert plan.gap <= max(wanted, 1e-8)


@pytest.mark.parametrize("seed", range(700, 748))
def test_a_local_search_on_the_way_leaves_the_answer_exact(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree is left at once for the local search, and taken up again."""
    monkeypatch.setattr(branching, "FEW_PLANS", 0)
    monkeypatch.setattr(cores, "PATIENCE", 0.0)
    problem, limits = small(seed, SHAPES[seed % 4])
    truth = brute_force(problem, limits)
    assert loss_of(problem, limits, "exact") == (truth if truth is None else pytest.approx(truth, abs=1e-9))


@pytest.mark.parametrize("patience", [0.0, 1.0])
def test_branching_equals_the_linear_program_with_and_without_local_search(
    patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many plans to try them all; a local search happens only where patience ends."""
    searched = []
    local_search = cores.local_search

    def spy(progress: Progress, bound: Bound) -> None:
        searched.append(progress.loss)
        local_search(progress, bound)
        assert progress.loss <= searched[-1]

    monkeypatch.setattr(cores, "PATIENCE", patience)
    monkeypatch.setattr(cores, "local_search", spy)
    for seed in range(6):
        problem, limits = knapsack(12, 8, seed)
        expected = solve(problem, limits, method="milp", relative_gap=0, time_limit_s=100).loss_increase
        assert loss_of(problem, limits, "exact") == pytest.approx(expected, abs=1e-8)
    assert bool(searched) == (patience == 0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("wanted", [0.005, 0.03])
def test_a_finished_proof_is_within_the_wanted_gap_to_the_last_digit(
    seed: int, wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branch and bound proves it alone: HiGHS on what is left is not asked in vain until the time ends."""
    asked: list[float] = []
    monkeypatch.setattr(exact_module, "_program", lambda *_: asked.append(1.0))
    problem, limits = knapsack(16, 10, seed)
    plan = solve(problem, limits, method="exact", relative_gap=wanted, time_limit_s=100)
    assert plan.gap <= wanted
    assert not asked


def test_the_200_instances_hold_enough_of_every_kind() -> None:
    cases = [small(seed, SHAPES[seed % 4]) for seed in range(200)]
    infeasible = sum(brute_force(*case) is None for case in cases)
    assert 40 <= infeasible <= 120
    assert sum(sum(v is not None for v in vars(limits).values()) >= 3 for _, limits in cases) >= 100


@pytest.mark.parametrize("seed", range(200, 260))
def test_the_linear_program_alone_equals_brute_force(seed: int) -> None:
    problem, limits = small(seed, SHAPES[seed % 4])
    truth = brute_force(problem, limits)
    assert loss_of(problem, limits, "milp") == (truth if truth is None else pytest.approx(truth, abs=1e-9))


@pytest.mark.parametrize("seed", range(300, 340))
def test_highs_on_cores_equals_brute_force_where_enumeration_is_refused(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trigger_prune.prune.budget.enumeration.MAX_CELLS", 0)
    monkeypatch.setattr(exact_module, "FIRST_CORE", 1)
    problem, limits = small(seed, SHAPES[seed % 4])
    truth = brute_force(problem, limits)
    assert loss_of(problem, limits, "exact") == (truth if truth is None else pytest.approx(truth, abs=1e-9))


@pytest.mark.parametrize("seed", range(400, 440))
def test_a_graph_too_dense_for_elimination_goes_to_the_linear_program(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_module, "MAX_CELLS", 0)
    problem, limits = small(seed, "branches")
    truth = brute_force(problem, limits)
    assert loss_of(problem, limits, "exact") == (truth if truth is None else pytest.approx(truth, abs=1e-9))


@pytest.mark.parametrize("name", ["lut", "ff", "dsp", "bram18", "latency_cycles"])
@pytest.mark.parametrize("seed", range(500, 512))
def test_dynamic_programming_equals_brute_force_for_one_limit_on_a_chain(seed: int, name: str) -> None:
    problem, limits = small(seed, "chain")
    free = solve(problem, Budget(), method="chain")
    one = Budget(**{name: math.floor(getattr(free.cost, name) * 0.7)}, ii=limits.ii)
    truth = brute_force(problem, one)
    expected = truth if truth is None else pytest.approx(truth, abs=1e-9)
    assert loss_of(problem, one, "chain") == expected
    assert loss_of(problem, one, "exact") == expected
    assert loss_of(problem, one, "milp") == expected


def test_dynamic_programming_equals_the_exact_method_on_a_long_chain() -> None:
    rng = np.random.default_rng(3)
    problem = random_problem(rng, layers=25, options=12, shape="chain")
    free = solve(problem, Budget())
    limits = Budget(lut=int(free.cost.lut * 0.6))
    chain = solve(problem, limits, method="chain")
    other = solve(problem, limits, method="exact", relative_gap=0, time_limit_s=60)
    assert chain.method == "chain" and chain.gap == 0
    assert chain.loss_increase == pytest.approx(other.loss_increase, abs=1e-9)
    assert other.gap <= 1e-8


def test_dynamic_programming_refuses_what_it_cannot_do() -> None:
    problem, _ = small(1, "branches")
    with pytest.raises(ConfigError, match="needs a chain"):
        solve(problem, Budget(lut=10_000), method="chain")
    with pytest.raises(ConfigError, match="one limit"):
        solve(small(0, "chain")[0], Budget(lut=10_000, ff=10_000), method="chain")


@pytest.mark.parametrize("seed", range(600, 660))
def test_greedy_meets_the_limits_and_is_never_better(seed: int) -> None:
    problem, limits = small(seed, SHAPES[seed % 4])
    try:
        greedy = solve(problem, limits, method="greedy")
    except BudgetError:
        return
    assert meets(problem, dict(greedy.choice), limits)
    truth = brute_force(problem, limits)
    assert truth is not None and greedy.loss_increase >= truth - 1e-9
    assert greedy.gap == math.inf and greedy.bound == -math.inf


def test_greedy_finds_most_plans_and_misses_some() -> None:
    found, optimal = 0, 0
    for seed in range(600, 660):
        problem, limits = small(seed, SHAPES[seed % 4])
        truth = brute_force(problem, limits)
        if truth is not None:
            try:
                loss = solve(problem, limits, method="greedy").loss_increase
            except BudgetError:
                continue
            found += 1
            optimal += abs(loss - truth) < 1e-9
    assert found >= 30 and optimal < found


def knapsack(layers: int, options: int, seed: int) -> tuple[Problem, Budget]:
    rng = np.random.default_rng(seed)
    names = ("lut", "ff", "dsp")
    menus = tuple(
        LayerMenu(
            f"layer{layer}",
            tuple(
                Option(f"o{number}", float(rng.random()), CostVector(**{n: int(rng.integers(1, 60)) for n in names}))
                for number in range(options)
            ),
        )
        for layer in range(layers)
    )
    return Problem(menus), Budget(lut=layers * 20, ff=layers * 20, dsp=layers * 20)


def test_the_stated_gap_is_a_proof_even_when_the_search_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, limits = knapsack(14, 10, 5)
    truth = solve(problem, limits, method="milp", relative_gap=0, time_limit_s=100).loss_increase
    monkeypatch.setattr(branching, "MAX_OPEN", 20)
    monkeypatch.setattr(branching, "BATCH", 4)
    monkeypatch.setattr(branching, "FEW_PLANS", 0)
    monkeypatch.setattr(branching, "FEW_PLANS", 0.0)
    monkeypatch.setattr(exact_module, "_grow", lambda *_: None)
    plan = solve(problem, limits, method="exact", relative_gap=0)
    assert plan.gap > 0
    assert plan.bound <= truth + 1e-9 <= plan.loss_increase + 2e-9
    assert plan.gap == pytest.approx((plan.loss_increase - plan.bound) / plan.loss_increase)


def test_without_time_the_answer_is_still_feasible_bounded_and_not_worse_than_greedy() -> None:
    rng = np.random.default_rng(8)
    problem = random_problem(rng, layers=20, options=12, shape="chain")
    free = solve(problem, Budget())
    limits = Budget(
        lut=int(free.cost.lut * 0.7), ff=int(free.cost.ff * 0.9), latency_cycles=int(free.cost.latency_cycles)
    )
    hurried = solve(problem, limits, method="exact", time_limit_s=1e-6)
    patient = solve(problem, limits, method="exact", relative_gap=0, time_limit_s=100)
    assert hurried.gap > patient.gap == pytest.approx(0, abs=1e-8)
    assert hurried.bound <= patient.loss_increase <= hurried.loss_increase
    assert hurried.loss_increase <= solve(problem, limits, method="greedy").loss_increase


def test_a_wanted_gap_is_reached_and_larger_ones_are_accepted() -> None:
    problem, limits = knapsack(20, 10, 7)
    truth = solve(problem, limits, relative_gap=0, time_limit_s=100).loss_increase
    for wanted in (0.05, 0.01):
        plan = solve(problem, limits, relative_gap=wanted, time_limit_s=100)
        assert plan.gap <= wanted
        assert plan.bound <= truth + 1e-9
        assert plan.loss_increase <= truth * (1 + wanted) / (1 - wanted)


def test_large_whole_costs_are_held_to_the_unit() -> None:
    """One unit above ten million is outside, although solvers work with tolerances."""
    menus = tuple(
        LayerMenu(
            f"layer{layer}",
            (
                Option("dear", 0.0, CostVector(lut=5_000_000 + layer)),
                Option("cheap", 1.0 + layer, CostVector(lut=4_999_999)),
            ),
        )
        for layer in range(2)
    )
    problem = Problem(menus)
    for method in ("exact", "milp", "chain"):
        assert solve(problem, Budget(lut=10_000_001), method=method, relative_gap=0).loss_increase == 0
        assert solve(problem, Budget(lut=10_000_000), method=method, relative_gap=0).loss_increase == 1


def test_the_longest_branch_counts_not_the_sum() -> None:
    """Two parallel branches of 3 and 5 cycles after a stem of 2: 7 cycles."""

    def layer(name: str, cycles: int) -> LayerMenu:
        return LayerMenu(
            name,
            (
                Option("slow", 0.0, CostVector(latency_cycles=cycles)),
                Option("fast", 1.0, CostVector(latency_cycles=1)),
            ),
        )

    problem = Problem(
        (layer("stem", 2), layer("left", 3), layer("right", 5)), (EdgeCost("stem", "left"), EdgeCost("stem", "right"))
    )
    for method in ("exact", "milp"):
        assert solve(problem, Budget(latency_cycles=7), method=method, relative_gap=0).loss_increase == 0
        assert solve(problem, Budget(latency_cycles=6), method=method, relative_gap=0).loss_increase == 1
        # 5 cycles: the right branch alone is not enough, right and (left or stem) are
        assert solve(problem, Budget(latency_cycles=4), method=method, relative_gap=0).loss_increase == 2


def test_the_best_plan_does_not_depend_on_the_order_of_layers_and_edges() -> None:
    problem, limits = small(11, "branches", layers=5)
    turned = Problem(problem.menus[::-1], problem.edges[::-1], problem.equal_width)
    assert loss_of(problem, limits, "exact") == loss_of(turned, limits, "exact")


def test_negative_losses_and_limits_of_zero_are_fine() -> None:
    menu = LayerMenu("a", (Option("gain", -2.0, CostVector(dsp=1)), Option("none", -1.0)))
    plan = solve(Problem((menu,)), Budget(dsp=0))
    assert plan.loss_increase == -1.0 and plan.gap == 0
    assert solve(Problem((menu,)), Budget(dsp=1)).loss_increase == -2.0


def test_every_plan_counts_all_combinations() -> None:
    problem, _ = small(21, "chain")
    assert len(every_plan(problem)) == math.prod(len(menu.options) for menu in problem.menus)
    assert dataclasses.is_dataclass(problem)

"""Budgets that cannot be met: the binding limit and the nearest value, against trying every plan."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from budget_problems import brute_force, every_plan, random_limits, random_problem

from trigger_prune.errors import BudgetError
from trigger_prune.prune.budget.check import plan_cost
from trigger_prune.prune.budget.options import CostVector, LayerMenu, Option, Problem
from trigger_prune.prune.budget.plan import InfeasibleBudgetError, limits_of
from trigger_prune.prune.budget.solve import solve
from trigger_prune.target import Budget

SHAPES = ("chain", "branches", "residual", "loose")


@functools.cache
def infeasible_cases(count: int) -> list[tuple[Problem, Budget]]:
    cases = []
    for seed in range(10_000):
        rng = np.random.default_rng(seed)
        problem = random_problem(rng, layers=int(rng.integers(2, 5)), options=4, shape=SHAPES[seed % 4])
        limits = random_limits(rng, problem)
        if limits_of(limits) and brute_force(problem, limits) is None and brute_force(problem, Budget()) is not None:
            cases.append((problem, limits))
        if len(cases) == count:
            return cases
    raise AssertionError("too few infeasible problems")


def agreeing(problem: Problem) -> list[CostVector]:
    """Costs of all plans whose widths agree."""
    menus = {menu.name: menu for menu in problem.menus}
    plans = [
        plan
        for plan in every_plan(problem)
        if all(len({menus[n].options[plan[n]].output_width for n in group}) == 1 for group in problem.equal_width)
    ]
    return [plan_cost(problem, plan) for plan in plans]


@pytest.mark.parametrize("number", range(40))
def test_smallest_and_nearest_values_are_those_of_all_plans(number: int) -> None:
    problem, limits = infeasible_cases(40)[number]
    wanted = limits_of(limits)
    costs = agreeing(problem)
    with pytest.raises(InfeasibleBudgetError) as caught:
        solve(problem, limits, method="exact")
    error = caught.value
    for name in wanted:
        assert error.alone[name] == pytest.approx(min(getattr(cost, name) for cost in costs), rel=1e-3)
        others = [
            getattr(cost, name)
            for cost in costs
            if all(getattr(cost, other) <= limit + 1e-9 for other, limit in wanted.items() if other != name)
        ]
        value = error.single[name]
        assert (value is None) == (not others)
        if value is not None:
            assert value == pytest.approx(min(others), rel=1e-3)
    impossible = [name for name, limit in wanted.items() if error.alone[name] > limit + 1e-9]
    enough = [name for name, value in error.single.items() if value is not None]
    if impossible or enough:
        assert list(error.binding) == (impossible or enough)
    assert error.binding and all(name in str(error) for name in error.binding)

    # the nearest limits can be met, and no plan needs a smaller factor on all of them
    assert brute_force(problem, Budget(**error.nearest)) is not None  # type: ignore[arg-type]
    scale = {name: max(limit, 1.0) for name, limit in wanted.items()}
    best = min(max(getattr(cost, name) / scale[name] for name in wanted) for cost in costs)
    assert max(error.nearest[name] / scale[name] for name in wanted) <= max(best, 1.0) * 1.001


def test_the_binding_limit_is_named_with_the_value_it_needs() -> None:
    menus = tuple(
        LayerMenu(
            f"layer{n}", (Option("a", 0.0, CostVector(lut=10, dsp=0)), Option("b", 0.0, CostVector(lut=4, dsp=3)))
        )
        for n in range(2)
    )
    problem = Problem(menus)
    with pytest.raises(
        InfeasibleBudgetError, match=r"binding: lut; lut: limit 7, cannot go below 8 even with no other"
    ):
        solve(problem, Budget(lut=7, dsp=100))
    with pytest.raises(InfeasibleBudgetError) as caught:
        solve(problem, Budget(lut=10, dsp=3))
    assert caught.value.binding == ("lut", "dsp")
    assert caught.value.single == {"lut": 14, "dsp": 6}
    assert caught.value.nearest == {"lut": 14, "dsp": 3}
    assert "lut 14, dsp 3" in (caught.value.hint or "")


def test_widths_that_never_agree_are_named_as_the_reason() -> None:
    menus = (LayerMenu("a", (Option("x", 0.0, output_width=4),)), LayerMenu("b", (Option("x", 0.0, output_width=8),)))
    with pytest.raises(BudgetError, match="no width in common"):
        solve(Problem(menus, (), (("a", "b"),)), Budget(lut=5))
    with pytest.raises(BudgetError, match="no width in common"):
        solve(Problem(menus, (), (("a", "b"),)), Budget())

"""The independent check of a plan, and the form of a problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.errors import BudgetError, ConfigError
from trigger_prune.prune.budget.check import check_plan, plan_cost
from trigger_prune.prune.budget.options import CostVector, EdgeCost, LayerMenu, Option, Problem, edge_cost
from trigger_prune.prune.budget.solve import solve
from trigger_prune.target import Budget


def dense(name: str) -> LayerMenu:
    """Wide or narrow, each with its adders counted for narrow inputs."""
    return LayerMenu(
        name,
        (
            Option("wide", 0.0, CostVector(lut=100, latency_cycles=2, ii=1), output_width=64),
            Option("narrow", 1.0, CostVector(lut=50, latency_cycles=2, ii=1), output_width=32),
        ),
    )


def inputs(before: Option, after: Option) -> CostVector:
    """A wide producer doubles what the consumer costs, and takes it one cycle more and an II of 2."""
    wide = before.output_width == 64
    return CostVector(lut=after.cost.lut if wide else 0, latency_cycles=int(wide), ii=2 if wide else 1)


def two_layers(*, edges: bool) -> Problem:
    menus = (dense("first"), dense("second"))
    return Problem(menus, (edge_cost(*menus, inputs),) if edges else (EdgeCost("first", "second"),))


def test_cost_with_edges_by_hand() -> None:
    problem = two_layers(edges=True)
    assert plan_cost(problem, {"first": 0, "second": 0}) == CostVector(lut=300, latency_cycles=5, ii=2)
    assert plan_cost(problem, {"first": 0, "second": 1}) == CostVector(lut=200, latency_cycles=5, ii=2)
    assert plan_cost(problem, {"first": 1, "second": 0}) == CostVector(lut=150, latency_cycles=4, ii=1)


def test_a_plan_that_independent_menus_call_feasible_and_that_is_not_is_caught() -> None:
    limits = Budget(lut=220)
    naive = solve(two_layers(edges=False), limits)
    assert [option.label for option in naive.options.values()] == ["wide", "wide"]
    with pytest.raises(BudgetError, match=r"lut is 300, the limit is 220.*its lut is 300, it states 200"):
        check_plan(two_layers(edges=True), naive, limits)
    honest = solve(two_layers(edges=True), limits)
    assert honest.options["first"].label == "narrow" and honest.options["second"].label == "wide"
    assert check_plan(two_layers(edges=True), honest, limits).lut == 150


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (Budget(latency_cycles=4), "latency_cycles is 5, the limit is 4"),
        (Budget(ii=1), "ii is 2, the limit is 1"),
        (Budget(lut=299, ii=1), "lut is 300, the limit is 299; ii is 2, the limit is 1"),
    ],
)
def test_every_exceeded_limit_is_named(limits: Budget, named: str) -> None:
    plan = solve(two_layers(edges=True), Budget())
    assert plan.loss_increase == 0
    with pytest.raises(BudgetError, match=named):
        check_plan(two_layers(edges=True), plan, limits)


def test_a_false_loss_and_disagreeing_widths_are_caught() -> None:
    problem = two_layers(edges=True)
    plan = solve(problem, Budget())
    with pytest.raises(BudgetError, match="its loss increase is 0, it states -1"):
        check_plan(problem, replace(plan, loss_increase=-1.0), Budget())
    coupled = Problem(problem.menus, problem.edges, (("first", "second"),))
    split = solve(problem, Budget(lut=150))
    assert len({option.output_width for option in split.options.values()}) == 2
    with pytest.raises(BudgetError, match="different widths"):
        check_plan(coupled, split, Budget())
    assert {option.label for option in solve(coupled, Budget(lut=150)).options.values()} == {"narrow"}


def test_incomplete_or_foreign_plans_are_refused() -> None:
    problem = two_layers(edges=True)
    with pytest.raises(ConfigError, match="are not the problem's"):
        plan_cost(problem, {"first": 0})
    with pytest.raises(ConfigError, match="has no option 2"):
        plan_cost(problem, {"first": 0, "second": 2})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LayerMenu("a", ()), "empty menu"),
        (lambda: Option("a", float("nan")), "not finite"),
        (lambda: CostVector(lut=float("inf")), "not finite"),
        (lambda: CostVector(ii=-1), "negative"),
        (lambda: Problem(()), "no layers"),
        (lambda: Problem((dense("a"), dense("a"))), "same layer name"),
        (lambda: Problem((dense("a"),), (EdgeCost("a", "b"),)), "no menu of layer 'b'"),
        (lambda: Problem((dense("a"), dense("b")), (EdgeCost("a", "b"), EdgeCost("b", "a"))), "cycle"),
        (lambda: Problem((dense("a"), dense("b")), (EdgeCost("a", "b"), EdgeCost("a", "b"))), "given twice"),
        (lambda: Problem((dense("a"), dense("b")), (EdgeCost("a", "b", {"lut": np.zeros((2, 3))}),)), "shape"),
        (lambda: Problem((dense("a"), dense("b")), (EdgeCost("a", "b", {"luts": np.zeros((2, 2))}),)), "no resource"),
        (lambda: Problem((dense("a"), dense("b")), (EdgeCost("a", "b", {"ii": -np.ones((2, 2))}),)), "negative"),
        (lambda: Problem((LayerMenu("a", (Option("x", 0.0),)),), (), (("a",),)), "states no output_width"),
    ],
)
def test_nonsense_is_refused(build: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()  # type: ignore[operator]

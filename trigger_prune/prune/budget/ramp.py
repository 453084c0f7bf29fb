"""A ramp whose target is a cost: on its way the budget falls, and the solver shares it out anew among the layers.

What a weight is worth changes while its neighbours go. Solving once, on the unpruned network, starves the layers that
look dispensable while everything else is still there; so the problem is built from the network as it is and solved
again every few steps, under limits that fall on a cubic from the present cost to the wanted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from trigger_prune.importance import CriterionData
from trigger_prune.prune.budget.estimators import LayerEstimator
from trigger_prune.prune.budget.menu import MenuSettings, apply_options, build_problem
from trigger_prune.prune.budget.options import Problem
from trigger_prune.prune.budget.plan import InfeasibleBudgetError, Plan, limits_of
from trigger_prune.prune.budget.removal import removal_of
from trigger_prune.prune.budget.solve import solve
from trigger_prune.prune.schedules.cubic import cubic_sparsity
from trigger_prune.structure._base import Groups
from trigger_prune.structure.masks import zero_masked
from trigger_prune.target import Budget, LayerLayout, Target
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.history import EpochRecord, FitHistory

_SOLUTIONS = 32
"""Solutions on a ramp; each takes a fraction of a second."""

_CORRECTIONS = 4
_LAST_CORRECTION = 0.85
"""Weights go on changing after the ramp, and with them the cost: it is looked at again so many times, the last time
after this part of the training, and what exceeds the limits then goes as well."""

_FROM_START = ("ii",)
"""Limits that layouts meet and zeros do not: they hold from the first solution on, where they can be met."""


@dataclass(frozen=True)
class CostGoal:
    """What a ramp shall reach.

    limits     of the expected cost, in the estimator's units times ``scale``
    scale      measured / estimated of what was measured before, by resource
    layouts    (strategy, reuse factor) that a layer may take
    criterion  ranks the groups of a layer, see ``removal_of``
    """

    groups: Groups
    estimator: LayerEstimator
    target: Target
    limits: Budget
    layouts: tuple[tuple[str, int], ...]
    criterion: str
    data: CriterionData
    scale: Mapping[str, float] = field(default_factory=dict)
    ramp_fraction: float = 0.5

    def problem(self, network: fx.GraphModule) -> Problem:
        """The menus of a network as it is."""
        removal = removal_of(network, self.groups, self.criterion, self.data)
        settings = MenuSettings(self.layouts, self.scale)
        return build_problem(network, self.groups, removal, self.estimator, self.target, settings)

    def inner_limits(self) -> Budget:
        """The limits with the latency that does not belong to any layer taken off."""
        if self.limits.latency_cycles is None:
            return self.limits
        return replace(
            self.limits, latency_cycles=max(0, int(self.limits.latency_cycles - self.estimator.latency_offset_cycles))
        )


@dataclass(frozen=True)
class CostRamp:
    """How a ramp went: the training, every plan on the way, and the layers' layouts of the last one."""

    history: FitHistory
    plans: tuple[Plan, ...]
    layouts: tuple[LayerLayout, ...]


def ramp_to_cost(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    goal: CostGoal,
    progress: Callable[[EpochRecord, int], None] | None = None,
) -> CostRamp:
    """Prune ``network`` until its expected cost is within ``goal.limits`` while it trains, in place.

    The first ``ramp_fraction`` of the epochs lower the limits. The rest trains with the mask that is left, from which a
    few corrections take what exceeds the limits anew; only epochs after the last correction can be selected. Limits
    that no plan meets are met as nearly as possible: what is expected may be wrong, and the measured cost decides.
    Raises ModelError when the training fails.
    """
    ramp_epochs = min(round(settings.epochs * goal.ramp_fraction), settings.epochs - 1)
    plans: list[Plan] = []
    layouts: list[tuple[LayerLayout, ...]] = []
    start: dict[str, float] = {}

    def update(step: int, total_steps: int) -> None:
        ramp_steps = total_steps * ramp_epochs // settings.epochs
        if step not in _solution_steps(ramp_steps, total_steps):
            return
        with torch.random.fork_rng(devices=[]):
            problem = goal.problem(network)
            limits = goal.inner_limits()
            if not start:
                start.update(_present_cost(problem))
            try:
                plan = solve(problem, _limits_at(limits, start, step, ramp_steps))
            except InfeasibleBudgetError as error:
                if step < ramp_steps:
                    return  # the limits of a later step, on another network, decide
                plan = solve(problem, with_limits(limits, error.nearest))
            plans.append(plan)
            layouts.append(apply_options(network, goal.groups, plan.options))

    def hold(optimizer: torch.optim.Optimizer) -> None:
        zero_masked(network, optimizer)

    settled = min(math.floor(_LAST_CORRECTION * settings.epochs) + 1, settings.epochs - 1)
    chosen = replace(settings, select_from_epoch=settled)
    history = fit(network, train, validation, chosen, on_step=update, on_after_step=hold, progress=progress)
    return CostRamp(history, tuple(plans), layouts[-1])


def _solution_steps(ramp_steps: int, total_steps: int) -> set[int]:
    """Steps before which the problem is solved: those of the ramp, evenly spaced, and those of the corrections."""
    count = min(_SOLUTIONS, ramp_steps)
    ramp = {round(k * ramp_steps / count) for k in range(count + 1)} if count else {0}
    rest = max(0, math.floor(_LAST_CORRECTION * total_steps) - ramp_steps)
    return ramp | {ramp_steps + round(k * rest / _CORRECTIONS) for k in range(1, _CORRECTIONS + 1)}


def _present_cost(problem: Problem) -> dict[str, float]:
    """Cost of the first option of every layer: the network as it is."""
    first = [menu.options[0].cost for menu in problem.menus]
    return {name: sum(getattr(cost, name) for cost in first) for name in vars(first[0])}


def _limits_at(limits: Budget, start: Mapping[str, float], step: int, ramp_steps: int) -> Budget:
    """Limits of one step: a cubic from the cost at the start to the wanted one."""
    values = {}
    for name, limit in limits_of(limits).items():
        above = 0.0 if name in _FROM_START else max(0.0, start[name] - limit)
        values[name] = limit + cubic_sparsity(step, max(ramp_steps, 1), above, 0.0) if step < ramp_steps else limit
    return with_limits(limits, values)


def with_limits(budget: Budget, values: Mapping[str, float]) -> Budget:
    """``budget`` with other limits, counts rounded up."""
    timed = ("latency_p99_us", "event_time_us")
    rounded: dict[str, Any] = {name: value if name in timed else math.ceil(value) for name, value in values.items()}
    return replace(budget, **rounded)

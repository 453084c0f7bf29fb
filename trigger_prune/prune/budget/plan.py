"""The answer of the budget solver, and the error when there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trigger_prune.errors import BudgetError
from trigger_prune.prune.budget.options import RESOURCES, CostVector, Option, Problem
from trigger_prune.target import Budget

Method = Literal["exact", "milp", "chain", "greedy"]


@dataclass(frozen=True)
class Plan:
    """One option per layer.

    ``choice`` maps a layer to the position in its menu. ``bound``: no plan within the limits has a smaller loss
    increase (proven); ``gap`` = (loss_increase - bound) / |loss_increase|, inf where nothing was proven (greedy).
    """

    choice: Mapping[str, int]
    options: Mapping[str, Option]
    loss_increase: float
    cost: CostVector
    method: Method
    bound: float
    gap: float
    seconds: float


class InfeasibleBudgetError(BudgetError):
    """No plan meets all limits at once.

    ``nearest``: limits that can be met, reached by raising all limits by the same factor, as small as was found.
    ``single``: for each limit, the smallest value that is enough with all the other limits as they are; None where
    none was found. ``alone``: the smallest value of each limited quantity with no other limit.
    ``binding``: the limits to blame: those that cannot be met even alone, else those whose raising is enough, else
    those that the nearest plan exceeds.
    """

    def __init__(
        self,
        message: str,
        *,
        nearest: Mapping[str, float],
        single: Mapping[str, float | None],
        alone: Mapping[str, float],
        binding: tuple[str, ...],
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.nearest, self.single, self.alone, self.binding = dict(nearest), dict(single), dict(alone), binding


def limits_of(limits: Budget) -> dict[str, float]:
    """The limits that are set, by resource name."""
    return {name: float(value) for name in RESOURCES if (value := getattr(limits, name)) is not None}


def relative_gap(loss: float, bound: float) -> float:
    """(loss - bound) / |loss|: 0 when the bound is reached (up to rounding), inf when the loss is 0 and it is not."""
    difference = loss - bound
    if difference <= 1e-12 * max(1.0, abs(loss)):
        return 0.0
    return difference / abs(loss) if loss else math.inf


def tolerance(limit: float) -> float:
    """By how much a sum of floats may pass its limit through rounding alone."""
    return 1e-9 * max(1.0, abs(limit))


def options_of(problem: Problem, choice: Mapping[str, int]) -> dict[str, Option]:
    """The chosen options by layer."""
    return {menu.name: menu.options[choice[menu.name]] for menu in problem.menus}

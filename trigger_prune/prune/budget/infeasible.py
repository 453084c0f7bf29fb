"""Why no plan meets the limits, and which limits one would meet."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from trigger_prune.errors import BudgetError
from trigger_prune.prune.budget.check import plan_cost
from trigger_prune.prune.budget.milp import solve_milp
from trigger_prune.prune.budget.options import Problem
from trigger_prune.prune.budget.plan import InfeasibleBudgetError
from trigger_prune.prune.budget.tables import Tables, tabulate, within_ii


def explain(problem: Problem, limits: dict[str, float], *, time_limit_s: float) -> BudgetError:
    """The error for limits that no plan meets: the binding ones and the nearest ones that can be met.

    At most about ``time_limit_s`` for each of the (limits + 1) searches; what was not proven is called "at most".
    """
    alone, single = {}, {}
    for name in limits:
        smallest = _smallest(problem, {name: limits[name]}, name, time_limit_s)
        if smallest is None:
            return BudgetError(
                "no plan exists, whatever the limits: the groups of equal width have no width in common",
                hint="offer a common output_width in the menus of the summed layers",
            )
        alone[name] = smallest
        single[name] = _smallest(problem, limits, name, time_limit_s)
    impossible = tuple(name for name in limits if alone[name] > limits[name] * (1 + 1e-9) + 1e-9)
    answer = solve_milp(
        tabulate(problem, limits), "relaxation", relative_gap=1e-3, deadline=time.monotonic() + time_limit_s
    )
    nearest: dict[str, float] = {}
    if answer.choice is not None:
        cost = plan_cost(problem, tabulate(problem, limits).choice_of(answer.choice))
        nearest = {name: max(limit, getattr(cost, name)) for name, limit in limits.items()}
    enough = tuple(name for name, value in single.items() if value is not None)
    exceeded = tuple(name for name, value in nearest.items() if value > limits[name] * (1 + 1e-9) + 1e-9)
    binding = impossible or enough or exceeded

    lines = [
        f"{name}: limit {limits[name]:g}, cannot go below {alone[name]:g} even with no other limit"
        for name in impossible
    ]
    for name in enough:
        if name not in impossible or len(impossible) == 1:
            lines.append(f"{name}: limit {limits[name]:g}, needs {single[name]:g} with the other limits as they are")
    if not lines:
        lines.append(f"raising one limit alone is not enough; {', '.join(exceeded)} are exceeded together")
    hint = None
    if nearest:
        hint = "nearest limits that can be met: " + ", ".join(f"{name} {value:g}" for name, value in nearest.items())
    return InfeasibleBudgetError(
        f"no plan meets the budget; binding: {', '.join(binding)}; " + "; ".join(lines),
        nearest=nearest,
        single=single,
        alone=alone,
        binding=binding,
        hint=hint,
    )


def _smallest(problem: Problem, limits: dict[str, float], name: str, time_limit_s: float) -> float | None:
    """Smallest value of one limited quantity with the other limits as they are; None if they cannot be met."""
    tables: Tables | None = tabulate(problem, limits)
    assert tables is not None
    if name != "ii":
        tables = within_ii(tables)
    if tables is None:
        return None
    # quantities without edge costs on branches are quick; all of them are exact up to the gap
    flat = replace(tables, loss=tuple(np.zeros_like(loss) for loss in tables.loss))
    answer = solve_milp(flat, name, relative_gap=1e-6, deadline=time.monotonic() + time_limit_s)
    if answer.choice is None:
        return None
    return float(getattr(plan_cost(problem, tables.choice_of(answer.choice)), name))

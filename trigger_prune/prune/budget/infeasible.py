"""Why no plan meets the limits, and which limits one would meet."""

from __future__ import annotations

import math
import time

from trigger_prune.errors import BudgetError
from trigger_prune.prune.budget.check import plan_cost
from trigger_prune.prune.budget.exact import solve_exact
from trigger_prune.prune.budget.milp import solve_milp
from trigger_prune.prune.budget.options import CostVector, Problem
from trigger_prune.prune.budget.plan import InfeasibleBudgetError, tolerance
from trigger_prune.prune.budget.tables import tabulate, with_objective, within_ii

GAP = 1e-4
"""Relative accuracy of a smallest value."""
FACTOR_GAP = 0.02
"""Relative accuracy of the factor on all limits where the linear program is too slow."""
ANY_PLAN = math.inf


def explain(problem: Problem, limits: dict[str, float], *, time_limit_s: float) -> BudgetError:
    """The error for limits that no plan meets: the binding ones and the nearest ones that can be met.

    About ``time_limit_s`` for the searches under several limits; where it ends early, a smaller value may exist.
    """
    free = _any_plan(problem, {}, math.inf)
    if free is None:
        return BudgetError(
            "no plan exists, whatever the limits: the groups of equal width have no width in common",
            hint="offer a common output_width in the menus of the summed layers",
        )
    seconds = time_limit_s / (len(limits) + 2)
    alone: dict[str, float] = {}
    single: dict[str, float | None] = {}
    for name in limits:
        smallest = _smallest(problem, {name: limits[name]}, name, math.inf)  # quick, and stated as a fact
        alone[name] = float(getattr(free, name)) if smallest is None else smallest
    impossible = tuple(name for name in limits if _above(alone[name], limits[name]))
    for name in limits:
        others_can = all(other == name for other in impossible)
        single[name] = _smallest(problem, limits, name, seconds) if others_can else None
    candidates = [_nearest(problem, limits, 2 * seconds)]
    candidates += [{**limits, name: value} for name, value in single.items() if value is not None]
    nearest = min(candidates, key=lambda raised: _effort(raised, limits))
    enough = tuple(name for name, value in single.items() if value is not None)
    exceeded = tuple(name for name, value in nearest.items() if _above(value, limits[name]))
    binding = impossible or enough or exceeded

    faults = [f"{n}: limit {limits[n]:g}, cannot go below {alone[n]:g} even with no other limit" for n in impossible]
    faults += [f"{n}: limit {limits[n]:g}, {single[n]:g} is enough with the other limits as they are" for n in enough]
    if not faults:
        faults = [f"{n}: limit {limits[n]:g}" for n in exceeded] + ["raising one of them alone is not enough"]
    return InfeasibleBudgetError(
        f"no plan meets the budget; binding: {', '.join(binding)}; {'; '.join(faults)}",
        nearest=nearest,
        single=single,
        alone=alone,
        binding=binding,
        hint="limits that can be met: " + ", ".join(f"{name} {value:g}" for name, value in nearest.items()),
    )


def _above(value: float, limit: float) -> bool:
    return value > limit + tolerance(limit)


def _effort(raised: dict[str, float], limits: dict[str, float]) -> tuple[float, int]:
    """The largest factor on a limit (a limit below 1 counts as 1), then how many limits are raised."""
    factor = max(raised[name] / max(limit, 1.0) for name, limit in limits.items() if _above(raised[name], limit))
    return round(factor, 6), sum(_above(raised[name], limit) for name, limit in limits.items())


def _smallest(problem: Problem, limits: dict[str, float], name: str, seconds: float) -> float | None:
    """Smallest value of one limited quantity with the other limits as they are; None if they cannot be met."""
    deadline = time.monotonic() + seconds
    tables = tabulate(problem, limits)
    if name == "ii" or (name == "latency_cycles" and not tables.is_chain):
        return _smallest_by_trial(problem, limits, name, deadline)
    possible = within_ii(tables)
    if possible is None:
        return None
    found = solve_exact(with_objective(possible, name), relative_gap=GAP, deadline=deadline)
    if found.choice is None:
        return None
    return float(getattr(plan_cost(problem, possible.choice_of(found.choice)), name))


def _smallest_by_trial(problem: Problem, limits: dict[str, float], name: str, deadline: float) -> float | None:
    """The same for a maximum: halve the range of its limit until less than a cycle is left."""
    others = {other: limit for other, limit in limits.items() if other != name}
    plan = _any_plan(problem, others, deadline)
    if plan is None:
        return None
    low, high = -1.0, float(getattr(plan, name))
    while high - low > 1e-6 and time.monotonic() < deadline:
        # cycles are whole numbers as a rule: try those first
        middle = math.floor((low + high) / 2) if high - low > 1 else (low + high) / 2
        plan = _any_plan(problem, {**others, name: middle}, deadline) if middle >= 0 else None
        if plan is None:
            low = middle
        else:
            high = float(getattr(plan, name))
    return high


def _any_plan(problem: Problem, limits: dict[str, float], deadline: float) -> CostVector | None:
    """Cost of some plan within the limits."""
    tables = within_ii(tabulate(problem, limits))
    if tables is None:
        return None
    found = solve_exact(tables, relative_gap=ANY_PLAN, deadline=deadline)
    return None if found.choice is None else plan_cost(problem, tables.choice_of(found.choice))


def _nearest(problem: Problem, limits: dict[str, float], seconds: float) -> dict[str, float]:
    """Limits that can be met, all raised by at most about the same smallest factor."""
    tables = tabulate(problem, limits)
    answer = solve_milp(tables, "relaxation", relative_gap=1e-6, deadline=time.monotonic() + seconds / 2)
    best = None if answer.choice is None else plan_cost(problem, tables.choice_of(answer.choice))
    if answer.value > answer.bound * (1 + FACTOR_GAP):
        deadline = time.monotonic() + seconds / 2
        low, high, start = 1.0, answer.value, 1.0
        while best is None:  # the factor grows until a plan fits; time does not count, an answer is owed
            start *= 2
            high = start
            scaled = {name: max(limit, 1.0) * high for name, limit in limits.items()}
            best = _any_plan(problem, scaled, math.inf)
        while high > low * (1 + FACTOR_GAP) and time.monotonic() < deadline:
            middle = math.sqrt(low * high)
            plan = _any_plan(problem, {name: max(limit, 1.0) * middle for name, limit in limits.items()}, deadline)
            if plan is None:
                low = middle
            else:
                best, high = plan, middle
    assert best is not None
    return {name: max(limit, float(getattr(best, name))) for name, limit in limits.items()}

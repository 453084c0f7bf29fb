"""One option per layer with the smallest loss increase within all limits at once."""

from __future__ import annotations

import math
import time
from typing import Literal

from trigger_prune.errors import BudgetError, ConfigError
from trigger_prune.prune.budget.chain import TooManyLabelsError, chain_choice, fits_chain
from trigger_prune.prune.budget.check import check_plan, plan_cost
from trigger_prune.prune.budget.exact import solve_exact, solve_program
from trigger_prune.prune.budget.greedy import greedy_choice
from trigger_prune.prune.budget.infeasible import explain
from trigger_prune.prune.budget.options import Problem
from trigger_prune.prune.budget.plan import Method, Plan, limits_of, options_of
from trigger_prune.prune.budget.plan import relative_gap as gap_of
from trigger_prune.prune.budget.tables import Choice, Tables, tabulate, within_ii, without_dominated
from trigger_prune.target import Budget


def solve(
    problem: Problem,
    limits: Budget,
    *,
    method: Literal["auto", "exact", "milp", "chain", "greedy"] = "auto",
    relative_gap: float = 1e-3,
    time_limit_s: float = 10.0,
) -> Plan:
    """Choose one option per layer: smallest summed loss increase within every limit that is set.

    ``method``: "exact" (prices on the limits, enumeration, HiGHS on what is left; any graph, any limits), "milp" (HiGHS
    on the whole linearised problem), "chain" (dynamic programming, one limit beside II on a chain), "greedy" (baseline,
    proves nothing), "auto" (chain where it applies, else exact).
    ``relative_gap``: "exact" and "milp" stop at this proven gap, or after ``time_limit_s``; the plan states what it is.

    The plan is recomputed from the problem's definition before it is returned (``check_plan``).
    Raises InfeasibleBudgetError naming the binding limits and the nearest ones that can be met; BudgetError when the
    time ended without a plan or greedy found none; ConfigError for a method that does not fit the problem.
    """
    start = time.monotonic()
    if not relative_gap >= 0 or not time_limit_s > 0:
        raise ConfigError(f"relative gap {relative_gap} or time limit {time_limit_s} s makes no sense")
    wanted = limits_of(limits)
    tables = within_ii(tabulate(problem, wanted))
    if tables is None:
        raise explain(problem, wanted, time_limit_s=time_limit_s)
    used: Method
    if method == "greedy":
        used, choice, bound = "greedy", greedy_choice(tables), -math.inf
        if choice is None:
            raise BudgetError("greedy found no plan within the limits, which proves nothing", hint="use method exact")
        return _plan(problem, tables, choice, bound, used, start, limits)
    tables = without_dominated(tables)
    if method == "chain" and not fits_chain(tables):
        raise ConfigError("dynamic programming needs a chain and one limit beside II", hint="use method exact")
    if method == "chain" or (method == "auto" and fits_chain(tables)):
        try:
            choice = chain_choice(tables)
        except TooManyLabelsError:
            if method == "chain":
                raise
        else:
            if choice is None:
                raise explain(problem, wanted, time_limit_s=time_limit_s)
            loss = sum(option.loss_increase for option in options_of(problem, tables.choice_of(choice)).values())
            return _plan(problem, tables, choice, loss, "chain", start, limits)
    search = solve_program if method == "milp" else solve_exact
    found = search(tables, relative_gap=relative_gap, deadline=start + time_limit_s)
    if found.infeasible:
        raise explain(problem, wanted, time_limit_s=time_limit_s)
    if found.choice is None:
        raise BudgetError(
            f"no plan within the limits was found in {time_limit_s:g} s, nor a proof that there is none",
            hint="allow more time or larger limits",
        )
    return _plan(problem, tables, found.choice, found.bound, "milp" if method == "milp" else "exact", start, limits)


def _plan(
    problem: Problem, tables: Tables, choice: Choice, bound: float, method: Method, start: float, limits: Budget
) -> Plan:
    named = tables.choice_of(choice)
    options = options_of(problem, named)
    loss = sum(option.loss_increase for option in options.values())
    plan = Plan(
        choice=named,
        options=options,
        loss_increase=loss,
        cost=plan_cost(problem, named),
        method=method,
        bound=min(bound, loss),
        gap=gap_of(loss, bound),
        seconds=time.monotonic() - start,
    )
    check_plan(problem, plan, limits)
    return plan

"""What a plan costs, straight from the problem's definition.

Deliberately plain loops that share no code with the solvers: a mistake there cannot hide here.
"""

from __future__ import annotations

from collections.abc import Mapping

from trigger_prune.errors import BudgetError, ConfigError
from trigger_prune.prune.budget.options import ADDITIVE, CostVector, Problem
from trigger_prune.prune.budget.plan import Plan, limits_of, options_of, tolerance
from trigger_prune.target import Budget


def plan_cost(problem: Problem, choice: Mapping[str, int]) -> CostVector:
    """Cost of one option per layer, edges included.

    ``choice``: layer name -> position in its menu. Raises ConfigError for a missing or unknown layer or position.
    """
    sizes = {menu.name: len(menu.options) for menu in problem.menus}
    if sizes.keys() != choice.keys():
        raise ConfigError(f"the plan's layers {sorted(choice)} are not the problem's {sorted(sizes)}")
    for name, position in choice.items():
        if not 0 <= position < sizes[name]:
            raise ConfigError(f"layer {name!r} has no option {position}, its menu has {sizes[name]}")

    options = options_of(problem, choice)
    total = dict.fromkeys(ADDITIVE, 0.0)
    ii = 0.0
    for option in options.values():
        ii = max(ii, option.cost.ii)
        for resource in ADDITIVE:
            total[resource] += getattr(option.cost, resource)

    arrival = dict.fromkeys(options, 0.0)
    finish: dict[str, float] = {}
    entries = {
        (edge.producer, edge.consumer): {
            resource: float(table[choice[edge.producer], choice[edge.consumer]])
            for resource, table in edge.cost.items()
        }
        for edge in problem.edges
    }
    for name in problem.order():
        incoming = [
            finish[producer] + entry.get("latency_cycles", 0.0)
            for (producer, consumer), entry in entries.items()
            if consumer == name
        ]
        arrival[name] = max(incoming, default=0.0)
        finish[name] = arrival[name] + options[name].cost.latency_cycles
    for entry in entries.values():
        ii = max(ii, entry.get("ii", 0.0))
        for resource in ADDITIVE:
            total[resource] += entry.get(resource, 0.0)
    return CostVector(latency_cycles=max(finish.values()), ii=ii, **total)


def check_plan(problem: Problem, plan: Plan, limits: Budget) -> CostVector:
    """Recompute the plan's cost and loss and hold them against the limits; returns the cost.

    Raises BudgetError naming every exceeded limit, disagreeing widths, or a cost or loss that the plan states wrongly.
    """
    cost = plan_cost(problem, plan.choice)
    faults = []
    for name, limit in limits_of(limits).items():
        value = getattr(cost, name)
        if value > limit + tolerance(limit):
            faults.append(f"{name} is {value:.6g}, the limit is {limit:.6g}")
    options = options_of(problem, plan.choice)
    for group in problem.equal_width:
        widths = {name: options[name].output_width for name in group}
        if len(set(widths.values())) > 1:
            faults.append(f"the summed layers have different widths {widths}")
    loss = sum(option.loss_increase for option in options.values())
    if abs(loss - plan.loss_increase) > 1e-9 * max(1.0, abs(loss)):
        faults.append(f"its loss increase is {loss:.9g}, it states {plan.loss_increase:.9g}")
    for name, value in vars(cost).items():
        stated = getattr(plan.cost, name)
        if abs(stated - value) > 1e-9 * max(1.0, abs(value)):
            faults.append(f"its {name} is {value:.9g}, it states {stated:.9g}")
    if faults:
        raise BudgetError(f"the {plan.method} plan is not feasible: {'; '.join(faults)}")
    return cost

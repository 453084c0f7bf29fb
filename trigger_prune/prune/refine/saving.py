"""Many changes at once: the budget solver chooses which outputs change, so that together enough is saved.

Every output is a menu: to stay as it is, or one of its proposals. The model's Hessian alone prices them; fine-tuning
repairs what single outputs could not make up for among themselves.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trigger_prune.errors import BudgetError
from trigger_prune.prune.budget.options import CostVector, LayerMenu, Option, Problem
from trigger_prune.prune.budget.solve import solve
from trigger_prune.prune.refine.codes import copy_codes
from trigger_prune.prune.refine.pricing import Pricing
from trigger_prune.prune.refine.proposals import Proposal, ProposalRules
from trigger_prune.prune.refine.steps import CodeStep
from trigger_prune.target import Budget

_UNITS = 1 << 16
"""The wanted saving in the solver's units, whose limits are whole numbers."""

_TIME_LIMIT_S = 10.0

_CORE = 300
"""Menus that are solved exactly; HiGHS takes tenths of a second for so many."""

_BISECTIONS = 60


@dataclass(frozen=True)
class Saved:
    """Steps taken; ``available`` is the cost that the largest saving of every output together would have saved."""

    steps: tuple[CodeStep, ...]
    available: float

    @property
    def cost(self) -> float:
        """Modelled cost saved, positive."""
        return -sum(step.cost for step in self.steps)


def save_cost(pricing: Pricing, wanted: float, price: float, rules: ProposalRules, events: Tensor, seed: int) -> Saved:
    """Change the codes of ``pricing.state`` in place so that about ``wanted`` units of modelled cost are saved at the
    least modelled loss, or what proposals at ``price`` (loss per unit of cost) can save."""
    rows = pricing.rows()
    menus: dict[tuple[str, int], list[Proposal]] = defaultdict(list)
    for proposal in pricing.proposals(rows, price, rules, events, seed):
        if proposal.cost < 0:
            menus[proposal.layer, proposal.row].append(proposal)
    codes = copy_codes(pricing.state.codes)
    steps: list[CodeStep] = []
    # what pays best goes first: a proposal that an earlier one has made useless is left out
    for proposal in sorted(choose(list(menus.values()), wanted), key=lambda p: (p.loss / -p.cost, p.layer, p.row)):
        own = codes[proposal.layer]
        change = proposal.change(own)
        cost = pricing.cost_change(change, rows, codes)
        if cost >= 0:
            continue  # the moves of a proposal are priced one by one; together they may save nothing
        old = np.append(own.weight[change.row], own.bias[change.row])
        moved = tuple((at, int(old[at]), code) for at, code in proposal.steps)
        own.weight[change.row] = change.weight
        own.bias[change.row] = change.bias
        steps.append(CodeStep(proposal.layer, proposal.row, moved, proposal.loss, cost))
    pricing.state.assign(codes)
    return Saved(tuple(steps), sum(_largest(menu) for menu in menus.values()))


def choose(menus: Sequence[Sequence[Proposal]], wanted: float) -> list[Proposal]:
    """At most one proposal of every menu, together saving ``wanted`` units of cost at the least loss; the largest
    saving of every menu where that is not enough. Every proposal saves something.

    Of many menus only the ``_CORE`` that a price of the saving leaves in doubt are solved exactly.
    """
    if not menus or wanted <= 0:
        return []
    if sum(map(_largest, menus)) <= wanted:
        return [min(menu, key=lambda p: (p.cost, p.loss)) for menu in menus]
    at_price, doubtful = _at_a_price(menus, wanted)
    open_menus = set(doubtful.tolist())
    chosen = [each for number, each in enumerate(at_price) if each is not None and number not in open_menus]
    missing = wanted + sum(proposal.cost for proposal in chosen)
    core = [menus[number] for number in doubtful]
    most = [_largest(menu) for menu in core]
    spare = sum(most) - missing
    if missing <= 0 or spare <= 0:
        return chosen + ([min(menu, key=lambda p: (p.cost, p.loss)) for menu in core] if missing > 0 else [])
    unit = _UNITS / wanted
    each = enumerate(zip(core, most, strict=True))
    problem = Problem(tuple(_menu(str(number), menu, unit, largest) for number, (menu, largest) in each))
    try:
        plan = solve(problem, Budget(lut=math.ceil(unit * spare)), method="milp", time_limit_s=_TIME_LIMIT_S)
    except BudgetError:
        # not in time, on a slow machine: what the price chooses saves enough, at a little more loss
        return [each for each in at_price if each is not None]
    return chosen + [option.payload["proposal"] for option in plan.options.values() if option.payload]


def _at_a_price(menus: Sequence[Sequence[Proposal]], wanted: float) -> tuple[list[Proposal | None], NDArray[np.int64]]:
    """What the menus choose at the least price per saved cost at which they save ``wanted`` together, and the numbers
    of those whose second choice is nearest to the first."""
    width = 1 + max(map(len, menus))
    loss, saving = np.full((len(menus), width), np.inf), np.zeros((len(menus), width))
    loss[:, 0] = 0.0
    for number, menu in enumerate(menus):
        loss[number, 1 : len(menu) + 1] = [proposal.loss for proposal in menu]
        saving[number, 1 : len(menu) + 1] = [-proposal.cost for proposal in menu]
    rows = np.arange(len(menus))

    def saved(price: float) -> float:
        return float(saving[rows, (loss - price * saving).argmin(axis=1)].sum())

    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.unique((loss / saving)[:, 1:])
    # the steps of what is saved lie at slopes between two options of a menu, all below the largest of those
    low, high = 0.0, 2.0 * float(ratios[np.isfinite(ratios)].max()) + 1e-300
    while saved(high) < wanted:
        low, high = high, 4.0 * high
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if saved(middle) < wanted else (low, middle)
    value = loss - high * saving
    choice = value.argmin(axis=1)
    ordered = np.partition(value, 1, axis=1)
    doubtful = np.sort(np.argsort(ordered[:, 1] - ordered[:, 0], kind="stable")[:_CORE])
    at_price = [None if not at else menu[at - 1] for at, menu in zip(choice.tolist(), menus, strict=True)]
    return at_price, doubtful


def _menu(name: str, menu: Sequence[Proposal], unit: float, most: float) -> LayerMenu:
    """What is left of the menu's largest saving, ``most``, as the cost of each option."""
    moves = [
        Option("move", each.loss, CostVector(lut=unit * (most + each.cost)), payload={"proposal": each})
        for each in menu
    ]
    return LayerMenu(name, (Option("stay", 0.0, CostVector(lut=unit * most)), *moves))


def _largest(menu: Sequence[Proposal]) -> float:
    return max(-proposal.cost for proposal in menu)

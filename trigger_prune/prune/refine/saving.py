"""Many changes at once: the cheapest losses per saved cost, one change per output, until enough is saved.

The model's Hessian alone decides; fine-tuning repairs what single outputs could not make up for among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from trigger_prune.prune.refine.codes import copy_codes
from trigger_prune.prune.refine.pricing import Pricing
from trigger_prune.prune.refine.proposals import Proposal, ProposalRules
from trigger_prune.prune.refine.steps import CodeStep


@dataclass(frozen=True)
class Saved:
    """Steps taken; ``available`` is the cost that all proposals together would have saved."""

    steps: tuple[CodeStep, ...]
    available: float

    @property
    def cost(self) -> float:
        """Modelled cost saved, positive."""
        return -sum(step.cost for step in self.steps)


def save_cost(pricing: Pricing, wanted: float, price: float, rules: ProposalRules, events: Tensor, seed: int) -> Saved:
    """Change the codes of ``pricing.state`` in place so that ``wanted`` units of modelled cost are saved, or what
    proposals at ``price`` (loss per unit of cost) can save."""
    rows = pricing.rows()
    best: dict[tuple[str, int], Proposal] = {}
    for proposal in pricing.proposals(rows, price, rules, events, seed):
        key = proposal.layer, proposal.row
        if proposal.cost < 0 and (key not in best or _worth(proposal, price) < _worth(best[key], price)):
            best[key] = proposal
    order = sorted(best.values(), key=lambda p: (p.loss / -p.cost, p.layer, p.row))
    codes = copy_codes(pricing.state.codes)
    steps: list[CodeStep] = []
    saved = 0.0
    for proposal in order:
        if saved >= wanted:
            break
        own = codes[proposal.layer]
        change = proposal.change(own)
        cost = pricing.cost_change(change, rows, codes)
        if cost >= 0:
            continue  # the moves of a proposal are priced one by one; together they may save nothing
        old = np.append(own.weight[change.row], own.bias[change.row])
        moved = tuple((at, int(old[at]), code) for at, code in proposal.steps)
        own.weight[change.row] = change.weight
        own.bias[change.row] = change.bias
        saved -= cost
        steps.append(CodeStep(proposal.layer, proposal.row, moved, proposal.loss, cost))
    pricing.state.assign(codes)
    return Saved(tuple(steps), -sum(proposal.cost for proposal in best.values()))


def _worth(proposal: Proposal, price: float) -> float:
    return proposal.loss + price * proposal.cost

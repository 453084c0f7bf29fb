"""Coordinate descent on loss + price x cost: the models propose, the exact loss on the events decides, one by one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from trigger_prune.prune.refine.incremental import IncrementalLoss
from trigger_prune.prune.refine.pricing import Pricing, model_events
from trigger_prune.prune.refine.proposals import Proposal, ProposalRules
from trigger_prune.prune.refine.row_cost import LayerRows
from trigger_prune.prune.refine.steps import CodeStep

_FEW = 3
"""A pass that accepts fewer ends the descent."""


def descend(
    pricing: Pricing,
    price: float,
    rules: ProposalRules,
    *,
    passes: int,
    events: int,
    seed: int,
) -> list[CodeStep]:
    """Change the codes of ``pricing.state`` in place; the accepted changes, in order.

    price    loss that a unit of cost is worth
    passes   at most; each starts with a new model on ``events`` random events
    """
    draws = torch.Generator().manual_seed(seed)
    accepted: list[CodeStep] = []
    for _ in range(passes):
        rows = pricing.rows()
        proposals = pricing.proposals(rows, price, rules, model_events(pricing.state, events, draws), seed)
        proposals.sort(key=lambda p: (p.loss + price * p.cost, p.layer, p.row, p.steps))
        steps = [step for p in proposals if (step := _attempt(p, pricing, rows, price)) is not None]
        accepted += steps
        if len(steps) < _FEW:
            break
    return accepted


def _attempt(proposal: Proposal, pricing: Pricing, rows: Mapping[str, LayerRows], price: float) -> CodeStep | None:
    state: IncrementalLoss = pricing.state
    codes = state.codes[proposal.layer]
    change = proposal.change(codes)
    cost = pricing.cost_change(change, rows)
    before = state.loss
    trial = state.trial(change)
    if trial.loss - before + price * cost >= 0:
        return None
    old = np.append(codes.weight[change.row], codes.bias[change.row])
    state.accept(trial)
    moved = tuple((at, int(old[at]), code) for at, code in proposal.steps if old[at] != code)
    return CodeStep(proposal.layer, proposal.row, moved, trial.loss - before, cost)

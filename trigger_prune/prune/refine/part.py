"""Refinement of a network until its estimated cost is a wanted part of what it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import fx

from trigger_prune.errors import BudgetError
from trigger_prune.prune.measured import LoopInputs
from trigger_prune.prune.refine.measure import MeasuredCost, alkaid_cost
from trigger_prune.prune.refine.refine import Progress, RefineResult, refine_network
from trigger_prune.prune.refine.settings import RefineSettings
from trigger_prune.quantize.state import load_network_state, network_state

_UNIT = 1e-3
"""Of an estimate that is a part of a budget: the refinement counts in adders."""


def refine_to_part(
    network: fx.GraphModule,
    inputs: LoopInputs,
    part: float,
    estimate: Callable[[fx.GraphModule], float],
    settings: RefineSettings,
    progress: Progress | None = None,
) -> RefineResult | None:
    """Refine ``network`` in place until ``estimate`` of it is at most ``part`` of what it is now.

    estimate   cost of a network relative to a budget
    settings   ``max_cost`` does not count
    None, and the network as it came, where the rounds do not save so much. Raises what ``refine_network`` raises else.
    """

    def measured(candidate: fx.GraphModule) -> MeasuredCost:
        # alkaid's sharing jumps by per cents from one network to the next; it knows the layers' shares, the estimate
        # is smooth
        shared = alkaid_cost(candidate)
        total = estimate(candidate) / _UNIT
        return MeasuredCost(total, {name: cost * total / shared.total for name, cost in shared.layers.items()})

    start = network_state(network)
    try:
        return refine_network(
            network,
            inputs.train,
            inputs.validation,
            replace(settings, max_cost=part * estimate(network) / _UNIT),
            task=inputs.settings.task,
            objective=inputs.settings.objective,
            measure=measured,
            progress=progress,
        )
    except BudgetError:
        load_network_state(network, start)
        return None

"""The last per cents of a finished network: codes with fewer digits instead of another training."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from trigger_prune.errors import BudgetError, ToolError
from trigger_prune.prune.measured import LoopInputs
from trigger_prune.prune.refine.measure import MeasuredCost, alkaid_cost
from trigger_prune.prune.refine.refine import refine_network
from trigger_prune.prune.refine.settings import RefineSettings
from trigger_prune.quantize.state import load_network_state, network_state

_STEPS = 4
"""Rounds in which the wanted saving is to be reached; there may be more."""

_MODEL_EVENTS = 4096


def shave(
    network: fx.GraphModule, inputs: LoopInputs, part: float, estimate: Callable[[fx.GraphModule], float]
) -> bool:
    """Move codes of ``network`` to cheaper ones, in place, until its estimated cost is ``part`` of what it was.

    Nothing is trained: moves and what makes up for them are chosen by the loss on training events
    (``prune/refine``). False, and the network as it came, where moves alone do not save so much or alkaid is not
    installed. Raises what ``refine_network`` raises else.
    """

    def measured(candidate: fx.GraphModule) -> MeasuredCost:
        # alkaid's sharing jumps by per cents from one network to the next; it knows the layers' shares, the estimate
        # is smooth
        shared = alkaid_cost(candidate)
        total = 1e3 * estimate(candidate)
        return MeasuredCost(total, {name: cost * total / shared.total for name, cost in shared.layers.items()})

    settings = RefineSettings(
        saving_per_round=max(0.004, (1.0 - part) / _STEPS),
        rounds=3 * _STEPS,
        fine_tune_epochs=0,
        max_cost=part * 1e3 * estimate(network),
        model_events=_MODEL_EVENTS,
        batch_size=inputs.settings.batch_size,
        seed=inputs.settings.seed,
    )
    start = network_state(network)
    try:
        refine_network(
            network,
            inputs.train,
            inputs.validation,
            settings,
            task=inputs.settings.task,
            objective=inputs.settings.objective,
            measure=measured,
        )
    except (BudgetError, ToolError):
        load_network_state(network, start)
        return False
    return True

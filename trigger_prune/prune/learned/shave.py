"""The last per cents of a finished network: codes with fewer digits instead of another training."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from trigger_prune.errors import CostError, ToolError, UnsupportedLayerError
from trigger_prune.prune.measured import LoopInputs
from trigger_prune.prune.refine.part import refine_to_part
from trigger_prune.prune.refine.settings import RefineSettings

_STEPS = 4
"""Rounds in which the wanted saving is to be reached; there may be more."""

_MODEL_EVENTS = 4096


def shave(
    network: fx.GraphModule, inputs: LoopInputs, part: float, estimate: Callable[[fx.GraphModule], float]
) -> bool:
    """Move codes of ``network`` to cheaper ones, in place, until its estimated cost is ``part`` of what it was.

    Nothing is trained: moves and what makes up for them are chosen by the loss on training events
    (``prune/refine``). False, and the network as it came, where moves alone do not save so much, and where alkaid is
    not installed or cannot express the network. Raises what ``refine_network`` raises else.
    """
    settings = RefineSettings(
        saving_per_round=max(0.004, (1.0 - part) / _STEPS),
        rounds=3 * _STEPS,
        fine_tune_epochs=0,
        model_events=_MODEL_EVENTS,
        batch_size=inputs.settings.batch_size,
        seed=inputs.settings.seed,
    )
    try:
        return refine_to_part(network, inputs, part, estimate, settings) is not None
    except (ToolError, CostError, UnsupportedLayerError):
        return False

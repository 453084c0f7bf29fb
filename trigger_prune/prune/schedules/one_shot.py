"""The whole cut at once, before the first step."""

from functools import partial

from trigger_prune.prune.schedules._base import register_schedule
from trigger_prune.prune.schedules._timed import run_timed


def one_shot_sparsity(step: float, ramp_steps: float, start: float, end: float) -> float:
    """``end`` at every step."""
    return end


register_schedule("one_shot", partial(run_timed, one_shot_sparsity, True))

"""Equal cuts."""

from functools import partial

from trigger_prune.prune.schedules._base import register_schedule
from trigger_prune.prune.schedules._timed import run_timed


def linear_sparsity(step: float, ramp_steps: float, start: float, end: float) -> float:
    """``start + (end - start) * step / ramp_steps``, and ``end`` from ``ramp_steps`` on."""
    if step >= ramp_steps:
        return end
    return start + (end - start) * step / ramp_steps


register_schedule("linear", partial(run_timed, linear_sparsity, False))

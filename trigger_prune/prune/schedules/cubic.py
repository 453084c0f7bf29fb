"""Fast while much is redundant, slowly near the end (M. Zhu and S. Gupta 2017, arXiv:1710.01878)."""

from functools import partial

from trigger_prune.prune.schedules._base import register_schedule
from trigger_prune.prune.schedules._timed import run_timed


def cubic_sparsity(step: float, ramp_steps: float, start: float, end: float) -> float:
    """``end + (start - end) (1 - step / ramp_steps)^3``, and ``end`` from ``ramp_steps`` on."""
    if step >= ramp_steps:
        return end
    return float(end + (start - end) * (1.0 - step / ramp_steps) ** 3)


register_schedule("cubic", partial(run_timed, cubic_sparsity, False))

"""Every cut removes the same fraction of what is left."""

from functools import partial

from trigger_prune.errors import ConfigError
from trigger_prune.prune.schedules._base import register_schedule
from trigger_prune.prune.schedules._timed import run_timed


def geometric_sparsity(step: float, ramp_steps: float, start: float, end: float) -> float:
    """``1 - (1 - start) * ((1 - end) / (1 - start)) ** (step / ramp_steps)``, and ``end`` from ``ramp_steps`` on.

    Raises ConfigError for ``end`` 1 above ``start``: a fraction of what is left never takes everything.
    """
    if step >= ramp_steps or start == end:
        return end
    if end == 1.0:
        raise ConfigError("a geometric schedule never reaches sparsity 1", hint="use schedule: linear or cubic")
    return float(1.0 - (1.0 - start) * ((1.0 - end) / (1.0 - start)) ** (step / ramp_steps))


register_schedule("geometric", partial(run_timed, geometric_sparsity, False))

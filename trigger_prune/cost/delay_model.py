"""How long a pipeline stage takes, by a stated model: no timing report stands behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trigger_prune.errors import CostError


@dataclass(frozen=True)
class DelayModel:
    """Period of a stage = ``register_ns`` + ``unit_ns`` x its delay in alkaid's units (about one per adder).

    The defaults are ASSUMED, of the size of UltraScale+ speed grade 2 with routing at moderate congestion. They were
    fitted to no timing report: replace them by what place and route of a design of yours gave.
    """

    register_ns: float = 0.4
    unit_ns: float = 0.8

    def __post_init__(self) -> None:
        if not (self.register_ns >= 0 and 0 < self.unit_ns < math.inf):
            raise CostError(f"impossible delay model: {self}")

    def period_ns(self, units: float) -> float:
        """Estimated clock period of a stage of ``units``."""
        return self.register_ns + self.unit_ns * units

    def units(self, period_ns: float) -> float:
        """Delay of a stage that just fits the period; not positive when the registers alone exceed it."""
        return (period_ns - self.register_ns) / self.unit_ns

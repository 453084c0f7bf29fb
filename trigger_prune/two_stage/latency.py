"""Latency of a two-stage trigger: light model, longest wait, full model, control; always the worst case.

A trigger answers after a fixed time: every decision, also that of a crossing the light model rejects, is held back
until the slowest one could be there. FIFO depth therefore is latency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ConfigError
from trigger_prune.two_stage.queue import QueueResult
from trigger_prune.two_stage.traffic import Engine
from trigger_prune.units import BUNCH_CROSSING_NS, LHC_CLOCK_MHZ

CLOCK_TOLERANCE = 0.005
"""A frequency that is this close, relatively, to a multiple of the LHC clock is read as that multiple."""


@dataclass(frozen=True)
class FixedLatency:
    """Parts of the latency in clock cycles, and the clock.

    light_cycles     light model, from the crossing's inputs to its score
    wait_cycles      longest wait in the FIFO, K x II
    full_cycles      full model at its reuse factor, from taking an object to its score
    control_cycles   comparators, FIFO and output registers
    clock_multiple   cycles per bunch crossing

    Raises ConfigError for a negative part or a multiple below 1.
    """

    light_cycles: int
    wait_cycles: int
    full_cycles: int
    control_cycles: int
    clock_multiple: int

    def __post_init__(self) -> None:
        if min(self.light_cycles, self.wait_cycles, self.full_cycles, self.control_cycles) < 0:
            raise ConfigError(f"a latency has a negative part: {self}")
        if self.clock_multiple < 1:
            raise ConfigError(f"a clock of {self.clock_multiple} cycles per crossing makes no sense")

    @property
    def total_cycles(self) -> int:
        """From the crossing's inputs to its decision."""
        return self.light_cycles + self.wait_cycles + self.full_cycles + self.control_cycles

    @property
    def total_bx(self) -> float:
        """The same in bunch crossings, not rounded."""
        return self.total_cycles / self.clock_multiple

    @property
    def output_bx(self) -> int:
        """Whole crossings after which the decision leaves when it leaves once per crossing."""
        return -(-self.total_cycles // self.clock_multiple)

    @property
    def total_ns(self) -> float:
        """``total_cycles`` in ns."""
        return self.total_bx * BUNCH_CROSSING_NS

    @property
    def output_ns(self) -> float:
        """``output_bx`` in ns: what a budget has to cover."""
        return self.output_bx * BUNCH_CROSSING_NS

    def margin_ns(self, budget_ns: float) -> float:
        """Budget minus ``output_ns``; negative when it is exceeded."""
        return budget_ns - self.output_ns


def fixed_latency(engine: Engine, light_cycles: int, full_cycles: int, control_cycles: int) -> FixedLatency:
    """Latency with this engine. The wait is the bound K x II that the hardware must provide for, however rare it is."""
    return FixedLatency(light_cycles, engine.wait_bound_cycles, full_cycles, control_cycles, engine.clock_multiple)


def deepest_fifo(
    ii_cycles: int, clock_multiple: int, budget_ns: float, light_cycles: int, full_cycles: int, control_cycles: int
) -> int | None:
    """Largest FIFO depth whose latency, up to whole crossings, is within the budget; None when not even 0 is."""
    crossings = math.floor(budget_ns / BUNCH_CROSSING_NS * (1 + 1e-12))
    left = crossings * clock_multiple - light_cycles - full_cycles - control_cycles
    return None if left < 0 else left // ii_cycles


def latency_distribution(queue: QueueResult, latency: FixedLatency) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """When escalated objects that were not lost would be decided without the fixed output: cycles, probabilities."""
    waits = np.arange(len(queue.wait_probability), dtype=np.int64) * queue.wait_step_cycles
    return waits + (latency.total_cycles - latency.wait_cycles), queue.wait_probability


def lhc_clock_multiple(frequency_mhz: float) -> int:
    """The multiple of the LHC clock that a frequency means. Raises ConfigError when none is within 0.5 %."""
    multiple = round(frequency_mhz / LHC_CLOCK_MHZ) if 0 < frequency_mhz < math.inf else 0
    if multiple < 1 or abs(frequency_mhz / (multiple * LHC_CLOCK_MHZ) - 1) > CLOCK_TOLERANCE:
        nearest = max(multiple, 1)
        raise ConfigError(
            f"{frequency_mhz:g} MHz is no multiple of the LHC clock of {LHC_CLOCK_MHZ} MHz",
            hint=f"the nearest is {nearest * LHC_CLOCK_MHZ:.2f} MHz (clock_multiple: {nearest})",
        )
    return multiple

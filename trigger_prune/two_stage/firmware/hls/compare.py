"""Results of the HLS C++ against the cycle model, crossing by crossing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trigger_prune.two_stage.firmware.cycle_model import FirmwareTrace
from trigger_prune.two_stage.firmware.design import FirmwareDesign
from trigger_prune.two_stage.firmware.hls.run import HlsRun


@dataclass(frozen=True)
class HlsVerdict:
    """How the generated code and the cycle model agree.

    crossings                    that were compared
    decisions, waiting, stream   crossings whose decision, FIFO contents by the scheduler, and objects in the stream
                                 differ; a decision that comes in another crossing than it should counts as different
    counters                     name: (expected, found) of every counter that differs
    first                        first crossing that differs in anything; None where all are equal
    expected, found              what is there in words; empty where all are equal
    """

    crossings: int
    decisions: int
    waiting: int
    stream: int
    counters: dict[str, tuple[int, int | None]]
    first: int | None
    expected: str = ""
    found: str = ""

    @property
    def ok(self) -> bool:
        """True when crossings were compared and everything agreed."""
        return self.crossings > 0 and self.first is None and not self.counters

    def __str__(self) -> str:
        if self.ok:
            return f"{self.crossings} crossings: decisions, FIFO contents and counters are equal"
        wrong = ", ".join(f"{name} {got} instead of {want}" for name, (want, got) in self.counters.items())
        where = (
            "" if self.first is None else f"; first at crossing {self.first}: {self.found} instead of {self.expected}"
        )
        return (
            f"{self.crossings} crossings: {self.decisions} decisions, {self.waiting} FIFO contents, {self.stream} "
            f"contents of the stream differ{where}; counters: {wrong or 'equal'}"
        )


def compare_with_model(design: FirmwareDesign, trace: FirmwareTrace, run: HlsRun) -> HlsVerdict:
    """Compare a run with the trace of the same stream.

    The decision of crossing b is expected from call b + output latency on, in whole crossings, and from no other one.
    """
    crossings = len(trace.accepted)
    delay = trace.output_cycles // design.engine.clock_multiple
    calls = crossings + delay
    if len(run.valid) != calls:
        return HlsVerdict(
            crossings, crossings, crossings, crossings, {}, 0, f"{calls} calls", f"{len(run.valid)} calls"
        )
    early = bool(run.valid[:delay].any())
    decision = (run.accepted[delay:] != trace.accepted) | ~run.valid[delay:] | early
    waiting = run.waiting[:crossings] != trace.waiting
    stream = run.occupancy[:crossings] != trace.waiting
    counters = {
        name: (value, run.counters.get(name))
        for name, value in trace.counters.items()
        if run.counters.get(name) != value
    }
    anywhere = np.flatnonzero(decision | waiting | stream)
    first = int(anywhere[0]) if len(anywhere) else None
    expected = found = ""
    if first is not None:
        expected = _words(bool(trace.accepted[first]), int(trace.waiting[first]), int(trace.waiting[first]))
        found = _words(bool(run.accepted[first + delay]), int(run.waiting[first]), int(run.occupancy[first]))
    return HlsVerdict(
        crossings, int(decision.sum()), int(waiting.sum()), int(stream.sum()), counters, first, expected, found
    )


def _words(accepted: bool, waiting: int, stream: int) -> str:
    return f"{'accepted' if accepted else 'rejected'} with {waiting} waiting, {stream} in the stream"

"""Results of the Verilog against the cycle model: crossing by crossing, object by object, cycle by cycle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.two_stage.firmware.cycle_model import NOT_STARTED
from trigger_prune.two_stage.firmware.design import FirmwareDesign
from trigger_prune.two_stage.firmware.vectors import FirmwareVectors
from trigger_prune.two_stage.firmware.verilog.run import VerilogRun


@dataclass(frozen=True)
class VerilogVerdict:
    """How the Verilog and the cycle model agree.

    crossings, objects, started   that were compared; objects that the full network took by the model
    differences                   what: how many differ, of ``decision``, ``output cycle`` and ``waiting`` (crossings)
                                  and ``fate``, ``light score``, ``start cycle``, ``score cycle``, ``full score``
                                  (objects); ``full score`` only where both have one
    counters                      name: (expected, found) of every counter that differs
    surplus                       signals of the design that belong to no object or crossing
    first                         the first difference in words: of the earliest crossing that has one
    """

    crossings: int
    objects: int
    started: int
    differences: dict[str, int]
    counters: dict[str, tuple[int, int | None]]
    surplus: int
    first: str | None

    @property
    def ok(self) -> bool:
        """True when crossings were compared and everything agreed."""
        return self.crossings > 0 and not any(self.differences.values()) and not self.counters and not self.surplus

    def __str__(self) -> str:
        compared = f"{self.crossings} crossings, {self.objects} objects, {self.started} in the full network"
        if self.ok:
            return f"{compared}: decisions, FIFO contents, scores, all cycles and counters are equal"
        wrong = [f"{count} of {what}" for what, count in self.differences.items() if count]
        wrong += [f"counter {name}: {got} instead of {want}" for name, (want, got) in self.counters.items()]
        if self.surplus:
            wrong.append(f"{self.surplus} signals of no object or crossing")
        return f"{compared}: differences: {', '.join(wrong)}; first: {self.first or 'in the counters'}"


def compare_with_model(design: FirmwareDesign, vectors: FirmwareVectors, run: VerilogRun) -> VerilogVerdict:
    """Compare a run with the golden trace of the same vectors; ``design`` has the generated design's timing."""
    trace, stream = vectors.trace, vectors.stream
    crossing = np.repeat(np.arange(vectors.crossings), stream.objects)
    due = np.arange(vectors.crossings) * design.engine.clock_multiple + trace.output_cycles
    both = (trace.start_cycle != NOT_STARTED) & (run.score_cycle != NOT_STARTED)
    of_crossings = {
        "decision": (trace.accepted.astype(np.int64), run.accepted),
        "output cycle": (due, run.output_cycle),
        "waiting": (trace.waiting, run.waiting),
    }
    of_objects = {
        "fate": (trace.fate, run.fate),
        "light score": (stream.light, run.light),
        "start cycle": (trace.start_cycle, run.start_cycle),
        "score cycle": (trace.score_cycle, run.score_cycle),
        "full score": (np.where(both, stream.full, 0), np.where(both, run.full, 0)),
    }
    differences, found = {}, []
    for what, (expected, got) in {**of_crossings, **of_objects}.items():
        wrong = _different(expected, got)
        differences[what] = len(wrong)
        if len(wrong):
            at = int(wrong[0])
            where = f"crossing {at}" if what in of_crossings else f"crossing {crossing[at]}, object {at}"
            values = f"{_value(got, at)} instead of {_value(expected, at)}"
            found.append((at if what in of_crossings else int(crossing[at]), f"{what} of {where}: {values}"))
    counters = {
        name: (value, run.counters.get(name))
        for name, value in trace.counters.items()
        if run.counters.get(name) != value
    }
    return VerilogVerdict(
        vectors.crossings,
        len(trace.fate),
        int((trace.start_cycle != NOT_STARTED).sum()),
        differences,
        counters,
        run.surplus,
        min(found)[1] if found else None,
    )


def _different(expected: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    shared = min(len(expected), len(found))
    beyond = np.arange(shared, max(len(expected), len(found)))
    return np.concatenate([np.flatnonzero(expected[:shared] != found[:shared]), beyond]).astype(np.int64)


def _value(values: NDArray[np.int64], at: int) -> int | str:
    return int(values[at]) if at < len(values) else "nothing"

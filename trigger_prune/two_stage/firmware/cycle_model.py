"""What the two-stage firmware does, cycle by cycle, for a given stream of crossings: the model it is compared with.

Time runs in clock cycles; crossing b enters the light models at cycle ``b x clock_multiple``. ``light_cycles`` later
the scores of all its objects are there and the comparators act; escalated objects enter the FIFO together, in the order
of the objects, ``enqueue_cycles`` later. In every cycle the engine, when it is free, takes the oldest waiting object
before new ones enter, and an object that enters an empty FIFO before a free engine starts at once. Objects that find
neither a place nor a free engine are lost to the full model and judged by ``t_overflow``. The engine starts an object
every ``ii_cycles`` at the earliest; its score is there ``full_cycles`` after the start. Every crossing is decided
``output_cycles`` after it came in, also those that nothing passed of: a trigger has a fixed latency. This is the queue
of ``two_stage.queue`` and of ``two_stage.monte_carlo``, for one stream instead of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.two_stage.traffic import MAX_BATCH, Engine

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

REJECTED, ACCEPTED_AT_ONCE, TO_FULL, LOST = 0, 1, 2, 3
"""What the light model and the FIFO make of an object."""

NOT_STARTED = -1


@dataclass(frozen=True)
class IntegerThresholds:
    """``score >= threshold`` passes, scores as the integers of the firmware; None where nothing passes.

    t_reject, t_accept, t_overflow   of the light score
    t_full                           of the full score
    """

    t_reject: int
    t_accept: int | None
    t_full: int | None
    t_overflow: int | None


@dataclass(frozen=True)
class FirmwareTiming:
    """Clock cycles of every part.

    light_cycles     from a crossing's inputs to the scores of all its objects
    enqueue_cycles   comparators and input register of the FIFO
    full_cycles      from the start of an object in the engine to its score
    decide_cycles    last comparator and output register

    Raises ConfigError for a negative part.
    """

    light_cycles: int
    enqueue_cycles: int
    full_cycles: int
    decide_cycles: int

    def __post_init__(self) -> None:
        if min(self.light_cycles, self.enqueue_cycles, self.full_cycles, self.decide_cycles) < 0:
            raise ConfigError(f"a firmware timing has a negative part: {self}")

    @property
    def control_cycles(self) -> int:
        """Cycles that belong to no model and no wait."""
        return self.enqueue_cycles + self.decide_cycles

    def output_cycles(self, engine: Engine) -> int:
        """From a crossing's inputs to its decision, whole crossings: the longest wait is provided for."""
        total = self.light_cycles + self.control_cycles + engine.wait_bound_cycles + self.full_cycles
        return -(-total // engine.clock_multiple) * engine.clock_multiple


@dataclass(frozen=True, eq=False)
class CrossingStream:
    """Consecutive crossings and what both models say of their objects.

    objects       int64 ``(crossings,)``: objects of every crossing, 0 in an empty slot
    light, full   int64 ``(sum of objects,)``: scores in firmware order

    Raises DataError where these do not fit, and for more than 16 objects in a crossing.
    """

    objects: Ints
    light: Ints
    full: Ints

    def __post_init__(self) -> None:
        if self.objects.ndim != 1 or not (self.objects >= 0).all() or not (self.objects <= MAX_BATCH).all():
            raise DataError(f"objects per crossing must be a list of numbers from 0 to {MAX_BATCH}")
        total = int(self.objects.sum())
        if self.light.shape != (total,) or self.full.shape != (total,):
            raise DataError(
                f"{total} objects, but light scores of shape {self.light.shape} and full ones of {self.full.shape}"
            )


@dataclass(frozen=True, eq=False)
class FirmwareTrace:
    """What happened.

    accepted        bool ``(crossings,)``: the decision
    waiting         int64 ``(crossings,)``: objects in the FIFO right after the arrivals of the crossing
    fate            int64 ``(objects,)``: REJECTED, ACCEPTED_AT_ONCE, TO_FULL or LOST
    start_cycle     int64 ``(objects,)``: when the engine took the object, NOT_STARTED where it never did
    score_cycle     int64 ``(objects,)``: when its full score was there, NOT_STARTED likewise
    passed          bool ``(objects,)``: whether the object accepts its crossing
    output_cycles   latency of every decision
    counters        the monitoring counters of the firmware, by name
    """

    accepted: Bools
    waiting: Ints
    fate: Ints
    start_cycle: Ints
    score_cycle: Ints
    passed: Bools
    output_cycles: int
    counters: dict[str, int]


def simulate_firmware(
    stream: CrossingStream, thresholds: IntegerThresholds, engine: Engine, timing: FirmwareTiming
) -> FirmwareTrace:
    """Decisions and times of a stream that begins with an empty FIFO and a free engine."""
    multiple, ii = engine.clock_multiple, engine.ii_cycles
    crossing = np.repeat(np.arange(len(stream.objects)), stream.objects)
    fate = _fates(stream.light, thresholds)
    start = np.full(len(fate), NOT_STARTED, np.int64)
    waiting = np.zeros(len(stream.objects), np.int64)
    arrival = timing.light_cycles + timing.enqueue_cycles
    escalated = np.flatnonzero(fate == TO_FULL)
    ends = np.searchsorted(crossing[escalated], np.arange(len(stream.objects)), side="right")
    queue: list[int] = []  # start cycles of what waits, oldest first: under FIFO order they are known on arrival
    free_at, position = 0, 0
    for at, end in enumerate(ends.tolist()):
        now = at * multiple + arrival
        queue = [begins for begins in queue if begins > now]
        while position < end:
            item = int(escalated[position])
            begins = max(now, free_at)
            if begins > now and len(queue) >= engine.fifo_depth:
                fate[item] = LOST
            else:
                start[item] = begins
                free_at = begins + ii
                if begins > now:
                    queue.append(begins)
            position += 1
        waiting[at] = len(queue)
    started = start != NOT_STARTED
    score_cycle = np.where(started, start + timing.full_cycles, NOT_STARTED)
    passed = (fate == ACCEPTED_AT_ONCE) | (started & _reaches(stream.full, thresholds.t_full))
    passed |= (fate == LOST) & _reaches(stream.light, thresholds.t_overflow)
    accepted = np.bincount(crossing[passed], minlength=len(stream.objects)) > 0
    return FirmwareTrace(
        accepted,
        waiting,
        fate,
        start,
        score_cycle,
        passed,
        timing.output_cycles(engine),
        _counters(stream, fate, passed, accepted, waiting),
    )


def _fates(light: Ints, thresholds: IntegerThresholds) -> Ints:
    fate = np.where(light >= thresholds.t_reject, TO_FULL, REJECTED).astype(np.int64)
    fate[_reaches(light, thresholds.t_accept)] = ACCEPTED_AT_ONCE
    return fate


def _reaches(scores: Ints, threshold: int | None) -> Bools:
    found: Bools = np.zeros(len(scores), np.bool_) if threshold is None else scores >= threshold
    return found


def _counters(stream: CrossingStream, fate: Ints, passed: Bools, accepted: Bools, waiting: Ints) -> dict[str, int]:
    """Monitoring counters: of objects, but for ``crossings`` and ``accepted_crossings``."""
    return {
        "crossings": len(stream.objects),
        "objects": len(fate),
        "rejected": int((fate == REJECTED).sum()),
        "accepted_at_once": int((fate == ACCEPTED_AT_ONCE).sum()),
        "escalated": int(((fate == TO_FULL) | (fate == LOST)).sum()),
        "lost": int((fate == LOST).sum()),
        "passed_full": int((passed & (fate == TO_FULL)).sum()),
        "passed_overflow": int((passed & (fate == LOST)).sum()),
        "accepted_crossings": int(accepted.sum()),
        "most_waiting": int(waiting.max(initial=0)),
    }

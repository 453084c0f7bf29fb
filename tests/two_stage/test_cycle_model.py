"""The cycle model of the firmware against a naive clock that ticks through every cycle, and against the exact queue."""

from __future__ import annotations

import numpy as np
import pytest

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.filling import named_filling
from trigger_prune.two_stage.firmware.cycle_model import (
    LOST,
    NOT_STARTED,
    TO_FULL,
    CrossingStream,
    FirmwareTiming,
    IntegerThresholds,
    simulate_firmware,
)
from trigger_prune.two_stage.queue import solve_queue
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure, Engine

TIMING = FirmwareTiming(light_cycles=4, enqueue_cycles=1, full_cycles=30, decide_cycles=1)
THRESHOLDS = IntegerThresholds(t_reject=60, t_accept=97, t_full=50, t_overflow=90)


def ticking_clock(
    stream: CrossingStream, thresholds: IntegerThresholds, engine: Engine, timing: FirmwareTiming
) -> tuple[list[bool], dict[int, int], list[int], set[int]]:
    """Decisions, start cycles, FIFO content per crossing and lost objects, cycle after cycle with a FIFO of objects."""
    first = np.append(0, np.cumsum(stream.objects))
    arrivals = {
        b * engine.clock_multiple + timing.light_cycles + timing.enqueue_cycles: b for b in range(len(stream.objects))
    }
    fifo: list[int] = []
    starts: dict[int, int] = {}
    lost: set[int] = set()
    contents, busy = [0] * len(stream.objects), 0
    accepted = [False] * len(stream.objects)
    owner = np.repeat(np.arange(len(stream.objects)), stream.objects)
    for cycle in range(max(arrivals) + 1 + engine.ii_cycles * (engine.fifo_depth + 2)):
        busy = max(0, busy - 1)
        if busy == 0 and fifo:
            starts[fifo.pop(0)] = cycle
            busy = engine.ii_cycles
        if cycle in arrivals:
            b = arrivals[cycle]
            for item in range(first[b], first[b + 1]):
                light = stream.light[item]
                if thresholds.t_accept is not None and light >= thresholds.t_accept:
                    accepted[b] = True
                elif light >= thresholds.t_reject:
                    if busy == 0 and not fifo:
                        starts[item], busy = cycle, engine.ii_cycles
                    elif len(fifo) < engine.fifo_depth:
                        fifo.append(item)
                    else:
                        lost.add(item)
            contents[b] = len(fifo)
    for item in starts:
        if thresholds.t_full is not None and stream.full[item] >= thresholds.t_full:
            accepted[owner[item]] = True
    for item in lost:
        if thresholds.t_overflow is not None and stream.light[item] >= thresholds.t_overflow:
            accepted[owner[item]] = True
    return accepted, starts, contents, lost


def random_stream(seed: int, crossings: int, most: int) -> CrossingStream:
    generator = np.random.default_rng(seed)
    objects = generator.integers(0, most + 1, crossings) * (generator.random(crossings) < 0.7)
    total = int(objects.sum())
    return CrossingStream(
        objects.astype(np.int64), generator.integers(0, 100, total), generator.integers(0, 100, total)
    )


@pytest.mark.parametrize("seed", range(20))
def test_equals_a_clock_that_ticks_through_every_cycle(seed: int) -> None:
    generator = np.random.default_rng(1000 + seed)
    engine = Engine(int(generator.integers(1, 40)), int(generator.integers(1, 13)), int(generator.integers(0, 6)))
    thresholds = [THRESHOLDS, IntegerThresholds(40, None, 80, None), IntegerThresholds(30, 99, None, 60)][seed % 3]
    stream = random_stream(seed, 400, 1 + seed % 5)
    trace = simulate_firmware(stream, thresholds, engine, TIMING)
    accepted, starts, contents, lost = ticking_clock(stream, thresholds, engine, TIMING)
    assert trace.accepted.tolist() == accepted
    assert {i: int(c) for i, c in enumerate(trace.start_cycle) if c != NOT_STARTED} == starts
    assert trace.waiting.tolist() == contents
    assert set(np.flatnonzero(trace.fate == LOST).tolist()) == lost


def test_losses_and_waits_are_those_of_the_exact_queue() -> None:
    beam = BeamStructure.from_filling(named_filling("48b"))
    engine = Engine(27, 9, 1)
    generator = np.random.default_rng(3)
    orbits = 60
    objects = np.tile(beam.filled, orbits).astype(np.int64)
    light = (generator.random(objects.sum()) < 0.2).astype(np.int64)
    stream = CrossingStream(objects, light, np.zeros_like(light))
    trace = simulate_firmware(stream, IntegerThresholds(1, None, 1, None), engine, TIMING)
    exact = solve_queue(beam, Arrivals.single(0.2), engine)
    escalated, lost = trace.counters["escalated"], trace.counters["lost"]
    error = np.sqrt(exact.overflow_per_object / escalated) * 1.5  # losses within a train go together
    assert lost / escalated == pytest.approx(exact.overflow_per_object, abs=4 * error)
    crossing = np.repeat(np.arange(len(objects)), objects)
    started = trace.start_cycle != NOT_STARTED
    waits = trace.start_cycle[started] - (crossing[started] * 9 + TIMING.light_cycles + TIMING.enqueue_cycles)
    assert waits.min() == 0 and waits.max() == exact.worst_wait_cycles
    assert waits.mean() == pytest.approx(exact.mean_wait_cycles, rel=0.03)


def test_every_score_is_there_before_the_fixed_output() -> None:
    stream = random_stream(7, 3000, 6)
    engine = Engine(20, 9, 3)
    trace = simulate_firmware(stream, THRESHOLDS, engine, TIMING)
    crossing = np.repeat(np.arange(len(stream.objects)), stream.objects)
    started = trace.fate == TO_FULL
    taken = trace.score_cycle[started] + TIMING.decide_cycles - 9 * crossing[started]
    assert taken.max() <= trace.output_cycles < taken.max() + 9


def test_refuses_streams_and_timings_that_make_no_sense() -> None:
    with pytest.raises(DataError, match="0 to 16"):
        CrossingStream(np.array([17]), np.zeros(17, np.int64), np.zeros(17, np.int64))
    with pytest.raises(DataError, match="3 objects"):
        CrossingStream(np.array([1, 2]), np.zeros(3, np.int64), np.zeros(2, np.int64))
    with pytest.raises(ConfigError, match="negative"):
        FirmwareTiming(-1, 0, 0, 0)

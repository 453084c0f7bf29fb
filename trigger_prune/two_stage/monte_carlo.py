"""Monte Carlo of the FIFO, to check the exact chain: objects drawn crossing by crossing, in independent streams.

It cannot see losses much below one in the number of objects drawn. numba, where it is installed, only makes it
quicker: the draws are numpy's and everything else is integers, so the numbers are the same without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure, Engine

Ints = NDArray[np.int64]
_Orbit = Callable[[Ints, NDArray[np.int8], Ints, int, int, Ints, Ints, Ints], None]


@dataclass(frozen=True, eq=False)
class SimulatedQueue:
    """Counts per stream, int64 ``(streams,)``; ``wait_counts`` per wait in clock cycles, int64 ``(K x II + 1,)``.

    offered, lost            objects
    crossings                filled crossings per stream
    crossings_with_loss      of these, per stream
    """

    offered: Ints
    lost: Ints
    crossings: int
    crossings_with_loss: Ints
    wait_counts: Ints

    @property
    def overflow_per_object(self) -> float:
        """Share of objects that were lost."""
        return float(self.lost.sum() / self.offered.sum())

    @property
    def overflow_error(self) -> float:
        """Its standard error: crossings of a train vary together, streams do not."""
        residuals = self.lost - self.overflow_per_object * self.offered
        streams = len(residuals)
        return math.sqrt(float(residuals @ residuals) * streams / (streams - 1)) / float(self.offered.sum())

    @property
    def overflow_per_crossing(self) -> float:
        """Share of filled crossings that lost something."""
        return float(self.crossings_with_loss.mean()) / self.crossings

    @property
    def overflow_per_crossing_error(self) -> float:
        """Its standard error, from the spread of the streams."""
        spread = float(np.std(self.crossings_with_loss, ddof=1))
        return spread / math.sqrt(len(self.crossings_with_loss)) / self.crossings


def simulate_queue(
    beam: BeamStructure,
    arrivals: Arrivals,
    engine: Engine,
    orbits: int,
    streams: int = 64,
    seed: int = 0,
    warm_up_orbits: int = 1,
    compiled: bool = True,
) -> SimulatedQueue:
    """``orbits`` periods of the beam in every stream, after ``warm_up_orbits`` that are not counted.

    ``compiled=False`` does without numba; the same seed gives the same numbers. Raises DataError for less than one
    orbit or two streams.
    """
    if orbits < 1 or streams < 2 or warm_up_orbits < 0:
        raise DataError(f"{orbits} orbits in {streams} streams are nothing to count", hint="two streams, one orbit")
    kernel = (_compiled_orbit() if compiled else None) or _orbit_of_arrays
    filled = np.flatnonzero(beam.filled)
    until_next = np.diff(np.append(filled, filled[0] + beam.slots)) * engine.clock_multiple
    edges = np.cumsum(np.asarray(arrivals.batch_probability))[:-1]
    generator = np.random.default_rng(seed)
    work = np.zeros(streams, np.int64)
    counts = np.zeros((3, streams), np.int64)
    waits = np.zeros(engine.wait_bound_cycles + 1, np.int64)
    for orbit in range(warm_up_orbits + orbits):
        if orbit == warm_up_orbits:
            counts[:], waits[:] = 0, 0
        batches = np.searchsorted(edges, generator.random((streams, len(filled))), side="right").astype(np.int8)
        kernel(work, batches, until_next, engine.ii_cycles, engine.fifo_depth, counts[1], counts[2], waits)
        counts[0] += batches.sum(axis=1, dtype=np.int64)
    return SimulatedQueue(counts[0], counts[1], orbits * len(filled), counts[2], waits)


@cache
def _compiled_orbit() -> _Orbit | None:
    """The loop below compiled, None without numba."""
    try:
        numba = import_module("numba")
    except ImportError:
        return None
    compiled: _Orbit = numba.njit(_orbit_of_numbers)
    return compiled


def _orbit_of_numbers(
    work: Ints,
    batches: NDArray[np.int8],
    until_next: Ints,
    ii_cycles: int,
    fifo_depth: int,
    lost: Ints,
    with_loss: Ints,
    waits: Ints,
) -> None:
    """One orbit, stream by stream; ``work`` (cycles), ``lost``, ``with_loss`` and ``waits`` are updated."""
    for stream in range(len(work)):
        left = work[stream]
        for crossing in range(len(until_next)):
            size = np.int64(batches[stream, crossing])
            room = fifo_depth + 1 - (left + ii_cycles - 1) // ii_cycles
            if size > room:
                lost[stream] += size - room
                with_loss[stream] += 1
                size = room
            for _ in range(size):
                waits[left] += 1
                left += ii_cycles
            left -= until_next[crossing]
            if left < 0:
                left = 0
        work[stream] = left


def _orbit_of_arrays(
    work: Ints,
    batches: NDArray[np.int8],
    until_next: Ints,
    ii_cycles: int,
    fifo_depth: int,
    lost: Ints,
    with_loss: Ints,
    waits: Ints,
) -> None:
    """The same crossing by crossing, all streams at once."""
    largest = int(batches.max(initial=0))
    for crossing, cycles in enumerate(until_next):
        size = batches[:, crossing].astype(np.int64)
        room = fifo_depth + 1 + -work // ii_cycles
        accepted = np.minimum(size, room)
        lost += size - accepted
        with_loss += size > room
        for place in range(largest):
            np.add.at(waits, work[accepted > place] + place * ii_cycles, 1)
        work += accepted * ii_cycles - cycles
        np.maximum(work, 0, out=work)

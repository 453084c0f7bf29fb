"""Exact loss, wait and occupancy of the FIFO before a time-shared full model, over one period of the beam.

Time runs in clock cycles. All escalated objects of a crossing come to the FIFO at its first cycle, in their order (the
light model's latency shifts all crossings alike). The engine takes the oldest waiting object every II cycles; what it
takes at a cycle frees its place for an object that arrives at that cycle. An object that finds K others waiting and the
engine taken is lost to the full model. ``K`` counts waiting places only. The wait is the time from the crossing to the
engine's start; under FIFO order an object waits for all the work it finds, and for the members of its own batch before
it, so no wait exceeds K x II.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.two_stage.chain import Chain
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure, Engine

Floats = NDArray[np.float64]

CONVERGED = 1e-10
"""Relative change of the probability of every state, from one orbit to the next, that counts as none."""

NEVER = 1e-60
"""States of smaller probability may change: no accelerator runs for so long."""

LOSS_CONVERGED = 1e-6
"""Relative change of the loss that counts as none where the engine never rests."""

MAX_ORBITS = 500

MAX_ELIMINATED = 20_000
"""States up to which continuous beam is solved by elimination instead of orbit by orbit."""


@dataclass(frozen=True, eq=False)
class QueueResult:
    """What the FIFO does in the stationary state.

    batch_probability      arrivals for which this was solved: probability of 0, 1, 2, ... objects in a filled crossing
    objects_per_crossing   escalated objects per filled crossing
    overflow_per_object    probability that an escalated object is lost
    overflow_per_crossing  probability that a filled crossing loses at least one object
    room_probability       float64 ``(K + 2,)``: probability that a filled crossing finds room for exactly 0 .. K + 1
                           objects
    wait_step_cycles       unit of ``wait_probability``
    wait_probability       float64: probability that an object that was not lost waits ``index x wait_step_cycles``
    worst_wait_cycles      longest wait that can happen; at most ``Engine.wait_bound_cycles``
    offered_load           work that filled crossings bring, per cycle; the FIFO overflows for long trains above 1
    utilisation            fraction of all cycles of the orbit in which the engine is taken
    mean_waiting           float64 ``(slots,)``: mean number of waiting objects right after the arrivals of every slot
    overflow_by_slot       float64 ``(slots,)``: probability that an object escalated in this slot is lost; 0 in gaps
    orbits                 orbits until the state repeated itself; 0 where it was solved directly
    """

    batch_probability: tuple[float, ...]
    objects_per_crossing: float
    overflow_per_object: float
    overflow_per_crossing: float
    room_probability: Floats
    wait_step_cycles: int
    wait_probability: Floats
    worst_wait_cycles: int
    offered_load: float
    utilisation: float
    mean_waiting: Floats
    overflow_by_slot: Floats
    orbits: int

    @property
    def mean_wait_cycles(self) -> float:
        """Mean wait of an object that was not lost."""
        return float(self.wait_probability @ np.arange(len(self.wait_probability))) * self.wait_step_cycles

    def wait_quantile_cycles(self, probability: float) -> int:
        """Shortest time within which this share (0 < share <= 1) of the objects that were not lost starts."""
        reached = np.cumsum(self.wait_probability) >= probability * (1 - 1e-12)
        return int(np.argmax(reached) if reached.any() else len(reached) - 1) * self.wait_step_cycles


@dataclass
class _Sums:
    """What is collected along one orbit that starts behind its longest gap."""

    work: Floats
    mean_waiting: Floats
    lost: Floats


def solve_queue(beam: BeamStructure, arrivals: Arrivals, engine: Engine) -> QueueResult:
    """Stationary behaviour, exact up to rounding.

    A gap that empties a full FIFO makes one orbit enough; otherwise orbits follow each other until nothing changes.
    Continuous beam is one linear system. An engine with more work than an orbit has cycles may never rest and then
    keeps its phase to the crossings for ever, depending on how the beam began: such a useless design is averaged over
    the orbits after which the phase repeats, for a beam that came some orbits ago. Raises DataError when the state
    never settles.
    """
    chain = Chain.of(arrivals, engine)
    first, runs = beam.runs()
    sums = _Sums(np.zeros(chain.size), np.zeros(beam.slots), np.zeros(beam.slots))
    if len(runs) == 1 and chain.steady_states <= MAX_ELIMINATED:
        _count(chain, chain.steady()[None], slice(0, beam.slots), sums, beam.slots)
        return _result(chain, engine, beam, sums, first, orbits=0)
    state, orbits = chain.empty(), 0
    gap = 0 if runs[-1][0] else runs[-1][1]
    settled = (gap + 1) * chain.drain >= chain.most_work
    restless = least_overflow(beam, arrivals, engine) > 0
    period = chain.service // math.gcd(beam.slots * chain.drain, chain.service) if restless else 1
    before = -1.0
    while True:
        sums = _Sums(np.zeros(chain.size), np.zeros(beam.slots), np.zeros(beam.slots))
        after = state
        for _ in range(period):
            after = _orbit(chain, after, runs, sums)
        orbits += period
        sums = _Sums(*(values / period for values in vars(sums).values()))
        change = np.abs(after - state)
        loss = float(sums.lost.sum())
        repeats = restless and abs(loss - before) <= LOSS_CONVERGED * loss
        if settled or repeats or (change <= CONVERGED * after + NEVER).all():
            return _result(chain, engine, beam, sums, first, orbits)
        if orbits >= MAX_ORBITS:
            raise DataError(
                f"the queue changes by {change.sum():.2g} from orbit to orbit, even after {orbits} orbits",
                hint="the load is so close to 1 that no FIFO helps: take a faster engine or raise t_reject",
            )
        state, before = after, loss


def least_overflow(beam: BeamStructure, arrivals: Arrivals, engine: Engine) -> float:
    """Loss per object that no FIFO can avoid: the engine starts one object per II, 0 where that is enough."""
    offered = arrivals.mean * beam.n_filled * engine.ii_cycles
    return max(0.0, 1 - beam.slots * engine.clock_multiple / offered)


def _orbit(chain: Chain, state: Floats, runs: tuple[tuple[bool, int], ...], sums: _Sums) -> Floats:
    """The state behind one orbit; what happened on the way is added to ``sums``."""
    slot = 0
    for filled, length in runs:
        if not filled:
            sums.mean_waiting[slot : slot + length] += _waiting_in_gap(chain, state, length)
            state = chain.rest(state, length)
            slot += length
            continue
        for states in chain.filled(state, length):
            n = len(states) - 1
            _count(chain, states[:-1], slice(slot, slot + n), sums, 1)
            slot += n
            state = states[-1]
    return state


def _count(chain: Chain, states: Floats, slots: slice, sums: _Sums, times: int) -> None:
    """Add filled crossings with these states ``(n, size)``, each counted ``times`` times, to the sums."""
    sums.work += times * states.sum(axis=0)
    rows = states.reshape(len(states), chain.levels, chain.service).sum(axis=2)
    sums.lost[slots] += rows @ chain.lost
    sums.mean_waiting[slots] += (rows @ chain.move) @ np.maximum(np.arange(chain.levels) - 1, 0)


def _waiting_in_gap(chain: Chain, state: Floats, length: int) -> Floats:
    """Mean number of waiting objects in empty slots: more than j wait where the work exceeds (j + 1) services."""
    above = np.append(np.cumsum(state[::-1])[::-1], 0.0)
    passed = np.arange(length)[:, None] * chain.drain + np.arange(1, chain.levels) * chain.service
    waiting: Floats = above[np.minimum(passed + chain.service, chain.size)].sum(axis=1)
    return waiting


def _result(chain: Chain, engine: Engine, beam: BeamStructure, sums: _Sums, first: int, orbits: int) -> QueueResult:
    filled = beam.n_filled
    work = (sums.work / filled).reshape(chain.levels, chain.service)
    rows = work.sum(axis=1)
    mean = float(np.arange(len(chain.batch)) @ chain.batch)
    # the j-th object of a batch waits j services longer than the work it finds, if there is room for it
    at_least = np.cumsum(chain.batch[::-1])[::-1][1:]
    waits = np.zeros_like(work)
    for place, probability in enumerate(at_least[: chain.levels - 1]):
        waits[place:-1] += probability * work[: chain.levels - 1 - place]
    accepted = float(waits.sum())
    by_wait = waits.ravel()[chain.service - 1 : chain.service * (chain.levels - 1)] / accepted
    lost = np.roll(sums.lost, first)
    return QueueResult(
        batch_probability=tuple(float(x) for x in chain.batch),
        objects_per_crossing=mean,
        overflow_per_object=float(rows @ chain.lost) / mean,
        overflow_per_crossing=float(rows @ chain.any_lost),
        room_probability=rows[::-1].copy(),
        wait_step_cycles=engine.work_unit_cycles,
        wait_probability=by_wait,
        worst_wait_cycles=int(np.flatnonzero(by_wait)[-1]) * engine.work_unit_cycles,
        offered_load=mean * chain.service / chain.drain,
        utilisation=accepted * chain.service * filled / (beam.slots * chain.drain),
        mean_waiting=np.roll(sums.mean_waiting, first),
        overflow_by_slot=lost / mean,
        orbits=orbits,
    )

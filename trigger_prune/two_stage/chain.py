"""The Markov chain behind the queue: probabilities of unfinished work, moved from crossing to crossing.

State: unfinished work ``u`` at the start of a crossing, before its objects arrive, in units of
gcd(II, cycles per crossing): so long until the engine can start another object. With ``s`` units of service, ``d``
units per crossing and FIFO depth K, ``ceil(u / s)`` objects still block and ``K + 1 - ceil(u / s)`` may come.

Layout: u has index ``u + s - 1`` in a vector of ``(K + 2) s`` numbers. Seen as a matrix of K + 2 rows, the row is then
ceil(u / s), an arriving batch moves whole rows down, and the passing of time shifts the flat vector. The arithmetic
adds positive numbers only, so that losses of 1e-20 are as exact, relatively, as losses of 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.two_stage.traffic import Arrivals, Engine

Floats = NDArray[np.float64]

CHUNK_NUMBERS = 1 << 18
"""States of consecutive crossings are kept in blocks of about this many numbers."""

PRODUCT_PER_SHIFT = 16_000
"""Multiplications of the row product that take as long as one shift of all rows: the quicker way is taken."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Constant parts of the chain.

    service, drain     work of one object, work done per crossing, in units of ``Engine.work_unit_cycles``
    levels             K + 2, the number of rows
    batch              float64 ``(k,)``: probability of every batch size
    move               float64 ``(levels, levels)``: from row ``ceil(u / s)`` to the row after the arrivals
    lost, any_lost     float64 ``(levels,)``: mean number of lost objects, probability to lose one, from every row
    """

    service: int
    drain: int
    levels: int
    batch: Floats
    move: Floats
    lost: Floats
    any_lost: Floats

    @classmethod
    def of(cls, arrivals: Arrivals, engine: Engine) -> Chain:
        """The chain of an engine under these arrivals."""
        unit, levels = engine.work_unit_cycles, engine.fifo_depth + 2
        batch = np.trim_zeros(np.asarray(arrivals.batch_probability, np.float64), "b")
        move = np.zeros((levels, levels))
        lost, any_lost = np.zeros(levels), np.zeros(levels)
        for row in range(levels):
            room = levels - 1 - row
            for size, probability in enumerate(batch):
                move[row, row + min(size, room)] += probability
                lost[row] += probability * max(size - room, 0)
                any_lost[row] += probability * (size > room)
        return cls(engine.ii_cycles // unit, engine.clock_multiple // unit, levels, batch, move, lost, any_lost)

    @property
    def size(self) -> int:
        """Numbers in a state vector."""
        return self.levels * self.service

    @property
    def most_work(self) -> int:
        """Work right after the arrivals that fill the FIFO."""
        return (self.levels - 1) * self.service

    @property
    def steady_states(self) -> int:
        """States at the start of a crossing under continuous beam, 0 .. most_work - drain."""
        return max(self.most_work - self.drain, 0) + 1

    def empty(self) -> Floats:
        """The state without work."""
        state = np.zeros(self.size)
        state[self.service - 1] = 1.0
        return state

    def rest(self, state: Floats, crossings: int) -> Floats:
        """``state`` after so many crossings in which nothing arrives."""
        time = min(crossings * self.drain, self.size - self.service)
        after = np.zeros(self.size)
        after[self.service - 1] = state[: self.service + time].sum()
        after[self.service : self.size - time] = state[self.service + time :]
        return after

    def arrive(self, states: Floats, out: Floats) -> None:
        """Add the arrivals of one crossing to a state seen as ``(levels, service)``."""
        if self.levels * self.size <= PRODUCT_PER_SHIFT * (len(self.batch) - 1):
            np.dot(self.move.T, states, out=out)
            return
        np.multiply(states, self.batch[0], out=out)
        last = self.levels - 1
        for size, probability in enumerate(self.batch[1:], 1):
            kept = max(self.levels - size, 0)
            out[self.levels - kept :] += probability * states[:kept]
            out[last] += probability * states[kept:].sum(axis=0)

    def filled(self, state: Floats, crossings: int) -> Iterator[Floats]:
        """States at the start of consecutive filled crossings, in blocks ``(n + 1, size)``.

        The last row of a block is the state behind its crossings, thus the first of the next block.
        """
        block = max(1, min(crossings, CHUNK_NUMBERS // self.size))
        after = np.zeros(self.size)
        after_rows = after.reshape(self.levels, self.service)
        done, left = after[: self.service + self.drain], after[self.service + self.drain :]
        while crossings:
            now = min(block, crossings)
            states = np.zeros((now + 1, self.size))
            states[0] = state
            rows = states.reshape(now + 1, self.levels, self.service)
            target = states[:, self.service : self.service + len(left)]
            for i in range(now):
                self.arrive(rows[i], after_rows)
                states[i + 1, self.service - 1] = np.add.reduce(done)
                if len(left):
                    target[i + 1] = left
            yield states
            state, crossings = states[now], crossings - now

    def steady(self) -> Floats:
        """Stationary state under continuous beam, by elimination of states from the top.

        Grassmann, Taksar and Heyman, Operations Research 33 (1985) 1107: no subtraction, hence full relative
        precision. Raises DataError when the FIFO, once full, never empties again.
        """
        service, drain, top = self.service, self.drain, self.steady_states - 1
        reach = max((len(self.batch) - 1) * service - drain, 0)
        # rows of a band matrix, drain entries left of the diagonal and reach right of it, seen as the whole matrix
        band = np.zeros((top + 1) * (drain + reach + 1))
        matrix = as_strided(band, (top + 1, top + 1), ((drain + reach) * band.itemsize, band.itemsize))
        work = np.arange(top + 1)
        room = self.levels - 1 - -(-work // service)
        for size, probability in enumerate(self.batch):
            after = np.maximum(work + np.minimum(size, room) * service - drain, 0)
            np.add.at(matrix, (work, after), probability)
        for n in range(top, 0, -1):
            low, high = max(0, n - drain), max(0, n - reach)
            leaving = float(matrix[n, low:n].sum())
            if not leaving > 0:
                raise DataError(
                    "every crossing sends more work than the engine does in one: the FIFO stays full for ever",
                    hint="raise t_reject, or take an engine with a shorter initiation interval",
                )
            column = matrix[high:n, n] / leaving
            matrix[high:n, n] = column
            matrix[high:n, low:n] += column[:, None] * matrix[n, low:n]
        steady = np.zeros(top + 1)
        steady[0] = 1.0
        for n in range(1, top + 1):
            high = max(0, n - reach)
            steady[n] = steady[high:n] @ matrix[high:n, n]
        state = np.zeros(self.size)
        state[service - 1 : service + top] = steady / steady.sum()
        return state

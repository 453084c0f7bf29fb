"""What can happen to a crossing in the two-stage trigger, and with which probability.

A crossing whose n escalated objects find room for m < n: the first m are judged by the full model, the others by their
light score and t_overflow. Room is shared by the objects of a crossing, so a crossing has n + 1 outcomes, not 2^n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.two_stage.sample import TwoStageSample

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Every outcome that may pass, arrays ``(outcomes,)``.

    row              int64: the row of the sample
    full             best full score among the objects that found room; inf where an object was accepted at once, -inf
                     where none found room
    overflow_light   best light score among the objects that did not; -inf where all did
    room             int64: objects that found room
    enough           bool: room for at least so many objects, otherwise for exactly so many
    """

    row: NDArray[np.int64]
    full: Floats
    overflow_light: Floats
    room: NDArray[np.int64]
    enough: NDArray[np.bool_]

    def probability(self, rooms: Floats) -> Floats:
        """Probability of every outcome of its row; ``rooms[m]`` is the probability of room for exactly m objects."""
        exactly = np.zeros(max(len(rooms), int(self.room.max(initial=0)) + 1))
        exactly[: len(rooms)] = rooms
        # not one minus the others: a loss of 1e-12 is to stay one
        at_least = np.cumsum(exactly[::-1])[::-1]
        at_least[0] = 1.0
        return np.where(self.enough, at_least[self.room], exactly[self.room])

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Outcomes:
        """Some of the outcomes."""
        return Outcomes(
            self.row[which], self.full[which], self.overflow_light[which], self.room[which], self.enough[which]
        )


def outcomes_of(sample: TwoStageSample, t_reject: float, t_accept: float) -> Outcomes:
    """All outcomes of all rows that are not rejected: reject below ``t_reject``, accept at once from ``t_accept`` on.

    Every object goes its own way; a crossing that one object has accepted at once passes whatever the others do.
    """
    accepted = np.unique(sample.row[sample.light >= t_accept])
    objects = np.flatnonzero(sample.escalates(t_reject, t_accept) & ~np.isin(sample.row, accepted))
    rows, index, counts = np.unique(sample.row[objects], return_inverse=True, return_counts=True)
    largest = int(counts.max(initial=0))
    full, light = np.full((len(rows), largest + 1), -np.inf), np.full((len(rows), largest + 1), -np.inf)
    place = np.arange(len(objects)) - (np.cumsum(counts) - counts)[index]
    full[index, place + 1] = sample.full[objects]
    light[index, place] = sample.light[objects]
    best_full = np.maximum.accumulate(full, axis=1)
    best_light = np.maximum.accumulate(light[:, ::-1], axis=1)[:, ::-1]
    at, room = np.nonzero(np.arange(largest + 1) <= counts[:, None])
    none = np.full(len(accepted), -np.inf)
    return Outcomes(
        np.concatenate([accepted, rows[at]]),
        np.concatenate([-none, best_full[at, room]]),
        np.concatenate([none, best_light[at, room]]),
        np.concatenate([np.zeros(len(accepted), np.int64), room]),
        np.concatenate([np.ones(len(accepted), np.bool_), room == counts[at]]),
    )

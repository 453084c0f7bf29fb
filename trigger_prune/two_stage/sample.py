"""``TwoStageSample``: events under a light and a full score, with one or several objects per crossing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.ranking import check_weighted_scores
from trigger_prune.physics.scored_events import BACKGROUND, ScoredEvents
from trigger_prune.two_stage.queue import QueueResult
from trigger_prune.two_stage.traffic import MAX_BATCH, Arrivals

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TwoStageSample:
    """What both models say of every object, and what every row (a crossing, or an object) weighs.

    light, full     float64 ``(objects,)``: scores; ``>= threshold`` passes
    row             int64 ``(objects,)``: the row of every object, in ascending order; objects of one row stand in the
                    order in which the firmware sends them to the FIFO
    signal          int64 ``(rows,)``: -1 for background, else the index of the signal process
    weights         float64 ``(rows,)``: of background the rate in Hz, of signal relative
    groups          int64 ``(rows,)``: rows made from one generated collision share a number
    signal_names    one per signal process
    multiplicity    None: a row is a filled crossing with the objects that it has (one event score: one object). A row
                    passes when any of its objects does; rates count crossings.
                    Otherwise a row is one object and ``multiplicity[n]`` the probability of n objects in a filled
                    crossing, each escalated on its own. Rates count objects, in the unit of the weights: with weights
                    that add up to 1, a target of 0.01 is 1 % background efficiency. Its losses are those of the mean
                    place in a batch, taken as independent of the score.

    Raises DataError where these do not fit each other, scores or weights are not finite, a row has more than 16
    objects, or background or a signal process has no weight.
    """

    light: Floats
    full: Floats
    row: NDArray[np.int64]
    signal: NDArray[np.int64]
    weights: Floats
    groups: NDArray[np.int64]
    signal_names: tuple[str, ...]
    multiplicity: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object_weights = self.weights[self._checked_rows()]
        check_weighted_scores(self.light, object_weights, "light score")
        check_weighted_scores(self.full, object_weights, "full score")
        # events of equal score serve to check the rows as everywhere else
        ScoredEvents(np.zeros(len(self.weights)), self.signal, self.weights, self.groups, self.signal_names)
        if int(np.bincount(self.row).max()) > MAX_BATCH:
            row = int(np.bincount(self.row).argmax())
            raise DataError(f"row {row} has {np.bincount(self.row).max()} objects; at most {MAX_BATCH} are foreseen")
        if self.multiplicity is not None and not np.array_equal(self.row, np.arange(len(self.weights))):
            raise DataError("with a multiplicity every row is one object", hint="give row = 0, 1, 2, ...")

    def _checked_rows(self) -> NDArray[np.int64]:
        ordered = len(self.row) > 0 and self.row.ndim == 1 and bool((np.diff(self.row) >= 0).all())
        if not ordered or self.row[0] < 0 or self.row[-1] >= len(self.weights):
            raise DataError(f"the rows of the objects must ascend from 0 to at most {len(self.weights) - 1}")
        if not self.light.shape == self.full.shape == self.row.shape:
            raise DataError(
                f"{self.light.shape} light scores, {self.full.shape} full scores and {self.row.shape} rows do not match"
            )
        return self.row

    @classmethod
    def from_events(
        cls, light: ScoredEvents, full: ScoredEvents, multiplicity: tuple[float, ...] | None = None
    ) -> TwoStageSample:
        """One object per row. Raises DataError unless both are scores of the same events."""
        same = light.signal_names == full.signal_names and all(
            np.array_equal(getattr(light, name), getattr(full, name)) for name in ("signal", "weights", "groups")
        )
        if not same:
            raise DataError("the light and the full model were not scored on the same events")
        return cls(
            light.scores.astype(np.float64),
            full.scores.astype(np.float64),
            np.arange(len(light.scores)),
            light.signal,
            light.weights,
            light.groups,
            light.signal_names,
            multiplicity,
        )

    @property
    def background(self) -> NDArray[np.bool_]:
        """bool ``(rows,)``."""
        mask: NDArray[np.bool_] = self.signal == BACKGROUND
        return mask

    @property
    def background_weight(self) -> float:
        """Sum of the background weights: the rate of filled crossings (or of objects)."""
        return float(self.weights[self.background].sum())

    def process(self, signal_name: str) -> int:
        """Index of a signal process. Raises DataError for an unknown one."""
        if signal_name not in self.signal_names:
            raise DataError(
                f"no signal is called {signal_name!r}", hint=f"there are {', '.join(self.signal_names) or 'none'}"
            )
        return self.signal_names.index(signal_name)

    def best(self, scores: Floats) -> Floats:
        """Largest score of every row, float64 ``(rows,)``; -inf for a row without objects."""
        found = np.full(len(self.weights), -np.inf)
        np.maximum.at(found, self.row, scores)
        return found

    def escalates(self, t_reject: float, t_accept: float) -> NDArray[np.bool_]:
        """Which objects go to the full model, bool ``(objects,)``."""
        mask: NDArray[np.bool_] = (self.light >= t_reject) & (self.light < t_accept)
        return mask

    def escalated_rows(self, t_reject: float, t_accept: float) -> NDArray[np.int64]:
        """Number of escalated objects of every row, int64 ``(rows,)``."""
        return np.bincount(self.row[self.escalates(t_reject, t_accept)], minlength=len(self.weights))

    def arrivals(self, t_reject: float, t_accept: float) -> Arrivals:
        """Escalated objects per filled crossing, from the background (signal is too rare to load the queue).

        Raises DataError when nothing is escalated.
        """
        counts = self.escalated_rows(t_reject, t_accept)[self.background]
        shares = np.bincount(counts, self.weights[self.background]) / self.background_weight
        if self.multiplicity is not None:
            return Arrivals.thinned(self.multiplicity, float(shares[1:].sum()))
        return Arrivals((max(0.0, 1.0 - float(shares[1:].sum())), *(float(x) for x in shares[1:])))

    def rooms(self, queue: QueueResult) -> Floats:
        """Probability that a row's escalated objects find room for exactly 0, 1, 2, ... of them."""
        if self.multiplicity is None:
            return queue.room_probability
        return np.array([queue.overflow_per_object, 1 - queue.overflow_per_object])

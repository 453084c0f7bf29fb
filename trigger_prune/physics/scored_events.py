"""``ScoredEvents``: what every rate metric needs to know of a sample under one score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.ranking import check_weighted_scores

BACKGROUND = -1
"""Value of ``ScoredEvents.signal`` for background rows."""


@dataclass(frozen=True)
class ScoredEvents:
    """Events with one trigger score, weighted background and any number of signal processes.

    scores         float64 or float32 ``(n,)``: ``score >= threshold`` passes
    signal         int64 ``(n,)``: -1 for background, otherwise the index of the signal process
    weights        float64 ``(n,)``: Hz for background (its sum is the rate of filled bunch crossings in every
                   sample, validation and test alike), relative for signal
    groups         int64 ``(n,)``: rows made from one generated collision share a number
    signal_names   one per signal process

    Raises DataError, naming the row, on values that are not finite, negative weights, an index without a name, and
    when the background or a signal process has no weight.
    """

    scores: NDArray[np.floating]
    signal: NDArray[np.int64]
    weights: NDArray[np.float64]
    groups: NDArray[np.int64]
    signal_names: tuple[str, ...]

    def __post_init__(self) -> None:
        check_weighted_scores(self.scores, self.weights)
        for name in ("signal", "groups"):
            if getattr(self, name).shape != self.scores.shape:
                raise DataError(f"{name} has shape {getattr(self, name).shape} for {len(self.scores)} scores")
        outside = (self.signal < BACKGROUND) | (self.signal >= len(self.signal_names))
        if outside.any():
            row = int(np.argmax(outside))
            raise DataError(
                f"signal of row {row} is {self.signal[row]}; it is -1 for background or the index of one of "
                f"{len(self.signal_names)} signal processes"
            )
        if not self.signal_names:
            raise DataError("no signal process is named: an efficiency needs one")
        sums = np.bincount(self.signal + 1, self.weights, minlength=len(self.signal_names) + 1)
        if not sums.all():
            empty = ("background", *self.signal_names)[int(np.argmin(sums))]
            raise DataError(f"no events with weight of {empty}")

    def rows(self, process: int) -> NDArray[np.int64]:
        """Row numbers of a signal process, or of the background (-1)."""
        return np.flatnonzero(self.signal == process)

    def part(self, process: int) -> tuple[NDArray[np.floating], NDArray[np.float64], NDArray[np.int64]]:
        """Scores, weights and groups of one process (-1: background)."""
        rows = self.rows(process)
        return self.scores[rows], self.weights[rows], self.groups[rows]

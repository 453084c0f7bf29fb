"""The signal efficiency in every resample: what passes is summed per score around the threshold, one sparse product.

Only events above the threshold, or so near that some resample has it among them, matter: of a trigger at one per cent
background a twentieth of all. Each is one entry of a sparse matrix of operating points and collisions, whose product
with the matrix of counts is the weight that every operating point adds in every resample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from trigger_prune.sensitivity.rank_figures import Ranked

_WINDOW_SIGMA = 6.0
_VALUES_AT_ONCE = 2**24
"""Operating points times resamples summed at once (128 MiB for signal and background)."""


@dataclass(frozen=True, eq=False)
class Window:
    """The events of one ranking that can pass near the threshold, and the operating points they make.

    rows     int64 ``(m,)``: events
    points   int64 ``(m,)``: the operating point of each, from the tightest on; point 0 is that of all events that pass
             in every resample, and adds nothing where there are none
    count    operating points
    """

    rows: NDArray[np.int64]
    points: NDArray[np.int64]
    count: int


def threshold_window(ranked: Ranked, fraction: float, effective_background: float) -> Window:
    """Scores down to six standard deviations of the background efficiency below ``fraction``; those that are six above
    it are one operating point."""
    spread = _WINDOW_SIGMA * (math.sqrt(fraction / effective_background) + 2.0 / effective_background)
    n = len(ranked.passing)
    # positions counted from the highest score
    first = int(np.searchsorted(ranked.passing, fraction - spread, side="left"))
    last = min(n - 1, int(np.searchsorted(ranked.passing, fraction + spread, side="right")))
    low, high = n - 1 - last, n - 1 - first
    rows = np.flatnonzero(ranked.bins >= low)
    # a grid may have many more scores than events: only those that occur are operating points
    occurs = ((ranked.signal[low : high + 1] != 0) | (ranked.background[low : high + 1] != 0))[::-1]
    numbers = np.zeros(n - low, np.int64)
    numbers[high - low :: -1] = np.cumsum(occurs)
    return Window(rows, numbers[ranked.bins[rows] - low], int(occurs.sum()) + 1)


@dataclass(frozen=True, eq=False)
class DrawnEvents:
    """Events and how often they are drawn.

    counts     ``(collisions, R)``: of each collision in each resample
    columns    int64 ``(n,)``: the collision of each event; None: each is its own
    positive   bool ``(n,)``, weights float64 ``(n,)``: the signal, and what events count
    """

    counts: NDArray[np.float32]
    columns: NDArray[np.int64] | None
    positive: NDArray[np.bool_]
    weights: NDArray[np.float64]


def resampled_efficiencies(
    windows: Sequence[Window], events: DrawnEvents, totals: NDArray[np.float64], fraction: float
) -> NDArray[np.float64]:
    """Signal efficiency at background efficiency ``fraction``, of every window in every resample: ``(windows, R)``.

    It is on the line between neighbouring operating points, as ``rank_figures.efficiency_at`` has it.

    totals   ``(2, R)``: weight of all signal and of all background
    """
    replicas = events.counts.shape[1]
    found = np.empty((len(windows), replicas))
    most = max(1, _VALUES_AT_ONCE // replicas)
    start = 0
    while start < len(windows):
        ends = np.cumsum([window.count for window in windows[start:]])
        some = windows[start : start + max(1, int(np.searchsorted(ends, most, side="right")))]
        kept, passing = _summed(some, events)
        edges = [0, *ends.tolist()]
        for number, points in enumerate(slice(*edge) for edge in pairwise(edges[: len(some) + 1])):
            signal = np.cumsum(kept[points], axis=0, dtype=np.float64)
            background = np.cumsum(passing[points], axis=0, dtype=np.float64)
            found[start + number] = _on_the_line(signal, background, fraction * totals[1]) / totals[0]
        start += len(some)
    return found


def _summed(windows: Sequence[Window], events: DrawnEvents) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Signal and background that every operating point adds, window after window, ``(points, R)`` each."""
    first = np.cumsum([0] + [window.count for window in windows])
    rows = np.concatenate([window.rows for window in windows])
    points = np.concatenate([window.points + start for window, start in zip(windows, first[:-1], strict=True)])
    # background points stand behind all signal points
    points += np.where(events.positive[rows], 0, first[-1])
    drawn = rows if events.columns is None else events.columns[rows]
    entries = events.weights[rows].astype(np.float32)
    matrix = coo_array((entries, (points, drawn)), shape=(2 * first[-1], len(events.counts))).tocsr()
    added = matrix @ events.counts
    return added[: first[-1]], added[first[-1] :]


def _on_the_line(
    kept: NDArray[np.float64], passing: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Signal where the background is ``target`` ``(R,)``; both ``(points, R)`` from the tightest threshold on."""
    resample = np.arange(len(target))
    start = np.maximum((passing <= target).sum(axis=0) - 1, 0)
    stop = np.minimum(start + 1, len(passing) - 1)
    step = passing[stop, resample] - passing[start, resample]
    share = np.divide(target - passing[start, resample], step, out=np.zeros(len(target)), where=step > 0)
    low, high = kept[start, resample], kept[stop, resample]
    result: NDArray[np.float64] = low + np.clip(share, 0.0, 1.0) * (high - low)
    return result

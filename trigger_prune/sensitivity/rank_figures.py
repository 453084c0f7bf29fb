"""AUC and signal efficiency from counts per score: integer scores take few values, so nothing is sorted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError

_MOST_FRACTION_BITS = 24
_BINS_PER_EVENT = 8
_FEWEST_BINS = 1 << 16
_WINDOW_SIGMA = 6.0


@dataclass(frozen=True, eq=False)
class Ranked:
    """Events by score: the bin of each (a higher score, a higher bin; equal scores share one) and sums per bin."""

    bins: NDArray[np.int64]
    signal: NDArray[np.float64]
    background: NDArray[np.float64]


def grid_fraction(scores: NDArray[np.floating]) -> int | None:
    """Fraction bits of the coarsest power-of-two grid that holds all scores; None when 24 do not do."""
    values = np.asarray(scores, np.float64).ravel()
    if not np.isfinite(values).all():
        return None
    for fraction in range(_MOST_FRACTION_BITS + 1):
        scaled = np.ldexp(values, fraction)
        if (scaled == np.rint(scaled)).all():
            return fraction
    return None


def rank_events(
    scores: NDArray[np.floating], signal: NDArray[np.float64], background: NDArray[np.float64], fraction: int | None
) -> Ranked:
    """Rank events by float scores ``(n,)`` with their weights as signal and as background.

    fraction   of the grid the scores are expected on; scores off it, or spread too widely, are sorted
    """
    values = np.asarray(scores, np.float64)
    bins: NDArray[np.int64] | None = None
    if fraction is not None:
        scaled = np.ldexp(values, fraction)
        low, high = scaled.min(initial=0.0), scaled.max(initial=0.0)
        if high - low < max(_FEWEST_BINS, _BINS_PER_EVENT * len(values)):
            codes = (scaled - low).astype(np.int64)
            if (codes == scaled - low).all():
                bins = codes
    if bins is None:
        bins = np.unique(values, return_inverse=True)[1].astype(np.int64)
    n = int(bins.max(initial=0)) + 1
    sums = [np.bincount(bins, weights, minlength=n).astype(np.float64, copy=False) for weights in (signal, background)]
    return Ranked(bins, *sums)


def area(ranked: Ranked) -> float:
    """AUC, ties counting half. Raises DataError when signal or background has no weight."""
    signal, background = _totals(ranked)
    beaten = np.cumsum(ranked.background) - ranked.background / 2
    return float(ranked.signal @ beaten / (signal * background))


def area_influence(
    ranked: Ranked, value: float, signal: NDArray[np.float64], background: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Influence of every event on the AUC, float64 ``(n,)``: the derivative by its own multiplicity.

    ``value`` plus the sum of ``(count - 1) * influence`` is the AUC of a resample to first order; summed squares per
    collision are DeLong's variance (Biometrics 44 (1988) 837; physics/auc.py) up to n / (n - 1).
    """
    signal_sum, background_sum = _totals(ranked)
    beaten = (np.cumsum(ranked.background) - ranked.background / 2) / background_sum - value
    above = 1 - (np.cumsum(ranked.signal) - ranked.signal / 2) / signal_sum - value
    influence: NDArray[np.float64] = (
        signal / signal_sum * beaten[ranked.bins] + background / background_sum * above[ranked.bins]
    )
    return influence


def efficiency_at(ranked: Ranked, fraction: float) -> float:
    """Signal efficiency where the background efficiency is ``fraction``, on the line between neighbouring thresholds.

    The same as ``signal_efficiency_at(roc_curve(...), fraction)`` of physics/roc.py.
    """
    _totals(ranked)
    passing = np.append(0.0, np.cumsum(ranked.background[::-1]))
    kept = np.append(0.0, np.cumsum(ranked.signal[::-1]))
    passing, kept = passing / passing[-1], kept / kept[-1]
    start = int(np.searchsorted(passing, fraction, side="right")) - 1
    if start == len(passing) - 1:
        return float(kept[-1])
    share = (fraction - passing[start]) / (passing[start + 1] - passing[start])
    return float(kept[start] + share * (kept[start + 1] - kept[start]))


@dataclass(frozen=True, eq=False)
class Window:
    """The events whose place beside the threshold differs between resamples, from the highest score down.

    rows           int64 ``(m,)``; starts: where a new score begins among them
    surely_above   bool ``(n,)``: events that pass in every resample
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    surely_above: NDArray[np.bool_]


def threshold_window(ranked: Ranked, fraction: float, effective_background: float) -> Window:
    """Scores within six standard deviations of the background efficiency around ``fraction``."""
    _, background = _totals(ranked)
    spread = _WINDOW_SIGMA * (math.sqrt(fraction / effective_background) + 2.0 / effective_background)
    passing = np.cumsum(ranked.background[::-1]) / background
    n = len(passing)
    # positions counted from the highest score
    first = int(np.searchsorted(passing, fraction - spread, side="left"))
    last = min(n - 1, int(np.searchsorted(passing, fraction + spread, side="right")))
    low, high = n - 1 - last, n - 1 - first
    inside = np.flatnonzero((ranked.bins >= low) & (ranked.bins <= high))
    order = inside[np.argsort(-ranked.bins[inside], kind="stable")]
    ordered = ranked.bins[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(order) else np.zeros(0, np.int64)
    return Window(order, starts, ranked.bins > high)


def resampled_efficiency(
    window: Window,
    counts: NDArray[np.float32],
    signal: NDArray[np.float64],
    background: NDArray[np.float64],
    above: tuple[NDArray[np.float64], NDArray[np.float64]],
    totals: tuple[NDArray[np.float64], NDArray[np.float64]],
    fraction: float,
) -> NDArray[np.float64]:
    """Efficiency in every resample, ``(R,)``.

    counts   ``(m, R)``: how often each event of the window is drawn
    above    signal and background ``(R,)`` of the events that surely pass; totals of all events
    """
    # operating points from the tightest threshold of the window to its loosest, (points, R)
    kept, passing = (first.reshape(1, -1) for first in above)
    if len(window.rows):
        weights = (weight[window.rows].astype(np.float32)[:, None] for weight in (signal, background))
        steps = [np.add.reduceat(counts * weight, window.starts, axis=0) for weight in weights]
        kept = np.concatenate([kept, kept + np.cumsum(steps[0], axis=0, dtype=np.float64)])
        passing = np.concatenate([passing, passing + np.cumsum(steps[1], axis=0, dtype=np.float64)])
    target = fraction * totals[1]
    resample = np.arange(len(target))
    start = np.maximum((passing <= target).sum(axis=0) - 1, 0)
    stop = np.minimum(start + 1, len(passing) - 1)
    step = passing[stop, resample] - passing[start, resample]
    share = np.divide(target - passing[start, resample], step, out=np.zeros(len(target)), where=step > 0)
    low, high = kept[start, resample], kept[stop, resample]
    result: NDArray[np.float64] = (low + np.clip(share, 0.0, 1.0) * (high - low)) / totals[0]
    return result


def _totals(ranked: Ranked) -> tuple[float, float]:
    signal, background = float(ranked.signal.sum()), float(ranked.background.sum())
    if not (signal > 0 and background > 0):
        raise DataError("AUC and efficiency need signal and background events with weight")
    return signal, background

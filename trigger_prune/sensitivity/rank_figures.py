"""AUC and signal efficiency from counts per score: integer scores take few values, so nothing is sorted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError

_MOST_FRACTION_BITS = 24
_BINS_PER_EVENT = 8
_FEWEST_BINS = 1 << 16


@dataclass(frozen=True, eq=False)
class Ranked:
    """Events by score: the bin of each (a higher score, a higher bin; equal scores share one) and sums per bin.

    bins                 ``(n,)``
    places               ``(n,)``: the bin, behind all bins for an event of the signal
    signal, background   weight per bin
    """

    bins: NDArray[np.int64]
    places: NDArray[np.int64]
    signal: NDArray[np.float64]
    background: NDArray[np.float64]

    @cached_property
    def until(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Signal and background up to each bin, that one included."""
        return np.cumsum(self.signal), np.cumsum(self.background)

    @cached_property
    def totals(self) -> tuple[float, float]:
        """All signal and all background. Raises DataError when one of them has no weight."""
        signal, background = (float(sums[-1]) for sums in self.until)
        if not (signal > 0 and background > 0):
            raise DataError("AUC and efficiency need signal and background events with weight")
        return signal, background

    @cached_property
    def passing(self) -> NDArray[np.float64]:
        """Background efficiency of each bin as threshold, from the highest on. Summed in that order: few events pass,
        and as a difference from all they would lose their digits."""
        sums = np.cumsum(self.background[::-1])
        result: NDArray[np.float64] = sums / sums[-1]
        return result


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
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: NDArray[np.float64], fraction: int | None
) -> Ranked:
    """Rank events by float scores ``(n,)``; ``positive`` are the signal, the others the background.

    fraction   of the grid the scores are expected on; scores off it, or spread too widely, are sorted
    """
    values = np.asarray(scores, np.float64)
    bins: NDArray[np.int64] | None = None
    if fraction is not None:
        scaled = np.ldexp(values, fraction)
        low, high = scaled.min(initial=0.0), scaled.max(initial=0.0)
        if high - low < max(_FEWEST_BINS, _BINS_PER_EVENT * len(values)):
            scaled -= low
            codes = scaled.astype(np.int64)
            if (codes == scaled).all():
                bins = codes
    if bins is None:
        bins = np.unique(values, return_inverse=True)[1].astype(np.int64)
    n = int(bins.max(initial=0)) + 1
    places = bins + n * positive
    sums = np.bincount(places, weights, minlength=2 * n).astype(np.float64, copy=False)
    return Ranked(bins, places, sums[n:], sums[:n])


def area(ranked: Ranked) -> float:
    """AUC, ties counting half. Raises DataError when signal or background has no weight."""
    signal, background = ranked.totals
    beaten = ranked.until[1] - ranked.background / 2
    return float(ranked.signal @ beaten / (signal * background))


def area_influence(ranked: Ranked, value: float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Influence of every event on the AUC, float64 ``(n,)``: the derivative by its own multiplicity.

    ``value`` plus the sum of ``(count - 1) * influence`` is the AUC of a resample to first order; summed squares per
    collision are DeLong's variance (Biometrics 44 (1988) 837; physics/auc.py) up to n / (n - 1).
    """
    (signal, background), (signal_until, background_until) = ranked.totals, ranked.until
    beaten = (background_until - ranked.background / 2) / background
    above = 1 - (signal_until - ranked.signal / 2) / signal
    each = np.concatenate([(above - value) / background, (beaten - value) / signal])
    influence: NDArray[np.float64] = weights * each[ranked.places]
    return influence


def efficiency_at(ranked: Ranked, fraction: float) -> float:
    """Signal efficiency where the background efficiency is ``fraction``, on the line between neighbouring thresholds.

    The same as ``signal_efficiency_at(roc_curve(...), fraction)`` of physics/roc.py.
    """
    total = ranked.totals[0]
    loosest = int(np.searchsorted(ranked.passing, fraction, side="right"))  # so many thresholds are tight enough
    n = len(ranked.passing)
    kept = float(ranked.signal[n - loosest :].sum())
    if loosest == n:
        return kept / total
    before = ranked.passing[loosest - 1] if loosest else 0.0
    share = (fraction - before) / (ranked.passing[loosest] - before)
    return float(kept + share * ranked.signal[n - 1 - loosest]) / total

"""ROC curves whose points fit a page and whose low end can be read on a log axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.ranking import Ranking


@dataclass(frozen=True)
class RocCurve:
    """Operating points from the tightest threshold (``score >= threshold`` passes) to the loosest, which passes all.

    All float64 ``(points,)``: signal and background efficiency (weighted), the threshold, and the effective
    number (sum w)^2 / sum w^2 of background events that pass.
    """

    signal_efficiency: NDArray[np.float64]
    background_efficiency: NDArray[np.float64]
    threshold: NDArray[np.float64]
    background_events: NDArray[np.float64]


def roc_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]) -> RocCurve:
    """Every operating point: one per distinct score. Raises DataError when signal or background has no weight."""
    signal, background = weights * positive, weights * ~positive
    if not (signal.sum() > 0 and background.sum() > 0):
        raise DataError("a ROC curve needs signal and background events with weight")
    values, position = np.unique(-scores, return_inverse=True)
    n = len(values)
    signal_passing = np.cumsum(np.bincount(position, signal, minlength=n))
    background_passing = np.cumsum(np.bincount(position, background, minlength=n))
    squares = np.cumsum(np.bincount(position, np.square(background), minlength=n))
    events = np.divide(np.square(background_passing), squares, out=np.zeros(n), where=squares > 0)
    return RocCurve(signal_passing / signal_passing[-1], background_passing / background_passing[-1], -values, events)


def signal_efficiency_at(curve: RocCurve, background_efficiency: float) -> float:
    """Signal efficiency at a background efficiency, on the straight line between neighbouring operating points.

    The line is what random tie-breaking between two thresholds gives; integer scores rarely have a threshold at
    exactly the wanted efficiency, and networks must be compared at an equal one.
    """
    signal = np.concatenate([[0.0], curve.signal_efficiency])
    background = np.concatenate([[0.0], curve.background_efficiency])
    # of several points at one background efficiency a line starts at the loosest and ends at the tightest
    start = int(np.searchsorted(background, background_efficiency, side="right")) - 1
    if start == len(background) - 1:
        return float(signal[-1])
    fraction = (background_efficiency - background[start]) / (background[start + 1] - background[start])
    return float(signal[start] + fraction * (signal[start + 1] - signal[start]))


def decimate(curve: RocCurve, cells: int = 120, floor: float = 1e-5) -> RocCurve:
    """Few real operating points that look like all of them: linear in signal, logarithmic in background efficiency.

    Points whose background efficiency is below ``floor`` are left out. Of the rest, one per cell of a
    ``cells`` x ``cells`` raster is kept (at most ``2 * cells + 3`` points, as both efficiencies only grow).
    """
    shown = curve.background_efficiency >= floor
    signal, background = curve.signal_efficiency[shown], curve.background_efficiency[shown]
    column = np.floor(signal * cells)
    row = np.floor(np.log10(background) / -np.log10(floor) * cells)
    first = np.append(True, (np.diff(column) != 0) | (np.diff(row) != 0))
    first[-1] = True
    rows = np.flatnonzero(shown)[first]
    return RocCurve(
        curve.signal_efficiency[rows],
        curve.background_efficiency[rows],
        curve.threshold[rows],
        curve.background_events[rows],
    )


def raster_roc(
    signal: Ranking,
    background: Ranking,
    background_weights: NDArray[np.float64],
    cells: int = 120,
    floor: float = 1e-5,
) -> RocCurve:
    """What ``decimate`` would keep of the full curve, from complete rankings of signal and background.

    At most ``2 * cells + 3`` real operating points, one at each of ``cells`` equal steps of signal efficiency and of
    equal ratios of background efficiency from ``floor`` to 1. ``background_weights`` are in the order of the ranking.
    For tens of millions of rows, of which each metric sorts nothing again.
    """
    signal_total, background_total = float(signal.sums[-1]), float(background.sums[-1])
    levels = np.arange(cells + 1) / cells
    wanted = background_total * floor ** (1 - levels)
    from_background = background.values[np.minimum(np.searchsorted(background.sums, wanted), len(background.sums) - 1)]
    wanted = signal_total * levels
    from_signal = signal.values[np.minimum(np.searchsorted(signal.sums, wanted), len(signal.sums) - 1)]
    lowest = min(signal.values[-1], background.values[-1])
    threshold = np.unique(np.concatenate([from_background, from_signal, [lowest]]).astype(np.float64))[::-1]
    passing = background.values_above(threshold, inclusive=True)
    background_sums = background.sum_of(passing)
    shown = np.flatnonzero(background_sums >= floor * background_total)
    threshold, passing, background_sums = threshold[shown], passing[shown], background_sums[shown]
    squares = np.cumsum(np.square(background_weights))[background.ends[passing - 1] - 1]
    return RocCurve(
        signal.sum_of(signal.values_above(threshold, inclusive=True)) / signal_total,
        background_sums / background_total,
        threshold,
        np.square(background_sums) / squares,
    )

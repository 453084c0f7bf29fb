"""ROC curves whose points fit a page and whose low end can be read on a log axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError


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
    # of several points at one background efficiency the loosest is the best one to use
    last = np.append(np.diff(background) > 0, True)
    return float(np.interp(background_efficiency, background[last], signal[last]))


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

"""Signal efficiency at exactly a given background rate, as the expectation over random tie-breaking.

Scores tie (integer scores always do), so a threshold rarely gives the wanted rate. Networks are compared at an equal
one: of the events whose score is the one that crosses the target, a random fraction passes. No trigger decides
like that, so such figures are marked, and the efficiency at a real threshold stands beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.physics.clusters import cluster_index, running_squares, weight_per_index
from trigger_prune.physics.intervals import Estimate, clustered_count, count_estimate
from trigger_prune.physics.ranking import Ranking, rank
from trigger_prune.physics.scored_events import BACKGROUND, ScoredEvents

EQUAL_RATE_METHOD = "equal rate by randomised tie-breaking; signal and background statistics in quadrature"


@dataclass(frozen=True)
class RankedBackground:
    """Background rows of some events: their ranking, and weights and cluster indices in its order."""

    ranking: Ranking
    weights: NDArray[np.float64]
    clusters: NDArray[np.int64]


@dataclass(frozen=True)
class EqualRatePoints:
    """Efficiencies of one signal process at given rates, with the effective background events behind each rate.

    ``background_events`` is (sum w)^2 / sum w^2 per generated collision; ``rate_errors_hz`` follows from it.
    """

    rates_hz: tuple[float, ...]
    rate_errors_hz: tuple[float, ...]
    background_events: tuple[float, ...]
    efficiencies: tuple[Estimate, ...]


def rank_background(events: ScoredEvents, up_to_hz: float = math.inf) -> RankedBackground:
    """Sort the background once for several metrics; ``up_to_hz`` sorts only the rows with the highest scores."""
    rows = events.rows(BACKGROUND)
    ranking = rank(events.scores[rows], events.weights[rows], up_to_hz)
    rows = rows[ranking.rows]
    return RankedBackground(ranking, events.weights[rows], cluster_index(events.groups[rows]))


def crossing(background: Ranking, rates_hz: NDArray[np.float64]) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """For every rate the score that crosses it and the fraction of events of that score that may pass.

    Events of higher score pass. A rate that the whole background does not reach gives ``-inf``: all passes.
    """
    count = background.fitting(rates_hz)
    crossed = count < len(background.values)
    at = np.minimum(count, len(background.values) - 1)
    below = background.sum_of(count)
    fraction = np.clip((rates_hz - below) / (background.sums[at] - np.where(crossed, below, 0.0)), 0.0, 1.0)
    return np.where(crossed, background.values[at], -np.inf), np.where(crossed, fraction, 0.0)


def passing_sums(signal: Ranking, score: NDArray[np.floating], fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of signal above ``score`` plus ``fraction`` of that exactly at it."""
    above = signal.sum_of(signal.values_above(score, inclusive=False))
    upto = signal.sum_of(signal.values_above(score, inclusive=True))
    return above + fraction * (upto - above)


def equal_rate_points(
    events: ScoredEvents, process: int, rates_hz: NDArray[np.float64], background: RankedBackground
) -> EqualRatePoints:
    """Efficiency of one signal process at increasing background rates, measured on these very events.

    Intervals join in quadrature the Clopper-Pearson interval of the signal (per generated collision) and what the
    efficiency changes when the rate moves by its own statistical error. ``background`` must reach beyond the
    largest rate by 1.96 of those errors: three times the rate is always enough.
    """
    counts, errors = rate_errors(background, rates_hz)
    scores, weights, groups = events.part(process)
    signal = rank(scores, weights)
    steps = np.array([0.0, 1.0, -1.0, 1.959964, -1.959964])
    shifted = np.maximum(rates_hz[:, None] + steps * errors[:, None], 0.0)
    score, fraction = crossing(background.ranking, shifted.ravel())
    efficiency = np.minimum(passing_sums(signal, score, fraction) / signal.sums[-1], 1.0).reshape(shifted.shape)
    # the crossing score counts as passing where the correlation of rows of one collision is measured
    reached = signal.values_above(score.reshape(shifted.shape)[:, 0], inclusive=True)
    signal_counts = effective_counts(signal, weights, groups, reached, efficiency[:, 0])
    estimates = tuple(
        _joined(count_estimate(float(row[0]), float(count), EQUAL_RATE_METHOD), row)
        for row, count in zip(efficiency, signal_counts, strict=True)
    )
    return EqualRatePoints(_floats(rates_hz), _floats(errors), _floats(counts), estimates)


def rate_errors(
    background: RankedBackground, rates_hz: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Effective background events at increasing rates and the statistical error (Hz) of each."""
    ranking = background.ranking
    at = np.minimum(ranking.fitting(rates_hz), len(ranking.values) - 1)
    squares = running_squares(background.clusters, background.weights, ranking.ends[at])
    counts = np.square(ranking.sums[at]) / squares
    return counts, rates_hz / np.sqrt(counts)


def effective_counts(
    signal: Ranking,
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    reached: NDArray[np.int64],
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Effective independent events behind efficiencies ``values``, the ``reached`` highest scores passing."""
    ordered = weights[signal.rows]
    index = cluster_index(groups[signal.rows])
    cluster_weights = weight_per_index(index, ordered)
    ends = np.where(reached > 0, signal.ends[np.maximum(reached, 1) - 1], 0)
    passing_squares = running_squares(index, ordered, ends)
    cross = np.append(0.0, np.cumsum(ordered * cluster_weights[index]))[ends]
    total, squares = float(ordered.sum()), float(cluster_weights @ cluster_weights)
    fraction = signal.sum_of(reached) / total
    variance = (passing_squares - 2 * fraction * cross + np.square(fraction) * squares) / total**2
    rows, clusters = total**2 / float(ordered @ ordered), total**2 / squares
    counts = []
    for value, at, spread in zip(values, fraction, variance, strict=True):
        nothing_known = not 0 < value < 1
        counts.append(clusters if nothing_known else clustered_count(float(at), float(spread), rows, clusters))
    return np.array(counts)


def _joined(signal: Estimate, shifted: NDArray[np.float64]) -> Estimate:
    """Signal intervals and the efficiencies at rates shifted by +-1 and +-1.96 errors, in quadrature."""
    value, up, down, up95, down95 = (float(x) for x in shifted)
    return Estimate(
        value,
        math.hypot(signal.error, (up - down) / 2),
        max(0.0, value - math.hypot(value - signal.low68, value - down)),
        min(1.0, value + math.hypot(signal.high68 - value, up - value)),
        max(0.0, value - math.hypot(value - signal.low95, value - down95)),
        min(1.0, value + math.hypot(signal.high95 - value, up95 - value)),
        signal.n_effective,
        signal.method,
    )


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(x) for x in values)

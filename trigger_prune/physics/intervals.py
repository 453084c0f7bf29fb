"""Confidence intervals of fractions and of figures with a standard error."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from trigger_prune.errors import DataError
from trigger_prune.physics.clusters import cluster_index, weight_per_index

LEVEL_68 = math.erf(1 / math.sqrt(2))
"""Coverage of one Gaussian standard deviation, 0.6827."""

LEVEL_95 = 0.95
"""Coverage of the wider interval."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error and its central 68 % and 95 % confidence intervals.

    ``n_effective`` is the number of unweighted events that would be as informative, (sum w)^2 / sum w^2.
    ``method`` says how the intervals were made.
    """

    value: float
    error: float
    low68: float
    high68: float
    low95: float
    high95: float
    n_effective: float
    method: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``from_dict`` restores an equal estimate."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Estimate:
        """Inverse of ``to_dict``."""
        return cls(**raw)


def effective_events(weights: NDArray[np.float64]) -> float:
    """(sum w)^2 / sum w^2; the number of events when all weights are equal, 0 when there is no weight at all."""
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def clopper_pearson(passed: float, total: float, level: float) -> tuple[float, float]:
    """Central Clopper-Pearson interval of a binomial fraction (Biometrika 26 (1934) 404).

    ``passed`` and ``total`` may be effective, hence fractional, counts; the interval then is the analytic
    continuation by the beta distribution. Raises DataError unless 0 <= passed <= total and total > 0.
    """
    if not (0 <= passed <= total and total > 0):
        raise DataError(f"{passed} passing of {total} events is not a fraction")
    tail = (1 - level) / 2
    failed = total - passed
    low = float(betaincinv(passed, failed + 1, tail)) if passed > 0 else 0.0
    high = float(betaincinv(passed + 1, failed, 1 - tail)) if failed > 0 else 1.0
    return low, high


def fraction_estimate(passes: NDArray[np.bool_], weights: NDArray[np.float64]) -> Estimate:
    """Weighted fraction of passing events with Clopper-Pearson intervals.

    Equal weights give the exact binomial interval. Otherwise the weighted fraction is treated as
    ``fraction * n_effective`` of ``n_effective`` events, an approximation that holds when the weight says little
    about passing. Events count as independent. Raises DataError when there is no weight.
    """
    total = float(weights.sum())
    if not total > 0:
        raise DataError("a fraction of events without weight is not defined")
    used = weights > 0
    if np.ptp(weights[used]) == 0:
        count, passed = float(used.sum()), float(passes[used].sum())
        value, method = passed / count, "Clopper-Pearson"
    else:
        value = float(weights[passes].sum()) / total
        count = effective_events(weights)
        passed, method = min(value * count, count), "Clopper-Pearson on effective counts"
    low68, high68 = clopper_pearson(passed, count, LEVEL_68)
    low95, high95 = clopper_pearson(passed, count, LEVEL_95)
    error = math.sqrt(max(value * (1 - value), 0.0) / count)
    return Estimate(value, error, low68, high68, low95, high95, count, method)


def clustered_fraction_estimate(
    passes: NDArray[np.bool_], weights: NDArray[np.float64], groups: NDArray[np.int64]
) -> Estimate:
    """Weighted fraction of passing rows when rows of one generated collision (``groups``) vary together.

    Clopper-Pearson with the number of independent events of equal weight that would give the variance between
    collisions (Korn and Graubard, Survey Methodology 24 (1998) 193), at most the effective number of rows. Where no
    collision repeats this is ``fraction_estimate``. Raises DataError when there is no weight.
    """
    total = float(weights.sum())
    if not total > 0:
        raise DataError("a fraction of events without weight is not defined")
    index = cluster_index(groups)
    if np.bincount(index, weights > 0).max() <= 1:
        return fraction_estimate(passes, weights)
    cluster_weights = weight_per_index(index, weights)
    cluster_passing = weight_per_index(index, weights * passes)
    value = min(float(weights[passes].sum()) / total, 1.0)
    count = clustered_count(
        value,
        float(np.square(cluster_passing - value * cluster_weights).sum()) / total**2,
        effective_events(weights),
        effective_events(cluster_weights),
    )
    return count_estimate(value, count, "Clopper-Pearson on effective counts of generated collisions")


def clustered_count(value: float, variance: float, rows: float, clusters: float) -> float:
    """Independent events that would give a fraction this ``variance``; ``rows`` and ``clusters`` are effective counts.

    ``variance`` is the sum of squared residuals per cluster over the squared total weight. Where all or nothing
    passes, nothing is known about how rows of a cluster agree: then every cluster counts once.
    """
    if not (0 < value < 1 and variance > 0):
        return clusters
    corrected = variance * clusters / (clusters - 1) if clusters > 1 else math.inf
    return min(value * (1 - value) / corrected, rows) if math.isfinite(corrected) else clusters


def count_estimate(value: float, count: float, method: str) -> Estimate:
    """Clopper-Pearson intervals of a fraction ``value`` of ``count`` events, which may be effective ones."""
    passed = min(value * count, count)
    low68, high68 = clopper_pearson(passed, count, LEVEL_68)
    low95, high95 = clopper_pearson(passed, count, LEVEL_95)
    error = math.sqrt(max(value * (1 - value), 0.0) / count)
    return Estimate(value, error, low68, high68, low95, high95, count, method)


def normal_estimate(
    value: float, error: float, n_effective: float, method: str, bounds: tuple[float, float] = (0.0, 1.0)
) -> Estimate:
    """Gaussian intervals ``value +- z * error``, cut at the ``bounds`` of what the figure can be."""
    low, high = bounds
    z95 = float(ndtri(0.5 + LEVEL_95 / 2))
    return Estimate(
        value,
        error,
        max(low, value - error),
        min(high, value + error),
        max(low, value - z95 * error),
        min(high, value + z95 * error),
        n_effective,
        method,
    )

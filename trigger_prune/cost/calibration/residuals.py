"""Mean and scatter of residuals, shrunk along a hierarchy: what few observations say about the next one.

The residual of a count is log((true + 1) / (predicted + 1)): relative for large counts, harmless at 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

PRIOR_COUNT = 4.0
"""Observations that weigh as much as what was known before: n of them correct by n / (n + 4) of their mean."""
NINETY = float(stats.norm.ppf(0.95))
_HUBER = 1.5
_PRIOR_FREEDOM = 60.0
_SCATTER_COUNT = 3.0
"""Observations that weigh as much in the scatter as the interval that was known before."""
_SMALLEST = 0.01
"""Scatter below which reports are taken to agree by chance."""


@dataclass(frozen=True)
class Shift:
    """Correction of a prediction in the logarithm.

    mean     to be added to log(predicted + 1)
    scatter  standard deviation of the next residual around it
    count    observations behind it, all levels of the hierarchy together
    freedom  degrees of freedom of the scatter, for the width of an interval
    lean     how far the middle of the interval lies from the mean: that of the interval before any observation, fading
    """

    mean: float
    scatter: float
    count: int
    freedom: float
    lean: float = 0.0

    @property
    def half_width(self) -> float:
        """Half of the 90 % interval of the next residual."""
        return float(stats.t.ppf(0.95, self.freedom)) * self.scatter


def residual(true: float, predicted: float) -> float:
    """log((true + 1) / (predicted + 1))."""
    return math.log((true + 1) / (predicted + 1))


def shifted(predicted: float, by: float) -> float:
    """Value whose residual is ``by``; never negative."""
    return max((predicted + 1) * math.exp(by) - 1, 0.0)


def shrunk(
    levels: Sequence[Sequence[float]],
    interval: tuple[float, float],
    centre: float,
    prior_mean: float = 0.0,
    prior_count: float = PRIOR_COUNT,
) -> Shift:
    """What residuals say about the next one.

    levels        disjoint sets of residuals, from the least to the most closely related
    interval      90 % interval known before any of them, around ``centre``
    prior_mean    residual expected before any of them

    Each level moves the mean by n / (n + prior_count) of the difference to its own (empirical Bayes; Efron and Morris
    1975). The variance moves likewise, in the logarithm. Outlying residuals count less in the mean (Huber), fully in
    the variance.
    """
    mean, variance = prior_mean, scatter_of(interval) ** 2
    thinness, left_over = 1 / _PRIOR_FREEDOM, 0.0
    lean = middle_of(interval, centre)
    count = 0
    for values in levels:
        n = len(values)
        if n == 0:
            continue
        level_mean = huber_mean(values, max(math.sqrt(variance), 1e-3))
        mean += n / (n + prior_count) * (level_mean - mean)
        observed = float(np.var(values, ddof=1)) if n > 1 else variance
        weight = (n - 1) / (n - 1 + _SCATTER_COUNT)
        # In the logarithm, an interval that was far too wide gives way faster than in the mean of both.
        variance = math.exp((1 - weight) * math.log(variance) + weight * math.log(max(observed, _SMALLEST**2)))
        # The first interval stands for biases of sites too; later ones must count what is left of this one's bias.
        left_over = weight * (level_mean - mean) ** 2
        thinness = (1 - weight) * thinness + weight / (n - 1 + _SCATTER_COUNT)
        lean *= 1 - weight
        count += n
    widening = 1 + 1 / (prior_count + len(levels[-1])) if count else 1.0
    return Shift(mean, math.sqrt(variance * widening + left_over), count, 1 / thinness, lean)


def huber_mean(values: Sequence[float], scale: float) -> float:
    """Mean in which values further than 1.5 ``scale`` from it count as if they stood there (Huber 1964)."""
    data = np.asarray(values, dtype=np.float64)
    centre = float(np.median(data)) if len(data) > 2 else float(data.mean())
    limit = _HUBER * max(scale, 1.4826 * float(np.median(np.abs(data - centre))), 1e-6)
    for _ in range(20):
        centre = float(np.mean(centre + np.clip(data - centre, -limit, limit)))
    return centre


def scatter_of(interval: tuple[float, float]) -> float:
    """Standard deviation of the residual that a 90 % interval stands for."""
    low, high = interval
    return max(residual(high, max(low, 0.0)) / (2 * NINETY), 1e-3)


def middle_of(interval: tuple[float, float], predicted: float) -> float:
    """Residual of the middle of an interval: not 0 for one that is not centred on the prediction."""
    low, high = interval
    return (residual(high, predicted) + residual(max(low, 0.0), predicted)) / 2

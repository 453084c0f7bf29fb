"""Interval of an accuracy measured on weighted events."""

from __future__ import annotations

from scipy.stats import beta
from torch import Tensor

ONE_SIGMA = 0.682689492137086
"""Probability of +- one standard deviation of a normal distribution: the "68 %" of this field."""


def effective_events(weights: Tensor) -> float:
    """``(sum w)^2 / sum w^2``: the number of equally weighted events with the same statistical power."""
    w = weights.double()
    return float(w.sum() ** 2 / (w * w).sum())


def accuracy_interval(accuracy: float, n_events: float, level: float = ONE_SIGMA) -> tuple[float, float]:
    """Clopper-Pearson interval of a fraction ``accuracy`` of ``n_events`` (effective events, need not be whole).

    C. Clopper and E. Pearson, Biometrika 26 (1934) 404, as quantiles of the beta distribution.
    """
    tail = (1.0 - level) / 2.0
    right = min(max(accuracy * n_events, 0.0), n_events)
    wrong = n_events - right
    # within rounding of 0 or n there is no event on that side, and the interval ends at the border
    border = 1e-9 * n_events
    low = 0.0 if right <= border else float(beta.ppf(tail, right, wrong + 1.0))
    high = 1.0 if wrong <= border else float(beta.ppf(1.0 - tail, right + 1.0, wrong))
    return low, high

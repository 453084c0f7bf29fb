"""Factors around an estimate that enclose 90 % of the truth in projects that the fit has not seen.

Two answers, the wider of which holds:

* split conformal quantiles (Vovk, Gammerman and Shafer 2005) by group: samples of one network err together, so every
  network counts the same, and the level is raised for the next network as it would be for the next sample;
* while there are few networks, or they are all of one or two projects, Student's t on the logarithm of truth /
  estimate, every project counting the same, with as many degrees of freedom as there are projects: what designs of two
  sites agree on, a third need not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trigger_prune.cost.calibration.predictions import Prediction, by_quantity

COVERAGE = 0.90
ENOUGH = 20
"""Networks from which the quantiles alone are trusted."""
_ENOUGH_PROJECTS = 3
"""The many layers of one sweep say little about those of another site."""
_HARDLY_ANY = 3
_AT_LEAST = math.log(1.5)
"""Half width for a count that varies, where fewer than three networks were seen."""
_AT_MOST = math.log(100)
"""Beyond a factor of 100 an interval says no more."""
_VARYING = ("lut", "ff", "latency_cycles")


def ratio(prediction: Prediction) -> float:
    """truth / estimate; one unit is added to both where either is below 1, so that 0 against 0 is 1."""
    shift = 1.0 if prediction.true < 1 or prediction.predicted < 1 else 0.0
    return (prediction.true + shift) / (prediction.predicted + shift)


def spread_of(predictions: Sequence[Prediction], coverage: float = COVERAGE) -> dict[str, tuple[float, float]]:
    """(low, high) factors by quantity from predictions of held-out samples; low <= 1 <= high."""
    return {quantity: interval(found, coverage) for quantity, found in by_quantity(predictions).items()}


def interval(predictions: Sequence[Prediction], coverage: float = COVERAGE) -> tuple[float, float]:
    """Factors that enclose ``coverage`` of the truth / estimate of networks and projects like these."""
    logs = np.log([ratio(prediction) for prediction in predictions])
    networks = Counter(prediction.network for prediction in predictions)
    low, high = _quantiles(logs, np.array([1 / networks[p.network] for p in predictions]), len(networks), coverage)
    projects = sorted({prediction.project for prediction in predictions})
    if len(networks) < ENOUGH or len(projects) < _ENOUGH_PROJECTS:
        of_project = np.array([[p.project == name for p in predictions] for name in projects])
        # Mean square of each project, and of these the mean.
        square = float(np.mean(of_project @ logs**2 / of_project.sum(axis=1)))
        half = float(stats.t.ppf((1 + coverage) / 2, len(projects))) * math.sqrt(square * (1 + 1 / len(networks)))
        half = min(half, _AT_MOST)
        if len(networks) < _HARDLY_ANY and predictions[0].quantity in _VARYING:
            half = max(half, _AT_LEAST)
        low, high = min(low, -half), max(high, half)
    return math.exp(min(low, 0.0)), math.exp(max(high, 0.0))


def _quantiles(
    logs: NDArray[np.float64], weights: NDArray[np.float64], groups: int, coverage: float
) -> tuple[float, float]:
    tail = (1 - min(coverage * (1 + 1 / groups), 1.0)) / 2
    order = np.argsort(logs, kind="stable")
    below = np.cumsum(weights[order]) / groups
    last = len(logs) - 1
    low = logs[order][min(int(np.searchsorted(below, tail + 1e-12)), last)]
    high = logs[order][min(int(np.searchsorted(below, 1 - tail - 1e-12)), last)]
    return float(low), float(high)

"""Factors around an estimate that enclose 90 % of the truth in designs of a project that the fit has not seen.

Designs of a network err together, and networks of a project. So what counts as a sample is the project, and there are
few of them. Two recipes, by their number K alone:

* from K = 19 on hierarchical conformal prediction (Dunn, Wasserman and Ramdas 2022; Lee, Barber and Willett 2023): the
  0.9 quantile of |log(truth / estimate)| with every project weighing 1 / (K + 1) and the rest at infinity. It covers at
  least 0.9 and at most 0.9 + 1 / (K + 1) for any distribution: 95 % from 19 projects on. Below nine it is infinite, and
  so is every other interval that assumes nothing;
* with fewer, the prediction interval of a nested random effects model: log(truth / estimate) is the sum of a project's,
  a network's and a design's deviation, all of mean 0. Mean squares of the nested levels give the variance of the next
  design of the next project, Satterthwaite's (1946) formula its degrees of freedom, Student's t the quantile. Where
  projects differ little the many designs speak, where they differ much only the few projects do. The model takes every
  project to scatter alike; a large and quiet one would speak for the others. So the interval holds at least
  ``coverage`` of the errors that were seen, every project weighing the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trigger_prune.cost.calibration.predictions import Prediction, by_quantity

COVERAGE = 0.90
_ENOUGH_PROJECTS = 19
_HARDLY_ANY = 3
_AT_LEAST = math.log(1.5)
"""Half width for a count that varies, where fewer than three networks were seen."""
_AT_MOST = math.log(100)
"""Beyond a factor of 100 an interval says no more."""
_VARYING = ("lut", "ff", "latency_cycles")

Floats = NDArray[np.float64]
Nested = list[list[Floats]]
"""log(truth / estimate) of the designs of every network of every project."""


def ratio(prediction: Prediction) -> float:
    """truth / estimate; one unit is added to both where either is below 1, so that 0 against 0 is 1."""
    shift = 1.0 if prediction.true < 1 or prediction.predicted < 1 else 0.0
    return (prediction.true + shift) / (prediction.predicted + shift)


def spread_of(predictions: Sequence[Prediction], coverage: float = COVERAGE) -> dict[str, tuple[float, float]]:
    """(low, high) factors by quantity from predictions of held-out samples; low <= 1 <= high."""
    return {quantity: interval(found, coverage) for quantity, found in by_quantity(predictions).items()}


def interval(predictions: Sequence[Prediction], coverage: float = COVERAGE) -> tuple[float, float]:
    """Factors that enclose ``coverage`` of truth / estimate in the next project."""
    nested = _nested(predictions)
    if len(nested) >= _ENOUGH_PROJECTS:
        half = conformal_half_width(nested, coverage)
    else:
        half = max(random_effects_half_width(nested, coverage), _seen_half_width(nested, coverage, 0))
    half = min(half, _AT_MOST)
    if sum(map(len, nested)) < _HARDLY_ANY and predictions[0].quantity in _VARYING:
        half = max(half, _AT_LEAST)
    return math.exp(-half), math.exp(half)


def widest_seen_half_width(predictions: Sequence[Prediction], coverage: float = COVERAGE) -> float:
    """Half width in the logarithm that holds ``coverage`` of the errors of every project: for errors that so few
    projects tell of that the next one may be as bad as the worst."""
    return max(_seen_half_width([project], coverage, 0) for project in _nested(predictions))


def conformal_half_width(nested: Nested, coverage: float) -> float:
    """Half width in the logarithm by hierarchical conformal prediction; infinite when there are too few projects."""
    return _seen_half_width(nested, coverage, 1)


def _seen_half_width(nested: Nested, coverage: float, unseen: int) -> float:
    """Quantile of the size of the errors, every project and ``unseen`` ones with infinite errors weighing the same."""
    scores, weights = [], []
    for project in nested:
        for network in project:
            scores.append(np.abs(network))
            weights.append(np.full(len(network), 1 / ((len(nested) + unseen) * len(project) * len(network))))
    values, weight = np.concatenate(scores), np.concatenate(weights)
    order = np.argsort(values, kind="stable")
    index = int(np.searchsorted(np.cumsum(weight[order]), coverage - 1e-12))
    return float(values[order][index]) if index < len(values) else math.inf


def random_effects_half_width(nested: Nested, coverage: float) -> float:
    """Half width in the logarithm by the nested random effects model of mean 0."""
    sizes = [np.array([len(network) for network in project], dtype=np.float64) for project in nested]
    means = [np.array([network.mean() for network in project]) for project in nested]
    projects, networks = len(nested), sum(map(len, nested))
    within = sum(float(np.square(network - network.mean()).sum()) for project in nested for network in project)
    between = sum(float(np.square(mean - mean.mean()).sum()) for mean in means)
    # The variance of the next design is a combination of the levels' mean squares in which none counts negative.
    per_network = float(np.mean([1 / len(size) for size in sizes]))
    per_design = float(np.mean([(1 / size).sum() / len(size) ** 2 for size in sizes]))
    freedom_between = networks - projects
    freedom_within = round(sum(float(size.sum()) for size in sizes)) - networks
    shared = sum((1 - 1 / len(size)) * float((1 / size).sum()) for size in sizes) / max(freedom_between, 1)
    levels = (
        (1.0, float(np.mean([mean.mean() ** 2 for mean in means])), projects),
        (1 - per_network, between / max(freedom_between, 1), freedom_between),
        (1 - per_design - (1 - per_network) * shared, within / max(freedom_within, 1), freedom_within),
    )
    parts = [(factor * square, freedom) for factor, square, freedom in levels if freedom and factor * square > 0]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / count for part, count in parts)
    return float(stats.t.ppf((1 + coverage) / 2, freedom)) * math.sqrt(variance)


def _nested(predictions: Sequence[Prediction]) -> Nested:
    logs: dict[str, dict[str, list[float]]] = {}
    for prediction in predictions:
        networks = logs.setdefault(prediction.project, {})
        networks.setdefault(prediction.network, []).append(math.log(ratio(prediction)))
    return [[np.array(values) for values in networks.values()] for networks in logs.values()]

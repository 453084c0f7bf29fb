"""Area under the ROC curve, exact with ties and weights, and its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.intervals import Estimate, effective_events, normal_estimate

AUC_METHOD = "DeLong (influence functions summed per collision)"


@dataclass(frozen=True)
class AucInfluence:
    """AUC and every event's influence on it.

    value         probability that a positive event scores above a negative one, ties counting half
    influence     float64 ``(events,)``; the squares of its sums per collision add up to the variance
    n_effective   the smaller of the effective numbers of positive and negative events
    """

    value: float
    influence: NDArray[np.float64]
    n_effective: float


def auc_influence(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> AucInfluence:
    """Weighted Mann-Whitney statistic by sorting, O(n log n), with DeLong's components.

    For unit weights and independent events the sum of the squared influences is DeLong's variance exactly
    (DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988) 837); summed per cluster first, it is Obuchowski's
    (Biometrics 53 (1997) 567). Raises DataError when one of the two sets has no weight.
    """
    negative = ~positive
    positive_sum, negative_sum = float(weights[positive].sum()), float(weights[negative].sum())
    if not (positive_sum > 0 and negative_sum > 0):
        empty = "signal" if not positive_sum > 0 else "background"
        raise DataError(f"AUC needs {empty} events with weight, and there are none")
    values, position = np.unique(scores, return_inverse=True)
    positive_at = np.bincount(position, weights * positive, minlength=len(values))
    negative_at = np.bincount(position, weights * negative, minlength=len(values))
    negatives_beaten = (np.cumsum(negative_at) - negative_at / 2) / negative_sum
    positives_above = 1 - (np.cumsum(positive_at) - positive_at / 2) / positive_sum
    placement = np.where(positive, negatives_beaten[position], positives_above[position])
    value = float((weights[positive] * placement[positive]).sum() / positive_sum)

    share = np.where(positive, weights / positive_sum, weights / negative_sum)
    counts = effective_events(weights[positive]), effective_events(weights[negative])
    corrections = [math.sqrt(n / (n - 1)) if n > 1 + 1e-9 else math.inf for n in counts]
    if math.inf in corrections:
        # one event says nothing about the spread of its kind
        influence = np.full(len(scores), np.inf)
    else:
        influence = share * (placement - value) * np.where(positive, *corrections)
    return AucInfluence(value, influence, min(counts))


def weighted_auc(scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """The AUC alone, ties counting half. Raises DataError when one of the two sets has no weight."""
    order = np.argsort(scores, kind="stable")
    ordered, signal, w = scores[order], positive[order], weights[order]
    positive_sum, negative_sum = float(w[signal].sum()), float(w[~signal].sum())
    if not (positive_sum > 0 and negative_sum > 0):
        empty = "signal" if not positive_sum > 0 else "background"
        raise DataError(f"AUC needs {empty} events with weight, and there are none")
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    positive_at = np.add.reduceat(w * signal, starts)
    negative_at = np.add.reduceat(w * ~signal, starts)
    beaten = np.cumsum(negative_at) - negative_at / 2
    return float((positive_at * beaten).sum() / (positive_sum * negative_sum))


def cluster_error(influence: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Standard error from influences: events of one collision vary together, collisions independently."""
    if not np.isfinite(influence).all():
        return math.inf
    _, cluster = np.unique(groups, return_inverse=True)
    return math.sqrt(float(np.square(np.bincount(cluster, influence)).sum()))


def auc_estimate(part: AucInfluence, groups: NDArray[np.int64]) -> Estimate:
    """One AUC with Gaussian intervals inside [0, 1]."""
    return normal_estimate(part.value, cluster_error(part.influence, groups), part.n_effective, AUC_METHOD)


def mean_auc_estimate(parts: list[AucInfluence], groups: NDArray[np.int64]) -> Estimate:
    """Mean of several AUCs of the same events; their correlations are in the error."""
    value = float(np.mean([part.value for part in parts]))
    influence = np.mean([part.influence for part in parts], axis=0)
    n_effective = min(part.n_effective for part in parts)
    return normal_estimate(value, cluster_error(influence, groups), n_effective, AUC_METHOD)

"""Metrics of a classifier on labelled events: accuracy, one-versus-rest AUC, confusion, paired comparison."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.auc import auc_estimate, auc_influence, cluster_error, mean_auc_estimate
from trigger_prune.physics.intervals import Estimate, effective_events, fraction_estimate
from trigger_prune.physics.scores import check_logits, class_score, decide


@dataclass(frozen=True)
class ConfusionMatrix:
    """Row = true class, column = decided class.

    ``counts`` are rows of the sample, ``weighted`` sums of weights, ``row_normalised`` the weighted fraction of the
    true class (so every row adds up to 1).
    """

    counts: tuple[tuple[int, ...], ...]
    weighted: tuple[tuple[float, ...], ...]
    row_normalised: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ClassificationMetrics:
    """What a classifier does on one sample. AUC is one class against the rest, in the order of ``class_names``."""

    class_names: tuple[str, ...]
    events: int
    accuracy: Estimate
    auc: Estimate
    auc_per_class: tuple[Estimate, ...]
    confusion: ConfusionMatrix

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores equal metrics."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ClassificationMetrics:
        """Inverse of ``to_dict``."""
        confusion = {key: tuple(tuple(row) for row in rows) for key, rows in raw["confusion"].items()}
        return cls(
            class_names=tuple(raw["class_names"]),
            events=raw["events"],
            accuracy=Estimate.from_dict(raw["accuracy"]),
            auc=Estimate.from_dict(raw["auc"]),
            auc_per_class=tuple(Estimate.from_dict(value) for value in raw["auc_per_class"]),
            confusion=ConfusionMatrix(**confusion),
        )


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy of a first network minus that of a second, on the same events.

    ``only_first`` / ``only_second`` count the events that only one of them gets right. ``error`` is the standard
    error of the difference, far smaller than that of either accuracy because most events are shared.
    """

    difference: float
    error: float
    only_first: int
    only_second: int


def evaluate_classifier(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    class_names: tuple[str, ...],
) -> ClassificationMetrics:
    """All metrics of logits ``(events, classes)``; see ``scores`` for the decision and the score.

    Accuracy intervals are Clopper-Pearson, AUC errors DeLong with collisions as clusters. Raises DataError on
    shapes that do not match, values that are not finite and classes without weight.
    """
    check_logits(logits, labels, weights)
    if logits.shape[1] != len(class_names):
        raise DataError(f"the network has {logits.shape[1]} outputs for {len(class_names)} classes")
    for index, name in enumerate(class_names):
        if not weights[labels == index].sum() > 0:
            raise DataError(f"no events with weight of class {name!r}", hint="AUC needs every class in the sample")
    parts = [auc_influence(class_score(logits, c), labels == c, weights) for c in range(len(class_names))]
    return ClassificationMetrics(
        class_names=class_names,
        events=len(labels),
        accuracy=fraction_estimate(decide(logits) == labels, weights),
        auc=mean_auc_estimate(parts, groups),
        auc_per_class=tuple(auc_estimate(part, groups) for part in parts),
        confusion=confusion_matrix(decide(logits), labels, weights, len(class_names)),
    )


def confusion_matrix(
    decided: NDArray[np.int64], labels: NDArray[np.int64], weights: NDArray[np.float64], n_classes: int
) -> ConfusionMatrix:
    """Confusion of decided classes with labels; a class without weight gives a row of zeros."""
    cell = labels * n_classes + decided
    shape = (n_classes, n_classes)
    counts = np.bincount(cell, minlength=n_classes**2).reshape(shape)
    weighted = np.bincount(cell, weights, minlength=n_classes**2).reshape(shape)
    sums = weighted.sum(axis=1, keepdims=True)
    normalised = np.divide(weighted, sums, out=np.zeros(shape), where=sums > 0)
    return ConfusionMatrix(
        tuple(tuple(int(x) for x in row) for row in counts),
        tuple(tuple(float(x) for x in row) for row in weighted),
        tuple(tuple(float(x) for x in row) for row in normalised),
    )


def paired_accuracy_difference(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
) -> PairedDifference:
    """Accuracy difference of two sets of logits on the same events.

    With unit weights and independent events the variance is McNemar's (b + c - (b - c)^2 / n) / n^2, where b and c
    count the events only one network gets right (Psychometrika 12 (1947) 153); in general the residuals are
    weighted and summed per collision. Raises DataError as ``evaluate_classifier`` does.
    """
    check_logits(first, labels, weights)
    check_logits(second, labels, weights)
    if effective_events(weights) == 0:
        raise DataError("two networks cannot be compared on events without weight")
    first_right, second_right = decide(first) == labels, decide(second) == labels
    gain = first_right.astype(np.float64) - second_right.astype(np.float64)
    share = weights / weights.sum()
    difference = float((share * gain).sum())
    error = cluster_error(share * (gain - difference), groups)
    return PairedDifference(
        difference,
        error,
        int((first_right & ~second_right).sum()),
        int((second_right & ~first_right).sum()),
    )

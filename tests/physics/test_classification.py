"""Accuracy, confusion, scores and paired differences against counting and resampling."""

import json
import math

import numpy as np
import pytest

from trigger_prune.errors import DataError
from trigger_prune.physics.classification import (
    ClassificationMetrics,
    confusion_matrix,
    evaluate_classifier,
    paired_accuracy_difference,
)
from trigger_prune.physics.scores import class_score, decide

NAMES = ("q", "g", "W")


def sample(seed=0, n=300):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    logits = np.round(4 * (1.2 * np.eye(3)[labels] + generator.normal(size=(n, 3)))) / 4
    return logits, labels, generator.exponential(size=n), np.arange(n) // 2


def test_accuracy_and_confusion_by_counting():
    logits, labels, weights, groups = sample()
    metrics = evaluate_classifier(logits, labels, weights, groups, NAMES)
    counts, sums = np.zeros((3, 3), int), np.zeros((3, 3))
    for row, label, weight in zip(logits.tolist(), labels, weights, strict=True):
        choice = row.index(max(row))
        counts[label, choice] += 1
        sums[label, choice] += weight
    assert np.array_equal(metrics.confusion.counts, counts)
    assert np.allclose(metrics.confusion.weighted, sums)
    assert np.allclose(metrics.confusion.row_normalised, sums / sums.sum(axis=1, keepdims=True))
    assert metrics.accuracy.value == pytest.approx(np.trace(sums) / weights.sum())
    assert metrics.auc.value == pytest.approx(np.mean([part.value for part in metrics.auc_per_class]))


def test_auc_is_of_the_firmware_score():
    logits, labels, weights, groups = sample(1, 120)
    metrics = evaluate_classifier(logits, labels, weights, groups, NAMES)
    for c, estimate in enumerate(metrics.auc_per_class):
        score = [row[c] - max(v for k, v in enumerate(row) if k != c) for row in logits.tolist()]
        wins = total = 0.0
        for i in np.flatnonzero(labels == c):
            for j in np.flatnonzero(labels != c):
                total += weights[i] * weights[j]
                wins += weights[i] * weights[j] * ((score[i] > score[j]) + 0.5 * (score[i] == score[j]))
        assert estimate.value == pytest.approx(wins / total)


def test_score_is_unchanged_by_a_common_shift_and_agrees_with_the_decision():
    logits = sample(2)[0]
    for c in range(3):
        assert np.array_equal(class_score(logits, c), class_score(logits + 7, c))
        assert (decide(logits)[class_score(logits, c) > 0] == c).all()


def test_score_of_float32_logits_is_exact():
    logits = np.array([[16777216.0, 1.0]], dtype=np.float32)
    assert class_score(logits, 0)[0] == 16777215.0


def test_ties_are_decided_for_the_first_class():
    assert decide(np.array([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])).tolist() == [1, 0]


def test_unweighted_class_gives_a_zero_row_of_the_confusion():
    matrix = confusion_matrix(np.array([0, 1]), np.array([0, 1]), np.array([1.0, 0.0]), 2)
    assert matrix.row_normalised == ((1.0, 0.0), (0.0, 0.0))
    assert matrix.counts == ((1, 0), (0, 1))


def test_metrics_survive_json():
    metrics = evaluate_classifier(*sample(3), NAMES)
    assert ClassificationMetrics.from_dict(json.loads(json.dumps(metrics.to_dict()))) == metrics


def test_paired_difference_is_mcnemars():
    logits, labels, _, _ = sample(4)
    other = np.where(np.random.default_rng(9).random((300, 1)) < 0.2, logits[:, ::-1], logits)
    n = len(labels)
    pair = paired_accuracy_difference(logits, other, labels, np.ones(n), np.arange(n))
    right = [np.argmax(z, axis=1) == labels for z in (logits, other)]
    b, c = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert b != c
    assert b > 0
    assert c > 0
    assert (pair.only_first, pair.only_second) == (b, c)
    assert pair.difference == pytest.approx((b - c) / n)
    assert pair.error == pytest.approx(math.sqrt(b + c - (b - c) ** 2 / n) / n)


def test_weighted_paired_error_matches_a_bootstrap_by_collision():
    logits, labels, weights, _ = sample(5, 600)
    groups = np.arange(600) // 2
    other = np.where(np.random.default_rng(1).random((300, 1)).repeat(2, 0) < 0.3, logits[:, ::-1], logits)
    pair = paired_accuracy_difference(logits, other, labels, weights, groups)
    gain = (decide(logits) == labels).astype(float) - (decide(other) == labels)
    generator = np.random.default_rng(2)
    replicas = []
    for _ in range(1500):
        rows = (2 * generator.integers(0, 300, 300)[:, None] + np.arange(2)).ravel()
        replicas.append((weights[rows] * gain[rows]).sum() / weights[rows].sum())
    assert pair.error == pytest.approx(np.std(replicas), rel=0.1)


def test_a_network_does_not_differ_from_itself():
    logits, labels, weights, groups = sample(6)
    pair = paired_accuracy_difference(logits, logits, labels, weights, groups)
    assert (pair.difference, pair.error, pair.only_first, pair.only_second) == (0.0, 0.0, 0, 0)


def broken(**changes):
    arguments = dict(zip(("logits", "labels", "weights", "groups"), sample(7), strict=True)) | {"class_names": NAMES}
    return evaluate_classifier(**(arguments | changes))


def test_bad_input_is_named():
    logits, labels, weights, _ = sample(7)
    holed = logits.copy()
    holed[17, 1] = np.nan
    with pytest.raises(DataError, match="row 17"):
        broken(logits=holed)
    with pytest.raises(DataError, match="299 labels"):
        broken(labels=labels[1:])
    with pytest.raises(DataError, match="two classes or more"):
        broken(logits=logits[:, :1])
    with pytest.raises(DataError, match="3 outputs for 2 classes"):
        broken(class_names=("a", "b"))
    with pytest.raises(DataError, match="'W'"):
        broken(weights=np.where(labels == 2, 0.0, weights))
    with pytest.raises(DataError, match=r"label 5 of row 0"):
        broken(labels=np.append(5, labels[1:]))

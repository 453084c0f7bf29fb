"""AUC and its error against pair counting, DeLong's definition and bootstraps."""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from trigger_prune.errors import DataError
from trigger_prune.physics.auc import auc_estimate, auc_influence, cluster_error, mean_auc_estimate
from trigger_prune.physics.scores import class_score


def pair_count(scores, positive, weights):
    """AUC by looking at every pair."""
    wins = total = 0.0
    for s, w in zip(scores[positive], weights[positive], strict=True):
        for t, v in zip(scores[~positive], weights[~positive], strict=True):
            wins += w * v * ((s > t) + 0.5 * (s == t))
            total += w * v
    return wins / total


def delong_variance(scores, positive):
    """DeLong's variance from its definition, one pair at a time."""
    kernel = (scores[positive][:, None] > scores[~positive]) + 0.5 * (scores[positive][:, None] == scores[~positive])
    return kernel.mean(axis=1).var(ddof=1) / positive.sum() + kernel.mean(axis=0).var(ddof=1) / (~positive).sum()


def sample(seed, n=150, tied=True):
    generator = np.random.default_rng(seed)
    positive = generator.random(n) < 0.4
    scores = generator.normal(positive * 1.0, 1.0)
    return (np.round(scores * 2) / 2 if tied else scores), positive, generator.exponential(size=n)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_pair_counting(seed, tied):
    scores, positive, weights = sample(seed, tied=tied)
    assert auc_influence(scores, positive, weights).value == pytest.approx(pair_count(scores, positive, weights))


def test_unit_weights_equal_scipys_mann_whitney():
    scores, positive, _ = sample(3)
    u = mannwhitneyu(scores[positive], scores[~positive]).statistic
    value = auc_influence(scores, positive, np.ones(len(scores))).value
    assert value == pytest.approx(u / positive.sum() / (~positive).sum(), rel=1e-12)


def test_integer_weights_are_repeated_events():
    scores, positive, _ = sample(4)
    repeats = np.random.default_rng(0).integers(0, 4, len(scores))
    weighted = auc_influence(scores, positive, repeats.astype(float)).value
    repeated = auc_influence(np.repeat(scores, repeats), np.repeat(positive, repeats), np.ones(repeats.sum())).value
    assert weighted == pytest.approx(repeated, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_error_is_delongs(seed):
    scores, positive, _ = sample(seed)
    part = auc_influence(scores, positive, np.full(len(scores), 2.5))
    assert cluster_error(part.influence, np.arange(len(scores))) ** 2 == pytest.approx(
        delong_variance(scores, positive), rel=1e-10
    )


def test_gaussian_scores_have_the_closed_form():
    generator = np.random.default_rng(8)
    positive = np.arange(200_000) % 2 == 0
    part = auc_influence(generator.normal(positive * 1.3, 1.0), positive, np.ones(len(positive)))
    estimate = auc_estimate(part, np.arange(len(positive)))
    truth = norm.cdf(1.3 / math.sqrt(2))
    assert 1e-4 < estimate.error < 2e-3
    assert abs(estimate.value - truth) < 4 * estimate.error


def clustered(seed, collisions=250):
    """Two events per collision whose scores share most of their noise, with weights."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(collisions), 2)
    labels = np.repeat(generator.integers(0, 3, collisions), 2)
    common = np.repeat(generator.normal(size=(collisions, 3)), 2, axis=0)
    logits = 0.8 * np.eye(3)[labels] + common + 0.3 * generator.normal(size=(2 * collisions, 3))
    return logits, labels, np.repeat(generator.exponential(size=collisions), 2), groups


def test_mean_auc_error_with_weights_and_collisions_matches_a_bootstrap():
    logits, labels, weights, groups = clustered(1)

    def parts(rows):
        return [auc_influence(class_score(logits[rows], c), labels[rows] == c, weights[rows]) for c in range(3)]

    everything = np.arange(len(labels))
    estimate = mean_auc_estimate(parts(everything), groups)
    generator = np.random.default_rng(2)
    replicas = []
    for _ in range(400):
        drawn = generator.integers(0, groups.max() + 1, groups.max() + 1)
        rows = (2 * drawn[:, None] + np.arange(2)).ravel()
        replicas.append(np.mean([part.value for part in parts(rows)]))
    spread = np.std(replicas, ddof=1)
    # the bootstrap's own error is 3.5 %
    assert estimate.error == pytest.approx(spread, rel=0.13)
    blind = mean_auc_estimate(parts(everything), everything).error
    assert blind < 0.85 * spread, "ignoring the collisions must be visibly wrong here, or the test proves nothing"


def test_order_of_events_does_not_matter():
    scores, positive, weights = sample(6)
    shuffle = np.random.default_rng(1).permutation(len(scores))
    groups = np.arange(len(scores)) // 2
    first = auc_estimate(auc_influence(scores, positive, weights), groups)
    second = auc_estimate(auc_influence(scores[shuffle], positive[shuffle], weights[shuffle]), groups[shuffle])
    assert first.value == pytest.approx(second.value, rel=1e-12)
    assert first.error == pytest.approx(second.error, rel=1e-9)


def test_perfect_useless_and_inverted_scores():
    positive = np.arange(20) < 8
    ones = np.ones(20)
    assert auc_influence(positive.astype(float), positive, ones).value == 1
    assert auc_influence(np.zeros(20), positive, ones).value == 0.5
    assert auc_influence(-positive.astype(float), positive, ones).value == 0


def test_a_single_signal_event_has_no_known_error():
    positive = np.arange(10) == 0
    estimate = auc_estimate(auc_influence(np.arange(10.0), positive, np.ones(10)), np.arange(10))
    assert estimate.error == math.inf
    assert (estimate.low68, estimate.high95) == (0.0, 1.0)


@pytest.mark.parametrize(("positive", "empty"), [(np.zeros(4, bool), "signal"), (np.ones(4, bool), "background")])
def test_a_missing_kind_is_named(positive, empty):
    with pytest.raises(DataError, match=f"needs {empty}"):
        auc_influence(np.arange(4.0), positive, np.ones(4))

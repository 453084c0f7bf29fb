"""Efficiency at exactly equal rate against drawing random tie-breakers, and its errors against many samples."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from scored_toys import toy

from trigger_prune.physics.clusters import cluster_sums
from trigger_prune.physics.equal_efficiency import equal_rate_points, rank_background
from trigger_prune.physics.intervals import clustered_fraction_estimate
from trigger_prune.physics.rates import rate_above
from trigger_prune.physics.roc import roc_curve, signal_efficiency_at


def points(events, rates_hz, process=0, up_to_hz=math.inf):
    return equal_rate_points(events, process, np.array(rates_hz, float), rank_background(events, up_to_hz))


def values(found):
    return [estimate.value for estimate in found.efficiencies]


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_agrees_with_the_straight_line_of_the_roc_curve(step):
    events = toy(1, step=step)
    rates = [2e2, 1e3, 3.3e3, 1e4, 1e5, 9.9e5]
    used = events.signal <= 0
    curve = roc_curve(events.scores[used], events.signal[used] == 0, events.weights[used])
    expected = [signal_efficiency_at(curve, rate / 1e6) for rate in rates]
    assert values(points(events, rates)) == pytest.approx(expected, rel=1e-9)


def test_is_the_mean_over_random_tie_breaking():
    events = toy(2, 400, 100, step=1.0, weighted=False)
    generator = np.random.default_rng(3)
    background, signal = events.scores[events.signal == -1], events.scores[events.signal == 0]
    # scores are one apart: a random number below 1 added to them breaks ties and nothing else
    threshold = 1.3
    drawn = [
        (np.sum(background + generator.random(400) >= threshold), np.mean(signal + generator.random(100) >= threshold))
        for _ in range(4000)
    ]
    passing, efficiency = np.mean(drawn, axis=0)
    assert 0 < np.sum(background >= 2) < passing < np.sum(background >= 1)
    assert values(points(events, [passing * 1e6 / 400]))[0] == pytest.approx(efficiency, abs=0.002)


def test_a_truncated_background_gives_the_same():
    events = toy(4, 200_000, 1000)
    rates = [1e3, 1e4]
    assert points(events, rates) == points(events, rates, up_to_hz=3e4)


def test_a_rate_beyond_the_background_passes_all():
    events = toy(5)
    assert values(points(events, [1e6, 2e6])) == [1.0, 1.0]


def test_rate_errors_count_collisions():
    events = toy(6, reuse=4)
    scores, weights, groups = events.part(-1)
    found = points(events, [5e4])
    threshold = np.sort(scores)[::-1][np.searchsorted(np.cumsum(weights[np.argsort(-scores)]), 5e4)]
    expected = rate_above(scores, weights, threshold, groups)
    assert found.background_events[0] == pytest.approx(expected.n_effective)
    assert found.rate_errors_hz[0] == pytest.approx(5e4 / math.sqrt(expected.n_effective))


def test_signal_counts_are_those_of_the_clustered_fraction():
    events = toy(7, reuse=8, step=0.25)
    scores, weights, groups = events.part(0)
    background_scores, background_weights, _ = events.part(-1)
    for threshold in (0.5, 1.5, 2.5):
        rate = background_weights[background_scores >= threshold].sum()
        # a hair below the rate of a threshold the crossing score is that threshold, and (almost) all of it passes
        found = points(events, [rate * (1 - 1e-7)])
        expected = clustered_fraction_estimate(scores >= threshold, weights, groups)
        assert found.efficiencies[0].value == pytest.approx(expected.value, abs=1e-5)
        assert found.efficiencies[0].n_effective == pytest.approx(expected.n_effective, rel=1e-4)
    assert cluster_sums(groups, weights).max() == 4.0


@pytest.mark.parametrize("reuse", [1, 4])
def test_errors_and_bands_hold_over_many_samples(reuse):
    """Normal scores of unit width: the true efficiency at a rate is known in closed form."""
    share = 0.02
    true = norm.sf(norm.isf(share) - 2.0)
    pulls, covered68, covered95, trials = [], 0, 0, 300
    for seed in range(trials):
        found = points(toy(seed, 4000 * reuse, 400 * reuse, reuse=reuse, weighted=False), [share * 1e6])
        estimate = found.efficiencies[0]
        pulls.append((estimate.value - true) / estimate.error)
        covered68 += estimate.low68 <= true <= estimate.high68
        covered95 += estimate.low95 <= true <= estimate.high95
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.25)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.12)
    assert 0.62 <= covered68 / trials <= 0.76
    assert covered95 / trials >= 0.925

"""Intervals against scipy's own binomial test, closed forms and toys."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from trigger_prune.errors import DataError
from trigger_prune.physics.intervals import (
    LEVEL_68,
    LEVEL_95,
    clopper_pearson,
    clustered_fraction_estimate,
    effective_events,
    fraction_estimate,
    normal_estimate,
)


@pytest.mark.parametrize(("passed", "total"), [(0, 10), (10, 10), (3, 10), (1, 1), (671, 1000), (44_000, 65_000)])
@pytest.mark.parametrize("level", [LEVEL_68, LEVEL_95])
def test_clopper_pearson_is_scipys_exact_interval(passed, total, level):
    expected = binomtest(passed, total).proportion_ci(level, method="exact")
    assert clopper_pearson(passed, total, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_nothing_passing_has_the_closed_form():
    # P(0 of n) = (1 - p)^n = tail
    low, high = clopper_pearson(0, 50, 0.95)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 50), rel=1e-12)


def test_coverage_is_at_least_nominal():
    """Exact coverage by summing the binomial distribution, for a grid of true fractions."""
    n = 40
    intervals = [clopper_pearson(k, n, LEVEL_68) for k in range(n + 1)]
    for true in np.linspace(0.02, 0.98, 49):
        covered = sum(binom.pmf(k, n, true) for k, (low, high) in enumerate(intervals) if low <= true <= high)
        assert covered >= LEVEL_68


def test_equal_weights_of_any_size_give_the_unweighted_interval():
    passes = np.arange(200) < 137
    unit = fraction_estimate(passes, np.ones(200))
    scaled = fraction_estimate(passes, np.full(200, 0.037))
    assert unit == scaled
    assert unit.method == "Clopper-Pearson"
    assert (unit.low95, unit.high95) == clopper_pearson(137, 200, LEVEL_95)


def test_events_without_weight_do_not_count():
    passes = np.array([True, False, True, True])
    assert fraction_estimate(passes, np.array([1.0, 1.0, 0.0, 0.0])) == fraction_estimate(passes[:2], np.ones(2))


def test_weighted_fraction_uses_the_effective_count():
    passes, weights = np.array([True, True, False, False]), np.array([3.0, 1.0, 1.0, 1.0])
    estimate = fraction_estimate(passes, weights)
    assert estimate.value == pytest.approx(4 / 6)
    assert estimate.n_effective == pytest.approx(36 / 12)
    assert (estimate.low68, estimate.high68) == clopper_pearson(4 / 6 * 3, 3, LEVEL_68)
    assert "effective" in estimate.method


def test_weighted_interval_covers_the_truth_in_toys():
    generator = np.random.default_rng(5)
    covered, toys = 0, 600
    for _ in range(toys):
        weights = generator.exponential(size=300)
        estimate = fraction_estimate(generator.random(300) < 0.67, weights)
        covered += estimate.low68 <= 0.67 <= estimate.high68
    # binomial error of the coverage is 0.019; Clopper-Pearson covers a little too much by construction
    assert 0.63 < covered / toys < 0.78


def test_effective_events():
    assert effective_events(np.ones(7)) == 7
    assert effective_events(np.array([1.0, 0.0])) == 1
    assert effective_events(np.zeros(3)) == 0


def test_normal_estimate_stays_inside_its_bounds():
    estimate = normal_estimate(0.98, 0.05, 10, "test")
    assert (estimate.high68, estimate.high95) == (1.0, 1.0)
    assert estimate.low95 == pytest.approx(0.98 - 1.959963984540054 * 0.05)
    unknown = normal_estimate(0.7, math.inf, 1, "test")
    assert (unknown.low68, unknown.high68) == (0.0, 1.0)


@pytest.mark.parametrize(("passed", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_errors(passed, total):
    with pytest.raises(DataError, match="not a fraction"):
        clopper_pearson(passed, total, 0.95)


def test_no_weight_is_an_error():
    with pytest.raises(DataError, match="without weight"):
        fraction_estimate(np.array([True]), np.zeros(1))


def test_unrepeated_collisions_give_the_plain_fraction():
    generator = np.random.default_rng(4)
    passes, weights = generator.random(300) < 0.8, generator.random(300)
    for w in (weights, np.ones(300)):
        assert clustered_fraction_estimate(passes, w, generator.permutation(300) - 7) == fraction_estimate(passes, w)


def test_rows_that_repeat_a_collision_exactly_count_once():
    passes = np.arange(200) < 137
    once, eight = np.arange(200), np.repeat(np.arange(200), 8)
    single = clustered_fraction_estimate(passes, np.ones(200), once)
    repeated = clustered_fraction_estimate(np.repeat(passes, 8), np.ones(1600), eight)
    assert repeated.value == single.value
    # 199 instead of 200: the variance between collisions is estimated from them
    assert repeated.n_effective == pytest.approx(199)
    assert (repeated.low95, repeated.high95) == pytest.approx((single.low95, single.high95), abs=1e-3)


def test_when_all_pass_every_collision_counts_once():
    estimate = clustered_fraction_estimate(np.ones(1600, bool), np.ones(1600), np.repeat(np.arange(200), 8))
    assert (estimate.value, estimate.high68, estimate.n_effective) == (1.0, 1.0, pytest.approx(200))
    assert estimate.low95 == pytest.approx(0.025 ** (1 / 200))


def test_independent_rows_that_share_a_number_gain_nothing_beyond_their_count():
    generator = np.random.default_rng(6)
    passes = generator.random(8000) < 0.9
    estimate = clustered_fraction_estimate(passes, np.ones(8000), np.repeat(np.arange(1000), 8))
    assert 0.85 * 8000 < estimate.n_effective <= 8000


@pytest.mark.parametrize("true", [0.5, 0.93])
def test_intervals_of_repeated_collisions_cover(true):
    """Rows of one collision agree often: intervals per row would cover 68 % in less than half of the samples."""
    generator = np.random.default_rng(8)
    covered, naive, trials = 0, 0, 400
    for _ in range(trials):
        # efficiency per collision from a beta distribution: intra-class correlation 1 / (1 + 1) = 0.5
        chance = np.repeat(generator.beta(true, 1 - true, size=150), 8)
        passes = generator.random(1200) < chance
        estimate = clustered_fraction_estimate(passes, np.ones(1200), np.repeat(np.arange(150), 8))
        covered += estimate.low68 <= true <= estimate.high68
        plain = fraction_estimate(passes, np.ones(1200))
        naive += plain.low68 <= true <= plain.high68
    assert 0.64 <= covered / trials <= 0.78
    assert naive / trials < 0.5

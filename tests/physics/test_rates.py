"""Rates and thresholds against brute force over all score values."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trigger_prune.errors import DataError
from trigger_prune.physics.rates import RateEstimate, Threshold, find_threshold, find_thresholds, rate_above, sum_rate

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.5, 1.0, 3.0])), min_size=1, max_size=50)


def brute_force(scores, weights, target):
    """Lowest value of a score with weight whose rate is at most the target, its rate, and the step below."""
    found, rate = math.inf, 0.0
    for value in sorted(set(scores[weights > 0].tolist()), reverse=True):
        passing = weights[scores >= value].sum()
        if passing > target:
            return found, rate, passing - rate
        found, rate = value, passing
    return found, rate, 0.0


@given(ROWS, st.sampled_from([0.25, 0.5, 1.0, 2.5, 7.0, 1000.0]), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=200, deadline=None)
def test_threshold_is_the_lowest_value_that_meets_the_rate(rows, target, dtype):
    scores, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    if not weights.any():
        with pytest.raises(DataError, match="all weights are zero"):
            find_threshold(scores.astype(dtype), weights, target)
        return
    threshold = find_threshold(scores.astype(dtype), weights, target)
    assert (threshold.value, threshold.rate_hz, threshold.step_hz) == brute_force(scores, weights, target)
    assert rate_above(scores.astype(dtype), weights, threshold.value).rate_hz == threshold.rate_hz


def test_many_rows_and_several_targets_agree_with_brute_force():
    generator = np.random.default_rng(1)
    scores = np.round(generator.normal(size=100_000) * 50)
    weights = generator.exponential(size=100_000)
    targets = (50_000.0, 3.0, 700.0)
    for threshold, target in zip(find_thresholds(scores, weights, targets), targets, strict=True):
        value, rate, step = brute_force(scores, weights, target)
        assert threshold.value == value
        assert (threshold.rate_hz, threshold.step_hz) == pytest.approx((rate, step), rel=1e-9)


def test_a_rate_reached_but_for_rounding_is_met():
    # 0.1 + 0.1 + 0.1 > 0.3 in floating point
    assert find_threshold(np.array([3.0, 2.0, 1.0, 0.0]), np.full(4, 0.1), 0.3).value == 1.0


def test_nothing_passes_when_the_highest_score_alone_is_too_much():
    scores, weights = np.array([7, 7, 1], float), np.array([2.0, 2.0, 1.0])
    threshold = find_threshold(scores, weights, 3.0)
    assert (threshold.value, threshold.rate_hz, threshold.step_hz) == (math.inf, 0.0, 4.0)
    assert threshold.passes_nothing
    assert rate_above(scores, weights, threshold.value) == RateEstimate(0.0, 0.0, 0.0, 0)


def test_everything_passes_when_all_fits():
    threshold = find_threshold(np.array([2.0, -5.0, 1.0]), np.ones(3), 3.0)
    assert (threshold.value, threshold.rate_hz, threshold.step_hz) == (-5.0, 3.0, 0.0)


def test_rows_without_weight_set_no_threshold():
    scores, weights = np.array([9.0, 5.0, 4.0, 3.0]), np.array([0.0, 1.0, 0.0, 1.0])
    assert find_threshold(scores, weights, 1.5).value == 5.0
    assert find_threshold(scores, weights, 0.5).passes_nothing


def test_negative_zero_is_zero():
    scores = np.array([1.0, -0.0, 0.0, -1.0])
    threshold = find_threshold(scores, np.ones(4), 3.0)
    assert str(threshold.value) == "0.0"
    assert rate_above(scores, np.ones(4), threshold.value).rate_hz == 3.0


def test_a_float64_threshold_is_not_rounded_to_float32_scores():
    scores = np.array([0.1], np.float32)  # 0.100000001490116
    assert rate_above(scores, np.ones(1), 0.1).rate_hz == 1.0
    assert rate_above(scores, np.ones(1), 0.100000002).rate_hz == 0.0


def test_errors_count_collisions_when_rows_share_them():
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    rows = rate_above(np.arange(4.0), weights, 1.0)
    assert (rows.rate_hz, rows.error_hz, rows.n_effective) == pytest.approx((9, math.sqrt(29), 81 / 29))
    shared = rate_above(np.arange(4.0), weights, 1.0, groups=np.array([5, 5, 9, 5]))
    # passing: 2 and 4 of collision 5, 3 of collision 9
    assert (shared.rate_hz, shared.error_hz) == pytest.approx((9, math.sqrt(36 + 9)))
    assert (shared.n_effective, shared.events) == (pytest.approx(81 / 45), 3)


def test_the_error_is_the_spread_of_the_rate_over_many_samples():
    """Poisson numbers of collisions, each used three times with the same weight; fixed seed."""
    generator = np.random.default_rng(2)
    rates, pulls = [], []
    for _ in range(800):
        n = generator.poisson(300)
        groups, weights = np.repeat(np.arange(n), 3), np.repeat(generator.exponential(size=n), 3)
        rate = rate_above(np.repeat(generator.random(n), 3), weights, 0.6, groups)
        rates.append(rate.rate_hz)
        pulls.append((rate.rate_hz - 300 * 3 * 0.4) / rate.error_hz)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.08)
    assert np.mean(rates) == pytest.approx(360, abs=4 * np.std(rates) / math.sqrt(800))


def test_warning_below_a_hundred_effective_events():
    assert sum_rate(np.ones(100)).warning is None
    assert "99 effective" in (sum_rate(np.ones(99)).warning or "")
    assert "no background event passes" in (sum_rate(np.zeros(0)).warning or "")
    # a thousand rows of one collision are one event
    assert "1 effective" in (sum_rate(np.ones(1000), np.zeros(1000, np.int64)).warning or "")


@pytest.mark.parametrize(
    ("scores", "weights", "message"),
    [
        ([1.0, 2.0, 3.0], [1.0, -1.0, 1.0], r"weight of row 1 is -1\.0"),
        ([1.0, 2.0, 3.0], [1.0, 1.0, math.nan], "weight of row 2 is nan"),
        ([1.0, 2.0, 3.0], [math.inf, 1.0, 1.0], "weight of row 0 is inf"),
        ([1.0, math.nan, math.nan], [1.0, 1.0, 1.0], r"score of row 1 is nan.*2 such rows"),
        ([math.inf, 2.0, 3.0], [1.0, 1.0, 1.0], "score of row 0 is inf"),
        ([1.0, 2.0], [1.0], "one per row"),
        ([], [], "no events"),
    ],
)
def test_bad_input_is_named(scores, weights, message):
    for call in (lambda s, w: find_threshold(s, w, 1.0), lambda s, w: rate_above(s, w, 0.0)):
        with pytest.raises(DataError, match=message):
            call(np.array(scores, float), np.array(weights, float))


def test_integer_scores_are_as_good_as_floating_ones():
    generator = np.random.default_rng(3)
    words, weights = generator.integers(-8, 8, 500, dtype=np.int16), generator.integers(0, 4, 500) / 4
    assert find_threshold(words, weights, 50.0) == find_threshold(words.astype(float), weights, 50.0)


def test_single_precision_weights_are_refused():
    with pytest.raises(DataError, match="weights are float32"):
        rate_above(np.ones(3), np.ones(3, np.float32), 0.0)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_a_target_must_be_positive(target):
    with pytest.raises(DataError, match="target rate"):
        find_threshold(np.ones(3), np.ones(3), target)


def test_restored_from_json():
    for threshold in (Threshold(1.5, 1e3, 900.0, 20.0), Threshold(math.inf, 1e3, 0.0, 2e3)):
        assert Threshold.from_dict(json.loads(json.dumps(threshold.to_dict(), allow_nan=False))) == threshold
    rate = sum_rate(np.array([1.0, 2.0]))
    assert RateEstimate.from_dict(json.loads(json.dumps(rate.to_dict()))) == rate

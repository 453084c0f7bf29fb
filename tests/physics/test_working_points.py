"""Working points: thresholds from validation, figures from test, and every warning."""

import json
import math

import numpy as np
import pytest
from scored_toys import NAMES, toy

from trigger_prune.errors import DataError
from trigger_prune.physics.equal_efficiency import rank_background
from trigger_prune.physics.rates import RateEstimate, find_threshold, rate_above
from trigger_prune.physics.scored_events import ScoredEvents
from trigger_prune.physics.working_points import WorkingPoint, rate_change, working_points


@pytest.mark.parametrize("step", [0.0, 0.25])
def test_figures_are_those_of_the_validation_threshold_on_test(step):
    validation, test = toy(1, step=step), toy(2, step=step)
    for point, target in zip(working_points(validation, test, (100.0, 5.0)), (100.0, 5.0), strict=True):
        scores, weights, groups = validation.part(-1)
        threshold = find_threshold(scores, weights, 1e3 * target)
        assert (point.target_khz, point.threshold) == (target, threshold)
        assert point.validation_rate == rate_above(scores, weights, threshold.value, groups)
        assert point.test_rate == rate_above(*test.part(-1)[:2], threshold.value, test.part(-1)[2])
        assert point.moved == pytest.approx(point.test_rate.rate_hz / point.validation_rate.rate_hz - 1)
        for process, name in enumerate(NAMES):
            assert point.efficiency[name].value == pytest.approx(
                np.mean(test.scores[test.signal == process] >= threshold.value)
            )
            assert abs(point.efficiency_at_equal_rate[name].value - point.efficiency[name].value) < 0.2
            assert "randomised tie-breaking" in point.efficiency_at_equal_rate[name].method


def test_equal_rate_does_not_depend_on_validation():
    test = toy(2)
    first, second = (working_points(toy(seed), test)[2].efficiency_at_equal_rate for seed in (1, 9))
    assert first == second


def test_a_ready_ranking_changes_nothing():
    validation, test = toy(1), toy(2)
    assert working_points(validation, test) == working_points(validation, test, test_background=rank_background(test))


def test_single_precision_scores_give_the_same_figures():
    samples = [toy(seed, step=0.25) for seed in (1, 2)]
    single = [ScoredEvents(e.scores.astype(np.float32), e.signal, e.weights, e.groups, e.signal_names) for e in samples]
    assert working_points(*samples) == working_points(*single)


def test_intervals_of_reused_collisions_are_wider():
    once = working_points(toy(1, reuse=1), toy(2, reuse=1), (50.0,))[0].efficiency["HH4b"]
    reused = working_points(toy(1, reuse=8), toy(2, reuse=8), (50.0,))[0].efficiency["HH4b"]
    assert reused.n_effective < 0.4 * once.n_effective


def test_the_move_and_its_error_hold_over_many_samples():
    pulls = []
    for seed in range(300):
        point = working_points(toy(2 * seed, weighted=False), toy(2 * seed + 1, weighted=False), (50.0,))[0]
        pulls.append(point.moved / point.moved_error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.12)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.25)


def test_change_of_a_rate():
    before = RateEstimate(100.0, 10.0, 100.0, 100)
    assert rate_change(before, RateEstimate(110.0, 11.0, 100.0, 100)) == pytest.approx((0.1, math.hypot(0.11, 0.11)))
    assert rate_change(RateEstimate(0.0, 0.0, 0.0, 0), before) == (None, None)
    moved, error = rate_change(RateEstimate(4.0, 2.0, 4.0, 4), RateEstimate(0.0, 0.0, 0.0, 0))
    assert (moved, error) == (-1.0, pytest.approx(0.25))


def test_warnings():
    validation, test = toy(1, total_hz=1e6), toy(2, total_hz=1e6)
    low, high = working_points(validation, test, (1.0, 100.0))
    assert [text.split(":")[0] for text in low.warnings] == ["validation", "test"]
    assert all("effective background events (below 100)" in text for text in low.warnings)
    assert high.warnings == ()

    nothing = working_points(toy(1, step=5.0), toy(2, step=5.0), (1.0,))[0]
    assert "nothing passes" in nothing.warnings[0]
    assert (nothing.moved, nothing.efficiency["HH4b"].value) == (None, 0.0)
    assert nothing.efficiency_at_equal_rate["HH4b"].value > 0

    coarse = working_points(toy(1, step=1.0), toy(2, step=1.0), (100.0,))[0]
    assert any("coarse" in text and "one step lower" in text for text in coarse.warnings)

    whole = working_points(validation, test, (2000.0,))[0]
    assert sum("everything passes" in text for text in whole.warnings) == 2

    halved = working_points(validation, toy(2, total_hz=5e5), (100.0,))[0]
    assert any("not normalised to the same bunch crossings" in text for text in halved.warnings)


def test_a_target_must_be_positive():
    with pytest.raises(DataError, match="target rate"):
        working_points(toy(1), toy(2), (0.0,))


def test_restored_from_json():
    points = [*working_points(toy(1), toy(2)), *working_points(toy(1, step=5.0), toy(2, step=5.0), (1.0,))]
    for point in points:
        assert WorkingPoint.from_dict(json.loads(json.dumps(point.to_dict(), allow_nan=False))) == point

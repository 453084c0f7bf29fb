"""ROC points against counting at every threshold, and what decimation keeps."""

import numpy as np
import pytest

from trigger_prune.errors import DataError
from trigger_prune.physics.auc import auc_influence
from trigger_prune.physics.roc import decimate, roc_curve, signal_efficiency_at


def sample(seed=1, n=400, step=0.25):
    generator = np.random.default_rng(seed)
    positive = generator.random(n) < 0.3
    scores = np.round(generator.normal(positive * 1.5, 1.0) / step) * step
    return scores, positive, generator.exponential(size=n)


def test_every_point_is_what_its_threshold_passes():
    scores, positive, weights = sample()
    curve = roc_curve(scores, positive, weights)
    assert sorted(set(scores), reverse=True) == curve.threshold.tolist()
    for signal, background, threshold, events in zip(
        curve.signal_efficiency,
        curve.background_efficiency,
        curve.threshold,
        curve.background_events,
        strict=True,
    ):
        passing = scores >= threshold
        assert signal == pytest.approx(weights[passing & positive].sum() / weights[positive].sum())
        assert background == pytest.approx(weights[passing & ~positive].sum() / weights[~positive].sum())
        w = weights[passing & ~positive]
        assert events == pytest.approx(w.sum() ** 2 / np.square(w).sum() if len(w) else 0)


def test_trapezoidal_area_is_the_auc():
    scores, positive, weights = sample(2)
    curve = roc_curve(scores, positive, weights)
    area = np.trapezoid(np.append(0, curve.signal_efficiency), np.append(0, curve.background_efficiency))
    assert area == pytest.approx(auc_influence(scores, positive, weights).value, rel=1e-12)


def test_efficiency_between_two_thresholds_is_random_tie_breaking():
    # threshold 2: half the signal, no background; threshold 1: all signal, half the background
    scores = np.array([2.0, 1.0, 1.0, 0.0])
    curve = roc_curve(scores, np.array([True, True, False, False]), np.ones(4))
    assert signal_efficiency_at(curve, 0.0) == 0.5
    assert signal_efficiency_at(curve, 0.25) == 0.75
    assert signal_efficiency_at(curve, 0.5) == 1.0
    assert signal_efficiency_at(curve, 0.9) == 1.0


def test_no_signal_is_credited_before_the_background_above_it_is_paid():
    # signal at 3, one background event at 2, the rest of the signal at 1: half of that event buys nothing
    curve = roc_curve(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False]), np.ones(4))
    assert [signal_efficiency_at(curve, x) for x in (0.0, 0.25, 0.499, 0.5, 1.0)] == [0.5, 0.5, 0.5, 1.0, 1.0]


def test_decimation_keeps_true_points_and_the_shape():
    generator = np.random.default_rng(3)
    positive = np.arange(400_000) % 4 == 0
    full = roc_curve(generator.normal(positive * 2.0, 1.0), positive, np.ones(len(positive)))
    few = decimate(full, cells=100, floor=1e-5)
    assert len(full.threshold) == 400_000
    assert len(few.threshold) <= 203
    assert set(few.threshold) <= set(full.threshold)
    assert few.background_efficiency[0] == pytest.approx(1e-5, rel=0.4)
    assert (few.signal_efficiency[-1], few.background_efficiency[-1]) == (1.0, 1.0)
    # the drawn polyline stays within a raster cell of all points, where single events are not yet visible as steps
    smooth = full.background_efficiency > 1e-4
    drawn = np.interp(full.signal_efficiency[smooth], few.signal_efficiency, np.log10(few.background_efficiency))
    assert np.abs(drawn - np.log10(full.background_efficiency[smooth])).max() < 5 / 100


def test_a_curve_with_a_single_threshold_survives_decimation():
    curve = decimate(roc_curve(np.zeros(6), np.arange(6) < 2, np.ones(6)))
    assert (curve.signal_efficiency.tolist(), curve.background_efficiency.tolist()) == ([1.0], [1.0])


def test_missing_background_is_an_error():
    with pytest.raises(DataError, match="signal and background"):
        roc_curve(np.arange(3.0), np.ones(3, bool), np.ones(3))

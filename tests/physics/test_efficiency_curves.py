"""Curves against their points, and ROC curves against the full ones."""

import json

import numpy as np
import pytest
from scored_toys import NAMES, toy

from trigger_prune.errors import DataError
from trigger_prune.physics.efficiency_curves import EfficiencyCurve, efficiency_curves, roc_curves
from trigger_prune.physics.equal_efficiency import equal_rate_points, rank_background
from trigger_prune.physics.roc import decimate, roc_curve


def test_points_are_those_of_single_rates():
    events = toy(1, reuse=4)
    background = rank_background(events)
    curves = efficiency_curves(events, (1.0, 30.0, 100.0))
    assert curves == efficiency_curves(events, (1.0, 30.0, 100.0), background)
    for process, curve in enumerate(curves):
        for position, rate in enumerate(curve.rate_khz):
            alone = equal_rate_points(events, process, np.array([1e3 * rate]), background)
            estimate = alone.efficiencies[0]
            found = curve.efficiency[position], curve.low68[position], curve.high68[position]
            assert found == pytest.approx((estimate.value, estimate.low68, estimate.high68))
            assert curve.background_events[position] == pytest.approx(alone.background_events[0])


def test_default_rates_reach_the_total_and_efficiencies_only_grow():
    curve = efficiency_curves(toy(2))[0]
    assert curve.rate_khz[0] == pytest.approx(0.1)
    assert (curve.rate_khz[-1], curve.efficiency[-1]) == pytest.approx((1000.0, 1.0))
    assert len(curve.rate_khz) == 41
    assert (np.diff(curve.efficiency) >= 0).all()
    assert (np.array(curve.low68) <= curve.efficiency).all()
    assert (np.array(curve.high68) >= curve.efficiency).all()
    assert (np.diff(curve.background_events) >= 0).mean() > 0.9


def test_a_background_below_the_usual_rates_still_has_a_curve():
    curve = efficiency_curves(toy(2, total_hz=50.0))[0]
    assert curve.rate_khz[-1] == pytest.approx(0.05)
    assert curve.efficiency[-1] == 1.0


@pytest.mark.parametrize("rates", [(), (0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (1.0, np.inf)])
def test_rates_must_increase(rates):
    with pytest.raises(DataError, match="do not increase"):
        efficiency_curves(toy(1), rates)


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_roc_points_are_points_of_the_full_curve(step):
    events = toy(3, 60_000, 20_000, step=step)
    curves = roc_curves(events)
    assert tuple(curves) == NAMES
    for process, curve in enumerate(curves.values()):
        used = (events.signal == process) | (events.signal == -1)
        full = roc_curve(events.scores[used], events.signal[used] == process, events.weights[used])
        rows = np.searchsorted(-full.threshold, -curve.threshold)
        for key in ("threshold", "signal_efficiency", "background_efficiency", "background_events"):
            np.testing.assert_allclose(getattr(curve, key), getattr(full, key)[rows], rtol=1e-9)
        assert len(curve.threshold) <= 243
        assert (curve.signal_efficiency[-1], curve.background_efficiency[-1]) == pytest.approx((1.0, 1.0))
        assert curve.background_efficiency[0] == pytest.approx(decimate(full).background_efficiency[0], rel=1e-9)
        # what is drawn stays within a cell of every point, where single events are not yet visible as steps
        smooth = full.background_efficiency > 1e-3
        drawn = np.interp(
            full.signal_efficiency[smooth], curve.signal_efficiency, np.log10(curve.background_efficiency)
        )
        if not step:
            assert np.abs(drawn - np.log10(full.background_efficiency[smooth])).max() < 5 / 100


def test_restored_from_json():
    for curve in efficiency_curves(toy(1)):
        assert EfficiencyCurve.from_dict(json.loads(json.dumps(curve.to_dict()))) == curve

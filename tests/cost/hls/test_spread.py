"""Prediction intervals: coverage on fresh draws, honesty with few samples, hold-out by project."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.spread import UNKNOWN, held_out_predictions, interval, ratios, spread, widened
from trigger_prune.fixed_point import FixedPoint

DATA = FixedPoint(16, 6)
SETTING = HlsSetting("vivado_hls", "2019.2", "xcvu9p-flga2104-2-e", "virtexuplus", 5.0)


@pytest.mark.parametrize("count", [4, 10, 40, 200])
def test_ninety_percent_of_further_values_lie_inside(count: int):
    rng = np.random.default_rng(count)
    covered = []
    for _ in range(400):
        low, high = interval(np.exp(rng.normal(0.0, 0.4, count)))
        fresh = np.exp(rng.normal(0.0, 0.4, 50))
        covered.append(np.mean((fresh >= low) & (fresh <= high)))
    assert 0.88 <= np.mean(covered) <= 0.96


def test_an_exact_quantity_has_no_width_and_an_unknown_one_is_declared():
    assert interval(np.ones(30)) == (1.0, 1.0)
    assert interval(np.ones(1)) == UNKNOWN


def test_zero_against_zero_is_right():
    assert list(ratios([0, 0, 4], [0, 3, 2])) == [1.0, 0.25, 2.0]


def test_a_project_never_predicts_itself():
    def predict(layer, setting, parameters):
        return LayerEstimate(parameters["lut"], None, None, None, None, None)

    def fit(samples, parameters):
        return {"lut": float(np.mean([sample.measured.lut for sample in samples]))}

    family = SimpleNamespace(predict=predict, fit=fit)
    layer = HlsLayer("x", "add", 1, 1, DATA, DATA)
    samples = [
        LayerSample(layer, SETTING, LayerEstimate(lut, None, None, None, None, None), project)
        for project, lut in (("a", 10.0), ("a", 20.0), ("b", 100.0))
    ]
    assert [one.lut for one in held_out_predictions(family, samples, {"lut": 1.0})] == [100.0, 100.0, 15.0]
    factors = spread(family, samples, {"lut": 1.0})
    assert set(factors) == {"lut"}
    low, high = factors["lut"]
    assert low <= 0.1
    assert high >= 100 / 15


def test_a_farther_release_has_a_wider_interval():
    near, far = widened((0.8, 1.5), 0), widened((0.8, 1.5), 2)
    assert near == (0.8, 1.5)
    assert far[0] < near[0]
    assert far[1] > near[1]

"""Errors that two estimates of a layer share, from errors that were made up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trigger_prune.cost.calibration.predictions import Prediction
from trigger_prune.cost.calibration.reuse_ratios import ratio_errors, ratio_spread
from trigger_prune.cost.calibration.samples import Origin, Samples
from trigger_prune.cost.hls.calibration import Calibration, shipped_calibration
from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.layers import spread_of_layer
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.hls.network import predict_design
from trigger_prune.cost.hls.shared_error import SHARED_ERROR, half_width, shared_errors, shared_part
from trigger_prune.fixed_point import FixedPoint

SETTING = HlsSetting("vivado_hls", "2020.1", "xcvu9p-flga2104-2-e", "virtexuplus", 5.0)
WIDE, NARROW = FixedPoint(16, 6), FixedPoint(8, 1)
NONE = LayerEstimate(None, None, None, None, None, None)


def dense(n_in: int, n_out: int, factor: int) -> HlsLayer:
    return HlsLayer(f"{n_in}x{n_out}", "dense", n_in, n_out, WIDE, WIDE, "resource", factor, WIDE, weight_type=NARROW)


def made_up(errors: dict[tuple[str, int, int], float]) -> tuple[Samples, list[Prediction]]:
    """Layers of n inputs and 32 outputs with log(truth / estimate) by (project, n, reuse factor)."""
    layers, origins, predictions = [], [], []
    for (project, n_in, factor), error in errors.items():
        layers.append(LayerSample(dense(n_in, 32, factor), SETTING, NONE, project))
        origins.append(Origin("", f"{project}{n_in}/{factor}", ""))
        predictions.append(
            Prediction(
                "dense_resource", "lut", "x", project, f"{project}/{n_in}/{factor}", "tool",
                f"{project}{n_in}/{factor}", 1e4, 1e4 * math.exp(error),
            )
        )  # fmt: skip
    return Samples(layers=tuple(layers), layer_origins=tuple(origins)), predictions


def test_what_a_layer_has_wrong_at_every_reuse_factor_cancels() -> None:
    samples, found = made_up({("a", 64, 2): 0.5, ("a", 64, 16): 0.6, ("a", 64, 64): 0.45, ("a", 32, 4): -1.0})
    logs = sorted(math.log(pair.true / pair.predicted) for pair in ratio_errors(samples, found))
    assert logs == pytest.approx(sorted([0.5 - 0.6, 0.5 - 0.45, 0.6 - 0.45]), abs=1e-3)
    assert ratio_spread(*made_up({("a", 64, 2): 0.5, ("a", 32, 2): 0.6})) == {}


def test_the_ratio_of_two_reuse_factors_is_known_better_than_either() -> None:
    rng = np.random.default_rng(1)
    errors = {}
    for project in "abcdef":
        common = rng.normal(0, 0.8)
        for n_in in (16, 32, 64):
            for factor in (2, 4, 8, 16):
                errors[project, n_in, factor] = common + rng.normal(0, 0.1)
    low, high = ratio_spread(*made_up(errors))["dense_resource_ratio"]["lut"]
    # a difference of two deviations of 0.1 each; 90 % of it lie within 1.645 standard deviations, of the worst of six
    # projects somewhat further; each estimate alone is wrong by 0.8
    assert 1 < math.log(high / low) / 2 / (1.645 * math.sqrt(2) * 0.1) < 1.7


def test_a_sweep_with_bad_ratios_is_not_outvoted_by_a_large_good_one() -> None:
    good = {("good", n_in, factor): 0.001 * factor for n_in in range(16, 400) for factor in (2, 4)}
    bad = {("bad", n_in, factor): 0.4 * (factor == 4) for n_in in range(16, 26) for factor in (2, 4)}
    low, high = ratio_spread(*made_up(good | bad))["dense_resource_ratio"]["lut"]
    assert math.log(high) >= 0.399 and math.log(low) <= -0.399


def test_shared_error_of_a_design_is_that_of_its_layers_in_memory() -> None:
    calibration = Calibration(
        spread={
            "network": {"lut": (0.8, 1.25)},
            "dense_resource": {"lut": (math.exp(-0.5), math.exp(0.5))},
            "dense_resource_ratio": {"lut": (math.exp(-0.3), math.exp(0.3))},
        }
    )
    # own part: 0.3 / sqrt(2); the rest of 0.5 is shared
    shared = math.sqrt(0.25 - 0.09 / 2)
    assert shared_part("dense_resource", "lut", calibration) == pytest.approx(shared / 0.5)
    assert shared_part("dense_latency", "lut", calibration) == 0
    relu = HlsLayer("relu", "relu", 32, 32, WIDE, WIDE)
    design = HlsDesign((dense(64, 32, 16), relu), SETTING)
    total, layers = predict_design(design, calibration)
    found = shared_errors(design, layers, total, calibration)
    assert found == {"lut": pytest.approx(shared * (layers[0].lut or 0) / (total.lut or 1))}
    report = HlsAnalyticCost(calibration).estimate_design(design)
    assert report.details[SHARED_ERROR] == pytest.approx(found)
    assert type(report).from_json(report.to_json()).details[SHARED_ERROR] == report.details[SHARED_ERROR]


def test_constants_share_nothing_with_weights_in_memory() -> None:
    weight = np.random.default_rng(0).integers(-100, 100, (8, 16))
    constant = HlsLayer("c", "dense", 16, 8, WIDE, WIDE, "resource", 1, WIDE, weight, NARROW)
    assert SHARED_ERROR not in HlsAnalyticCost().estimate_design(HlsDesign((constant,), SETTING)).details


def test_the_shipped_calibration_knows_ratios_and_widens_both_parts_for_compilers_without_reports() -> None:
    calibration = shipped_calibration()
    single, both = (calibration.spread[name]["lut"] for name in ("dense_resource", "dense_resource_ratio"))
    assert 0 < half_width(both) < math.sqrt(2) * half_width(single)
    vitis = HlsSetting("vitis_hls", "2024.1", "xcvu13p-flga2577-2-e", "virtexuplus", 5.0)
    layer = dense(64, 32, 16)
    assert half_width(spread_of_layer(layer, vitis, calibration)["lut"]) >= math.log(3)
    wide, narrow = (
        HlsAnalyticCost(calibration).estimate_design(HlsDesign((layer,), each)).details[SHARED_ERROR]["lut"]
        for each in (vitis, SETTING)
    )
    assert wide > 1.5 * narrow > 0

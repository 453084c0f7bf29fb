"""The cost model's reports."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trigger_prune.cost.hls import dense_latency
from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.design import HlsLayer, LayerEstimate
from trigger_prune.cost.hls.from_spec import design_from_spec
from trigger_prune.cost.hls.layers import predict_layer, spread_of_layer
from trigger_prune.cost.hls.model import HlsAnalyticCost, design_hash, intervals
from trigger_prune.cost.hls.network import predict_design
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ConfigError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.target import Target

SPREAD = {"network": {"lut": (0.5, 2.0), "dsp": (0.9, 1.2)}, "dense_latency": {"ff": (0.25, 4.0)}}
INPUT = FixedPoint(16, 6)


def spec(seed: int = 0, density: float = 1.0) -> NetworkSpec:
    rng = np.random.default_rng(seed)
    layers = []
    ins = 12
    for number, outs in enumerate((16, 5)):
        last = number == 1
        layers.append(
            WeightLayer(
                name=f"fc{number}",
                kind="dense",
                weight=rng.integers(-128, 128, (outs, ins)) * (rng.random((outs, ins)) < density),
                weight_type=FixedPoint(8, 1),
                bias=rng.integers(-50, 50, outs),
                bias_type=FixedPoint(12, 3),
                input_type=INPUT if number == 0 else FixedPoint.parse("ap_ufixed<8,2,AP_TRN,AP_SAT>"),
                output_type=None if last else FixedPoint.parse("ap_ufixed<8,2,AP_TRN,AP_SAT>"),
                relu=not last,
                positions=1,
            )
        )
        ins = outs
    return NetworkSpec(tuple(layers), INPUT, (12,), 5)


@pytest.fixture(scope="module")
def model() -> HlsAnalyticCost:
    return HlsAnalyticCost(Calibration(spread=SPREAD))


def test_the_report_states_the_rounded_estimate(model: HlsAnalyticCost) -> None:
    target = Target()
    report = model.estimate(spec(), target)
    design = design_from_spec(spec(), target)
    total, layers = predict_design(design, model.calibration)
    assert report.lut == round(total.lut or 0) and isinstance(report.lut, int)
    assert report.latency_cycles == total.latency_cycles
    assert [layer.name for layer in report.layers] == ["fc0", "fc0_relu", "fc1"]
    assert [layer.ff for layer in report.layers] == [round(layer.ff or 0) for layer in layers]
    assert (report.stage, report.predicts, report.tool) == (CostStage.ANALYTIC, CostStage.CSYNTH, "trigger_prune")
    assert report.clock_uncertainty_ns == pytest.approx(0.27 * target.clock_period_ns)
    assert report.available is not None and report.available.lut == 1_728_000
    assert report.content_hash == spec().content_hash()
    assert HardwareReport.from_json(report.to_json()) == report


def test_intervals_are_factors_on_the_estimate(model: HlsAnalyticCost) -> None:
    report = model.estimate(spec(), Target())
    total, layers = predict_design(design_from_spec(spec(), Target()), model.calibration)
    assert total.lut is not None and total.dsp is not None and layers[0].ff is not None
    assert set(report.interval_90) == {"lut", "dsp"}
    assert report.interval_90["lut"] == pytest.approx((0.5 * total.lut, 2 * total.lut))
    assert report.layers[0].interval_90["ff"] == pytest.approx((0.25 * layers[0].ff, 4 * layers[0].ff))
    # of this family the calibration knows no report: a factor of three
    assert report.layers[1].interval_90["lut"] == pytest.approx((0.33 * (layers[1].lut or 0), 3 * (layers[1].lut or 0)))


def test_strategies_without_a_report_have_declared_intervals() -> None:
    shipped = HlsAnalyticCost()
    unrolled = shipped.estimate(spec(), Target(strategy="Resource_Unrolled", reuse_factor=2))
    adders = shipped.estimate(spec(), Target(strategy="distributed_arithmetic"))
    plain = shipped.estimate(spec(), Target())
    for report, least in ((unrolled, 3.0), (adders, 2.0)):
        for lut, interval in (
            (report.lut, report.interval_90["lut"]),
            (report.layers[0].lut, report.layers[0].interval_90["lut"]),
        ):
            assert interval[0] < 0.6 * (lut or 0) and interval[1] >= 0.9 * least * (lut or 0)
    assert plain.interval_90["lut"][1] < 2 * (plain.lut or 0)


def test_the_report_says_why_pruning_may_raise_the_interval() -> None:
    dense = HlsAnalyticCost().estimate(spec(), Target(reuse_factor=4))
    sparse = HlsAnalyticCost().estimate(spec(density=0.5), Target(reuse_factor=4))
    assert set(dense.details["reuse"]) == {"fc0", "fc1"}
    for report in (dense, sparse):
        for layer in report.layers:
            if layer.name in report.details["reuse"]:
                assert report.details["reuse"][layer.name]["ii"] == layer.ii
    first, second = dense.details["reuse"]["fc0"], sparse.details["reuse"]["fc0"]
    assert second["limit"] < first["limit"], "zeros lower the multiplier limit"
    assert "reuse" not in HlsAnalyticCost().estimate(spec(), Target()).details


def test_intervals_near_zero() -> None:
    estimate = LayerEstimate(lut=0.0, ff=None, dsp=0.0, bram18=None, latency_cycles=0.5, ii=4.0)
    factors = dict.fromkeys(("lut", "ff", "dsp", "bram18", "latency_cycles", "ii"), (0.5, 3.0))
    result = intervals(estimate, factors)
    assert result["dsp"] == (0.0, 0.0)  # no product is wide enough for a DSP: a rule, not a small number
    assert result["lut"] == (0.0, 2.0)
    assert result["latency_cycles"] == (0.0, 3.5)
    assert result["ii"] == (2.0, 12.0)
    assert set(result) == {"lut", "dsp", "latency_cycles", "ii"}


def test_sparsity_and_bits_are_seen(model: HlsAnalyticCost) -> None:
    dense, sparse = model.estimate(spec(), Target()), model.estimate(spec(density=0.2), Target())
    for name in ("lut", "ff", "dsp"):
        assert getattr(sparse, name) < 0.5 * getattr(dense, name)
    assert dense.content_hash != sparse.content_hash
    layers = tuple(replace(layer, weight=layer.weight >> 5, weight_type=FixedPoint(3, 1)) for layer in spec().layers)
    narrow = model.estimate(replace(spec(), layers=layers), Target())
    assert narrow.dsp == 0  # three bits have at most two signed digits
    assert narrow.lut is not None and dense.lut is not None and narrow.lut < 0.7 * dense.lut


def test_strategies_and_reuse_factors_change_the_hardware(model: HlsAnalyticCost) -> None:
    resource = model.estimate(spec(), Target(strategy="Resource", reuse_factor=4))
    latency = model.estimate(spec(), Target())
    assert resource.dsp is not None and latency.dsp is not None and resource.dsp < latency.dsp
    assert resource.ii == 4
    assert latency.ii == 1
    with pytest.raises(ConfigError, match="reuse factor 7"):
        model.estimate(spec(), Target(strategy="Resource", reuse_factor=7))


def test_designs_are_estimated_and_told_apart(model: HlsAnalyticCost) -> None:
    design = design_from_spec(spec(), Target())
    report = model.estimate_design(design)
    assert replace(report, content_hash=spec().content_hash()) == model.estimate(spec(), Target())
    assert design_hash(design) == design_hash(design_from_spec(spec(), Target()))
    changed = replace(design, layers=(replace(design.layers[0], reuse_factor=2), *design.layers[1:]))
    other_weights = design_from_spec(spec(1), Target())
    slower = replace(design, setting=replace(design.setting, clock_period_ns=4.0))
    hashes = {design_hash(each) for each in (design, changed, other_weights, slower)}
    assert len(hashes) == 4


def test_a_quantised_network_is_measured(model: HlsAnalyticCost) -> None:
    from trigger_prune.models.mlp import Mlp
    from trigger_prune.quantize.convert import quantize_model
    from trigger_prune.quantize.describe import describe_network

    torch.manual_seed(0)
    x = torch.tensor(INPUT.quantize(np.random.default_rng(0).normal(size=(200, 6)))).float()
    network = quantize_model(
        Mlp((6,), 2, hidden=(5,)).eval(), x, INPUT, SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    )
    assert model.measure(network, Target()) == model.estimate(describe_network(network), Target())


def test_the_shipped_calibration_is_used_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    import trigger_prune.cost.hls.model as module

    shipped = Calibration(provenance={"projects": ["one"]})
    monkeypatch.setattr(module, "shipped_calibration", lambda: shipped)
    assert HlsAnalyticCost().calibration is shipped
    assert HlsAnalyticCost(Calibration()).calibration is not shipped


def test_designs_unlike_those_measured_have_the_intervals_of_their_layers() -> None:
    narrow = {"lut": (0.9, 1.1), "dsp": (1.0, 1.0), "latency_cycles": (0.9, 1.1), "ii": (1.0, 1.0)}
    wide = {"lut": (0.5, 3.0), "dsp": (1.0, 1.0), "latency_cycles": (1.0, 2.0), "ii": (1.0, 1.5)}
    layers = {"dense_resource": wide, "activation": narrow}
    reported = "2019.2"
    model = HlsAnalyticCost(Calibration(spread={"network": narrow, **layers}), reported)
    resource = Target(strategy="Resource", reuse_factor=4)
    design = design_from_spec(spec(), resource, reported)
    total, each = predict_design(design, model.calibration)
    found = model.estimate(spec(), resource).interval_90
    dense_lut = sum(e.lut or 0 for e, layer in zip(each, design.layers, strict=True) if layer.kind == "dense")
    rest = (total.lut or 0) - dense_lut
    assert found["lut"] == pytest.approx((0.5 * dense_lut + 0.9 * rest, 3 * dense_lut + 1.1 * rest))
    assert found["dsp"] == (total.dsp, total.dsp)
    assert found["ii"] == pytest.approx((total.ii, 1.5 * (total.ii or 0)))
    assert found["latency_cycles"][1] > 1.5 * (total.latency_cycles or 0)
    # Errors of such whole designs count where they are larger.
    known = Calibration(spread={"network": narrow, **layers, "network_resource": {"lut": (0.1, 9.0)}})
    assert HlsAnalyticCost(known, reported).estimate(spec(), resource).interval_90["lut"] == pytest.approx(
        (0.1 * (total.lut or 0), 9 * (total.lut or 0))
    )
    # Those of networks with convolutions say nothing of dense ones.
    other = Calibration(spread={"network": narrow, **layers, "network_other": {"lut": (0.1, 9.0)}})
    assert HlsAnalyticCost(other, reported).estimate(spec(), resource).interval_90["lut"] == found["lut"]
    # Dense layers of strategy latency keep the spread of the designs that were like them.
    plain = model.estimate(spec(), Target())
    exact, _ = predict_design(design_from_spec(spec(), Target(), reported), model.calibration)
    assert plain.interval_90["lut"] == pytest.approx((0.9 * (exact.lut or 0), 1.1 * (exact.lut or 0)))


def test_convolutions_of_constants_follow_the_calibration_of_dense_layers() -> None:
    weight = np.random.default_rng(0).integers(-100, 100, (4, 3, 3))
    layer = HlsLayer(
        "c", "conv1d", 3, 4, INPUT, INPUT, weight=weight, weight_type=FixedPoint(8, 1),
        kernel=(3,), stride=(1,), input_size=(10,), output_size=(8,),
    )  # fmt: skip
    setting = design_from_spec(spec(), Target()).setting
    fitted = {name: 1.5 * value for name, value in dense_latency.DEFAULTS.items() if "lut" in name}
    plain, scaled = (
        predict_layer(layer, setting, Calibration(families={"dense_latency": changed})) for changed in ({}, fitted)
    )
    assert scaled.lut is not None and plain.lut is not None and scaled.lut > plain.lut
    known = Calibration(spread={"conv": {"lut": (0.9, 3.0), "dsp": (1.0, 1.0)}, "dense_latency": {"dsp": (0.8, 1.1)}})
    assert spread_of_layer(layer, setting, known) == {"lut": (0.9, 3.0), "dsp": (0.8, 1.1)}
    in_memory = replace(layer, strategy="resource", reuse_factor=9)
    reported = replace(setting, tool="vivado_hls", version="2019.2")
    assert spread_of_layer(in_memory, reported, known) == known.spread["conv"]
    # of Vitis HLS there is no report of weights in memory
    assert spread_of_layer(in_memory, setting, known)["lut"] == (0.33, 3.0)


def test_weights_in_memory_at_a_reuse_factor_of_one_are_constants() -> None:
    latency, resource = (design_from_spec(spec(), Target(strategy=name)) for name in ("Latency", "Resource"))
    assert resource.layers[0].strategy == "resource"
    calibration = Calibration(families={"dense_latency": {"lut_per_adder_bit_2022": 2.0}}, spread=SPREAD)
    one, other = (predict_layer(d.layers[0], d.setting, calibration) for d in (latency, resource))
    assert one == other
    assert spread_of_layer(resource.layers[0], resource.setting, calibration) == SPREAD["dense_latency"]

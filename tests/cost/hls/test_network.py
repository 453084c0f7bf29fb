"""Composition of layers, with layer costs that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.cost.hls import activation, batch_norm, dense_latency, network
from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.design import DesignSample, HlsDesign, HlsLayer, HlsSetting, LayerEstimate
from trigger_prune.cost.hls.features import WeightFeatures
from trigger_prune.cost.hls.fifo import predict_fifo
from trigger_prune.cost.hls.layers import family_of
from trigger_prune.cost.hls.network import DEFAULTS, alive_outputs, is_dataflow, predict_design
from trigger_prune.cost.report import CostStage, HardwareReport, LayerCost
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint

SETTING = HlsSetting("vitis_hls", "2021.1", "xc7z007s-clg225-2", "zynq", 5.0)
SIGNED, QUANTISED = FixedPoint(16, 6), FixedPoint.parse("ap_ufixed<8,2,AP_RND_CONV,AP_SAT>")


def dense(name: str, n_in: int, n_out: int, **changes: object) -> HlsLayer:
    return replace(HlsLayer(name, "dense", n_in, n_out, SIGNED, SIGNED), **changes)  # type: ignore[arg-type]


def relu(name: str, size: int, result: FixedPoint) -> HlsLayer:
    return HlsLayer(name, "relu", size, size, SIGNED, result)


def cost(latency: float, ii: float = 1.0, **other: float) -> LayerEstimate:
    values = {"lut": 100.0, "ff": 10.0, "dsp": 3.0, "bram18": 2.0, **other}
    return LayerEstimate(latency_cycles=latency, ii=ii, **values)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, LayerEstimate]], list[HlsLayer]]:
    """Sets the cost of every layer by name; returns the layers that were asked for."""

    def install(by_name: dict[str, LayerEstimate]) -> list[HlsLayer]:
        asked: list[HlsLayer] = []

        def predict(layer: HlsLayer, setting: HlsSetting, calibration: Calibration) -> LayerEstimate:
            asked.append(layer)
            return by_name[layer.name]

        monkeypatch.setattr(network, "predict_layer", predict)
        return asked

    return install


def test_pipeline_of_four_layers(costs: Callable[..., list[HlsLayer]]) -> None:
    layers = (
        dense("a", 4, 8),
        relu("r", 8, QUANTISED),
        dense("b", 8, 5),
        HlsLayer("s", "softmax", 5, 5, SIGNED, SIGNED),
    )
    costs({"a": cost(6), "r": cost(1), "b": cost(4), "s": cost(10)})
    total, each = predict_design(HlsDesign(layers, SETTING), Calibration())
    assert len(each) == 4
    assert (total.dsp, total.bram18, total.ii) == (12, 8, 1)
    # 7 + 2 + 5 + 11 cycles, and one for the registered outputs of each dense layer
    assert total.latency_cycles == 25 + 2 - 1
    border = DEFAULTS["border_ff"] * (8 * 16 + 8 * 8 + 5 * 16)
    assert total.ff == pytest.approx(40 + border + 26)
    assert total.lut == 402
    costs({"a": cost(6, 7), "r": cost(1), "b": cost(4, 2), "s": cost(10)})
    shared, _ = predict_design(HlsDesign(layers, SETTING), Calibration())
    assert (shared.latency_cycles, shared.ii) == (24, 7)  # the dense layers' second register is for II = 1 only
    assert shared.lut == pytest.approx(400 + DEFAULTS["control_lut"] + 7 * DEFAULTS["control_lut_per_ii"])


def test_short_layers_take_no_cycle_and_fewer_registers(costs: Callable[..., list[HlsLayer]]) -> None:
    plain, quantised = relu("r", 8, SIGNED), relu("r", 8, QUANTISED)
    costs({"a": cost(1), "r": cost(0), "b": cost(1)})
    cycles, registers = [], []
    for layer in (plain, quantised):
        design = HlsDesign((dense("a", 4, 8), layer, dense("b", 8, 5)), SETTING)
        total, _ = predict_design(design, Calibration())
        cycles.append(total.latency_cycles)
        registers.append(total.ff)
    assert cycles == [3, 4]
    half = DEFAULTS["short_border_ff"] * 8 * 16 + DEFAULTS["border_ff"] * 8 * 16
    assert registers[0] == pytest.approx(30 + half + 3)


def test_batch_norm_joins_its_activation(costs: Callable[..., list[HlsLayer]]) -> None:
    norm = HlsLayer("n", "batchnorm", 8, 8, SIGNED, SIGNED)
    costs({"a": cost(1), "n": cost(0), "r": cost(0), "b": cost(1)})
    with_relu = HlsDesign((dense("a", 4, 8), norm, relu("r", 8, QUANTISED), dense("b", 8, 5)), SETTING)
    alone = HlsDesign((dense("a", 4, 8), norm, dense("b", 8, 5)), SETTING)
    cycles = [predict_design(design, Calibration())[0].latency_cycles for design in (with_relu, alone)]
    assert cycles == [4, 4]


def test_dead_outputs_have_no_registers_and_no_activation(costs: Callable[..., list[HlsLayer]]) -> None:
    weight = np.ones((8, 4), dtype=np.int64)
    weight[:3] = 0
    known = dense("a", 4, 8, weight=weight)
    stated = dense("a", 4, 8, features=WeightFeatures(20, 20, 0, 0, 0, 15, 0, 0, 4, 4, 5))
    for first in (known, stated):
        design = HlsDesign((first, relu("r", 8, QUANTISED), dense("b", 8, 5)), SETTING)
        assert alive_outputs(design) == (5, 5, 5)
        asked = costs({"a": cost(1), "r": cost(0), "b": cost(1)})
        total, _ = predict_design(design, Calibration())
        assert asked[1].n_out == 5
        assert total.ff == pytest.approx(30 + DEFAULTS["border_ff"] * (5 * 16 + 5 * 8) + 4)
    # the softmax after it still has all its classes
    design = HlsDesign((known, HlsLayer("s", "softmax", 8, 8, SIGNED, SIGNED)), SETTING)
    assert alive_outputs(design) == (5, 8)


def test_an_unknown_part_makes_the_sum_unknown(costs: Callable[..., list[HlsLayer]]) -> None:
    costs({"a": cost(1), "b": LayerEstimate(100.0, None, 1.0, 0.0, None, 1.0)})
    total, _ = predict_design(HlsDesign((dense("a", 4, 8), dense("b", 8, 5)), SETTING), Calibration())
    assert (total.ff, total.latency_cycles) == (None, None)
    assert (total.lut, total.dsp) == (202, 4)


def test_dataflow_has_fifos_and_the_slowest_interval(costs: Callable[..., list[HlsLayer]]) -> None:
    layers = (dense("a", 4, 8, strategy="resource"), dense("b", 8, 5, strategy="resource"))
    design = HlsDesign(layers, SETTING)
    assert is_dataflow(design)
    assert not is_dataflow(HlsDesign((dense("a", 4, 8),), SETTING))
    costs({"a": cost(34, 32), "b": cost(42, 40)})
    total, _ = predict_design(design, Calibration())
    lut, ff, _ = predict_fifo(2, 16, SETTING)
    assert (total.ii, total.latency_cycles) == (40, 34 + 1 + 42 + 1)
    assert (total.lut, total.ff) == (200 + 8 * lut, 20 + 8 * ff)


def test_streaming_layers_overlap(costs: Callable[..., list[HlsLayer]]) -> None:
    stream = replace(SETTING, io_type="io_stream")
    conv = [
        replace(dense(name, 3, 4), kind="conv1d", kernel=(3,), output_size=(100,), input_size=(100,))
        for name in ("a", "b")
    ]
    design = HlsDesign((*conv, dense("d", 400, 5)), stream)
    costs({"a": cost(110, 100), "b": cost(420, 400), "d": cost(50, 48)})
    total, _ = predict_design(design, Calibration())
    # the longest convolution, the filling of both, then the dense layer, which waits for the last position
    assert total.latency_cycles == 10 + 20 + 400 + 50 + 1
    assert total.ii == 400
    lut, _, bram = predict_fifo(100, 16, stream)
    assert total.lut == 300 + 2 * 4 * lut
    assert total.bram18 == 6 + 2 * 4 * bram


def test_nothing_to_compose() -> None:
    with pytest.raises(CostError, match="no layers"):
        predict_design(HlsDesign((), SETTING), Calibration())
    other = HlsLayer("o", "other", 4, 4, SIGNED, SIGNED)
    with pytest.raises(CostError, match="'o': no cost formula"):
        predict_design(HlsDesign((other,), SETTING), Calibration())


def _sample(design: HlsDesign, border: float, project: str) -> DesignSample:
    total, layers = predict_design(design, Calibration())
    measured = sum(int(layer.ff or 0) for layer in layers) + round(border) + int(total.latency_cycles or 0)
    report = HardwareReport(
        CostStage.CSYNTH,
        "vitis_hls",
        "2021.1",
        "part",
        5.0,
        lut=1,
        ff=measured,
        dsp=0,
        bram18=0,
        latency_cycles=1,
        ii=1,
        content_hash="",
        layers=tuple(
            LayerCost(layer.name, ff=int(estimate.ff or 0))
            for layer, estimate in zip(design.layers, layers, strict=True)
        ),
    )
    return DesignSample(design, report, project)


def test_fit_finds_the_registers_between_layers(costs: Callable[..., list[HlsLayer]]) -> None:
    costs({"a": cost(3), "r": cost(0), "b": cost(2)})
    design = HlsDesign((dense("a", 4, 80), relu("r", 80, QUANTISED), dense("b", 80, 5)), SETTING)
    bits = 80 * 16 + 80 * 8
    samples = [_sample(design, 0.6 * bits, f"p{number}") for number in range(4)]
    samples.append(_sample(design, 9 * bits, "outlier"))
    fitted = network.fit(samples, Calibration())
    assert fitted["border_ff"] == pytest.approx(0.6, rel=0.01)
    assert fitted["short_border_ff"] / fitted["border_ff"] == pytest.approx(
        DEFAULTS["short_border_ff"] / DEFAULTS["border_ff"]
    )
    assert network.fit([], Calibration()) == DEFAULTS


TABLES = Path(__file__).parents[4] / "shared" / "synthesis"
LIMITS = {"lut": 11, "ff": 23, "dsp": 2, "bram18": 2, "latency_cycles": 14, "ii": 9}
"""SMAPE in percent that whole dense networks of a project left out of the fit must reach."""


def smape(predicted: Sequence[float], truth: Sequence[float]) -> float:
    pairs = list(zip(predicted, truth, strict=True))
    return float(np.mean([200 * abs(p - t) / (abs(p) + abs(t)) if p or t else 0.0 for p, t in pairs]))


@pytest.mark.skipif(not TABLES.is_dir(), reason="the public synthesis tables are not beside the checkout")
def test_whole_networks_of_a_project_left_out() -> None:
    from trigger_prune.synthesis.calibration.collect import collect_samples

    samples = collect_samples([TABLES, TABLES.parent / "hls_reports"])
    kinds = {"dense", "relu", "softmax", "batchnorm", "linear"}
    designs = [
        sample
        for sample in samples.designs
        if sample.design.setting.io_type == "io_parallel" and kinds >= {layer.kind for layer in sample.design.layers}
    ]
    assert len(designs) >= 30
    predicted = []
    for project in sorted({sample.project for sample in designs}):
        families = {}
        for module in (dense_latency, activation, batch_norm):
            others = [
                sample
                for sample in samples.layers
                if sample.project != project and sample.layer.kind in kinds and family_of(sample.layer) == module.FAMILY
            ]
            families[module.FAMILY] = module.fit(others, dict(module.DEFAULTS))
        kept = [sample for sample in designs if sample.project != project]
        families[network.FAMILY] = network.fit(kept, Calibration(families=families))
        calibration = Calibration(families=families)
        predicted += [
            (predict_design(sample.design, calibration)[0], sample.measured)
            for sample in designs
            if sample.project == project
        ]
    for name, limit in LIMITS.items():
        error = smape(
            [round(getattr(estimate, name)) for estimate, _ in predicted],
            [getattr(report, name) for _, report in predicted],
        )
        assert error <= limit, (name, error)


def test_errors_are_those_of_like_designs() -> None:
    plain = HlsDesign((dense("a", 4, 8), relu("r", 8, QUANTISED), dense("b", 8, 5)), SETTING)
    assert network.error_family(plain) == "network"
    others = (
        replace(plain, setting=replace(SETTING, io_type="io_stream")),
        replace(plain, layers=(*plain.layers, HlsLayer("c", "conv1d", 5, 2, SIGNED, SIGNED))),
        replace(plain, layers=(*plain.layers, HlsLayer("c", "add", 5, 5, SIGNED, SIGNED))),
    )
    assert [network.error_family(design) for design in others] == ["network_other"] * 3
    in_memory = replace(plain, layers=(dense("a", 4, 8, strategy="resource"), *plain.layers[1:]))
    assert network.error_family(in_memory) == "network_resource"

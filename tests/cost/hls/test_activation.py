"""Activations: counts of public module reports by hand, release by release."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trigger_prune.cost.hls import activation
from trigger_prune.cost.hls.comparison import adder_lut, compare_lut
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerSample
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

DATA = FixedPoint(16, 6)
QUANTISED = FixedPoint(8, 1, False, Rounding.AP_RND_CONV, Overflow.AP_SAT)
ULTRASCALE = HlsSetting("vivado_hls", "2019.2", "xcu250-figd2104-2L-e", "virtexuplus", 5.0)
ZYNQ = HlsSetting("vitis_hls", "2021.1", "xc7z007s-clg225-2", "zynq", 5.0)


def layer(kind: str, n: int, out: FixedPoint = DATA, **more: object) -> HlsLayer:
    return replace(HlsLayer("a", kind, n, n, DATA, out), **more)  # type: ignore[arg-type]


MEASURED = {**activation.DEFAULTS, "quantise_lut_per_bit": 43 / 24}
"""43 LUT for a 16-bit input and an 8-bit output, in public reports of Vitis HLS 2021.1."""


def estimate(this: HlsLayer, setting: HlsSetting):
    return activation.predict(this, setting, MEASURED)


def test_plain_relu_is_28_luts_at_16_bits_and_more_from_2023():
    got = estimate(layer("relu", 64), ULTRASCALE)
    assert (got.lut, got.ff, got.dsp, got.latency_cycles, got.ii) == (64 * 28, 0, 0, 0, 1)
    assert estimate(layer("relu", 64), replace(ULTRASCALE, tool="vitis_hls", version="2022.2")).lut == 64 * 28
    assert estimate(layer("relu", 1), replace(ULTRASCALE, tool="vitis_hls", version="2024.1")).lut == 16 + 7 + 15
    assert estimate(layer("relu", 1, FixedPoint(12, 4)), ULTRASCALE).lut == 13 + 12


def test_a_dataflow_design_registers_every_output():
    got = estimate(layer("relu", 64, strategy="resource"), ULTRASCALE)
    assert got.lut == 64 * (28 + 9)  # 2379 in a public report, with 11 of control
    assert got.ff == 64 * 15


def test_rounding_and_saturation():
    slow, fast = (estimate(layer("relu", 64, QUANTISED), replace(ZYNQ, clock_period_ns=ns)) for ns in (5.0, 3.33))
    assert slow.lut == pytest.approx(64 * 43, rel=0.02)
    assert slow.ff == slow.latency_cycles == 0
    assert fast.lut == pytest.approx(64 * 56, rel=0.02)
    assert fast.latency_cycles == 1
    assert fast.ff == pytest.approx(64 * 33.5, rel=0.02)
    wide = estimate(layer("relu", 10, replace(QUANTISED, width=12)), ZYNQ)
    assert wide.lut > estimate(layer("relu", 10, QUANTISED), ZYNQ).lut


def test_linear_costs_only_what_it_quantises():
    assert estimate(layer("linear", 10), ZYNQ).lut == 0
    assert estimate(layer("linear", 10, QUANTISED), ZYNQ).lut == estimate(layer("relu", 10, QUANTISED), ZYNQ).lut


@pytest.mark.parametrize(("n", "blocks"), [(1, 1), (12, 6), (40, 20), (256, 128)])
def test_two_elements_share_a_table(n: int, blocks: int):
    assert estimate(layer("sigmoid", n), ULTRASCALE).bram18 == blocks
    assert estimate(layer("tanh", n, table_size=4096), ULTRASCALE).bram18 == 4 * blocks


@pytest.mark.parametrize(
    ("version", "n", "blocks"), [("2019.2", 5, 4), ("2021.1", 5, 5), ("2021.1", 16, 16), ("2022.2", 5, 8)]
)
def test_softmax_tables_by_release(version: str, n: int, blocks: int):
    got = estimate(layer("softmax", n), replace(ZYNQ, version=version))
    assert got.bram18 == blocks
    assert got.dsp == n


@pytest.mark.parametrize(("n", "latency"), [(2, 8), (6, 12), (10, 14)])
def test_softmax_latency_at_200_mhz(n: int, latency: int):
    assert estimate(layer("softmax", n), ZYNQ).latency_cycles == latency


def test_softmax_variants():
    stable, table, argmax = (
        estimate(layer("softmax", 8, implementation=name), ZYNQ) for name in ("stable", "latency", "argmax")
    )
    assert (argmax.dsp, argmax.bram18) == (0, 0)
    assert table.lut < stable.lut
    assert table.latency_cycles < stable.latency_cycles
    in_luts = estimate(layer("softmax", 10), replace(ZYNQ, forced_multiplier="fabric"))
    assert in_luts.dsp == 0
    assert in_luts.lut - estimate(layer("softmax", 10), ZYNQ).lut == 3660


def test_stream_takes_a_cycle_a_position():
    stream = replace(ULTRASCALE, io_type="io_stream")
    assert estimate(layer("relu", 8, output_size=(16, 16)), stream).latency_cycles == 259
    assert estimate(layer("relu", 8, output_size=(8, 8)), stream).ii == 67
    assert estimate(layer("softmax", 8), stream).latency_cycles == 17


def test_other_layers_are_refused():
    with pytest.raises(CostError, match="layer a: dense is not an activation"):
        estimate(layer("dense", 4), ZYNQ)


def test_fit_takes_the_robust_mean_over_projects():
    samples = []
    for project, lut in (("one", 50.0), ("one", 50.0), ("two", 50.0), ("odd", 5000.0)):
        this = layer("relu", 10, QUANTISED)
        samples.append(LayerSample(this, ZYNQ, replace(estimate(this, ZYNQ), lut=10 * lut), project))
    fitted = activation.fit(samples, activation.DEFAULTS)
    assert fitted["quantise_lut_per_bit"] * 24 == pytest.approx(50, rel=0.1)
    assert fitted["softmax_lut"] == activation.DEFAULTS["softmax_lut"]


def test_comparison_and_adder_tables():
    assert [compare_lut(width, ULTRASCALE) for width in (8, 16, 32)] == [11, 13, 18]
    assert adder_lut(20, ULTRASCALE) == 20
    assert adder_lut(20, replace(ULTRASCALE, version="2022.2")) == 27


def test_leaky_relu_multiplies_every_channel():
    """Keb-L/hls4ml-data: 480 and 3112 LUT for 8 and 64 channels of 16 bits, one DSP each, 256 positions in 259."""
    stream = replace(ULTRASCALE, io_type="io_stream")
    for n, lut in ((8, 480), (64, 3112)):
        got = activation.predict(layer("leaky_relu", n, output_size=(16, 16)), stream, activation.DEFAULTS)
        assert got.lut == pytest.approx(lut, rel=0.02)
        assert (got.dsp, got.bram18, got.latency_cycles, got.ii) == (n, 0, 259, 259)
    narrow = replace(layer("leaky_relu", 8), input_type=FixedPoint(4, 2))
    assert activation.predict(narrow, ULTRASCALE, activation.DEFAULTS).dsp == 0

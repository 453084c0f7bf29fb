"""Dense layers in strategy resource: exact counts by hand and against public tables, monotony, the fit."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.cost.hls import dense_resource
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.memory import rom_bram18
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication
from trigger_prune.cost.hls.resource_products import resource_products
from trigger_prune.cost.hls.reuse_factor import valid_reuse_factors
from trigger_prune.cost.hls.selector import selector_lut
from trigger_prune.fixed_point import FixedPoint

TABLE = Path(__file__).resolve().parents[4] / "shared" / "synthesis" / "dense_layers_wa_ntorc.csv"
SETTING = HlsSetting("vivado_hls", "2020.1", "xcvu9p-flga2104-2-e", "virtexuplus", 5.0)
VITIS = HlsSetting("vitis_hls", "2024.1", "xcvu13p-flga2577-2-e", "virtexuplus", 5.0)
DATA = FixedPoint(16, 6)
WIDE = np.full((16, 72), 7)


def layer(n_in: int, n_out: int, reuse_factor: int, bits: int = 8, **more: object) -> HlsLayer:
    base = HlsLayer(
        "fc", "dense", n_in, n_out, DATA, DATA, "resource", reuse_factor, DATA, weight_type=FixedPoint(bits, 1)
    )
    return replace(base, **more)  # type: ignore[arg-type]


def estimate(this: HlsLayer, setting: HlsSetting = SETTING) -> LayerEstimate:
    return dense_resource.predict(this, setting, dense_resource.DEFAULTS)


def test_counts_by_hand():
    # 64 x 32 at RF 32: 64 multipliers of 16 x 8 bits; 32 rows of 64 x 8 - 2 bits = 15 blocks of 36; no index table
    assert estimate(layer(64, 32, 32)).dsp == 64
    assert estimate(layer(64, 32, 32)).bram18 == 15
    assert estimate(layer(64, 32, 32)).ii == 32
    assert estimate(layer(64, 32, 32)).latency_cycles == 34
    # at RF 512 = 8 x n_in a table of 512 x 3 bits joins; 4 multipliers, 30 bits a row
    assert estimate(layer(64, 32, 512)).bram18 == 1 + 1
    assert estimate(layer(64, 32, 512)).dsp == 4


def test_narrow_weights_use_no_dsp_and_the_narrower_top_multiplier_may_not_either():
    assert estimate(layer(64, 32, 32, bits=4)).dsp == 0
    assert estimate(layer(64, 32, 32, bits=6)).dsp == 63
    full = np.zeros((32, 64), dtype=np.int64)
    full[-1, -1] = -32
    assert estimate(layer(64, 32, 32, bits=6, weight=full)).dsp == 64
    full[-1, -1] = -8  # four bits
    assert estimate(layer(64, 32, 32, bits=6, weight=full)).dsp == 63


def test_wide_products_take_several_dsps():
    seven_series = HlsSetting("vivado_hls", "2019.1", "xc7vx690tffg1761-2", "virtex7", 5.0)
    assert dsp_per_multiplication(18, 18, seven_series) == 1
    assert dsp_per_multiplication(20, 20, seven_series) == 2
    assert dsp_per_multiplication(32, 14, seven_series) == 2
    wide = FixedPoint(20, 10)
    this = layer(32, 16, 128, input_type=wide, weight_type=wide, accum_type=wide)
    assert estimate(this, seven_series).dsp == 7  # 4 multipliers, 2 each, the last one narrower


def test_forced_multipliers():
    assert estimate(layer(64, 32, 32, bits=3), replace(SETTING, forced_multiplier="dsp")).dsp == 64
    assert estimate(layer(64, 32, 32), replace(SETTING, forced_multiplier="fabric")).dsp == 0


def test_unrolled_drops_multipliers_without_weights():
    weight = np.ones((4, 6), dtype=np.int64) * 100
    weight[1] = 0  # rows of 6 weights are the multipliers at RF 6
    this = layer(6, 4, 6, weight=weight)
    assert estimate(this).dsp == 4
    assert estimate(replace(this, strategy="resource_unrolled")).dsp == 3


def test_a_convolution_counts_kernel_times_channels_in_the_order_hls4ml_stores_it():
    weight = np.zeros((2, 3, 5), dtype=np.int64)  # out, in, kernel
    weight[0, 2, 4] = 100  # the last of the first filter in (kernel, channel) order
    this = HlsLayer(
        "c", "conv1d", 3, 2, DATA, DATA, "resource_unrolled", 15, DATA, weight, FixedPoint(8, 1), kernel=(5,)
    )
    stream = replace(SETTING, io_type="io_stream")
    assert dense_resource.multiplier_widths(this, stream) == [8, 0]
    weight[0, 2, 4], weight[1, 0, 0] = 0, 100
    assert dense_resource.multiplier_widths(this, stream) == [0, 8]


@pytest.mark.parametrize(
    ("rows", "width", "blocks"),
    [(64, 15, 0), (64, 16, 1), (512, 36, 1), (513, 36, 2), (1024, 19, 2), (1280, 224, 13 + 7), (2048, 18, 2)],
)
def test_blocks_of_a_rom(rows: int, width: int, blocks: int):
    assert rom_bram18(rows, width) == blocks


def test_fewer_weight_bits_or_a_larger_reuse_factor_never_cost_more_dsps_and_memory_stays():
    for factor in valid_reuse_factors(48, 16)[1:]:
        by_bits = [estimate(layer(48, 16, factor, bits)) for bits in range(2, 19)]
        for quantity in ("ff", "dsp", "bram18"):
            values = [getattr(one, quantity) for one in by_bits]
            assert values == sorted(values), (factor, quantity)
        for fewer, more in pairwise(by_bits):
            assert fewer.lut <= more.lut or fewer.dsp < more.dsp, factor
    dsps = [estimate(layer(48, 16, factor)).dsp for factor in valid_reuse_factors(48, 16)[1:]]
    assert dsps == sorted(dsps, reverse=True)


def test_stream_adds_the_reads_of_the_input():
    stream = replace(SETTING, io_type="io_stream")
    once = estimate(layer(256, 8, 1024), stream).latency_cycles
    assert once == 1024 + 2 + 3
    # 16 positions of 16 channels, as after a flattened image: 1045 in a public report
    assert estimate(layer(256, 8, 1024, input_size=(4, 4)), stream).latency_cycles == 1045


def test_fit_finds_the_coefficients_that_made_the_samples():
    truth = {**dense_resource.DEFAULTS, "v2020_lut_input": 50.0, "v2020_lut_multiplier": 20.0, "v2020_ff_output": 3.0}
    samples = []
    for n_in in (16, 32, 64, 128):
        for n_out in (16, 48, 64):
            for factor in valid_reuse_factors(n_in, n_out)[1::2]:
                this = layer(n_in, n_out, factor)
                samples.append(LayerSample(this, SETTING, dense_resource.predict(this, SETTING, truth), "made"))
    odd = replace(samples[0], measured=replace(samples[0].measured, lut=1e6, ff=1e6))
    fitted = dense_resource.fit([*samples, odd], dense_resource.DEFAULTS)
    for sample in samples:
        again = dense_resource.predict(sample.layer, SETTING, fitted)
        assert again.lut == pytest.approx(sample.measured.lut, rel=0.05)
        assert again.ff == pytest.approx(sample.measured.ff, rel=0.05)


def test_what_the_samples_leave_open_is_taken_from_the_other_generation_unless_it_was_fitted_before():
    other = replace(SETTING, version="2019.1")
    truth = {**dense_resource.DEFAULTS, "v2019_lut_index": 300.0, "v2019_lut_input": 40.0}
    samples = []
    for n_in in (16, 32, 64):
        for n_out in (8, 16, 48):
            for factor in valid_reuse_factors(n_in, n_out)[1:]:
                this = layer(n_in, n_out, factor)
                samples.append(LayerSample(this, other, dense_resource.predict(this, other, truth), "older"))
                if factor <= n_in:  # no table of output indices occurs in the newer reports
                    samples.append(LayerSample(this, SETTING, dense_resource.predict(this, SETTING, truth), "newer"))
    fitted = dense_resource.fit(samples, dense_resource.DEFAULTS)
    assert fitted["v2019_lut_index"] == pytest.approx(300, rel=0.1)
    assert fitted["v2020_lut_index"] == fitted["v2019_lut_index"]
    assert fitted["v2020_lut_input"] == pytest.approx(15, rel=0.1)
    # Vitis HLS is not one of them
    vitis = [name for name in fitted if name.startswith("vitis")]
    assert vitis and all(fitted[name] == dense_resource.DEFAULTS[name] for name in vitis)
    before = {**dense_resource.DEFAULTS, "v2020_lut_index": 77.0}
    assert dense_resource.fit(samples, before)["v2020_lut_index"] == 77.0


def vitis_layer(n_in: int, n_out: int, reuse_factor: int, bits: int = 8, **more: object) -> HlsLayer:
    """8-bit inputs, an accumulator that keeps every bit."""
    exact = FixedPoint(22, 8)
    base = layer(n_in, n_out, reuse_factor, bits, input_type=FixedPoint(8, 2), accum_type=exact, output_type=exact)
    return replace(base, **more)  # type: ignore[arg-type]


def test_lut_of_vitis_by_hand():
    # 16 x 64 at RF 8: 128 multipliers, 2 products an output and cycle: all are multiply-adds. Two inputs are read at a
    # time, by selectors of 8 words: 36 LUT each. 16 inputs and 64 outputs of 32 and 18 LUT, control 100.
    assert estimate(vitis_layer(16, 64, 8), VITIS).lut == 16 * 32 + 64 * 18 + 100 + 2 * 36
    assert estimate(vitis_layer(16, 64, 8), VITIS).dsp == 128
    # 64 x 32 at RF 16: 4 products an output: one goes with the accumulator, of the other three one is left in LUTs,
    # of 8 x 8 bits at 0.62 LUT each, and added by 22 + 7 LUT. The last weight has 6 bits where weights are unknown.
    full = np.full((32, 64), 100)
    found = estimate(vitis_layer(64, 32, 16, weight=full), VITIS)
    assert found.lut == pytest.approx(64 * 32 + 32 * 18 + 100 + 4 * 65 + 32 * (0.62 * 64 + 29))
    assert found.dsp == 128 - 32
    # 32 x 5 at RF 160: one multiplier, one selector of 32 inputs and one of 5 accumulators, table of output indices
    found = estimate(vitis_layer(32, 5, 160), VITIS)
    assert found.lut == pytest.approx(32 * 32 + 5 * 18 + 100 + 100 + 130 + 24)
    assert found.dsp == 1


def test_a_truncating_accumulator_keeps_products_in_luts():
    short = FixedPoint(16, 8)
    found = estimate(vitis_layer(16, 64, 8, accum_type=short, output_type=short, weight=np.full((64, 16), 100)), VITIS)
    assert found.dsp == 0
    assert found.lut == pytest.approx(16 * 32 + 64 * 18 + 100 + 2 * 36 + 128 * (0.62 * 64 + 23))


def test_wide_products_of_vitis_take_dsps_and_adders():
    wide = FixedPoint(16, 6)
    exact = FixedPoint(30, 8)
    found = estimate(vitis_layer(16, 64, 8, input_type=wide, accum_type=exact, output_type=exact), VITIS)
    assert found.dsp == 128
    assert found.lut == pytest.approx(16 * 32 + 64 * 18 + 100 + 2 * 36 + 128 * 37)


def test_luts_fall_with_the_reuse_factor_until_selectors_outweigh_multipliers():
    lut = [estimate(vitis_layer(64, 32, factor), VITIS).lut for factor in (2, 4, 8, 16, 32, 256)]
    assert lut[:-1] == sorted(lut[:-1], reverse=True) and lut[-1] > lut[-2]
    # csynth counts a selector by its words, not by their bits: halving the word changes nothing of it
    narrow = vitis_layer(64, 32, 512, 8, input_type=FixedPoint(4, 2))
    assert estimate(narrow, VITIS).lut == estimate(vitis_layer(64, 32, 512), VITIS).lut


@pytest.mark.parametrize(
    ("words", "version", "part", "lut"),
    [
        (1, "2024.1", "xcvu13p", 0),
        (16, "2023.2", "xcvu13p", 65),
        (24, "2020.1", "xcvu13p", 97.5),
        (512, "2020.1", "xc7vx690t", 2736),
        (5, "2019.2", "xcu250", 273),
        (128, "2019.2", "xcu250", 273),
        (64, "2019.1", "xc7vx690t", 25),
    ],
)
def test_selectors(words: int, version: str, part: str, lut: float):
    assert selector_lut(words, HlsSetting("vitis_hls", version, part, "", 5.0)) == lut


def test_dsps_of_narrow_products_in_vitis_are_no_certain_number():
    this = vitis_layer(64, 32, 16, weight=np.full((32, 64), 100))
    assert dense_resource.declared_spread(this, VITIS)["dsp"] == (0, pytest.approx(128 / 96))
    wide = replace(this, input_type=FixedPoint(16, 6))
    assert dense_resource.declared_spread(wide, VITIS)["dsp"] == (1, 1)
    assert dense_resource.declared_spread(this, SETTING) == {}
    in_fabric = replace(VITIS, forced_multiplier="fabric")
    assert estimate(this, in_fabric).dsp == 0 and "dsp" not in dense_resource.declared_spread(this, in_fabric)


def test_products_seen_in_generated_rtl():
    # 72 inputs (3 x 3 x 8), 16 outputs, RF 4, 4 x 4 bits: 161 multiply-adds and 127 multipliers
    four, wide = FixedPoint(4, 3), FixedPoint(16, 14)
    this = vitis_layer(72, 16, 4, 4, input_type=four, weight_type=four, accum_type=wide, output_type=wide)
    found = resource_products(this, VITIS, dense_resource.multiplier_widths(replace(this, weight=WIDE), VITIS))
    assert (found.dsp, found.in_lut) == (pytest.approx(161, abs=1), pytest.approx(127, abs=1))
    # 45 inputs, 6 outputs, RF 45, 6 x 6 bits: 6 multiply-adds
    six, sum_type = FixedPoint(6, 0), FixedPoint(19, 7)
    this = vitis_layer(45, 6, 45, 6, input_type=six, weight_type=six, accum_type=sum_type, output_type=sum_type)
    found = resource_products(this, VITIS, dense_resource.multiplier_widths(this, VITIS))
    assert (found.dsp, found.in_lut) == (6, 0)


@pytest.mark.skipif(not TABLE.is_file(), reason="the public synthesis tables are not beside this checkout")
def test_public_table_of_reused_layers():
    with TABLE.open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["strategy"] == "resource" and row["success"] == "True"]
    rows = [row for row in rows if float(row["rf"]) > 1 and row["source"].startswith("wa")]
    assert len(rows) > 800

    def described(row: dict[str, str]) -> HlsLayer:
        return layer(*(int(float(row[key])) for key in ("n_in", "n_out", "rf", "prec_bits")))

    def held_out(row: dict[str, str]) -> bool:
        return (float(row["n_in"]) + float(row["n_out"])) % 64 == 0  # half of the sizes, all their rows

    measured = [
        LayerSample(
            described(row), SETTING, LayerEstimate(float(row["lut"]), float(row["ff"]), *[None] * 4), row["source"]
        )
        for row in rows
        if not held_out(row)
    ]
    fitted = dense_resource.fit(measured, dense_resource.DEFAULTS)
    rows = [row for row in rows if held_out(row)]
    pairs: dict[str, list[tuple[float, float, int]]] = {
        name: [] for name in ("lut", "ff", "dsp", "bram18", "lat", "ii")
    }
    for row in rows:
        bits = int(float(row["prec_bits"]))
        got = dense_resource.predict(described(row), SETTING, fitted)
        for name, value, column in (
            ("lut", got.lut, "lut"),
            ("ff", got.ff, "ff"),
            ("dsp", got.dsp, "dsp"),
            ("bram18", got.bram18, "bram18"),
            ("lat", got.latency_cycles, "lat_max"),
            ("ii", got.ii, "ii_max"),
        ):
            pairs[name].append((float(value or 0), float(row[column]), bits))
    found = {name: np.array(values) for name, values in pairs.items()}

    def error(name: str) -> np.ndarray:
        return np.abs(found[name][:, 0] - found[name][:, 1])

    bits_of = found["dsp"][:, 2]
    assert np.mean(error("ii") == 0) >= 0.97
    assert np.mean(error("dsp")[bits_of >= 8] == 0) >= 0.97
    six = found["dsp"][bits_of == 6]
    assert np.median(np.abs(six[:, 0] - six[:, 1]) / np.maximum(six[:, 1], 1)) <= 0.06
    assert np.all(found["dsp"][bits_of <= 4][:, 0] == 0)
    assert np.mean(error("bram18") <= 1) >= 0.95
    assert np.mean(error("lat") <= 2) >= 0.93
    assert np.median(error("lut") / found["lut"][:, 1]) <= 0.02
    assert np.median(error("ff") / found["ff"][:, 1]) <= 0.08

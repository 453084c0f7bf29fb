"""Convolutions: steps by geometry, exact counts, the fit, errors on public tables."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.cost.hls import conv, dense_latency, dense_resource
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerSample
from trigger_prune.fixed_point import FixedPoint

TABLE = Path(__file__).resolve().parents[4] / "shared" / "synthesis" / "ntorc_merged_by_config.csv"
DATA = FixedPoint(16, 6)
STREAM = HlsSetting("vivado_hls", "2019.2.1", "xcvu9p-flgb2104-2-i", "virtexuplus", 5.0, io_type="io_stream")


def image(channels: int, filters: int, kernel: int, padded: int, out: int, factor: int, stride: int = 1) -> HlsLayer:
    return HlsLayer(
        "conv",
        "conv2d",
        channels,
        filters,
        DATA,
        DATA,
        "resource",
        factor,
        DATA,
        weight_type=DATA,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        input_size=(padded, padded),
        output_size=(out, out),
    )


@pytest.mark.parametrize(
    ("layer", "dsp", "bram18"),
    [  # three module reports of the public project Keb-L/hls4ml-data
        (image(3, 8, 5, 20, 16, 25), 24, 11),
        (image(8, 16, 3, 10, 8, 144), 8, 4),
        (image(64, 128, 3, 10, 8, 144), 512, 228),
    ],
)
def test_multipliers_and_memory_of_a_line_buffer(layer: HlsLayer, dsp: int, bram18: int):
    got = conv.predict(layer, STREAM, conv.DEFAULTS)
    assert got.dsp == dsp
    assert got.bram18 == bram18


def test_steps_are_pixels_of_the_padded_input_in_stream_and_of_the_output_in_parallel():
    layer = image(3, 8, 5, 20, 16, 25)
    assert conv.positions(layer, STREAM) == 400
    assert conv.positions(layer, replace(STREAM, io_type="io_parallel")) == 256
    # an unpadded input size is completed to what the kernel needs; a stride leaves pixels over
    assert conv.positions(replace(layer, input_size=(16, 16)), STREAM) == 400
    assert conv.positions(image(3, 8, 2, 17, 8, 4, stride=2), STREAM) == 289
    got = conv.predict(layer, STREAM, {**conv.DEFAULTS, "cycles": 4.0})
    assert got.latency_cycles == got.ii == 400 * (25 + 4)  # 11 600 in the report


def test_the_kernel_window_takes_a_cycle_more_and_a_fifo_for_every_element_of_a_large_window():
    line, window = image(3, 8, 5, 20, 16, 25), replace(image(3, 8, 5, 20, 16, 25), implementation="kernel_window")
    a, b = (conv.predict(one, STREAM, {**conv.DEFAULTS, "cycles": 4.0}) for one in (line, window))
    assert b.latency_cycles == 12000 == a.latency_cycles + 400
    assert b.bram18 == 86 == a.bram18 + 75
    assert b.ff > a.ff
    small = replace(image(8, 16, 3, 10, 8, 144), implementation="kernel_window")
    assert conv.predict(small, STREAM, conv.DEFAULTS).bram18 == 4


def test_a_kernel_of_one_is_the_dense_layer_at_every_pixel():
    layer = image(16, 8, 1, 6, 6, 32)
    dense = HlsLayer("fc", "dense", 16, 8, DATA, DATA, "resource", 32, DATA, weight_type=DATA)
    inside = replace(STREAM, io_type="io_parallel")
    single = dense_resource.predict(dense, inside, dense_resource.DEFAULTS)
    got = conv.predict(layer, STREAM, {**conv.DEFAULTS, "cycles": 2.0})
    assert (got.dsp, got.bram18) == (single.dsp, single.bram18)
    assert got.latency_cycles == 36 * single.latency_cycles


def test_the_matrix_product_keeps_every_weight_in_hls4mls_order():
    weight = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    layer = replace(image(3, 2, 2, 5, 4, 1), weight=weight)
    product = conv.matrix_product(layer)
    assert (product.n_in, product.n_out, product.kind) == (12, 2, "dense")
    assert product.weight is not None
    for out in range(2):
        for row in range(2):
            for column in range(2):
                for channel in range(3):
                    assert product.weight[out, (row * 2 + column) * 3 + channel] == weight[out, channel, row, column]


def test_in_parallel_the_window_selector_grows_with_the_image():
    parallel = replace(STREAM, io_type="io_parallel")
    small, large = (conv.predict(image(4, 8, 3, n + 2, n, 36), parallel, conv.DEFAULTS) for n in (4, 16))
    assert large.lut > small.lut
    assert large.dsp == small.dsp
    assert large.ii == 16 * small.ii


def test_fit_finds_the_coefficients_that_made_the_samples():
    truth = {**conv.DEFAULTS, "lut_input": 20.0, "ff_multiplier": 6.0, "cycles": 5.0}
    samples = []
    for channels in (2, 4, 8, 16):
        for filters in (4, 8, 32):
            inputs = 9 * channels
            for factor in (3, inputs, inputs * filters // 4, inputs * filters):
                layer = image(channels, filters, 3, 10, 8, factor)
                samples.append(LayerSample(layer, STREAM, conv.predict(layer, STREAM, truth), "made"))
    fitted = conv.fit(samples, conv.DEFAULTS)
    assert fitted["cycles"] == pytest.approx(5.0)
    for sample in samples:
        again = conv.predict(sample.layer, STREAM, fitted)
        assert again.lut == pytest.approx(sample.measured.lut, rel=0.06)
        assert again.ff == pytest.approx(sample.measured.ff, rel=0.06)


@pytest.mark.skipif(not TABLE.is_file(), reason="the public synthesis tables are not beside this checkout")
def test_public_table_of_one_dimensional_convolutions():
    setting = HlsSetting("vivado_hls", "2019.1", "xczu7ev-ffvc1156-2-e", "zynquplus", 4.0, io_type="io_stream")
    with TABLE.open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["kind"] == "conv1d" and float(row["rf_eff"]) > 1]
    dsp, bram18, cycles = [], [], []
    for row in rows:
        channels, filters, factor = (int(float(row[key])) for key in ("n_in", "size", "rf_eff"))
        length = int(float(row["seq_len"])) // (1 if channels == 1 else 2)  # a pool by two lies in front of all others
        layer = HlsLayer(
            "c", "conv1d", channels, filters, DATA, DATA, "resource", factor, DATA, weight_type=DATA,
            kernel=(3,), stride=(1,), input_size=(length + 2,), output_size=(length,),
        )  # fmt: skip
        got = conv.predict(layer, setting, {**conv.DEFAULTS, "cycles": 10.0})
        dsp.append(got.dsp == float(row["dsp48e_median"]))
        bram18.append(abs((got.bram18 or 0) - float(row["bram_18k_median"])) <= 1)
        cycles.append(abs((got.latency_cycles or 0) / float(row["latency_max_median"]) - 1))
    assert len(rows) > 80
    assert np.mean(dsp) == 1.0
    assert np.mean(bram18) >= 0.95
    assert np.median(cycles) <= 0.01
    assert np.quantile(cycles, 0.9) <= 0.1


def test_constant_weights_are_the_dense_layer_of_strategy_latency_at_every_pixel():
    weight = np.random.default_rng(0).integers(-100, 100, (6, 3, 3, 3))
    layer = replace(image(3, 6, 3, 10, 8, 1), strategy="latency", weight=weight, weight_type=FixedPoint(8, 1))
    product = replace(conv.matrix_product(layer), strategy="latency")
    inside = replace(STREAM, io_type="io_parallel")
    single = dense_latency.predict(product, inside, dense_latency.DEFAULTS)
    got = conv.predict(layer, STREAM, conv.DEFAULTS)
    assert (got.dsp, got.bram18) == (single.dsp, single.bram18)
    assert got.ii == 100
    assert got.latency_cycles == 100 + (single.latency_cycles or 0)
    assert got.lut > (single.lut or 0)
    at_one = replace(layer, strategy="resource")
    assert conv.predict(at_one, STREAM, conv.DEFAULTS) == got


def test_positions_that_are_computed_side_by_side():
    parallel = replace(STREAM, io_type="io_parallel")
    one = conv.predict(image(4, 8, 3, 10, 8, 36), parallel, conv.DEFAULTS)
    wide = replace(image(4, 8, 3, 10, 8, 36), parallelization_factor=4)
    four = conv.predict(wide, parallel, conv.DEFAULTS)
    assert (four.ii, four.dsp) == ((one.ii or 0) / 4, 4 * (one.dsp or 0))
    assert four.bram18 == one.bram18  # one memory of weights for all
    assert four.ff == pytest.approx(4 * (one.ff or 0))
    # a stream brings one position after the other, whatever is asked for
    assert conv.predict(wide, STREAM, conv.DEFAULTS) == conv.predict(image(4, 8, 3, 10, 8, 36), STREAM, conv.DEFAULTS)

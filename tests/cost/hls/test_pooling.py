"""Pooling in both ways of data transport."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trigger_prune.cost.hls import pooling
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerSample
from trigger_prune.fixed_point import FixedPoint

DATA = FixedPoint(16, 6)
PARALLEL = HlsSetting("vivado_hls", "2019.2", "xcvu9p-flga2104-2-e", "virtexuplus", 5.0)
STREAM = replace(PARALLEL, io_type="io_stream")


def pool(kind: str, channels: int, size: int, window: int = 2, **more: object) -> HlsLayer:
    out = size // window
    base = HlsLayer(
        "p", kind, channels, channels, DATA, DATA,
        kernel=(window, window), stride=(window, window), input_size=(size, size), output_size=(out, out),
    )  # type: ignore[arg-type]  # fmt: skip
    return replace(base, **more)  # type: ignore[arg-type]


MEASURED = {
    **pooling.DEFAULTS,
    "stream_lut": 340.0,
    "stream_lut_window": 34.0,
    "stream_ff": 140.0,
    "stream_ff_window_bit": 4.3,
}


def estimate(this: HlsLayer, setting: HlsSetting):
    return pooling.predict(this, setting, MEASURED)


@pytest.mark.parametrize(
    ("channels", "size", "lut", "ff", "cycles"),
    [(4, 16, 898, 1240, 259), (16, 8, 2529, 4501, 67), (128, 8, 17873, 34967, 67)],
)
def test_line_buffer_of_public_reports(channels: int, size: int, lut: int, ff: int, cycles: int):
    got = estimate(pool("max_pool", channels, size), STREAM)
    assert got.lut == pytest.approx(lut, rel=0.03)
    assert got.ff == pytest.approx(ff, rel=0.03)
    assert (got.latency_cycles, got.ii, got.dsp, got.bram18) == (cycles, cycles, 0, 0)


def test_parallel_maximum_is_a_comparison_and_a_selection_for_every_element_but_one():
    array = pool("max_pool", 4, 8, n_out=4 * 16)
    assert estimate(array, PARALLEL).lut == 64 * 3 * (13 + 16)


def test_parallel_mean_adds_and_divides():
    shift = pool("average_pool", 4, 8, n_out=64)
    assert estimate(shift, PARALLEL).dsp == 0  # a window of four divides by a shift
    third = pool("average_pool", 4, 9, 3, n_out=36)
    assert estimate(third, PARALLEL).dsp == 36
    assert estimate(third, PARALLEL).lut == 36 * (8 * 16 + 16)


def test_global_pool_takes_the_whole_input_as_its_window():
    layer = pool("global_pool", 8, 8, kernel=(), output_size=(), n_out=8)
    assert estimate(layer, PARALLEL).lut == 8 * 63 * (13 + 16)


def test_fit_recovers_the_line_buffer():
    truth = {**pooling.DEFAULTS, "stream_lut_window": 50.0, "stream_ff": 400.0}
    samples = [
        LayerSample(layer, STREAM, pooling.predict(layer, STREAM, truth), project)
        for project in ("a", "b")
        for layer in (pool("max_pool", channels, 16) for channels in (2, 8, 64))
    ]
    fitted = pooling.fit(samples, pooling.DEFAULTS)
    for sample in samples:
        assert pooling.predict(sample.layer, STREAM, fitted).lut == pytest.approx(sample.measured.lut, rel=0.02)
        assert pooling.predict(sample.layer, STREAM, fitted).ff == pytest.approx(sample.measured.ff, rel=0.02)

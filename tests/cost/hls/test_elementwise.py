"""Add, concatenate, zero padding."""

from __future__ import annotations

from dataclasses import replace

from trigger_prune.cost.hls import elementwise
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting
from trigger_prune.fixed_point import FixedPoint

DATA = FixedPoint(16, 6)
SETTING = HlsSetting("vivado_hls", "2019.2", "xcvu9p-flga2104-2-e", "virtexuplus", 5.0)


def layer(kind: str, n: int, **more: object) -> HlsLayer:
    return replace(HlsLayer("e", kind, n, n, DATA, DATA), **more)  # type: ignore[arg-type]


def estimate(this: HlsLayer, setting: HlsSetting = SETTING):
    return elementwise.predict(this, setting, elementwise.DEFAULTS)


def test_add_is_one_adder_an_element():
    assert estimate(layer("add", 10)).lut == 160
    assert estimate(layer("add", 10), replace(SETTING, tool="vitis_hls", version="2024.1")).lut == 230
    assert estimate(layer("add", 10, output_type=FixedPoint(17, 7))).lut == 170


def test_concatenate_and_padding_are_wires_in_parallel():
    for kind in ("concatenate", "zero_padding"):
        got = estimate(layer(kind, 100))
        assert (got.lut, got.ff, got.dsp, got.bram18, got.latency_cycles, got.ii) == (0, 0, 0, 0, 0, 1)


def test_padding_in_stream_is_a_public_report():
    stream = replace(SETTING, io_type="io_stream")
    got = estimate(layer("zero_padding", 128, output_size=(10, 10)), stream)
    assert (got.lut, got.ff, got.latency_cycles) == (4389, 27, 103)

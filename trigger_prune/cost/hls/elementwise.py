"""Layers that only add, copy or move: add, concatenate, zero padding.

* add: one adder an element; csynth counts an adder of w bits as w LUT up to Vitis HLS 2021.1 and w + 7 from 2022.
* concatenate: wires in io_parallel; in io_stream one word a cycle is passed on.
* zero padding (io_stream only, a copy in io_parallel): one word a cycle plus 3, 33 LUT a channel (Keb-L/hls4ml-data).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample

FAMILY = "elementwise"
DEFAULTS: Mapping[str, float] = {
    "adder_overhead_early": 0.0,
    "adder_overhead": 7.0,
    "stream_lut": 165.0,
    "stream_lut_channel": 33.0,
    "stream_ff": 27.0,
    "stream_cycles": 3.0,
}


def predict(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    """``n_out`` elements: of the whole array (io_parallel), or of one position (io_stream, with ``output_size``)."""
    streamed = setting.io_type == "io_stream"
    lut = ff = 0.0
    if layer.kind == "add":
        overhead = parameters["adder_overhead" if setting.release >= (2022, 1) else "adder_overhead_early"]
        lut = layer.n_out * (max(layer.input_type.width, layer.output_type.width) + overhead)
    if not streamed:
        return LayerEstimate(lut=lut, ff=0.0, dsp=0.0, bram18=0.0, latency_cycles=0.0, ii=1.0)
    positions = math.prod(layer.output_size) or 1
    lut += parameters["stream_lut"] + parameters["stream_lut_channel"] * layer.n_out
    ff = parameters["stream_ff"] + (layer.n_out * layer.output_type.width if layer.kind == "add" else 0.0)
    cycles = positions + parameters["stream_cycles"]
    return LayerEstimate(lut=lut, ff=ff, dsp=0.0, bram18=0.0, latency_cycles=cycles, ii=cycles)


def fit(samples: Sequence[LayerSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """Nothing is free: the constants are what csynth counts."""
    return dict(parameters)

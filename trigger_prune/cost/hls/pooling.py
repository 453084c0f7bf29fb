"""Pooling: max, average, global; io_parallel (a tree over every window) and io_stream (a line buffer).

* a comparison and a selection, or an addition, for every element of a window but one; the mean costs a multiplication
  by the constant 1 / window, which is a shift where the window is a power of two.
* io_stream: input positions + 3 cycles; 67 for 8 x 8, 259 for 16 x 16 (Keb-L/hls4ml-data, Vivado HLS 2019.2.1). The
  kernel-window variant of hls4ml before 0.5 takes 2 more and a third of the registers; it is not modelled.

Nothing but the io_stream max pool 2 x 2 at 16 bits was measured; the rest follows from the source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from trigger_prune.cost.hls.comparison import adder_lut, compare_lut
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.log_fit import fit_positive
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication

FAMILY = "pooling"
DEFAULTS: Mapping[str, float] = {
    "stream_cycles": 3.0,
    "stream_lut": 300.0,
    "stream_lut_window": 30.0,
    "stream_ff": 100.0,
    "stream_ff_window_bit": 4.0,
}

_LEVELS_PER_CYCLE_NS = 1.7
"""One compare-and-select level of 16 bits, in nanoseconds, as in the timing of csynth reports."""


def predict(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    """``input_size``, ``output_size`` and ``kernel`` are spatial; ``n_in`` the channels (io_stream) or elements."""
    window = math.prod(layer.kernel) if layer.kernel else max(math.prod(layer.input_size), 1)
    positions_in, positions_out = math.prod(layer.input_size), math.prod(layer.output_size) or 1
    if setting.io_type == "io_stream":
        windows = layer.n_out * (window if layer.kernel else 1)
        cycles = positions_in + parameters["stream_cycles"]
        return LayerEstimate(
            lut=parameters["stream_lut"]
            + parameters["stream_lut_window"] * windows
            + _mean_lut(layer, setting, window),
            ff=parameters["stream_ff"] + parameters["stream_ff_window_bit"] * windows * layer.input_type.width,
            dsp=_mean_dsp(layer, setting, window) * layer.n_out,
            bram18=0.0,
            latency_cycles=cycles,
            ii=cycles,
        )
    outputs = max(layer.n_out, positions_out)
    per_output = (window - 1) * _element_lut(layer, setting)
    depth_ns = math.ceil(math.log2(max(window, 1))) * _LEVELS_PER_CYCLE_NS
    stages = math.floor(depth_ns / setting.clock_period_ns)
    return LayerEstimate(
        lut=outputs * per_output + _mean_lut(layer, setting, window),
        ff=float(stages * outputs * layer.output_type.width),
        dsp=_mean_dsp(layer, setting, window) * outputs,
        bram18=0.0,
        latency_cycles=float(stages),
        ii=1.0,
    )


def fit(samples: Sequence[LayerSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """LUT and FF of the io_stream line buffer."""
    fitted = dict(parameters)
    for quantity, first, second in (
        ("lut", "stream_lut", "stream_lut_window"),
        ("ff", "stream_ff", "stream_ff_window_bit"),
    ):
        known = [s for s in samples if s.setting.io_type == "io_stream" and getattr(s.measured, quantity)]
        if len(known) < 4:
            continue
        windows = [s.layer.n_out * math.prod(s.layer.kernel or (1,)) for s in known]
        scale = [s.layer.input_type.width if quantity == "ff" else 1 for s in known]
        terms = np.array([[1.0, count * factor] for count, factor in zip(windows, scale, strict=True)])
        truth = np.array([getattr(s.measured, quantity) for s in known], dtype=np.float64)
        found = fit_positive(terms, truth, [parameters[first], parameters[second]], [s.project for s in known])
        fitted[first], fitted[second] = float(found[0]), float(found[1])
    return fitted


def _is_mean(layer: HlsLayer) -> bool:
    return layer.kind == "average_pool" or (layer.kind == "global_pool" and layer.implementation == "average")


def _element_lut(layer: HlsLayer, setting: HlsSetting) -> float:
    width = layer.input_type.width
    if _is_mean(layer):
        return adder_lut(width, setting)
    return compare_lut(width, setting) + width


def _mean_dsp(layer: HlsLayer, setting: HlsSetting, window: int) -> float:
    if not _is_mean(layer) or window & (window - 1) == 0:
        return 0.0
    return float(dsp_per_multiplication(layer.input_type.width, layer.input_type.width, setting))


def _mean_lut(layer: HlsLayer, setting: HlsSetting, window: int) -> float:
    return layer.n_out * adder_lut(layer.input_type.width, setting) if _is_mean(layer) else 0.0

"""``normalize``: scale and shift with a constant each, element by element (nnet_batchnorm.h).

A scale with three or more canonical signed digits becomes a multiplication (in DSPs or LUTs by its widths, as in a
dense layer of strategy latency), one with two digits an adder, a power of two nothing; a bias that is not 0 is one
more adder. The 12 reports at hand (Vitis HLS 2021.1, ArgyKokk/hls4ml_MLP_estimator) have 56 LUT, no DSP, latency 0
for 2 and 3 elements alike, whose scales are unknown: the rule is the compiler's, its error is not measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from trigger_prune.cost.csd import csd_count
from trigger_prune.cost.hls.comparison import adder_lut
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.features import stated_counts
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication

FAMILY = "batch_norm"
DEFAULTS: Mapping[str, float] = {"fabric_multiplier_lut_per_bit2": 0.45, "stream_cycles": 3.0}


def predict(layer: HlsLayer, setting: HlsSetting, parameters: Mapping[str, float]) -> LayerEstimate:
    """``weight`` holds the codes of the scales, any shape; without them every element is taken to need a multiplier."""
    elements = layer.n_out
    width = layer.input_type.width
    scale_width = layer.weight_type.width if layer.weight_type is not None else width
    multiplications, two_digits, biases = scale_counts(layer)
    dsp = dsp_per_multiplication(width, scale_width, setting)
    product = width + scale_width
    fabric = 0.0 if dsp else parameters["fabric_multiplier_lut_per_bit2"] * width * scale_width
    lut = multiplications * fabric + two_digits * adder_lut(product, setting)
    lut += biases * adder_lut(layer.output_type.width, setting)
    latency = 1.0 if dsp and multiplications and setting.clock_period_ns < 4.0 else 0.0
    ff = latency * elements * layer.output_type.width
    interval = 1.0
    if setting.io_type == "io_stream":
        positions = math.prod(layer.output_size) or 1
        latency = interval = positions + parameters["stream_cycles"]
        ff += elements * layer.output_type.width
    return LayerEstimate(lut, ff, float(multiplications * dsp), 0.0, latency, interval)


def scale_counts(layer: HlsLayer) -> tuple[int, int, int]:
    """Scales of three or more digits, scales of two, biases that are not 0."""
    stated = stated_counts(layer).scales
    if stated is not None:
        return stated
    multiplications, two_digits = layer.n_out, 0
    if layer.weight is not None:
        digits = csd_count(np.asarray(layer.weight, dtype=np.int64).ravel())
        multiplications, two_digits = int((digits >= 3).sum()), int((digits == 2).sum())
    return multiplications, two_digits, layer.n_out if layer.bias is None else int(np.count_nonzero(layer.bias))


def fit(samples: Sequence[LayerSample], parameters: Mapping[str, float]) -> dict[str, float]:
    """Nothing is fitted: too few reports, of unknown scales."""
    return dict(parameters)

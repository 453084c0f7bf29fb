"""Batch normalisation with constant scales."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trigger_prune.cost.hls import batch_norm
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting
from trigger_prune.fixed_point import FixedPoint

DATA = FixedPoint(16, 6)
SETTING = HlsSetting("vivado_hls", "2019.2", "xcvu9p-flga2104-2-e", "virtexuplus", 5.0)


def estimate(scales: list[int] | None, biases: list[int], setting: HlsSetting = SETTING):
    weight = None if scales is None else np.array(scales)
    n = len(biases)
    layer = HlsLayer("bn", "batchnorm", n, n, DATA, DATA, weight=weight, weight_type=DATA, bias=np.array(biases))
    return batch_norm.predict(layer, setting, batch_norm.DEFAULTS)


def test_only_scales_of_three_digits_multiply():
    # 1 and -4 are shifts, 3 = 4 - 1 is one adder, 11 = 8 + 4 - 1 has three digits
    assert estimate([1, -4, 3, 11], [0, 0, 0, 0]).dsp == 1
    assert estimate([1, -4, 3, 11], [0, 0, 0, 0]).lut == 32
    assert estimate([1, -4, 0], [0, 0, 0]).lut == 0


def test_every_bias_that_is_not_zero_is_an_adder():
    assert estimate([1, 1, 1], [5, 0, -1]).lut == 2 * 16


def test_unknown_scales_count_as_multiplications():
    assert estimate(None, [0, 0, 0]).dsp == 3
    in_luts = estimate(None, [0, 0, 0], replace(SETTING, forced_multiplier="fabric"))
    assert in_luts.dsp == 0
    assert in_luts.lut > 0

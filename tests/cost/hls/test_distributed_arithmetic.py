"""Distributed arithmetic: adders by hand, nothing but adders, cheaper when weights go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.hls import distributed_arithmetic as da
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint

EARLY = HlsSetting("vitis_hls", "2021.1", "xcvu13p-flga2577-2-e", "virtexuplus", 5.0)
LATE = replace(EARLY, version="2024.1")
UNSHARED = {**da.DEFAULTS, "sharing": 0.0}


def layer(weight: np.ndarray, bias: np.ndarray | None = None) -> HlsLayer:
    return HlsLayer(
        "fc", "dense", weight.shape[1], weight.shape[0], FixedPoint(4, 4), FixedPoint(12, 12),
        "distributed_arithmetic", weight=weight, weight_type=FixedPoint(8, 8), bias=bias,
        bias_type=None if bias is None else FixedPoint(8, 8),
    )  # fmt: skip


def test_two_inputs_are_one_adder():
    # x0 + x1 of 4-bit inputs: 5 bits; csynth counts w, and w + 7 from 2022
    got = da.predict(layer(np.array([[1, 1]])), EARLY, UNSHARED)
    assert (got.lut, got.dsp, got.bram18, got.ii) == (5, 0, 0, 1)
    assert da.predict(layer(np.array([[1, 1]])), LATE, UNSHARED).lut == 12


def test_a_power_of_two_and_a_zero_are_free_and_a_bias_is_an_adder():
    assert da.predict(layer(np.array([[8, 0]])), LATE, UNSHARED).lut == 0
    assert da.predict(layer(np.array([[0, 0]])), LATE, UNSHARED).lut == 0
    assert da.predict(layer(np.array([[1, 0]]), np.array([3])), EARLY, UNSHARED).lut == 5


def test_nothing_but_adders_at_one_result_a_cycle():
    weight = np.random.default_rng(0).integers(-100, 100, (16, 32))
    got = da.predict(layer(weight), LATE, da.DEFAULTS)
    assert (got.dsp, got.bram18, got.ii) == (0, 0, 1)
    fast = da.predict(layer(weight), replace(LATE, clock_period_ns=1.5), da.DEFAULTS)
    assert fast.latency_cycles > got.latency_cycles
    assert fast.ff > got.ff


def test_pruning_makes_it_cheaper():
    rng = np.random.default_rng(1)
    weight = rng.integers(-100, 100, (16, 32))
    order = rng.permutation(weight.size)
    luts = []
    for kept in (512, 384, 256, 128, 32):
        pruned = weight.copy().ravel()
        pruned[order[kept:]] = 0
        luts.append(da.predict(layer(pruned.reshape(weight.shape)), LATE, da.DEFAULTS).lut)
    assert luts == sorted(luts, reverse=True)


def test_unknown_weights_are_refused():
    blind = replace(layer(np.ones((1, 1), dtype=np.int64)), weight=None)
    with pytest.raises(CostError, match=r"layer fc: .*integer weights"):
        da.predict(blind, LATE, da.DEFAULTS)

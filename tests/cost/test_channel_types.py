"""Costs of networks whose neurons have types of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.dataflow import live_layers
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.synthesis.store.network_file import network_from_json, network_to_json
from trigger_prune.target import Target

INPUT = FixedPoint(6, 3, True)
TRN_WRAP = (Rounding.AP_TRN, Overflow.AP_WRAP)


def hull(types: tuple[FixedPoint | None, ...]) -> FixedPoint:
    kept = [t for t in types if t]
    integer, fraction = max(t.integer for t in kept), max(t.fraction for t in kept)
    return FixedPoint(integer + fraction, integer, False, *TRN_WRAP)


def two_layers(channels: tuple[FixedPoint | None, ...], seed: int = 0) -> NetworkSpec:
    rng = np.random.default_rng(seed)
    n = len(channels)
    kind, bias_type = FixedPoint(5, 1, True), FixedPoint(14, 6, True)
    middle = hull(channels)
    first = WeightLayer(
        "a", "dense", rng.integers(-15, 16, (n, 5)), kind, rng.integers(-200, 200, n), bias_type,
        INPUT, middle, True, 1, output_channels=channels,
    )  # fmt: skip
    second = WeightLayer(
        "b", "dense", rng.integers(-15, 16, (3, n)), kind, np.zeros(3, np.int64), bias_type,
        middle, None, False, 1, input_channels=channels,
    )  # fmt: skip
    return NetworkSpec((first, second), INPUT, (5,), 3)


CHANNELS = (
    FixedPoint(4, 4, False, *TRN_WRAP),
    FixedPoint(3, 1, False, *TRN_WRAP),
    None,
    FixedPoint(7, 5, False, *TRN_WRAP),
    FixedPoint(2, 3, False, *TRN_WRAP),
)


def test_ranges_hold_every_simulated_value_and_are_reached_in_width() -> None:
    spec = two_layers(CHANNELS)
    a, b = spec.layers
    x = INPUT.quantize(np.random.default_rng(1).uniform(-4, 4, (20_000, 5)))
    sums = x @ (a.weight * a.weight_type.lsb).T + a.bias * a.bias_type.lsb
    first, second = live_layers(spec)
    values = np.zeros_like(sums)
    for channel, fixed in enumerate(CHANNELS):
        if fixed is None:
            assert first.outputs.low[channel] == first.outputs.high[channel] == 0
            continue
        codes = fixed.to_code(np.maximum(sums[:, channel], 0))
        values[:, channel] = codes * fixed.lsb
        assert first.outputs.low[channel] <= codes.min() and codes.max() <= first.outputs.high[channel]
        assert first.outputs.high[channel] <= fixed.max_code
    logits = values @ (b.weight * b.weight_type.lsb).T
    lsb = 2.0**-b.accumulator_fraction
    assert (second.sums.low * lsb <= logits.min(0)).all() and (logits.max(0) <= second.sums.high * lsb).all()
    assert not first.alive[2]


@pytest.mark.parametrize("seed", range(4))
def test_equal_channels_cost_what_one_type_costs(seed: int) -> None:
    channels = (FixedPoint(5, 4, False, *TRN_WRAP),) * 5
    spec = two_layers(channels, seed)
    alone = NetworkSpec(
        (replace(spec.layers[0], output_channels=()), replace(spec.layers[1], input_channels=())),
        INPUT, (5,), 3,
    )  # fmt: skip
    one, other = (AnalyticCost().estimate(s, Target()) for s in (spec, alone))
    assert (one.lut, one.ff, one.latency_cycles) == (other.lut, other.ff, other.latency_cycles)
    assert spec.content_hash() != alone.content_hash()


def test_fewer_bits_in_one_channel_cost_less() -> None:
    wide = (FixedPoint(7, 5, False, *TRN_WRAP),) * 5
    narrow = (*wide[:4], FixedPoint(3, 3, False, *TRN_WRAP))
    costs = [AnalyticCost().estimate(two_layers(types), Target()).lut for types in (wide, narrow)]
    assert costs[0] is not None and costs[1] is not None and costs[1] < costs[0]


def test_the_report_store_keeps_channel_types() -> None:
    spec = two_layers(CHANNELS)
    restored = network_from_json(network_to_json(spec))
    assert restored.content_hash() == spec.content_hash()
    assert restored.layers[0].output_channels == restored.layers[1].input_channels == CHANNELS

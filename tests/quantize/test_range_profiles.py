"""Overflow and underflow rates against numpy, value by value."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import build_structure
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.quantize.profile.measure import QUANTILES, RangeProfile, profile_network
from trigger_prune.quantize.profile.table import from_dict, profile_rows
from trigger_prune.quantize.ptq.build import build_network

INPUT = FixedPoint(10, 4, True, "AP_RND", "AP_SAT")
WEIGHT = FixedPoint(4, 1, True, "AP_RND_CONV", "AP_SAT")
WIRE = FixedPoint(4, 1, False, "AP_TRN", "AP_SAT")
HEAD = FixedPoint(5, 1, True, "AP_RND_CONV", "AP_SAT")


def _network() -> fx.GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    with torch.no_grad():
        model[0].weight *= 3  # beyond the range of WEIGHT
        model[2].weight *= 0.2  # below half its LSB
    structure = build_structure(model, INPUT, (6,))
    return build_network(structure, {"0": WEIGHT, "2": HEAD}, {"1_quant": WIRE})


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return INPUT.quantize(np.random.default_rng(1).normal(size=(3000, 6)))


@pytest.fixture(scope="module")
def profiles(features: np.ndarray) -> dict[tuple[str, str], RangeProfile]:
    network = _network()
    weight_layers(network)["0"].weight_mask[2] = 0
    found = profile_network(network, torch.from_numpy(features).float())
    return {(profile.name, profile.kind): profile for profile in found}


def test_every_tensor_is_there_in_order(profiles: dict[tuple[str, str], RangeProfile]) -> None:
    assert list(profiles) == [
        ("input", "input"),
        ("0", "weight"),
        ("0", "bias"),
        ("1_quant", "sum"),
        ("2", "weight"),
        ("2", "bias"),
        ("2", "output"),
    ]


def test_rates_of_a_wire_are_those_of_its_values(
    profiles: dict[tuple[str, str], RangeProfile], features: np.ndarray
) -> None:
    network = _network()
    first = weight_layers(network)["0"]
    weight = WEIGHT.quantize(first.weight.detach().double().numpy())
    weight[2] = 0
    bias = first.bias_type.quantize(first.bias.detach().double().numpy())
    wire = np.maximum(features @ weight.T + bias, 0)
    found = profiles["1_quant", "sum"]
    codes = np.floor(wire * 8)  # WIRE: three fraction bits, truncation
    outside = codes > 15
    assert (found.n_values, found.n_events) == (wire.size, 3000)
    assert found.overflows == outside.sum() > 0
    assert found.overflow_rate == outside.mean()
    assert found.event_overflows == outside.any(axis=1).sum()
    assert found.underflows == ((wire > 0) & (codes == 0)).sum() > 0
    assert found.underflow_rate == pytest.approx(((wire > 0) & (codes == 0)).sum() / (wire > 0).sum())
    assert found.zeros == (wire == 0).sum()
    assert (found.low, found.high) == (wire.min(), wire.max())
    assert binom.cdf(found.event_overflows, 3000, found.event_upper) == pytest.approx(0.05)
    used = np.log2(wire[wire > 0])
    for level, value in zip(QUANTILES, found.log2_quantiles, strict=True):
        assert value == pytest.approx(np.quantile(used, level), abs=1 / 16)
    assert found.log2_max == pytest.approx(used.max())
    assert found.integer_needed == int(np.floor(np.log2(wire.max()))) + 1
    assert found.spare_bits == 1 - found.integer_needed < 0
    assert found.log2_range == (-3.0, pytest.approx(np.log2(15 / 8)))


def test_rates_of_weights_are_those_of_the_float_values_that_are_kept(
    profiles: dict[tuple[str, str], RangeProfile],
) -> None:
    network = _network()
    weight = weight_layers(network)["0"].weight.detach().double().numpy()
    kept = np.delete(weight, 2, axis=0).ravel()
    codes = np.round(kept * 8)
    found = profiles["0", "weight"]
    assert found.n_values == kept.size
    assert found.overflows == ((codes > 7) | (codes < -8)).sum() > 0
    assert found.event_rate is None
    assert found.event_upper is None
    head = weight_layers(network)["2"].weight.detach().double().numpy().ravel()
    found = profiles["2", "weight"]
    assert found.underflows == (np.round(head * 16) == 0).sum() > 0
    assert found.underflow_rate == found.underflows / head.size
    assert found.overflows == 0


def test_outputs_never_overflow_their_exact_accumulator(profiles: dict[tuple[str, str], RangeProfile]) -> None:
    found = profiles["2", "output"]
    assert (found.overflows, found.underflows) == (0, 0)
    assert found.spare_bits >= 0


def test_profiles_survive_their_file(profiles: dict[tuple[str, str], RangeProfile]) -> None:
    for profile in profiles.values():
        assert from_dict(json.loads(json.dumps(asdict(profile)))) == profile
    rows = profile_rows(tuple(profiles.values()))
    assert rows[3]["log2_p50"] == profiles["1_quant", "sum"].log2_quantiles[2]
    assert rows[3]["spare_integer_bits"] == profiles["1_quant", "sum"].spare_bits


def test_small_chunks_add_up(features: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from trigger_prune.quantize.profile import measure

    whole = profile_network(_network(), torch.from_numpy(features).float())
    monkeypatch.setattr(measure, "_CHUNK_EVENTS", 7)
    assert profile_network(_network(), torch.from_numpy(features).float()) == whole

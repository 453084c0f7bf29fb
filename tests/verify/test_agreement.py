"""Networks whose representations must all agree."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import small_networks
import torch
from torch import nn
from verify_cases import Verified, export, make_case

from trigger_prune.errors import VerificationError
from trigger_prune.export import hls4ml_project
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers
from trigger_prune.target import LayerLayout, Target
from trigger_prune.verify.representations import accumulator_bits, torch_outputs, verify_network
from trigger_prune.verify.verdict import Verdict

ALL = ["torch_float32", "qonnx", "onnxruntime", "hls4ml_csim", "alkaid"]


def _assert_all_agree(verdict: Verdict, events: int, names: list[str] = ALL, qonnx_events: int = 100) -> None:
    found = [(pair.name, pair.events, pair.mismatches, pair.failure) for pair in verdict.pairs]
    assert found == [(name, qonnx_events if name == "qonnx" else events, 0, None) for name in names]
    assert verdict.ok


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_every_pair_agrees_and_the_reference_is_right(name: str, request: pytest.FixtureRequest) -> None:
    verified: Verified = request.getfixturevalue(name)
    _assert_all_agree(verified.verdict, 302)
    assert verified.verdict.float_type == "float32"
    case = verified.case
    np.testing.assert_array_equal(torch_outputs(case.network, case.features, double=True), case.expected)


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_nothing_reaches_the_terminal(name: str, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(name).terminal == ""


def test_verdict_survives_json(mlp: Verified) -> None:
    text = json.dumps(mlp.verdict.to_dict())
    assert Verdict.from_dict(json.loads(text)) == mlp.verdict
    assert json.loads(text)["ok"] is True


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_beyond_24_bits_all_run_in_float64(name: str, tmp_path: Path) -> None:
    network = getattr(small_networks, name)(fixed=small_networks.INPUT_16, weight_bits=10, activation_bits=16)
    case = make_case(network, tmp_path)
    verdict = case.verify()
    _assert_all_agree(verdict, 302, ALL[1:])
    assert verdict.float_type == "float64"
    assert verdict.accumulator_bits == describe_network(network).accumulator_bound.bit_length() > 24
    # float32 is left out for a reason
    assert (torch_outputs(network, case.features, double=False) != case.expected).any()


@pytest.mark.parametrize("wide", [False, True])
def test_convolutional_networks_agree(tmp_path: Path, wide: bool) -> None:
    torch.manual_seed(6)
    shape, model = ((2, 8), Conv1dNet((2, 8), 2, channels=(3,), hidden=(4,), pool=1))
    if wide:
        shape, model = ((2, 6, 5), Conv2dNet((2, 6, 5), 2, channels=(3,), hidden=(4,)))
    fixed = small_networks.INPUT_16 if wide else small_networks.INPUT_8
    network = small_networks.quantised(
        model, shape, fixed=fixed, weight_bits=10 if wide else 6, activation_bits=16 if wide else 6
    )
    features = small_networks.events(fixed, 198, *shape)
    verdict = verify_network(network, export(network, tmp_path), features, qonnx_events=50)
    _assert_all_agree(verdict, 200, ALL[1:] if wide else ALL, 50)
    assert verdict.float_type == ("float64" if wide else "float32")


def test_dead_layer_and_one_bit_activations_agree(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    network = small_networks.quantised(model, (5,), activation_bits=1)
    layers = list(weight_layers(network).values())
    layers[1].weight_mask.zero_()
    case = make_case(network, tmp_path)
    assert len(np.unique(case.expected, axis=0)) == 1  # a dead layer leaves only biases
    _assert_all_agree(case.verify(), 302)
    layers[1].weight_mask.fill_(1)
    (tmp_path / "alive").mkdir()
    alive = make_case(network, tmp_path / "alive")
    assert len(np.unique(alive.expected, axis=0)) > 3
    _assert_all_agree(alive.verify(), 302)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("mlp", Target(strategy="Resource", io_type="io_stream")),
        ("mlp_regular", Target(strategy="Resource", reuse_factor=4)),
        ("deep_sets", Target(io_type="io_stream")),
    ],
)
def test_other_layouts_agree(name: str, target: Target, tmp_path: Path) -> None:
    torch.manual_seed(3)
    regular = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    network = small_networks.quantised(regular, (8,)) if name == "mlp_regular" else getattr(small_networks, name)()
    case = make_case(network, tmp_path, 50, target)
    pair = case.pair("hls4ml_csim")
    assert (pair.mismatches, pair.events, pair.failure) == (0, 52, None)


def test_a_layout_that_hls4ml_gets_wrong_is_a_failure_with_its_assertion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by the table; without it the C++ itself stops, and that is a failure and no agreement."""
    monkeypatch.setattr(hls4ml_project, "require_supported", lambda *arguments: None)
    target = Target(layers=(LayerLayout("mean", "Resource", 1),))
    case = make_case(small_networks.deep_sets(), tmp_path, 20, target)
    verdict = case.verify()
    pair = verdict.pairs[3]
    assert pair.mismatches is None
    assert "killed by SIGABRT" in pair.failure
    assert "Resource strategy for DepthwiseConv1D is not supported" in pair.failure
    assert [other.mismatches for other in verdict.pairs if other is not pair] == [0, 0, 0, 0]


def test_more_qonnx_events_than_there_are_and_repeated_events(mlp: Verified, monkeypatch: pytest.MonkeyPatch) -> None:
    from trigger_prune.verify import onnx_runs, representations
    from trigger_prune.verify.runs.onnxruntime import ONNXRUNTIME
    from trigger_prune.verify.runs.qonnx import QONNX

    monkeypatch.setattr(representations, "IN_ORDER", (QONNX, ONNXRUNTIME))
    monkeypatch.setattr(onnx_runs, "_QONNX_BATCH", 64)  # 302 + 302 events are no multiple of it
    features = np.concatenate([mlp.case.features, mlp.case.features])
    verdict = verify_network(mlp.case.network, mlp.case.exported, features, qonnx_events=10**6)
    _assert_all_agree(verdict, 604, ["qonnx", "onnxruntime"], 604)


def test_events_off_the_grid_are_named(mlp: Verified) -> None:
    case = mlp.case
    for value, shown in ((0.015625, "0.015625"), (100.0, "100.0"), (np.nan, "nan")):
        features = case.features.copy()
        features[17, 3] = value
        with pytest.raises(VerificationError, match=rf"event 17 .*ap_fixed<8,3.*{shown}.* at \[3\]"):
            verify_network(case.network, case.exported, features, qonnx_events=10)


def test_nothing_to_compare_is_no_agreement(mlp: Verified) -> None:
    case = mlp.case
    with pytest.raises(VerificationError, match="no events"):
        verify_network(case.network, case.exported, case.features[:0], qonnx_events=10)
    with pytest.raises(VerificationError, match="no events"):
        verify_network(case.network, case.exported, case.features, qonnx_events=0)
    with pytest.raises(VerificationError, match=r"shape \(4,\), the network takes \(5,\)"):
        verify_network(case.network, case.exported, case.features[:, :4], qonnx_events=10)


def test_accumulators_that_float64_does_not_hold_are_refused(mlp: Verified) -> None:
    network = copy.deepcopy(mlp.case.network)
    layer = network.get_submodule("head")
    layer.bias_type = type(layer.bias_type)(52, 20, True, "AP_RND_CONV", "AP_SAT")
    with torch.no_grad():
        layer.bias.fill_(2.0**19 - 1)
    name = next(n for n, m in network.named_modules() if isinstance(m, FixedQuantizer))
    fixed = network.get_submodule(name).fixed
    network.set_submodule(name, FixedQuantizer(type(fixed)(52, 20, False, "AP_TRN", "AP_SAT")))
    assert accumulator_bits(network) > 53
    with pytest.raises(VerificationError, match="float64 is exact up to 53"):
        verify_network(network, mlp.case.exported, mlp.case.features, qonnx_events=10)


def test_wires_count_towards_the_bits(mlp: Verified) -> None:
    """A quantiser wider than the sums in front of it decides, too."""
    network = copy.deepcopy(mlp.case.network)
    assert accumulator_bits(network) < 20
    *_, name = (n for n, m in network.named_modules() if isinstance(m, FixedQuantizer))
    network.set_submodule(
        name, FixedQuantizer(type(network.get_submodule(name).fixed)(26, 4, False, "AP_TRN", "AP_SAT"))
    )
    assert accumulator_bits(network) >= 26

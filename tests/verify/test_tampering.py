"""One weight is changed in one file: the count of differing events and the first difference must be right."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import small_networks
import torch
from onnx import numpy_helper
from torch import fx
from verify_cases import Case, Verified, make_case

from trigger_prune.cost.network import WeightLayer
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.verify import truncate
from trigger_prune.verify.representations import verify_network
from trigger_prune.verify.runs import Events, alkaid
from trigger_prune.verify.runs.torch_float32 import TORCH_FLOAT32
from trigger_prune.verify.verdict import FirstDifference, PairVerdict


def _assert_found(pair: PairVerdict, case: Case, layer: str, index: tuple[int, ...], events: int = 302) -> None:
    """Compare ``pair`` with what the integer model says about ``layer``'s weight ``index`` raised by one code."""
    spec = describe_network(case.network)
    changed = small_networks.with_weight_changed(spec, layer, index)
    wrong = (small_networks.integer_outputs(changed, case.features) != case.expected).any(axis=1)[:events]
    assert 0 < wrong.sum() < events
    event = int(np.flatnonzero(wrong)[0])
    number = [item.name for item in spec.layers].index(layer)
    one = case.features[event : event + 1]
    expected = small_networks.integer_sums(spec, one)[number].ravel()
    got = small_networks.integer_sums(changed, one)[number].ravel()
    element = int(np.flatnonzero(expected != got)[0])
    assert pair.failure is None
    assert (pair.events, pair.mismatches, pair.ok) == (events, wrong.sum(), False)
    assert pair.first_difference == FirstDifference(event, layer, element, expected[element], got[element])


def _raise_onnx_weight(source: Path, target: Path, shape: tuple[int, ...], index: tuple[int, ...], lsb: float) -> Path:
    model = onnx.load(str(source))
    [tensor] = [tensor for tensor in model.graph.initializer if tuple(tensor.dims) == shape]
    value = numpy_helper.to_array(tensor).copy()
    value[index] += lsb
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, str(target))
    return target


def _layer(case: Case, name: str) -> WeightLayer:
    return next(layer for layer in describe_network(case.network).layers if layer.name == name)


@pytest.mark.parametrize(("file", "pair_name"), [("qonnx_model", "qonnx"), ("lowered_model", "onnxruntime")])
@pytest.mark.parametrize(
    ("name", "layer", "shape", "index"),
    [
        ("mlp", "dense1", (8, 5), (2, 3)),
        ("mlp", "dense2", (4, 8), (2, 3)),
        ("mlp", "head", (3, 4), (0, 3)),
        ("deep_sets", "phi1", (4, 3, 1), (1, 2, 0)),
        ("deep_sets", "head", (2, 4), (1, 3)),
    ],
)
def test_onnx_files(
    file: str,
    pair_name: str,
    name: str,
    layer: str,
    shape: tuple[int, ...],
    index: tuple[int, ...],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verified: Verified = request.getfixturevalue(name)
    _only(monkeypatch, pair_name)
    case = verified.case
    source = getattr(case.exported, file)
    target = _raise_onnx_weight(source, tmp_path / "m.onnx", shape, index, _layer(case, layer).weight_type.lsb)
    _assert_found(case.pair(pair_name, **{file: target}), case, layer, index, 100 if pair_name == "qonnx" else 302)


@pytest.mark.parametrize(("file", "pair_name"), [("qonnx_model", "qonnx"), ("lowered_model", "onnxruntime")])
def test_onnx_files_in_float64_with_gathered_convolutions(
    file: str, pair_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch, pair_name)
    network = small_networks.deep_sets(fixed=small_networks.INPUT_16, weight_bits=10, activation_bits=16)
    case = make_case(network, tmp_path)
    lsb = _layer(case, "phi1").weight_type.lsb
    target = _raise_onnx_weight(getattr(case.exported, file), tmp_path / "m.onnx", (4, 3, 1), (1, 2, 0), lsb)
    _assert_found(case.pair(pair_name, **{file: target}), case, "phi1", (1, 2, 0), 100 if pair_name == "qonnx" else 302)


def _raise_hls4ml_weight(project: Path, number: int, position: int, lsb: float, suffixes: tuple[str, ...]) -> Path:
    """Raise value ``position`` of the ``number``-th weight array in the files with these suffixes."""
    top = (project / "firmware" / "net.cpp").read_text()
    calls = [line for line in top.splitlines() if "nnet::" in line and "// " in line and ", w" in line]
    array = calls[number].split(", w")[1].split(",")[0]
    for suffix in suffixes:
        path = project / "firmware" / "weights" / f"w{array}{suffix}"
        text = path.read_text()
        start = text.index("{") + 1 if suffix == ".h" else 0
        end = text.index("}") if suffix == ".h" else len(text)
        words = text[start:end].split(",")
        words[position] = f" {float(words[position]) + lsb:.20f}"
        path.write_text(text[:start] + ",".join(words) + text[end:])
    return project


@pytest.mark.parametrize(
    ("name", "layer", "index", "position"),
    [
        # dense weights lie as (in, out), pointwise ones as (position, in, out)
        ("mlp", "dense2", (2, 3), 3 * 4 + 2),
        ("deep_sets", "phi2", (3, 1, 0), 1 * 4 + 3),
        # behind the mean, whose sum hls4ml merges with its quantiser
        ("deep_sets", "rho1", (2, 0), 0 * 4 + 2),
    ],
)
def test_hls4ml_weights(
    name: str,
    layer: str,
    index: tuple[int, ...],
    position: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _only(monkeypatch, "hls4ml_csim")
    case: Case = request.getfixturevalue(name).case
    number = [item.name for item in describe_network(case.network).layers].index(layer)
    lsb = _layer(case, layer).weight_type.lsb
    project = _raise_hls4ml_weight(case.copy_project(tmp_path / "p"), number, position, lsb, (".txt", ".h"))
    _assert_found(case.pair("hls4ml_csim", hls4ml_project=project), case, layer, index)


def test_taps_read_streams_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trigger_prune.target import Target

    _only(monkeypatch, "hls4ml_csim")
    case = make_case(small_networks.deep_sets(), tmp_path, 300, Target(io_type="io_stream"))
    lsb = _layer(case, "phi2").weight_type.lsb
    project = _raise_hls4ml_weight(case.copy_project(tmp_path / "p"), 1, 1 * 4 + 3, lsb, (".txt", ".h"))
    _assert_found(case.pair("hls4ml_csim", hls4ml_project=project), case, "phi2", (3, 1, 0))


@pytest.mark.parametrize("suffix", [".txt", ".h"])
def test_a_weight_changed_in_one_of_its_two_files_is_a_failure(
    suffix: str, mlp: Verified, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulation reads the text file only: the header, which is synthesised, must not go unseen."""
    _only(monkeypatch, "hls4ml_csim")
    project = _raise_hls4ml_weight(mlp.case.copy_project(tmp_path / "p"), 1, 5, 0.25, (suffix,))
    pair = mlp.case.pair("hls4ml_csim", hls4ml_project=project)
    assert pair.mismatches is None
    assert "value 5 is" in pair.failure
    assert ".txt, which the simulation reads" in pair.failure


def test_alkaid(mlp: Verified, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, "alkaid")
    case = mlp.case
    lsb = _layer(case, "dense2").weight_type.lsb

    def tampered(network: fx.GraphModule, *, double: bool = False) -> fx.GraphModule:
        frozen = freeze(network, double=double)
        with torch.no_grad():
            frozen.get_submodule("dense2").weight[2, 3] += lsb
        return frozen

    monkeypatch.setattr(alkaid, "freeze", tampered)
    monkeypatch.setattr(truncate, "freeze", tampered)
    _assert_found(case.pair("alkaid"), case, "dense2", (2, 3))


def test_torch_float32_is_located_where_it_rounds() -> None:
    from trigger_prune.verify.representations import _compare, torch_outputs

    network = small_networks.mlp(fixed=small_networks.INPUT_16, weight_bits=10, activation_bits=16)
    spec = describe_network(network)
    features = small_networks.events(small_networks.INPUT_16, 2000, 5)
    reference = small_networks.integer_outputs(spec, features)
    pair = _compare(TORCH_FLOAT32, Events(network, None, features, 1, False, Path()), reference)
    wrong = (torch_outputs(network, features, double=False) != reference).any(axis=1)
    assert pair.mismatches == wrong.sum() > 0
    first = pair.first_difference
    assert first.event == np.flatnonzero(wrong)[0]
    names = [layer.name for layer in spec.layers]
    sums = small_networks.integer_sums(spec, features[first.event : first.event + 1])
    assert first.expected == sums[names.index(first.layer)].ravel()[first.element] != first.got


def test_a_network_other_than_the_exported_one_differs_in_every_file(mlp: Verified) -> None:
    """The network is what was trained; files of an older one must not pass."""
    network = copy.deepcopy(mlp.case.network)
    layer = network.get_submodule("head")
    with torch.no_grad():
        layer.bias[1] += 4 * layer.bias_type.lsb
    verdict = verify_network(network, mlp.case.exported, mlp.case.features, qonnx_events=100)
    found = {pair.name: (pair.mismatches, pair.first_difference) for pair in verdict.pairs}
    assert {name: count for name, (count, _) in found.items()} == {
        "torch_float32": 0,
        "qonnx": 100,
        "onnxruntime": 302,
        "hls4ml_csim": 302,
        "alkaid": 0,
    }
    for name in ("qonnx", "onnxruntime", "hls4ml_csim"):
        first = found[name][1]
        assert (first.event, first.layer, first.element) == (0, "head", 1)
        assert first.expected - first.got == 4 * layer.bias_type.lsb
    assert not verdict.ok


def _only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from trigger_prune.verify import representations

    chosen = tuple(item for item in representations.IN_ORDER if item.name == name)
    assert len(chosen) == 1
    monkeypatch.setattr(representations, "IN_ORDER", chosen)

"""The ONNX file of a network with float activations: what ONNX Runtime makes of it, and the comparison with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from trigger_prune.errors import VerificationError
from trigger_prune.export.float_model import to_float_onnx
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.encoder import Encoder
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.quantize.weights_only import quantize_weights
from trigger_prune.structure import structure_by_name
from trigger_prune.structure.group_masks import remove_groups
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.verify.float_tolerance import FLOAT_TOLERANCE, verify_float_model
from trigger_prune.verify.verdict import Verdict

EVENTS = FixedPoint(10, 4)


def network_of(shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(2)
    model = Encoder(shape, 4, width=12, n_heads=4, n_layers=2, hidden=20)
    network = quantize_weights(model, 6, input_type=EVENTS, input_shape=shape)
    groups = structure_by_name("head").groups(network)
    remove_groups(network, groups, torch.rand(groups.count), 0.5, "global")
    return network


def events(n: int, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.integers(EVENTS.min_code, EVENTS.max_code, (n, *shape)) * EVENTS.lsb).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 6), (5,)])
@pytest.mark.parametrize("n_events", [1, 7, 300])
def test_onnx_runtime_gives_what_torch_gives_for_any_batch(shape: tuple[int, ...], n_events: int) -> None:
    network = network_of(shape)
    for each in (network, shrink_network(network, keep_inputs=True).network):
        session = onnxruntime.InferenceSession(to_float_onnx(each).SerializeToString())
        x = events(n_events, shape)
        found = session.run(None, {"events": x})[0]
        with torch.no_grad():
            expected = network.eval()(torch.from_numpy(x)).numpy()
        assert found.shape == (n_events, 4)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_the_file_holds_the_quantised_weights() -> None:
    network = network_of((3, 6))
    model = to_float_onnx(network)
    stored = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    for name, layer in weight_layers(network).items():
        wanted = layer.weight_type.quantize((layer.weight * layer.weight_mask).detach().double().numpy())
        assert any(
            array.shape in (wanted.shape, wanted.T.shape)
            and (np.array_equal(array, wanted) or np.array_equal(array, wanted.T))
            for array in stored
        ), name
    assert not {node.op_type for node in model.graph.node} & {"Shape", "Quant", "Round", "Floor"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    network = network_of((3, 6))
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    onnx.save(to_float_onnx(network), str(path))
    return network, path


def test_the_verdict_is_about_a_tolerance(exported: tuple[nn.Module, Path]) -> None:
    network, path = exported
    verdict = verify_float_model(network, path, events(500, (3, 6)))
    assert verdict.ok and verdict.tolerance == FLOAT_TOLERANCE and verdict.events == 500
    assert Verdict.from_dict(verdict.to_dict()) == verdict
    assert [pair.name for pair in verdict.pairs] == ["onnxruntime"]


@pytest.mark.parametrize("change", [2e-4, np.nan])
def test_another_model_is_noticed(exported: tuple[nn.Module, Path], tmp_path: Path, change: float) -> None:
    network, path = exported
    model = onnx.load(str(path))
    x = events(500, (3, 6))
    with torch.no_grad():
        expected = network.double().eval()(torch.from_numpy(x).double()).numpy()
    network.float()
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
    values = numpy_helper.to_array(bias).copy()
    values[2] += change * np.abs(expected).max()
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, str(tmp_path / "other.onnx"))
    verdict = verify_float_model(network, tmp_path / "other.onnx", x)
    assert not verdict.ok and verdict.pairs[0].mismatches == 500
    first = verdict.pairs[0].first_difference
    assert (first.event, first.layer, first.element) == (0, "output", 2)
    assert first.expected == pytest.approx(expected[0, 2])


def test_events_of_another_shape_and_none_are_errors(exported: tuple[nn.Module, Path]) -> None:
    network, path = exported
    for wrong in (events(0, (3, 6)), events(5, (3, 7))):
        with pytest.raises(VerificationError, match="the network takes"):
            verify_float_model(network, path, wrong)

"""Float ONNX files: the torch module against ONNX runtime, and what quantisation makes of it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from random_qonnx import Graph
from torch import nn

from trigger_prune.entry.float_onnx import (
    PostTrainingBits,
    compare_float,
    quantised_float_onnx,
    read_float_onnx,
    run_float,
)
from trigger_prune.errors import ModelError, UnsupportedLayerError, VerificationError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.verify.representations import torch_outputs


class Residual(nn.Module):
    """BatchNorm, a sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.second, self.last = nn.Linear(8, 8), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.norm(self.first(x)))
        return self.last(torch.cat([torch.relu(self.second(h) + h), h], 1))


class Mean(nn.Module):
    """A mean over ten particles."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.last = nn.Conv1d(3, 6, 1), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.each(x)).mean(2))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (
        lambda: nn.Sequential(
            nn.BatchNorm1d(16), nn.Linear(16, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Dropout(), nn.Linear(12, 5)
        ),
        (16,),
    ),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(16, 3)
        ),
        (2, 8),
    ),
    "conv2d": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 5)
        ),
        (1, 8, 8),
    ),
    "residual": (Residual, (8,)),
    "mean": (Mean, (3, 10)),
}


def exported(name: str) -> tuple[onnx.ModelProto, nn.Module, np.ndarray]:
    """The file, the model and events; BatchNorm has seen events before."""
    torch.manual_seed(4)
    make, shape = CASES[name]
    model = make()
    for _ in range(20):
        model(torch.randn(64, *shape) * 2 + 1)
    model.eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(2, *shape),), buffer, dynamo=False, opset_version=13, input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
        )  # fmt: skip
    x = np.random.default_rng(1).normal(size=(500, *shape)).astype(np.float32) * 2
    return onnx.load_from_string(buffer.getvalue()), model, x


@pytest.mark.parametrize("name", CASES)
def test_the_module_computes_what_onnx_runtime_computes(name: str) -> None:
    file, _, x = exported(name)
    module = read_float_onnx(file)
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})[0]
    with torch.no_grad():
        got = module(torch.from_numpy(x)).numpy()
    assert np.abs(got - expected).max() < 1e-6 * max(1.0, np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 0.1


@pytest.mark.parametrize("name", CASES)
def test_more_bits_come_closer_to_the_float_model(name: str) -> None:
    file, model, x = exported(name)
    with torch.no_grad():
        exact = model(torch.from_numpy(x)).numpy()
    errors = []
    for bits in (4, 8, 12):
        precision = PostTrainingBits(weight_bits=bits, activation_bits=bits, input_bits=16)
        entered, _ = quantised_float_onnx(file, x, precision)
        assert not entered.exact and entered.input_type.width == 16
        trainable = {n for n, layer in weight_layers(entered.network).items() if layer.weight.requires_grad}
        found = [layer for layer in describe_network(entered.network).layers if layer.name in trainable]
        assert len(found) >= 2 and all(layer.widest_weight_bits <= bits for layer in found)
        on_grid = entered.input_type.quantize(x).astype(np.float32)
        errors.append(np.abs(torch_outputs(entered.network, on_grid, double=True) - exact).mean())
    # the mean of ten is a constant of 8 bits
    assert errors[0] > 4 * errors[1] and errors[1] > (1.2 if name == "mean" else 4) * errors[2]


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    file, _, x = exported("mlp")
    path = tmp_path / "model.onnx"
    onnx.save(file, str(path))
    entered, module = quantised_float_onnx(path, x, PostTrainingBits())
    remark = compare_float(path, module, entered.network, x, entered.input_type)
    assert "the decision stays in" in remark
    weight = next(t for t in file.graph.initializer if len(t.dims) == 2)
    values = numpy_helper.to_array(weight).copy()
    values[0, 0] += 0.01
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(file, str(path))
    with pytest.raises(VerificationError, match="differs from ONNX runtime"):
        compare_float(path, module, entered.network, x, entered.input_type)


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    g = Graph(np.random.default_rng(0))
    model = g.model(g.node("MatMul", ["x", g.constant(np.arange(6).reshape(3, 2))]), (3,), (2,), batch=4)
    onnx.save(model, str(tmp_path / "m.onnx"))
    x = np.arange(18, dtype=np.float32).reshape(6, 3)
    np.testing.assert_array_equal(run_float(tmp_path / "m.onnx", x), x @ np.arange(6).reshape(3, 2))


def test_an_earlier_tensor_can_be_the_output(tmp_path: Path) -> None:
    g = Graph(np.random.default_rng(0))
    logits = g.node("MatMul", ["x", g.constant(np.eye(2) * 0.3)])
    model = g.model(g.node("Softmax", [logits], axis=1), (2,), (2,), batch=1)
    onnx.save(model, str(tmp_path / "m.onnx"))
    x = np.array([[1.0, -2.0]], np.float32)
    with torch.no_grad():
        got = read_float_onnx(tmp_path / "m.onnx", output=logits)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, [[0.3, -0.6]], rtol=1e-6)
    np.testing.assert_allclose(run_float(tmp_path / "m.onnx", x, logits), [[0.3, -0.6]], rtol=1e-6)
    with pytest.raises(UnsupportedLayerError, match="Softmax"):
        read_float_onnx(tmp_path / "m.onnx")


def test_a_qonnx_file_is_sent_to_the_other_reader() -> None:
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 0.5, 4.0, signed=1, narrow=0, mode="ROUND")
    with pytest.raises(ModelError, match="Quant nodes") as caught:
        read_float_onnx(g.model(tensor, (2,), (2,)))
    assert "--kind qonnx" in str(caught.value)


def test_events_of_another_shape_are_refused() -> None:
    file, _, x = exported("mlp")
    with pytest.raises(ModelError, match=r"shape \(3,\), the model takes \(16,\)"):
        quantised_float_onnx(file, x[:, :3], PostTrainingBits(), input_type=FixedPoint(10, 4))

"""QONNX files become networks with the same bits: our own files, unquantised biases, and reshaped weights."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from random_qonnx import BATCH, Graph, random_model, run_by_qonnx
from torch import nn

from trigger_prune.cost.network import NetworkSpec
from trigger_prune.entry.qonnx_file import read_qonnx
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.layers import FixedQuantizer
from trigger_prune.synthesis.rtl.trace import check_trace, trace_network
from trigger_prune.verify.representations import torch_outputs

INPUT = FixedPoint(10, 4, True, "AP_RND", "AP_SAT")


class Residual(nn.Module):
    """A sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.first(x))
        return self.last(torch.cat([torch.relu(self.second(h) + h), h], 1))


OWN = {
    "mlp": (lambda: nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)), (16,)),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(4, 4, 2, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16, 5),
        ),
        (3, 8),
    ),
    "conv2d": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)
        ),
        (1, 8, 8),
    ),
    "deep_sets": (lambda: DeepSets((3, 8), 4), (3, 8)),
    "residual": (Residual, (8,)),
}


def unnamed(spec: NetworkSpec) -> list[object]:
    """Everything that reaches the hardware, without the names; the type of a bias of zeros is never used."""
    layers = []
    for layer in spec.layers:
        facts = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(layer).items()}
        layers.append({**facts, "name": "", "bias_type": facts["bias_type"] if layer.bias.any() else None})
    pools = [{**vars(pool), "name": ""} for pool in spec.pools]
    return [layers, pools, spec.input_type, spec.input_shape, spec.n_outputs]


@pytest.mark.parametrize("rounding", ["AP_TRN", "AP_RND_CONV"])
@pytest.mark.parametrize("name", OWN)
def test_our_own_files_come_back_as_the_same_integers(name: str, rounding: str) -> None:
    torch.manual_seed(3)
    make, shape = OWN[name]
    x = INPUT.quantize(np.random.default_rng(0).normal(size=(200, *shape)) * 2).astype(np.float32)
    precision = SimpleNamespace(weight_bits=6, activation_bits=6, rounding=rounding)
    network = quantize_model(make(), torch.from_numpy(x), INPUT, precision)
    back = read_qonnx(to_qonnx(network), input_type=INPUT)
    np.testing.assert_array_equal(torch_outputs(back.network, x, double=True), torch_outputs(network, x, double=True))
    assert unnamed(describe_network(back.network)) == unnamed(describe_network(network))
    assert back.notes == () and back.exact


def rounded(value: Fraction, mode: str) -> int:
    floor = value.numerator // value.denominator
    if mode == "FLOOR" or value == floor:
        return floor
    rest = value - floor
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and (floor % 2 == 1 or mode == "HALF_UP"))
    return floor + up


@pytest.mark.parametrize(
    ("mode", "relu"), [("FLOOR", False), ("FLOOR", True), ("ROUND", False), ("ROUND", True), ("HALF_UP", True)]
)
def test_an_unquantised_bias_keeps_every_bit_next_to_ties_too(mode: str, relu: bool) -> None:
    """All 256 inputs x biases on, next to and between the ties, against rational arithmetic."""
    tiny = 2.0**-22
    biases = np.array(
        [b + d for b in (0.0, 0.25, 0.5, -0.375, 1.125, -2.0625) for d in (0.0, tiny, -tiny, 1e-3)], np.float32
    )
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 2.0**-5, 8.0, signed=1, narrow=0, mode="ROUND")
    weight = g.quant(g.constant(np.full((1, len(biases)), 0.75)), 0.25, 4.0, signed=1, narrow=0, mode="ROUND")
    tensor = g.node("Add", [g.node("MatMul", [tensor, weight]), g.constant(biases)])
    tensor = g.node("Relu", [tensor]) if relu else tensor
    tensor = g.quant(tensor, 2.0**-3, 7.0, signed=int(not relu), narrow=0, mode=mode)
    entered = read_qonnx(g.model(tensor, (1,), (len(biases),)))
    assert len(entered.notes) == 1 and "the bias is not quantised" in entered.notes[0]
    x = (np.arange(-128, 128) / 32).astype(np.float32)[:, None]
    got = torch_outputs(entered.network, x, double=True)
    low, high = (0, 127) if relu else (-64, 63)
    for event, value in enumerate(x[:, 0]):
        for output, bias in enumerate(biases):
            total = Fraction(float(value)) * Fraction(3, 4) + Fraction(float(bias))
            code = min(max(rounded(max(total, 0) * 8 if relu else total * 8, mode), low), high)
            assert got[event, output] == code / 8, (value, bias)


def test_a_bias_of_the_outputs_stays_as_it_is() -> None:
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 0.25, 6.0, signed=1, narrow=0, mode="ROUND")
    weight = g.quant(g.constant(np.full((1, 2), 0.5)), 0.5, 3.0, signed=1, narrow=0, mode="ROUND")
    bias = np.array([0.1, -0.3], np.float32)
    tensor = g.node("Gemm", [tensor, weight, g.constant(bias)])
    entered = read_qonnx(g.model(tensor, (1,), (2,)))
    assert "finer" in entered.notes[0]
    got = torch_outputs(entered.network, np.array([[0.25]], np.float32), double=True)
    assert got.tolist() == [[0.125 + float(bias[0]), 0.125 + float(bias[1])]]


def test_the_quantiser_of_the_input_is_left_to_the_data_side() -> None:
    model, _ = random_model(1)
    node = next(n for n in model.graph.node if n.op_type == "Quant")
    entered = read_qonnx(model)
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    assert entered.input_type.lsb == float(constants[node.input[1]].ravel()[0])
    assert entered.input_type.width == int(constants[node.input[3]].item())
    given = read_qonnx(model, input_type=FixedPoint(12, 6, True, "AP_RND", "AP_SAT"))
    assert given.input_type.width == 12
    x = np.random.default_rng(0).normal(size=(BATCH, *given.input_shape)) * 4
    on_grid = given.input_type.quantize(x).astype(np.float32)
    np.testing.assert_array_equal(torch_outputs(given.network, on_grid, double=True), run_by_qonnx(model, on_grid))


def test_a_free_batch_axis_and_computed_shapes_are_understood() -> None:
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 0.25, 6.0, signed=1, narrow=0, mode="FLOOR")
    batch = g.node("Gather", [g.node("Shape", [tensor]), g.constant(0, np.int64)], axis=0)
    batch = g.node("Unsqueeze", [batch, g.constant([0], np.int64)])
    shape = g.node("Concat", [batch, g.constant([-1], np.int64)], axis=0)
    tensor = g.node("Reshape", [tensor, shape])
    weight = g.constant(np.arange(-6, 6).reshape(6, 2) / 4)
    model = g.model(g.node("MatMul", [tensor, weight]), (2, 3), (2,))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_value")
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    x = (np.random.default_rng(2).integers(-20, 20, (9, 2, 3)) / 4).astype(np.float32)
    expected = x.reshape(9, 6).astype(np.float64) @ (np.arange(-6, 6).reshape(6, 2) / 4)
    np.testing.assert_array_equal(torch_outputs(read_qonnx(model).network, x, double=True), expected)


def test_a_dense_layer_per_position_becomes_a_convolution() -> None:
    """(positions, features) @ weight, behind a transposition of (features, positions)."""
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 0.25, 6.0, signed=1, narrow=0, mode="FLOOR")
    tensor = g.node("Transpose", [tensor], perm=[0, 2, 1])
    tensor = g.node("MatMul", [tensor, g.constant(np.arange(-6, 6).reshape(3, 4) / 4)])
    tensor = g.node("Add", [tensor, g.constant(np.array([0.25, -0.5, 0.75, 0.0]))])
    tensor = g.quant(tensor, 0.5, 6.0, signed=1, narrow=0, mode="ROUND")
    tensor = g.node("Flatten", [tensor], axis=1)
    model = g.model(g.node("MatMul", [tensor, _weight(g, 20)]), (3, 5), (2,))
    x = (np.random.default_rng(2).integers(-20, 20, (BATCH, 3, 5)) / 4).astype(np.float32)
    entered = read_qonnx(model)
    assert [layer.kind for layer in describe_network(entered.network).layers] == ["conv1d", "dense"]
    np.testing.assert_array_equal(torch_outputs(entered.network, x, double=True), run_by_qonnx(model, x))


def _weight(g: Graph, n: int) -> str:
    return g.constant(g.rng.integers(-8, 8, (n, 2)) / 8)


@pytest.mark.parametrize("seed", range(1, 13))
def test_the_adder_graph_of_an_entered_network_has_its_bits(seed: int) -> None:
    entered = read_qonnx(random_model(seed)[0])
    frozen = freeze(entered.network)
    comb = trace_network(frozen, entered.input_type, entered.input_shape)
    assert check_trace(comb, frozen, entered.input_type, entered.input_shape) > 300


def test_another_tensor_can_be_the_output() -> None:
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 0.25, 6.0, signed=1, narrow=0, mode="FLOOR")
    logits = g.node("MatMul", [tensor, g.constant(np.eye(2) / 2)])
    model = g.model(g.node("Softmax", [logits], axis=1), (2,), (2,))
    entered = read_qonnx(model, output=logits)
    x = np.array([[0.25, -1.5]], np.float32)
    assert torch_outputs(entered.network, x, double=True).tolist() == [[0.125, -0.75]]


def test_nearest_powers_of_two_are_taken_on_request_and_reported() -> None:
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 0.24, 6.0, signed=1, narrow=0, mode="ROUND")
    weight = g.quant(g.constant(g.rng.normal(size=(3, 2))), 0.11, 5.0, signed=1, narrow=0, mode="ROUND")
    model = g.model(g.node("MatMul", [tensor, weight]), (3,), (2,))
    entered = read_qonnx(model, nearest_power_of_two=True)
    assert not entered.exact
    assert any("scale 0.24 became 0.25" in note for note in entered.notes) and len(entered.notes) == 2
    assert entered.input_type.lsb == 0.25
    x = (g.rng.normal(size=(BATCH, 3))).astype(np.float32)
    on_grid = entered.input_type.quantize(x).astype(np.float32)
    difference = np.abs(torch_outputs(entered.network, on_grid, double=True) - run_by_qonnx(model, x))
    assert 0 < difference.max() < 0.5


def test_an_initializer_listed_as_an_input_is_none() -> None:
    """Files of IR version 3 repeat their constants among the inputs."""
    model, _ = random_model(2)
    expected = unnamed(describe_network(read_qonnx(model).network))
    for constant in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(constant.name, TensorProto.FLOAT, list(constant.dims)))
    assert unnamed(describe_network(read_qonnx(model).network)) == expected


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_square_matrix_is_read_the_right_way_round(transposed: int) -> None:
    """With factors on the product and on the bias."""
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 0.25, 6.0, signed=1, narrow=0, mode="ROUND")
    weight, bias = np.array([[1.0, 2.0], [0.5, -3.0]]), np.array([0.5, -1.0])
    inputs = [tensor, g.constant(weight), g.constant(bias)]
    entered = read_qonnx(g.model(g.node("Gemm", inputs, transB=transposed, alpha=0.5, beta=2.0), (2,), (2,)))
    got = torch_outputs(entered.network, np.array([[1.0, 4.0]], np.float32), double=True)
    expected = 0.5 * np.array([1.0, 4.0]) @ (weight.T if transposed else weight) + 2 * bias
    assert got.tolist() == [expected.tolist()]


def test_a_second_quantiser_acts_only_where_it_must() -> None:
    """Unsigned behind signed cuts at zero; a wider one of the same grid does nothing and is left out."""
    g = Graph(np.random.default_rng(0))
    tensor = g.quant("x", 0.25, 4.0, signed=1, narrow=0, mode="ROUND")
    wider = g.quant(tensor, 0.25, 6.0, signed=1, narrow=1, mode="FLOOR")
    cut = g.quant(wider, 0.25, 6.0, signed=0, narrow=0, mode="ROUND")
    entered = read_qonnx(g.model(g.node("MatMul", [cut, g.constant(np.eye(2))]), (2,), (2,)))
    got = torch_outputs(entered.network, np.array([[-1.25, 1.5]], np.float32), double=True)
    assert got.tolist() == [[0.0, 1.5]]
    assert sum(isinstance(module, FixedQuantizer) for module in entered.network.modules()) == 1

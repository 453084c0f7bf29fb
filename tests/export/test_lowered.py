from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import small_networks
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn

from trigger_prune.errors import ExportError
from trigger_prune.export.float64 import to_double
from trigger_prune.export.lowered import lower
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.export.quiet import quiet
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.layers import FixedQuantizer

OPERATORS = {
    "Gemm",
    "MatMul",
    "Transpose",
    "Conv",
    "Relu",
    "Mul",
    "Floor",
    "Round",
    "Clip",
    "Flatten",
    "MaxPool",
    "Add",
}
GATHERED = {"Pad", "Gather", "Reshape"}


def _run(model: onnx.ModelProto, features: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    dtype = np.float64 if "double" in session.get_inputs()[0].type else np.float32
    return session.run(None, {session.get_inputs()[0].name: features.astype(dtype)})[0].astype(np.float64)


def _torch(network: fx.GraphModule, features: np.ndarray, double: bool = True) -> np.ndarray:
    x = torch.from_numpy(features).to(torch.float64 if double else torch.float32)
    with torch.no_grad():
        return freeze(network, double=double)(x).double().numpy()


def _qonnx(model: onnx.ModelProto, features: np.ndarray) -> np.ndarray:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    with quiet():
        wrapper = cleanup_model(ModelWrapper(model))
        name, output = wrapper.graph.input[0].name, wrapper.graph.output[0].name
        return np.concatenate([execute_onnx(wrapper, {name: event[None]})[output] for event in features])


def _networks() -> dict[str, tuple[fx.GraphModule, tuple[int, ...]]]:
    torch.manual_seed(4)
    no_bias = nn.Sequential(nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    return {
        "mlp": (small_networks.mlp(), (5,)),
        "mlp_rounding_to_even": (small_networks.mlp(rounding="AP_RND_CONV"), (5,)),
        "no_bias": (small_networks.quantised(no_bias, (5,)), (5,)),
        "deep_sets": (small_networks.deep_sets(), (3, 4)),
        "conv1d": (small_networks.quantised(Conv1dNet((2, 9), 2, channels=(3, 4), hidden=(4,)), (2, 9)), (2, 9)),
        "conv2d": (small_networks.quantised(Conv2dNet((2, 7, 6), 2, channels=(3,), hidden=(4,)), (2, 7, 6)), (2, 7, 6)),
    }


NETWORKS = _networks()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_as_qonnx_torch_and_integers_with_any_batch(name: str, double: bool) -> None:
    network, shape = NETWORKS[name]
    qonnx_model = to_qonnx(network)
    model = lower(qonnx_model, double=double)
    used = {node.op_type for node in model.graph.node}
    assert used <= OPERATORS | (GATHERED if double else set())
    assert {node.domain for node in model.graph.node} == {""}
    assert double == (model.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE)
    features = small_networks.events(small_networks.INPUT_8, 998, *shape)
    expected = _torch(network, features)
    np.testing.assert_array_equal(_run(model, features), expected)
    for batch in (1, 7):
        np.testing.assert_array_equal(_run(model, features[:batch]), expected[:batch])
    extreme_and_some = features[-20:]
    np.testing.assert_array_equal(_qonnx(qonnx_model, extreme_and_some), expected[-20:])
    if name.startswith(("mlp", "deep_sets")):
        np.testing.assert_array_equal(small_networks.integer_outputs(describe_network(network), features), expected)
    assert len(np.unique(expected, axis=0)) > 300  # the comparison is not one of constants


WIDE = {"fixed": small_networks.INPUT_16, "weight_bits": 10, "activation_bits": 16}


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_beyond_24_bits_float32_is_wrong_and_float64_right(name: str) -> None:
    network = getattr(small_networks, name)(**WIDE)
    spec = describe_network(network)
    assert spec.accumulator_bound >= 2**24
    features = small_networks.events(small_networks.INPUT_16, 3000, *network.meta["input_shape"])
    expected = small_networks.integer_outputs(spec, features)
    qonnx_model = to_qonnx(network)
    np.testing.assert_array_equal(_run(lower(qonnx_model, double=True), features), expected)
    wrong = (_run(lower(qonnx_model), features) != expected).any(axis=1)
    assert wrong.any()
    assert (_torch(network, features, double=False) != expected).any()


def test_float64_conv2d_beyond_24_bits_agrees_with_torch() -> None:
    torch.manual_seed(5)
    model = Conv2dNet((2, 7, 6), 2, channels=(3,), hidden=(4,))
    network = small_networks.quantised(model, (2, 7, 6), **WIDE)
    features = small_networks.events(small_networks.INPUT_16, 500, 2, 7, 6)
    expected = _torch(network, features)
    np.testing.assert_array_equal(_run(lower(to_qonnx(network), double=True), features), expected)
    assert (_torch(network, features, double=False) != expected).any()


@pytest.mark.parametrize(
    ("event", "weight", "settings", "bias"),
    [
        ((3, 8), (4, 3, 1), {}, True),
        ((3, 8), (4, 3, 3), {"pads": [1, 1]}, True),
        ((3, 9), (4, 3, 3), {"pads": [2, 0], "strides": [2]}, False),
        ((4, 9), (6, 2, 2), {"group": 2, "dilations": [3]}, True),
        ((4, 5), (4, 1, 5), {"group": 4}, False),
        ((2, 7, 6), (5, 2, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}, True),
        ((4, 5, 5), (8, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1], "strides": [3, 2]}, True),
    ],
)
def test_gathered_conv_equals_torch_conv(
    event: tuple[int, ...], weight: tuple[int, ...], settings: dict[str, Any], bias: bool
) -> None:
    generator = np.random.default_rng(3)
    w, b = generator.integers(-9, 9, weight).astype(np.float32), generator.integers(-9, 9, weight[0]).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w", "b"] if bias else ["x", "w"], ["y"], "conv", **settings)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *event])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, "w"), *([numpy_helper.from_array(b, "b")] if bias else [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = generator.integers(-99, 99, (5, *event)).astype(np.float64)
    axes = len(event) - 1
    pads = settings.get("pads", [0] * 2 * axes)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])
    conv = nn.functional.conv1d if axes == 1 else nn.functional.conv2d
    expected = conv(
        torch.from_numpy(padded),
        torch.from_numpy(w).double(),
        torch.from_numpy(b).double() if bias else None,
        tuple(settings.get("strides", [1] * axes)),
        0,
        tuple(settings.get("dilations", [1] * axes)),
        settings.get("group", 1),
    )
    double = to_double(onnx.shape_inference.infer_shapes(model))
    assert "Conv" not in {part.op_type for part in double.graph.node}
    np.testing.assert_array_equal(_run(double, x), expected.numpy())


def test_a_conv_of_unknown_shape_is_an_export_error() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((2, 3, 3), np.float32), "w")],
    )
    with pytest.raises(ExportError, match="shape of tensor 'x'"):
        to_double(helper.make_model(graph))


def test_wide_quantisers_saturate_at_their_own_limit() -> None:
    """2**30 - 1 is no float32 number; the limit must not be rounded on its way into the float64 model."""
    network = small_networks.mlp(**WIDE)
    name, module = next((n, m) for n, m in network.named_modules() if isinstance(m, FixedQuantizer))
    wide = copy.deepcopy(network)
    fixed = type(module.fixed)(30, module.fixed.integer - 3, False, "AP_TRN", "AP_SAT")
    wide.set_submodule(name, FixedQuantizer(fixed))
    features = small_networks.events(small_networks.INPUT_16, 500, 5)
    expected = _torch(wide, features)
    np.testing.assert_array_equal(_run(lower(to_qonnx(wide), double=True), features), expected)
    limits = [numpy_helper.to_array(t) for t in lower(to_qonnx(wide), double=True).graph.initializer]
    assert any(value.shape == () and value == 2.0**30 - 1 for value in limits)


@pytest.mark.parametrize(("change", "message"), [("zero_point", "zero point"), ("rounding", "no standard operator")])
def test_quant_nodes_of_another_form_are_refused(mlp: fx.GraphModule, change: str, message: str) -> None:
    model = to_qonnx(mlp)
    quants = [node for node in model.graph.node if node.op_type == "Quant"]
    if change == "zero_point":
        producer = next(node for node in model.graph.node if quants[0].input[2] in node.output)
        producer.attribute[0].t.CopyFrom(numpy_helper.from_array(np.float32(1.0)))
    else:
        for node in quants:
            next(item for item in node.attribute if item.name == "rounding_mode").s = b"CEIL"
    with pytest.raises(ExportError, match=message):
        lower(model)

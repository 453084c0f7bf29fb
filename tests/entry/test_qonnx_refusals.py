"""What has no exact fixed-point form is refused: node, reason and remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from random_qonnx import Graph

from trigger_prune.entry.qonnx_file import read_qonnx
from trigger_prune.errors import ModelError, TriggerPruneError, UnsupportedLayerError

Build = Callable[[Graph], str]


def start(g: Graph, **changes: object) -> str:
    options: dict = {"scale": 0.25, "bits": 6.0, "signed": 1, "narrow": 0, "mode": "ROUND", **changes}
    return g.quant("x", options.pop("scale"), options.pop("bits"), **options)


def dense(g: Graph, tensor: str, n_in: int = 4, n_out: int = 4) -> str:
    return g.node("MatMul", [tensor, g.constant(np.eye(n_in, n_out) / 2)])


def hidden(g: Graph, **changes: object) -> str:
    """A Quant node of another form behind a layer."""
    tensor = dense(g, start(g))
    options: dict = {"scale": 0.25, "bits": 6.0, "signed": 1, "narrow": 0, "mode": "ROUND", **changes}
    return g.quant(tensor, options.pop("scale"), options.pop("bits"), **options)


def op(kind: str, *more: object, **attributes: object) -> Build:
    return lambda g: g.node(kind, [start(g), *[g.constant(value) for value in more]], **attributes)


def unquantised(g: Graph) -> str:
    return g.node("MatMul", [start(g), g.constant(g.rng.normal(size=(4, 4)))])


def two_layers_without_quant(g: Graph) -> str:
    return dense(g, dense(g, start(g)))


def input_read_twice(g: Graph) -> str:
    g.nodes.clear()
    first = start(g)
    second = g.quant("x", 0.5, 5.0, signed=1, narrow=0, mode="ROUND")
    return g.node("Add", [first, second])


def product_of_events(g: Graph) -> str:
    tensor = start(g)
    return g.node("Mul", [tensor, g.quant(dense(g, tensor), 0.25, 6.0, signed=1, narrow=0, mode="ROUND")])


def no_input_type(g: Graph) -> str:
    weight = g.quant(g.constant(np.eye(4)), 0.5, 4.0, signed=1, narrow=0, mode="ROUND")
    return g.node("MatMul", ["x", weight])


def pooled_sums(g: Graph) -> str:
    tensor = g.node("Conv", [start(g), g.constant(np.ones((1, 1, 1)))], kernel_shape=[1])
    return g.node("MaxPool", [tensor], kernel_shape=[2], strides=[2])


def mean_of_six(g: Graph) -> str:
    return g.node("ReduceMean", [start(g)], axes=[2])


def changing_bias(g: Graph) -> str:
    tensor = g.node("Conv", [start(g), g.constant(np.ones((1, 1, 1)))], kernel_shape=[1])
    return g.node("Add", [tensor, g.constant(np.arange(6.0))])


def reordered_output(g: Graph) -> str:
    return g.node("Transpose", [g.quant(start(g), 0.5, 4.0, signed=1, narrow=0, mode="ROUND")], perm=[0, 2, 1])


REFUSALS: dict[str, tuple[Build, str, str]] = {
    "scale": (lambda g: hidden(g, scale=0.3), "scale 0.300000012 is no power of two", "POWER_OF_TWO"),
    "weight scale": (
        lambda g: g.node(
            "MatMul", [start(g), g.quant(g.constant(np.eye(4)), 0.3, 4.0, signed=1, narrow=0, mode="ROUND")]
        ),
        "no power of two",
        "--nearest-power-of-two",
    ),
    "zero scale": (lambda g: hidden(g, scale=0.0), "not a positive number", "export"),
    "zero point": (lambda g: hidden(g, zero=3.0), "zero point is 3, not 0", "symmetric"),
    "channels": (
        lambda g: hidden(g, scale=np.array([[0.5, 0.25, 0.5, 0.5]])),
        "2 different values of scale",
        "per tensor",
    ),
    "bits": (lambda g: hidden(g, bits=6.5), "6.5 bits", "fixed bits"),
    "many bits": (lambda g: hidden(g, bits=30.0), "30 bits", "fixed bits"),
    "sign bit": (lambda g: hidden(g, bits=1.0), "one signed bit", "two bits"),
    "narrow": (lambda g: hidden(g, signed=0, narrow=1), "unsigned and narrow", "narrow=0"),
    "ceil": (lambda g: hidden(g, mode="CEIL"), "rounding mode CEIL", "FLOOR"),
    "away": (lambda g: hidden(g, mode="UP"), "rounding mode UP", "FLOOR"),
    "half up on a signed wire": (lambda g: hidden(g, mode="HALF_UP"), "behind a ReLU only", "ROUND"),
    "towards zero on a signed wire": (lambda g: hidden(g, mode="DOWN"), "behind a ReLU only", "ROUND"),
    "half down": (lambda g: hidden(g, mode="HALF_DOWN"), "rounding mode HALF_DOWN", "ROUND"),
    "bipolar": (
        lambda g: g.node("BipolarQuant", [dense(g, start(g)), g.constant(1.0)], "qonnx.custom_op.general"),
        "+1 or -1",
        "two bits",
    ),
    "sigmoid": (op("Sigmoid"), "not supported", "--output"),
    "softmax": (op("Softmax", axis=1), "not supported", "logits"),
    "leaky": (op("LeakyRelu"), "not supported", "use ReLU"),
    "unknown": (op("Erf"), "not supported", "supported: "),
    "factor": (op("Mul", 0.3), "multiplies by 0.3", "power of two"),
    "batch norm": (
        op("BatchNormalization", np.ones(4), np.zeros(4), np.zeros(4), np.ones(4), epsilon=0.5),
        "no power of two",
        "part of the weights",
    ),
    "clip": (op("Clip", -1.0, 1.0), "other limits", "saturate"),
    "product": (product_of_events, "product of two tensors", "no fixed-point form"),
    "constant per position": (
        lambda g: g.node(
            "Add", [g.node("Reshape", [start(g), g.constant([40, 2, 2], np.int64)]), g.constant(np.eye(2))]
        ),
        "transposition",
        "move it",
    ),
    "float weights": (unquantised, "they were not quantised", "QuantLinear"),
    "no quantiser between layers": (two_layers_without_quant, "reads full sums", "QuantReLU"),
    "input read twice": (input_read_twice, "does not say its type", "--input-type"),
    "no input type": (no_input_type, "type of its inputs", "--input-type"),
    "batch axis": (op("Transpose", perm=[1, 0]), "batch axis", "leave the first axis"),
    "positions": (
        lambda g: dense(g, g.node("Reshape", [start(g), g.constant([40, 2, 2], np.int64)]), 2, 2),
        "one vector per position",
        "kernel size 1",
    ),
    "padding": (
        lambda g: g.node(
            "Conv",
            [g.node("Unsqueeze", [start(g), g.constant([1], np.int64)]), g.constant(np.ones((1, 1, 2)))],
            pads=[0, 1],
            kernel_shape=[2],
        ),
        "differs between the two ends",
        "both ends",
    ),
    "padded pool": (
        lambda g: g.node(
            "MaxPool", [g.node("Unsqueeze", [start(g), g.constant([1], np.int64)])], kernel_shape=[2], pads=[1, 1]
        ),
        "a pool with padding",
        "windows fill",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_it_is_refused_with_reason_and_remedy(case: str) -> None:
    build, reason, remedy = REFUSALS[case]
    g = Graph(np.random.default_rng(0))
    # a Quant node on a constant makes every one of them a QONNX file
    output = build(g)
    g.quant(g.constant(1.0), 0.5, 4.0, signed=1, narrow=0, mode="ROUND")
    with pytest.raises(TriggerPruneError) as caught:
        read_qonnx(g.model(output, (4,), (4,)))
    assert reason in caught.value.message, caught.value.message
    assert remedy in (caught.value.hint or ""), caught.value.hint


@pytest.mark.parametrize(
    ("build", "shape", "reason", "remedy"),
    [
        (pooled_sums, (1, 6), "pools full sums", "Quant node before"),
        (mean_of_six, (2, 6), "a mean of 6 values", "power of two of positions"),
        (changing_bias, (1, 6), "differs between positions", "one value per channel"),
        (reordered_output, (2, 6), "transposed tensor", "--output"),
    ],
)
def test_it_is_refused_on_positions(build: Build, shape: tuple[int, ...], reason: str, remedy: str) -> None:
    g = Graph(np.random.default_rng(0))
    with pytest.raises(TriggerPruneError) as caught:
        read_qonnx(g.model(build(g), shape, (1,)))
    assert reason in caught.value.message, caught.value.message
    assert remedy in (caught.value.hint or ""), caught.value.hint


def test_an_error_names_the_node() -> None:
    g = Graph(np.random.default_rng(0))
    model = g.model(hidden(g, scale=0.3), (4,), (4,))
    name = model.graph.node[-1].name
    with pytest.raises(UnsupportedLayerError, match=f"node '{name}'"):
        read_qonnx(model)


def test_files_that_are_none(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07 this is no protobuf")
    with pytest.raises(ModelError, match="not a"):
        read_qonnx(broken)
    with pytest.raises(ModelError, match="there is no file"):
        read_qonnx(tmp_path / "missing.onnx")


def test_a_float_model_is_sent_to_the_other_reader() -> None:
    g = Graph(np.random.default_rng(0))
    with pytest.raises(ModelError, match="no Quant node") as caught:
        read_qonnx(g.model(g.node("Relu", ["x"]), (4,), (4,)))
    assert "--kind onnx" in str(caught.value)


def test_an_unknown_output_lists_the_tensors() -> None:
    g = Graph(np.random.default_rng(0))
    with pytest.raises(ModelError, match="no tensor 'nothing'") as caught:
        read_qonnx(g.model(hidden(g), (4,), (4,)), output="nothing")
    assert "t2" in str(caught.value)


def test_two_inputs_are_refused() -> None:
    g = Graph(np.random.default_rng(0))
    model = g.model(hidden(g), (4,), (4,))
    model.graph.input.append(model.graph.input[0].__class__.FromString(model.graph.input[0].SerializeToString()))
    model.graph.input[1].name = "y"
    with pytest.raises(ModelError, match="takes 2 inputs"):
        read_qonnx(model)

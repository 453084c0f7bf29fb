"""Random QONNX graphs, written node by node as other tools write them, and their execution by qonnx."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trigger_prune.export.quiet import quiet

BATCH = 40


@dataclass
class Graph:
    """A graph under construction; tensors are names, ``shape`` is that of one event."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, inputs: list[str], domain: str = "", **attributes: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], f"{kind}_{len(self.nodes)}", domain=domain, **attributes)
        )
        return name

    def quant(
        self, tensor: str, scale: object, bits: float, *, signed: int, narrow: int, mode: str, zero: float = 0.0
    ) -> str:
        inputs = [tensor, self.constant(scale), self.constant(zero), self.constant(bits)]
        return self.node("Quant", inputs, "qonnx.custom_op.general", signed=signed, narrow=narrow, rounding_mode=mode)

    def model(
        self, output: str, shape: tuple[int, ...], out_shape: tuple[int, ...], batch: int = BATCH
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "made_elsewhere",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, *out_shape])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run_by_qonnx(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` by qonnx's own executor, in float32; the events fill the file's batch."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with quiet():
        found = execute_onnx(ModelWrapper(copy).transform(InferShapes()), {"x": x.astype(np.float32)})
    return np.asarray(found[model.graph.output[0].name], np.float64).reshape(len(x), -1)


def random_model(seed: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A graph of 2 to 5 layers with weights: dense, or one or two axes of positions, then dense."""
    g = Graph(np.random.default_rng(seed))
    axes = int(g.rng.integers(0, 3))
    shape: tuple[int, ...] = ((int(g.rng.integers(3, 9)),), (2, 8), (1, 6, 6))[axes]
    tensor, now = "x", shape
    if g.rng.random() < 0.25:
        flat = int(np.prod(shape))
        tensor = g.node("Reshape", [tensor, g.constant([BATCH, flat], np.int64)])
        tensor = g.node("Reshape", [tensor, g.constant([BATCH, *shape], np.int64)])
    tensor = _activation_quant(g, tensor, relu=False)
    if axes:
        for _ in range(int(g.rng.integers(1, 3))):
            tensor, now = _convolution(g, tensor, now)
        tensor, now = _to_vector(g, tensor, now)
    for _ in range(int(g.rng.integers(1, 3))):
        tensor, now = _dense(g, tensor, now)
        if g.rng.random() < 0.3:
            tensor, now = _residual(g, tensor, now)
    tensor, now = _dense(g, tensor, now, last=True)
    return g.model(tensor, shape, now), shape


def _activation_quant(g: Graph, tensor: str, *, relu: bool, half_up: bool = True) -> str:
    modes = ["ROUND", "FLOOR", "HALF_EVEN", "round"]
    if relu:
        modes += ["HALF_UP", "DOWN"] if half_up else ["DOWN"]
        tensor = g.node("Relu", [tensor])
    signed = int(not relu or g.rng.random() < 0.3)
    return g.quant(
        tensor,
        2.0 ** -float(g.rng.integers(1, 4)) if g.rng.random() < 0.8 else np.full((1, 1), 0.5),
        float(g.rng.choice([3, 5, 6, 6, 7, 8])),
        signed=signed,
        narrow=int(signed and g.rng.random() < 0.4),
        mode=str(g.rng.choice(modes)),
    )


def _weight(g: Graph, shape: tuple[int, ...], channel_axis: int) -> str:
    """A weight constant: through one Quant node, with a scale per tensor or channel, or on its grid already."""
    values = g.rng.normal(size=shape) * 1.5 / np.sqrt(np.prod(shape) / shape[channel_axis])
    kind = int(g.rng.integers(0, 5))
    if kind == 0:
        return g.constant(np.round(values * 8) / 8)
    if kind == 1:
        scale = g.constant(2.0 ** -float(g.rng.integers(1, 4)))
        return g.node("BipolarQuant", [g.constant(values), scale], "qonnx.custom_op.general")
    scale: object = 2.0 ** -float(g.rng.integers(2, 6))
    if kind == 2:
        across = [1] * len(shape)
        across[channel_axis] = shape[channel_axis]
        scale = np.exp2(-g.rng.integers(2, 6, across))
    signed = int(g.rng.random() < 0.9)
    mode = str(g.rng.choice(["ROUND", "FLOOR", "CEIL", "DOWN", "UP", "HALF_UP", "HALF_DOWN"]))
    zero = 1.0 if g.rng.random() < 0.1 else 0.0
    return g.quant(
        g.constant(values),
        scale,
        float(g.rng.integers(3, 8)),
        signed=signed,
        narrow=int(g.rng.random() < 0.5),
        mode=mode,
        zero=zero,
    )


def _bias(g: Graph, shape: tuple[int, ...], *, floats: bool) -> str:
    values = g.rng.normal(size=shape)
    if floats and g.rng.random() < 0.5:
        return g.constant(values)
    return g.quant(g.constant(values), 2.0**-6, 10.0, signed=1, narrow=0, mode="ROUND")


def _dense(g: Graph, tensor: str, shape: tuple[int, ...], last: bool = False) -> tuple[str, tuple[int, ...]]:
    n_in, n_out = shape[0], int(g.rng.integers(4, 9))
    if g.rng.random() < 0.5:
        inputs = [tensor, _weight(g, (n_out, n_in), 0)]
        if g.rng.random() < 0.7:
            inputs.append(_bias(g, (n_out,), floats=not last))
        tensor = g.node("Gemm", inputs, transB=1)
    else:
        weight = _weight(g, (n_in, n_out), 1)
        if g.rng.random() < 0.3:
            weight = g.node("Transpose", [_weight(g, (n_out, n_in), 0)], perm=[1, 0])
        tensor = g.node("MatMul", [tensor, weight])
        if g.rng.random() < 0.6:
            bias = _bias(g, (n_out,), floats=not last)
            tensor = g.node("Add", [tensor, bias] if g.rng.random() < 0.5 else [bias, tensor])
    tensor = _folded(g, tensor, (n_out,))
    if last:
        return (_activation_quant(g, tensor, relu=False) if g.rng.random() < 0.3 else tensor), (n_out,)
    return _activation_quant(g, tensor, relu=g.rng.random() < 0.7), (n_out,)


def _folded(g: Graph, tensor: str, shape: tuple[int, ...]) -> str:
    """Sometimes a normalisation or a multiplication by powers of two."""
    n, kind = shape[0], int(g.rng.integers(0, 6))
    across = (n, *[1] * (len(shape) - 1))
    if kind == 0:
        powers = [np.exp2(g.rng.integers(-2, 3, n)) * g.rng.choice([-1, 1], n), np.exp2(2.0 * g.rng.integers(-1, 2, n))]
        shifts = [g.rng.integers(-8, 9, n) / 8 for _ in range(2)]
        inputs = [powers[0], shifts[0], shifts[1], powers[1]]
        return g.node("BatchNormalization", [tensor, *map(g.constant, inputs)], epsilon=0.0)
    if kind == 1:
        return g.node("Mul", [tensor, g.constant(np.exp2(g.rng.integers(-2, 2, across)))])
    if kind == 2:
        return g.node("Div", [tensor, g.constant(2.0)])
    if kind == 3:
        return g.node("Sub", [tensor, g.constant(g.rng.integers(-4, 5, across) / 4)])
    return tensor


def _convolution(g: Graph, tensor: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    axes, n_out = len(shape) - 1, int(g.rng.integers(2, 4)) * 2
    stride, pad = int(g.rng.integers(1, 3)), int(g.rng.integers(0, 2))
    kernel = min(int(g.rng.integers(1, 4)), min(shape[1:]))
    group = 2 if shape[0] % 2 == 0 and g.rng.random() < 0.4 else 1
    inputs = [tensor, _weight(g, (n_out, shape[0] // group, *[kernel] * axes), 0)]
    if g.rng.random() < 0.6:
        inputs.append(_bias(g, (n_out,), floats=True))
    attributes = {"strides": [stride] * axes, "pads": [pad] * 2 * axes, "group": group, "kernel_shape": [kernel] * axes}
    tensor = g.node("Conv", inputs, **attributes)
    sizes = [(n + 2 * pad - kernel) // stride + 1 for n in shape[1:]]
    now = (n_out, *sizes)
    tensor = _folded(g, tensor, now)
    pooled = min(sizes) >= 2 and g.rng.random() < 0.5
    relu, early = bool(g.rng.random() < 0.7), bool(g.rng.random() < 0.5)
    if not pooled:
        return _activation_quant(g, tensor, relu=relu), now
    tensor = tensor if early else _activation_quant(g, tensor, relu=relu)
    tensor = g.node("MaxPool", [tensor], kernel_shape=[2] * axes, strides=[2] * axes)
    return (_activation_quant(g, tensor, relu=relu) if early else tensor), (n_out, *(n // 2 for n in sizes))


def _to_vector(g: Graph, tensor: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    count = int(np.prod(shape[1:]))
    if count in (1, 2, 4) and g.rng.random() < 0.5:
        if g.rng.random() < 0.5:
            tensor = g.node("ReduceMean", [tensor], axes=list(range(2, len(shape) + 1)), keepdims=0)
        else:
            tensor = g.node("Flatten", [g.node("GlobalAveragePool", [tensor])], axis=1)
        return _activation_quant(g, tensor, relu=False), (shape[0],)
    if g.rng.random() < 0.5:
        order = [0, *(g.rng.permutation(len(shape)) + 1).tolist()]
        tensor = g.node("Transpose", [tensor], perm=order)
    if g.rng.random() < 0.5:
        return g.node("Flatten", [tensor], axis=1), (shape[0] * count,)
    return g.node("Reshape", [tensor, g.constant([0, -1], np.int64)]), (shape[0] * count,)


def _residual(g: Graph, tensor: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    n = shape[0]
    branch = g.node("MatMul", [tensor, _weight(g, (n, n), 1)])
    kind = int(g.rng.integers(0, 3))
    if kind == 0:
        return _activation_quant(g, g.node("Add", [branch, tensor]), relu=True, half_up=False), shape
    branch = _activation_quant(g, branch, relu=False)
    if kind == 1:
        return g.node("Concat", [tensor, branch], axis=1), (2 * n,)
    # the sum of two quantised tensors needs no Quant node of its own
    return g.node("Add", [branch, tensor]), shape

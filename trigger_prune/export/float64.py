"""The same ONNX graph in float64, for networks whose accumulators do not fit the 24 bits of a float32 mantissa.

ONNX runtime has no float64 Conv. Each one is written as a Gather of its patches and a MatMul, which compute the same
sums; in float64 all of them are exact, so the order of summation does not matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trigger_prune.errors import ExportError

Shapes = dict[str, tuple[int, ...]]


def to_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of ``model`` with float64 in place of float32, and without Conv nodes.

    Needs the shape of every tensor that enters or leaves a Conv (``value_info``); the batch axis may be free. Raises
    ExportError for a Conv without known shapes or with automatic padding.
    """
    double = onnx.ModelProto()
    double.CopyFrom(model)
    graph = double.graph
    for tensor in graph.initializer:
        tensor.CopyFrom(_doubled(tensor))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_doubled(attribute.t))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    shapes = _shapes(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += _as_products(node, shapes, graph) if node.op_type == "Conv" else [node]
    del graph.node[:]
    graph.node.extend(nodes)
    return double


def _doubled(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != TensorProto.FLOAT:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)


def _shapes(graph: onnx.GraphProto) -> Shapes:
    """Shapes by tensor name; a free axis counts as 0."""
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def _as_products(node: onnx.NodeProto, shapes: Shapes, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that compute ``node``: patches ``(batch, groups, in / groups * kernel, positions)`` times the weight."""
    data, weight, output = node.input[0], node.input[1], node.output[0]
    for name in (data, weight, output):
        if name not in shapes or 0 in shapes[name][1:]:
            raise ExportError(f"the shape of tensor {name!r} of Conv node {node.name!r} is not known")
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if settings.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ExportError(f"Conv node {node.name!r} pads automatically", hint="give the padding as numbers")
    channels, groups = shapes[weight][0], settings.get("group", 1)
    patches = _patches(shapes[data][1:], shapes[weight], settings)
    stem = node.name or output

    def constant(key: str, values: Any) -> str:
        name = f"{stem}/{key}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    kernel = constant("kernel_shape", [groups, channels // groups, patches.shape[1]])
    index = constant("patch_index", patches)
    parts = [
        helper.make_node("Flatten", [data], [f"{stem}/flat"], f"{stem}/flatten", axis=1),
        # one more column, a zero, which is what the padding reads
        helper.make_node("Pad", [f"{stem}/flat", constant("pads", [0, 0, 0, 1])], [f"{stem}/padded"], f"{stem}/pad"),
        helper.make_node("Gather", [f"{stem}/padded", index], [f"{stem}/patches"], f"{stem}/gather", axis=1),
        helper.make_node("Reshape", [weight, kernel], [f"{stem}/kernel"], f"{stem}/shape_kernel"),
        helper.make_node("MatMul", [f"{stem}/kernel", f"{stem}/patches"], [f"{stem}/products"], f"{stem}/multiply"),
    ]
    has_bias = len(node.input) > 2
    shape = constant("output_shape", [0, *shapes[output][1:]])
    sums = f"{stem}/sums" if has_bias else output
    parts.append(helper.make_node("Reshape", [f"{stem}/products", shape], [sums], f"{stem}/shape_sums"))
    if has_bias:
        column = constant("bias_shape", [1, channels] + [1] * (len(shapes[output]) - 2))
        parts.append(helper.make_node("Reshape", [node.input[2], column], [f"{stem}/bias"], f"{stem}/shape_bias"))
        parts.append(helper.make_node("Add", [sums, f"{stem}/bias"], [output], f"{stem}/add_bias"))
    return parts


def _patches(event: tuple[int, ...], weight: tuple[int, ...], settings: dict[str, Any]) -> NDArray[np.int64]:
    """Flat input index ``(groups, in / groups * kernel, positions)`` of every product; the input's size = padding."""
    axes = len(event) - 1
    pads = settings.get("pads", [0] * 2 * axes)
    strides, dilations = settings.get("strides", [1] * axes), settings.get("dilations", [1] * axes)
    size = int(np.prod(event))
    index = np.pad(
        np.arange(size).reshape(event), [(0, 0), *zip(pads[:axes], pads[axes:], strict=True)], constant_values=size
    )
    spans = [(length - 1) * step + 1 for length, step in zip(weight[2:], dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(index, spans, axis=tuple(range(1, axes + 1)))
    windows = windows[(slice(None), *(slice(None, None, step) for step in (*strides, *dilations)))]
    # (channels, *positions, *kernel) -> (channels, *kernel, *positions)
    order = (0, *range(axes + 1, 2 * axes + 1), *range(1, axes + 1))
    return windows.transpose(order).reshape(settings.get("group", 1), weight[1] * int(np.prod(weight[2:])), -1)

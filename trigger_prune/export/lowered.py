"""QONNX -> standard ONNX operators, with a free batch axis, for ONNX runtime.

A Quant node on a constant is computed here; one on a wire becomes Mul, Floor or Round, Clip, Mul. Multiplications by a
power of two, Floor, Round (ties to even) and Clip are exact in floating point, so the result has the same bits as long
as the accumulators fit the mantissa (verify.representations.accumulator_bits decides between float32 and float64).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trigger_prune.errors import ExportError
from trigger_prune.export.float64 import to_double

_ROUND_OP = {"FLOOR": "Floor", "ROUND": "Round"}


def lower(qonnx_model: onnx.ModelProto, *, double: bool = False) -> onnx.ModelProto:
    """Standard-operator copy of a model written by ``to_qonnx``; batch axis named ``batch``.

    ``double`` makes every tensor float64 (and every Conv a MatMul, see float64.py). Raises ExportError for a Quant
    node of another form than ``to_qonnx`` writes.
    """
    graph = qonnx_model.graph
    constants = _constants(graph)
    nodes: list[onnx.NodeProto] = []
    used_constants: dict[str, NDArray[Any]] = {}
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        if node.op_type != "Quant":
            nodes.append(node)
            for name in node.input:
                if name in constants:
                    used_constants[name] = constants[name]
            continue
        data, scale, zero_point, width = node.input
        parameters = [constants.get(name) for name in (scale, zero_point, width)]
        if any(value is None or value.size != 1 for value in parameters) or parameters[1].item() != 0:  # type: ignore[union-attr]
            raise ExportError(f"Quant node {node.name!r}: parameters must be scalar constants, with zero point 0")
        lsb, bits = float(parameters[0].item()), int(parameters[2].item())  # type: ignore[union-attr]
        low, high = _code_range(node, bits)
        if data in constants:
            value = _quantise(constants[data], lsb, low, high, _attribute(node, "rounding_mode"))
            used_constants[node.output[0]] = constants[node.output[0]] = value
        else:
            new_nodes, new_constants = _quantise_nodes(node, data, lsb, low, high)
            nodes += new_nodes
            used_constants |= new_constants
    initializers = [numpy_helper.from_array(_single(value), name) for name, value in used_constants.items()]
    lowered = helper.make_graph(
        nodes,
        graph.name,
        [_free_batch(value) for value in graph.input if value.name not in constants],
        [_free_batch(value) for value in graph.output],
        initializers,
    )
    opset = next(entry.version for entry in qonnx_model.opset_import if entry.domain in ("", "ai.onnx"))
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(lowered, opset_imports=opsets, ir_version=qonnx_model.ir_version)
    if double:
        model = to_double(onnx.shape_inference.infer_shapes(model))
        for tensor in model.graph.initializer:
            # The limits of a quantiser of more than 24 bits are exact in float64 only.
            if tensor.name in used_constants:
                tensor.CopyFrom(numpy_helper.from_array(_double(used_constants[tensor.name]), tensor.name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _single(value: NDArray[Any]) -> NDArray[Any]:
    return value.astype(np.float32) if value.dtype.kind == "f" else value


def _double(value: NDArray[Any]) -> NDArray[Any]:
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return values


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            value = helper.get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
    raise ExportError(f"Quant node {node.name!r} has no attribute {name!r}")


def _code_range(node: onnx.NodeProto, bits: int) -> tuple[float, float]:
    if not _attribute(node, "signed"):
        return 0.0, 2.0**bits - 1
    return -(2.0 ** (bits - 1)) + _attribute(node, "narrow"), 2.0 ** (bits - 1) - 1


def _quantise(value: NDArray[Any], lsb: float, low: float, high: float, rounding: str) -> NDArray[Any]:
    scaled = value.astype(np.float64) / lsb
    codes = np.floor(scaled) if rounding == "FLOOR" else np.round(scaled)
    quantised: NDArray[Any] = (np.clip(codes, low, high) * lsb).astype(value.dtype)
    return quantised


def _quantise_nodes(
    node: onnx.NodeProto, data: str, lsb: float, low: float, high: float
) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    operator = _ROUND_OP.get(_attribute(node, "rounding_mode"))
    if operator is None:
        raise ExportError(f"Quant node {node.name!r} rounds in a mode that no standard operator has")
    stem, output = node.name or node.output[0], node.output[0]
    names = {key: f"{stem}/{key}" for key in ("inverse_lsb", "lsb", "low", "high", "scaled", "rounded", "clipped")}
    values = {"inverse_lsb": 1.0 / lsb, "lsb": lsb, "low": low, "high": high}
    nodes = [
        helper.make_node("Mul", [data, names["inverse_lsb"]], [names["scaled"]], f"{stem}/scale"),
        helper.make_node(operator, [names["scaled"]], [names["rounded"]], f"{stem}/round"),
        helper.make_node("Clip", [names["rounded"], names["low"], names["high"]], [names["clipped"]], f"{stem}/clip"),
        helper.make_node("Mul", [names["clipped"], names["lsb"]], [output], f"{stem}/unscale"),
    ]
    return nodes, {names[key]: np.array(value, np.float64) for key, value in values.items()}


def _free_batch(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["batch", *shape[1:]])

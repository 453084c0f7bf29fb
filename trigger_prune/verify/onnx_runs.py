"""Executing the exported ONNX files: QONNX by qonnx, the lowered model by ONNX runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from trigger_prune.export.float64 import to_double
from trigger_prune.export.quiet import quiet
from trigger_prune.verify.wires import Wire, WireKind

_QONNX_BATCH = 1000


def run_onnxruntime(model: onnx.ModelProto, features: NDArray[Any], batch_size: int = 8192) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of the lowered model; features ``(events, *input_shape)`` of any float type."""
    session = _session(model)
    dtype = _input_dtype(model)
    name = model.graph.input[0].name
    parts = []
    for start in range(0, len(features), batch_size):
        batch = features[start : start + batch_size].astype(dtype)
        parts.append(np.asarray(session.run(None, {name: batch})[0], np.float64).reshape(len(batch), -1))
    return np.concatenate(parts)


def onnxruntime_wires(model: onnx.ModelProto, features: NDArray[Any]) -> list[Wire]:
    """Wires of the lowered model for a few events."""
    wanted = _wire_nodes(model, lambda node: node.op_type == "Mul" and node.name.endswith("/unscale"))
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    element = model.graph.input[0].type.tensor_type.elem_type
    known = {value.name for value in tapped.graph.output}
    for _, _, tensor in wanted:
        if tensor not in known:
            tapped.graph.output.append(helper.make_tensor_value_info(tensor, element, None))
    names = [tensor for _, _, tensor in wanted]
    values = _session(tapped).run(names, {model.graph.input[0].name: features.astype(_input_dtype(model))})
    return [
        Wire(layer, kind, np.asarray(value, np.float64)) for (layer, kind, _), value in zip(wanted, values, strict=True)
    ]


def run_qonnx(model: onnx.ModelProto, features: NDArray[Any], *, double: bool = False) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of the QONNX model, executed by qonnx in float32 or float64.

    The file's batch is one; in memory it is raised, because qonnx takes as long for a batch as for one event.
    """
    from qonnx.core.onnx_exec import execute_onnx

    size = min(_QONNX_BATCH, len(features))
    wrapper = _prepared(model, size, double)
    dtype = _input_dtype(wrapper.model)
    name, output = wrapper.graph.input[0].name, wrapper.graph.output[0].name
    parts = []
    with quiet():
        for start in range(0, len(features), size):
            batch = np.zeros((size, *features.shape[1:]), dtype)
            chunk = features[start : start + size]
            batch[: len(chunk)] = chunk
            found = np.asarray(execute_onnx(wrapper, {name: batch})[output], np.float64)
            parts.append(found.reshape(size, -1)[: len(chunk)])
    return np.concatenate(parts)


def qonnx_wires(model: onnx.ModelProto, features: NDArray[Any], *, double: bool = False) -> list[Wire]:
    """Wires of the QONNX model for a few events."""
    from qonnx.core.onnx_exec import execute_onnx

    wrapper = _prepared(model, len(features), double)
    inputs = {wrapper.graph.input[0].name: features.astype(_input_dtype(wrapper.model))}
    with quiet():
        context = execute_onnx(wrapper, inputs, return_full_exec_context=True)
    constants = _constants(wrapper.model)
    wanted = _wire_nodes(wrapper.model, lambda node: node.op_type == "Quant" and node.output[0] not in constants)
    return [Wire(layer, kind, np.asarray(context[tensor], np.float64)) for layer, kind, tensor in wanted]


def _prepared(model: onnx.ModelProto, batch: int, double: bool) -> Any:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.change_batchsize import ChangeBatchSize
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.util.cleanup import cleanup_model

    with quiet():
        wrapper = cleanup_model(ModelWrapper(model)).transform(ChangeBatchSize(batch)).transform(InferShapes())
        if not double:
            return wrapper
        return ModelWrapper(_widen_quantisers(to_double(wrapper.model))).transform(InferShapes())


def _widen_quantisers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put a Cast to float64 behind every Quant node, in place: qonnx computes them in the type of their input, but
    returns float32, which is exact for up to 24 bits."""
    nodes = []
    for original in model.graph.node:
        node = copy.deepcopy(original)
        nodes.append(node)
        if node.op_type == "Quant":
            wide = node.output[0]
            node.output[0] = f"{wide}_single"
            nodes.append(helper.make_node("Cast", [node.output[0]], [wide], to=TensorProto.DOUBLE))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    return model


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _wire_nodes(
    model: onnx.ModelProto, is_quantiser: Callable[[onnx.NodeProto], bool]
) -> list[tuple[str, WireKind, str]]:
    """(node, kind, tensor) of every sum, its bias included, and of every activation quantiser, in order."""
    constants = _constants(model)
    found: list[tuple[str, WireKind, str]] = []
    for node in model.graph.node:
        if node.op_type in ("Gemm", "Conv"):
            found.append((node.name, "sum", node.output[0]))
        elif node.op_type == "MatMul":
            found.append((node.name, "sum", _with_bias(model, node.output[0], constants)))
        elif is_quantiser(node):
            found.append((node.name, "quantised", node.output[0]))
    return found


def _with_bias(model: onnx.ModelProto, tensor: str, constants: set[str]) -> str:
    """The sum behind a MatMul: follows the one Reshape and the one addition of constants that may come behind it."""
    for operator in ("Reshape", "Add"):
        users = [node for node in model.graph.node if tensor in node.input]
        if len(users) != 1 or users[0].op_type != operator:
            continue
        if all(name == tensor or name in constants for name in users[0].input):
            tensor = users[0].output[0]
    return tensor


def _constants(model: onnx.ModelProto) -> set[str]:
    """Tensors that depend on no input: initializers and what is computed from them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(name in constants for name in node.input):
            constants.update(node.output)
    return constants


def _input_dtype(model: onnx.ModelProto) -> Any:
    return np.float64 if model.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE else np.float32

"""Executing the exported ONNX files: QONNX by qonnx, the lowered model by ONNX runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from trigger_prune.export.hls4ml_project import quiet
from trigger_prune.verify.wires import Wire

_SUMS = ("Gemm", "MatMul", "Conv")


def run_onnxruntime(model: onnx.ModelProto, features: NDArray[Any], batch_size: int = 8192) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of the lowered model; features ``(events, *input_shape)`` of any float type."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    dtype = _input_dtype(model)
    name = model.graph.input[0].name
    parts = [
        session.run(None, {name: features[start : start + batch_size].astype(dtype)})[0]
        for start in range(0, len(features), batch_size)
    ]
    return np.concatenate(parts).reshape(len(features), -1).astype(np.float64)


def onnxruntime_wires(model: onnx.ModelProto, features: NDArray[Any]) -> list[Wire]:
    """Wires of the lowered model for a few events."""
    import onnxruntime

    wanted = _wire_nodes(model, lambda node: node.op_type == "Mul" and node.name.endswith("/unscale"))
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    element = model.graph.input[0].type.tensor_type.elem_type
    known = {value.name for value in tapped.graph.output}
    for _, _, tensor in wanted:
        if tensor not in known:
            tapped.graph.output.append(helper.make_tensor_value_info(tensor, element, None))
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [tensor for _, _, tensor in wanted]
    values = session.run(names, {model.graph.input[0].name: features.astype(_input_dtype(model))})
    return [
        Wire(layer, kind, value.astype(np.float64))
        for (layer, kind, _), value in zip(wanted, values, strict=True)
    ]


def run_qonnx(
    model: onnx.ModelProto, features: NDArray[Any], on_event: Callable[[], None] | None = None
) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of the QONNX model, one event at a time (its batch is one)."""
    from qonnx.core.onnx_exec import execute_onnx

    wrapper, dtype = _prepared(model), _input_dtype(model)
    name, output = wrapper.graph.input[0].name, wrapper.graph.output[0].name
    rows = []
    with quiet():
        for event in features:
            rows.append(execute_onnx(wrapper, {name: event[None].astype(dtype)})[output].reshape(-1))
            if on_event is not None:
                on_event()
    return np.array(rows, dtype=np.float64)


def qonnx_wires(model: onnx.ModelProto, features: NDArray[Any]) -> list[Wire]:
    """Wires of the QONNX model for one event ``(1, *input_shape)``."""
    from qonnx.core.onnx_exec import execute_onnx

    wrapper = _prepared(model)
    constants = {tensor.name for tensor in wrapper.graph.initializer}
    with quiet():
        context = execute_onnx(
            wrapper,
            {wrapper.graph.input[0].name: features.astype(_input_dtype(model))},
            return_full_exec_context=True,
        )
    wanted = _wire_nodes(wrapper.model, lambda node: node.op_type == "Quant" and node.input[0] not in constants)
    return [Wire(layer, kind, np.asarray(context[tensor], np.float64)) for layer, kind, tensor in wanted]


def _prepared(model: onnx.ModelProto) -> Any:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.util.cleanup import cleanup_model

    with quiet():
        return cleanup_model(ModelWrapper(model)).transform(InferShapes())


def _wire_nodes(
    model: onnx.ModelProto, is_quantiser: Callable[[onnx.NodeProto], bool]
) -> list[tuple[str, Any, str]]:
    found: list[tuple[str, Any, str]] = []
    for node in model.graph.node:
        if node.op_type in _SUMS:
            found.append((node.name, "sum", node.output[0]))
        elif is_quantiser(node):
            found.append((node.name, "quantised", node.output[0]))
    return found


def _input_dtype(model: onnx.ModelProto) -> Any:
    return np.float64 if model.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE else np.float32

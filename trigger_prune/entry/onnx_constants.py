"""An ONNX graph as a reader walks it: constants are computed, shapes of one event are known, users are counted."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trigger_prune.entry.entered import refusal
from trigger_prune.entry.quant_nodes import attribute, exponent_of
from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.ranges import best_type

QUANT_NODES = ("Quant", "IntQuant", "BipolarQuant")
MAX_STORED_BITS = 24
"""float32 holds every code of so many bits."""
_SUFFIXES = ("", "_relu", "_quant", "_pool")
_NO_ARITHMETIC = ("Identity", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that depends on no input.

    declared   the type that a Quant node gave it, where one scale holds for the whole tensor; reshapes keep it
    """

    values: NDArray[Any]
    declared: FixedPoint | None = None


def load_model(source: Path | onnx.ModelProto) -> onnx.ModelProto:
    """The model of a file. Raises ModelError when it is missing or no ONNX file."""
    if isinstance(source, onnx.ModelProto):
        return source
    if not source.is_file():
        raise ModelError(f"there is no file {source}")
    try:
        model = onnx.load(str(source))
    except Exception as error:
        # protobuf, onnx and the operating system raise unrelated types for a damaged file
        raise ModelError(f"{source} is not a readable ONNX file: {type(error).__name__}: {error}") from error
    if not model.graph.node:
        raise ModelError(f"{source} is not an ONNX model with a graph")
    return model


def is_qonnx(model: onnx.ModelProto) -> bool:
    """Whether Quant nodes carry the precisions."""
    return any(node.op_type in QUANT_NODES for node in model.graph.node)


def users(nodes: Iterable[onnx.NodeProto], output: str) -> Counter[str]:
    """How often each tensor is read, the network's output included."""
    counts = Counter(name for node in nodes for name in node.input)
    counts[output] += 1
    return counts


def initial_constants(model: onnx.ModelProto) -> dict[str, Constant]:
    """The initializers."""
    return {tensor.name: Constant(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}


def graph_input(model: onnx.ModelProto) -> tuple[str, int, tuple[int, ...]]:
    """Name, batch size and shape of one event. A free batch counts as two, which no other axis is mistaken for.

    Raises ModelError.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs)
        raise ModelError(
            f"the model takes {len(inputs)} inputs ({names}); exactly one is supported",
            hint="concatenate the inputs into one array of features",
        )
    dims = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    if len(dims) < 2 or any(size < 1 for size in dims[1:]):
        raise ModelError(
            f"input {inputs[0].name!r} has shape {dims} (0 = not fixed); a batch axis and fixed sizes are needed",
            hint="fix the sizes when the file is written",
        )
    return inputs[0].name, dims[0] or 2, tuple(dims[1:])


def compute(
    node: onnx.NodeProto,
    inputs: list[Constant | None],
    model: onnx.ModelProto,
    nearest: Callable[[str], None] | None = None,
) -> list[Constant]:
    """What a node makes of constants, for ``nearest`` see ``wire_type``.

    Raises UnsupportedLayerError for a node that cannot be computed, or whose result lies on no power-of-two grid.
    """
    if node.op_type in QUANT_NODES:
        return [_quantised(node, [entry.values for entry in inputs if entry is not None], nearest)]
    from onnx.reference import ReferenceEvaluator

    feeds = {name: entry.values for name, entry in zip(node.input, inputs, strict=True) if entry is not None}
    try:
        results = ReferenceEvaluator(_alone(node, feeds, model)).run(None, feeds)
    except Exception as error:
        # the evaluator raises whatever numpy raises
        raise refusal(
            node, f"this constant cannot be computed: {type(error).__name__}: {error}", "fold constants first"
        ) from error
    first = next((entry for entry in inputs if entry is not None), None)
    kept = first.declared if first is not None and node.op_type in _NO_ARITHMETIC else None
    return [Constant(np.asarray(value), kept) for value in results]


def _alone(node: onnx.NodeProto, feeds: dict[str, NDArray[Any]], model: onnx.ModelProto) -> onnx.ModelProto:
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
        for name, value in feeds.items()
    ]
    made = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    opsets = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return helper.make_model(helper.make_graph([node], "constant", given, made), opset_imports=opsets)


def _quantised(
    node: onnx.NodeProto, inputs: list[NDArray[Any]], nearest: Callable[[str], None] | None = None
) -> Constant:
    """A Quant node on a constant, by qonnx's own functions."""
    from qonnx.custom_op.general.bipolar_quant import binary_quant
    from qonnx.custom_op.general.intquant import int_quant

    scale = inputs[1]
    if node.op_type == "BipolarQuant":
        found, width, signed = binary_quant(inputs[0], scale), np.array(2.0), True
    else:
        width, signed = inputs[3], bool(attribute(node, "signed", 1))
        narrow, mode = bool(attribute(node, "narrow", 0)), attribute(node, "rounding_mode", "ROUND")
        found = int_quant(inputs[0], scale, inputs[2], width, signed, narrow, mode)
    values = np.asarray(found, np.float32)
    bits = min(max(2, math.ceil(float(np.max(width)))) + (not signed), MAX_STORED_BITS)
    wrong = [value for value in np.unique(scale).tolist() if math.frexp(value)[0] != 0.5]
    if wrong:
        fixed = best_type(values, bits, signed=True, rounding=Rounding.AP_RND_CONV)
        if nearest is None:
            exponent_of(node, wrong[0])  # refuses
        else:
            nearest(f"{node.name or node.output[0]}: {len(wrong)} scales, e.g. {wrong[0]:.6g}, became {fixed.lsb:g}")
        return Constant(fixed.quantize(values).astype(np.float32), fixed)
    if scale.size != 1 or width.size != 1:
        return Constant(values)
    exponent = math.frexp(scale.item())[1] - 1
    declared = FixedPoint(bits, bits + exponent, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)
    return Constant(values, declared if bool(declared.contains(values).all()) else None)


def layer_name(node: onnx.NodeProto, taken: set[str]) -> str:
    """A Python identifier for the node's layer that is not ``taken`` yet: ``/fc1/MatMul`` becomes ``fc1``."""
    parts = [part for part in (node.name or node.op_type).split("/") if part]
    wish = re.sub(r"\W", "_", "_".join(parts[:-1] if len(parts) > 1 else parts)) or "layer"
    wish = wish if wish.isidentifier() else f"layer_{wish}"
    name, number = wish, 0
    while any(f"{name}{suffix}" in taken for suffix in _SUFFIXES):
        number += 1
        name = f"{wish}_{number}"
    taken.update(f"{name}{suffix}" for suffix in _SUFFIXES)
    return name

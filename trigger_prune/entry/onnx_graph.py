"""Takes an ONNX graph over, node by node, into a network of the toolkit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from torch import fx

from trigger_prune.entry.builder import Builder
from trigger_prune.entry.entered import refusal
from trigger_prune.entry.onnx_constants import Constant, compute, graph_input, initial_constants, load_model, users
from trigger_prune.entry.operators import OPERATORS
from trigger_prune.entry.walk import Walk
from trigger_prune.entry.wires import Sum, Tensor, Wire
from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint

_LOGITS = "export logits, or choose the tensor before it as the output (--output NAME)"
_HINTS = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "TopK", "HardSigmoid"), _LOGITS),
    "Tanh": "use ReLU",
    "LeakyRelu": "use ReLU",
    "PRelu": "use ReLU",
    "Elu": "use ReLU",
    "Trunc": "average over a power of two of positions, followed by a Quant node",
    "QuantizeLinear": "convert the file with qonnx.transformation.qcdq_to_qonnx.QCDQToQuant first",
    "DequantizeLinear": "convert the file with qonnx.transformation.qcdq_to_qonnx.QCDQToQuant first",
    "MultiThreshold": "take the QONNX file from before the conversion for FINN",
    "LSTM": "recurrent networks have no fixed-point form here",
    "GRU": "recurrent networks have no fixed-point form here",
}


def take_over(
    source: Path | onnx.ModelProto,
    *,
    exact: bool,
    input_type: FixedPoint | None = None,
    output: str | None = None,
    nearest: Callable[[str], None] | None = None,
) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """The network of a graph, and notes on it.

    exact        fixed-point layers, from a graph whose Quant nodes carry the precisions; else plain float layers
    input_type   of the events as they reach the network; None = the Quant node on the input says it
    output       tensor to take as the output; None = the one of the file
    nearest      see ``quant_nodes.wire_type``

    Raises UnsupportedLayerError naming the first node that cannot be taken over, the reason and the remedy; ModelError.
    """
    model = load_model(source)
    wanted = _output(model, output)
    nodes = _needed(model, wanted)
    reads = users(nodes, wanted)
    name, batch, shape = graph_input(model)
    build = Builder(shape, input_type, exact=exact)
    walk = Walk(model, build, batch, reads, nearest)
    tensors: dict[str, Tensor] = {**initial_constants(model), name: build.input_wire()}
    for node in nodes:
        _walk_node(walk, node, tensors)
    result = tensors[wanted]
    if isinstance(result, Constant):
        raise ModelError(f"the output {wanted!r} does not depend on the events")
    if isinstance(result, Sum):
        result = build.finished(result)
    return build.network(result), tuple(build.notes)


def _walk_node(walk: Walk, node: onnx.NodeProto, tensors: dict[str, Tensor]) -> None:
    inputs = [tensors[name] if name else None for name in node.input]
    if node.op_type == "Shape":
        tensor = tensors[node.input[0]]
        whole = tensor.view.shape if isinstance(tensor, Sum) else tensor.shape if isinstance(tensor, Wire) else None
        if whole is not None:
            tensors[node.output[0]] = Constant(np.array([walk.batch, *whole], np.int64))
            return
    constants = [entry for entry in inputs if entry is None or isinstance(entry, Constant)]
    if len(constants) == len(inputs):
        results = compute(node, constants, walk.model, walk.nearest)
        tensors.update(zip(node.output, results, strict=False))
        return
    handler = OPERATORS.get(node.op_type)
    if handler is None:
        raise refusal(
            node,
            "this operator is not supported",
            _HINTS.get(node.op_type, f"supported: {', '.join(OPERATORS)}"),
        )
    found = handler(walk, node, inputs)
    if isinstance(found, Sum) and not walk.single(node.output[0]):
        # what follows may no longer change its constants
        found = walk.build.finished(found)
    tensors[node.output[0]] = found


def _output(model: onnx.ModelProto, wanted: str | None) -> str:
    if wanted is not None:
        known = [name for node in model.graph.node for name in node.output]
        if wanted not in known:
            raise ModelError(f"there is no tensor {wanted!r} in the model", hint=f"tensors: {', '.join(known[-12:])}")
        return wanted
    names = [str(value.name) for value in model.graph.output]
    if len(names) != 1:
        raise ModelError(f"the model has {len(names)} outputs: {', '.join(names)}", hint="choose one with --output")
    return names[0]


def _needed(model: onnx.ModelProto, output: str) -> list[onnx.NodeProto]:
    """Nodes that the output depends on, in the order of the file (which ONNX requires to be topological)."""
    wanted, kept = {output}, []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]

"""QONNX in torch's memory order (channels first) -> channels last, the order that hls4ml computes in.

qonnx has transformations for it that push transposes through the graph until nothing changes; around the sum of two
convolutions they never end. The graphs written here hold few operators, so the order of every tensor is known: tensors
with positions become channels last, and the first dense layer behind a Flatten gets its columns in the new order.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from trigger_prune.errors import ExportError

DOMAIN = "qonnx.custom_op.channels_last"
_SAME_ORDER = ("Relu", "Quant")
_JOINS = ("Add", "Concat")

Order = NDArray[np.int64]
"""Which feature of the original vector lies at each place of the new one."""


def to_channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of a cleaned QONNX model whose inputs and convolutions are channels last; its outputs keep their order.

    Needs the shape of every tensor (``value_info``). Raises ExportError for an operator it does not know, and where two
    wires of different order meet.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    _Conversion(converted).run()
    converted.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return converted


class _Conversion:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        values = (*self.graph.input, *self.graph.output, *self.graph.value_info)
        self.shapes = {v.name: tuple(dim.dim_value for dim in v.type.tensor_type.shape.dim) for v in values}
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.orders: dict[str, Order] = {}

    def run(self) -> None:
        outputs = {value.name for value in self.graph.output}
        restored = self._flattened_outputs(outputs)
        nodes: list[onnx.NodeProto] = []
        for node in list(self.graph.node):
            if node.op_type == "Flatten" and node.output[0] in restored and len(self.shapes[node.input[0]]) > 2:
                nodes.append(self._transpose(node.input[0], f"{node.name}_channels_first"))
                node.input[0] = nodes[-1].output[0]
            elif not self._is_constant(node):
                self._convert(node)
            nodes.append(node)
        for value in (*self.graph.input, *self.graph.value_info):
            _permute_dims(value)
        for name in outputs:
            if len(self.shapes[name]) > 2:
                raise ExportError(
                    f"the network's output has shape {self.shapes[name][1:]}",
                    hint="end it with nn.Flatten, or with nn.Flatten and nn.Linear",
                )
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def _is_constant(self, node: onnx.NodeProto) -> bool:
        return bool(node.input) and node.input[0] in self.constants

    def _flattened_outputs(self, outputs: set[str]) -> set[str]:
        """Tensors that reach an output without a layer with weights in between: their order must stay."""
        found, todo = set(outputs), list(outputs)
        while todo:
            node = self.producers.get(todo.pop())
            if node is None or node.op_type not in (*_SAME_ORDER, *_JOINS):
                continue
            sources = [name for name in node.input[: 1 if node.op_type == "Quant" else None] if name not in found]
            found.update(sources)
            todo += sources
        return found

    def _transpose(self, tensor: str, name: str) -> onnx.NodeProto:
        rank = len(self.shapes[tensor])
        return helper.make_node("Transpose", [tensor], [f"{name}_out"], name, perm=[0, rank - 1, *range(1, rank - 1)])

    def _convert(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Conv":
            node.domain = DOMAIN
            self._change_weight(node, lambda weight: np.moveaxis(weight, 1, -1))
        elif node.op_type == "MaxPool":
            node.domain = DOMAIN
        elif node.op_type == "Flatten":
            shape = self.shapes[node.input[0]][1:]
            order = np.moveaxis(np.arange(int(np.prod(shape))).reshape(shape), 0, -1).ravel()
            if (order != np.arange(order.size)).any():
                self.orders[node.output[0]] = order
        elif node.op_type in ("Gemm", "MatMul"):
            self._reorder_columns(node)
        elif node.op_type in _SAME_ORDER:
            self._pass_on(node, [self.orders.get(node.input[0])])
        elif node.op_type == "Add":
            self._pass_on(node, [self.orders.get(name) for name in node.input])
        elif node.op_type == "Concat":
            self._concatenate(node)
        else:
            raise ExportError(f"operator {node.op_type} of node {node.name!r} has no channels-last form here")

    def _pass_on(self, node: onnx.NodeProto, orders: list[Order | None]) -> None:
        first, *others = orders
        if any(not _same(first, other) for other in others):
            raise ExportError(
                f"node {node.name!r} adds a flattened wire to one that never had positions",
                hint="put an nn.Linear behind the nn.Flatten",
            )
        if first is not None:
            self.orders[node.output[0]] = first

    def _concatenate(self, node: onnx.NodeProto) -> None:
        [axis] = [attribute for attribute in node.attribute if attribute.name == "axis"]
        rank = len(self.shapes[node.input[0]])
        if rank > 2:
            axis.i = {1: rank - 1, -1: rank - 2}.get(axis.i, axis.i - 1)
            return
        orders, offset = [], 0
        for name in node.input:
            size = self.shapes[name][1]
            order = self.orders.get(name)
            orders.append((np.arange(size) if order is None else order) + offset)
            offset += size
        if any(name in self.orders for name in node.input):
            self.orders[node.output[0]] = np.concatenate(orders)

    def _reorder_columns(self, node: onnx.NodeProto) -> None:
        order = self.orders.get(node.input[0])
        if order is None:
            return
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        self._change_weight(node, lambda weight: weight[:, order] if transposed else weight[order])

    def _change_weight(self, node: onnx.NodeProto, change: object) -> None:
        """Apply ``change`` to the constant behind the weight's Quant node."""
        producer = self.producers.get(node.input[1])
        name = producer.input[0] if producer is not None and producer.op_type == "Quant" else node.input[1]
        if name not in self.constants:
            raise ExportError(f"the weight of node {node.name!r} is no constant")
        tensor = self.constants[name]
        weight = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))  # type: ignore[operator]
        tensor.CopyFrom(numpy_helper.from_array(weight, name))


def _same(first: Order | None, second: Order | None) -> bool:
    if first is None or second is None:
        return first is second
    return bool(np.array_equal(first, second))


def _permute_dims(value: onnx.ValueInfoProto) -> None:
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if len(dims) > 2:
        for dim, size in zip(value.type.tensor_type.shape.dim, [dims[0], *dims[2:], dims[1]], strict=True):
            dim.dim_value = size

"""The inputs of an hls4ml project: one port for the whole event, or one for every range of it that is read."""

from __future__ import annotations

from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import fx

from trigger_prune.errors import ExportError
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.input_slices import is_slice, slice_bounds

Port = tuple[int, int]
"""First feature (or channel) of a port and the one behind its last."""


def input_ports(network: fx.GraphModule) -> tuple[Port, ...]:
    """The ports in their order in the top function: by first feature; ``((0, n),)`` for an undivided input."""
    n_features = input_shape_of(network)[0]
    ports: set[Port] = set()
    for node in network.graph.nodes:
        if any(source.op == "placeholder" for source in node.all_input_nodes):
            ports.add(slice_bounds(node, n_features) if is_slice(node) else (0, n_features))
    return tuple(sorted(ports))


def split_features(features: NDArray[Any], ports: tuple[Port, ...]) -> list[NDArray[Any]]:
    """What each port reads of ``features`` ``(events, features, ...)``."""
    return [features[:, start:stop] for start, stop in ports]


def give_ports(model: onnx.ModelProto, ports: tuple[Port, ...]) -> onnx.ModelProto:
    """Copy of a cleaned QONNX model with one graph input for each of ``ports`` and no Slice nodes.

    Raises ExportError for a Slice node that is not one of ``ports``.
    """
    divided = onnx.ModelProto()
    divided.CopyFrom(model)
    graph = divided.graph
    if not any(node.op_type == "Slice" for node in graph.node):
        return divided
    [whole] = graph.input
    dims = [dim.dim_value for dim in whole.type.tensor_type.shape.dim]
    names = {port: f"{whole.name}_{start}_{stop}" for port in ports for start, stop in [port]}
    names[(0, dims[1])] = whole.name
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if node.op_type != "Slice":
            nodes.append(node)
            continue
        bounds = _bounds(node, constants, dims[1])
        if node.input[0] != whole.name or bounds not in names:
            raise ExportError(f"node {node.name!r} cuts {bounds} out of {node.input[0]!r}: no port of the project")
        renamed[node.output[0]] = names[bounds]
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    element = whole.type.tensor_type.elem_type
    inputs = [
        helper.make_tensor_value_info(names[port], element, [dims[0], port[1] - port[0], *dims[2:]]) for port in ports
    ]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    del graph.input[:]
    graph.input.extend(inputs)
    return divided


def _bounds(node: onnx.NodeProto, constants: dict[str, NDArray[Any]], n_features: int) -> Port:
    missing = [name for name in node.input[1:] if name and name not in constants]
    if missing:
        raise ExportError(f"node {node.name!r} cuts at places that are no constants")
    starts, stops, axes, *steps = (constants[name].tolist() for name in node.input[1:])
    if axes != [1] or any(step != [1] for step in steps):
        raise ExportError(f"node {node.name!r} cuts along axes {axes}")
    first, last, _ = slice(starts[0], stops[0]).indices(n_features)
    return first, last

"""Binary points that QKeras and hls4ml's Keras route can take, without changing one code.

QKeras 0.9 computes ``2 ** integer`` in integers, so no type may have fewer than zero integer bits besides the sign;
hls4ml reads a type without fraction bits as an integer of another width. ReLU, pooling and saturation keep their form
when all values are multiplied by a power of two: the binary point of an activation moves by as much as that of the
weights before it, and back by as much as that of the weights behind it. Types of weights are simply made wider.
"""

from __future__ import annotations

from dataclasses import replace

from trigger_prune.errors import ExportError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.qkeras.description import KerasDescription, Node, PlainNode, QuantNode, WeightNode

_CARRIES = ("relu", "flatten", "max_pool", "zero_pad")


def expressible(description: KerasDescription) -> KerasDescription:
    """The same model with binary points that QKeras takes; codes, inputs and outputs stay what they are.

    Raises ExportError, naming the layer, where an activation below 1/2 reaches a sum of wires or the output.
    """
    nodes = {node.name: node for node in description.nodes}
    for node in description.nodes:
        if isinstance(node, QuantNode):
            shift = _wanted_shift(node.fixed)
            if shift:
                _shift(node, shift, nodes, description.output)
    return replace(description, nodes=tuple(nodes[node.name] for node in description.nodes))


def widened(fixed: FixedPoint) -> FixedPoint:
    """A signed type with the same LSB, all values of ``fixed`` and at least the sign bit left of the binary point."""
    extra = max(0, 1 - fixed.integer)
    return replace(fixed, width=fixed.width + extra, integer=fixed.integer + extra)


def _wanted_shift(fixed: FixedPoint) -> int:
    lowest = int(fixed.signed)
    return min(max(fixed.integer, lowest), max(lowest, fixed.width - 1)) - fixed.integer


def _shift(node: QuantNode, shift: int, nodes: dict[str, Node], output: str) -> None:
    """Move the binary point of ``node`` by ``shift`` bits, in place."""
    reached = [node.name]
    readers: list[WeightNode] = []
    source = nodes.get(node.inputs[0])
    possible = isinstance(source, WeightNode) and node.name != output
    for name in reached:
        for reader in nodes.values():
            if name not in reader.inputs:
                continue
            if isinstance(reader, WeightNode):
                readers.append(reader)
            elif isinstance(reader, PlainNode) and reader.kind in _CARRIES and reader.name != output:
                reached.append(reader.name)
            else:
                possible = False
    if not possible or not isinstance(source, WeightNode):
        if shift < 0:
            return
        raise ExportError(
            f"layer {node.name!r}: QKeras has no {node.fixed} (negative integer bits), and the layers around it cannot "
            "be scaled by a power of two",
            hint="give this activation more bits, or let it lie between two layers with weights",
        )
    bias_type = None if source.bias_type is None else _moved(source.bias_type, shift)
    nodes[source.name] = replace(source, kernel_type=_moved(source.kernel_type, shift), bias_type=bias_type)
    for reader in readers:
        nodes[reader.name] = replace(reader, kernel_type=_moved(reader.kernel_type, -shift))
    nodes[node.name] = replace(node, fixed=_moved(node.fixed, shift))
    for name in reached[1:]:
        carrier = nodes[name]
        if isinstance(carrier, PlainNode) and carrier.fixed is not None:
            nodes[name] = replace(carrier, fixed=_moved(carrier.fixed, shift))


def _moved(fixed: FixedPoint, shift: int) -> FixedPoint:
    return replace(fixed, integer=fixed.integer + shift)

"""Types of the wires of a description, and how many bits its sums take."""

from __future__ import annotations

import numpy as np

from trigger_prune.fixed_point import FixedPoint, bits_for_range
from trigger_prune.qkeras.description import KerasDescription, PlainNode, QuantNode, WeightNode

FLOAT32_BITS = 24
"""Mantissa of float32: sums of integers below 2**24 are exact in it, whatever the order."""


def node_types(description: KerasDescription) -> dict[str, FixedPoint]:
    """Type of every node's output by name; sums that no QActivation converted are absent."""
    types: dict[str, FixedPoint] = {}
    if description.input_type is not None:
        types[description.input_name] = description.input_type
    for node in description.nodes:
        if isinstance(node, QuantNode):
            types[node.name] = node.fixed
        elif isinstance(node, PlainNode) and all(name in types for name in node.inputs):
            known = [types[name] for name in node.inputs]
            if node.kind in ("add", "concatenate"):
                types[node.name] = _joined(known, node.kind == "add")
            elif node.kind not in ("softmax", "sigmoid"):
                types[node.name] = known[0]
    return types


def float_bits(description: KerasDescription) -> int | None:
    """Bits of the largest integer that QKeras's arithmetic meets, None where an input type is not known.

    Sums count in units of their own LSB. QKeras converts ``x`` to ``q`` as ``x + (q - x)``, so the difference counts.
    """
    types = node_types(description)
    behind = {node.inputs[0]: node for node in description.nodes if isinstance(node, QuantNode)}
    largest = 0
    for node in description.nodes:
        if not isinstance(node, WeightNode):
            continue
        if node.inputs[0] not in types:
            return None
        bound, fraction = _largest_sum(node, types[node.inputs[0]])
        quantizer = behind.get(node.name)
        if quantizer is not None:
            fixed = quantizer.fixed
            shift = fraction - fixed.fraction
            code = max(fixed.max_code, -fixed.min_code)
            bound = (bound + (code << shift)) if shift >= 0 else (bound << -shift) + code
        largest = max(largest, bound)
    return largest.bit_length()


def _largest_sum(node: WeightNode, source: FixedPoint) -> tuple[int, int]:
    """Largest magnitude of any partial sum, and the fraction bits it counts in."""
    product = source.fraction + node.kernel_type.fraction
    fraction = product if node.bias_type is None else max(product, node.bias_type.fraction)
    magnitude = max(source.max_code, -source.min_code)
    sums = np.abs(node.kernel).reshape(-1, node.kernel.shape[-1]).sum(axis=0).tolist()
    biases = [0] * len(sums)
    if node.bias is not None and node.bias_type is not None:
        biases = [abs(code) << (fraction - node.bias_type.fraction) for code in node.bias.tolist()]
    bounds = [((total * magnitude) << (fraction - product)) + bias for total, bias in zip(sums, biases, strict=True)]
    return max(bounds), fraction


def _joined(types: list[FixedPoint], add: bool) -> FixedPoint:
    lows, highs = [fixed.min_value for fixed in types], [fixed.max_value for fixed in types]
    low, high = (sum(lows), sum(highs)) if add else (min(lows), max(highs))
    fraction = max(fixed.fraction for fixed in types)
    integer, signed = bits_for_range(low, high)
    return FixedPoint(max(1, integer + fraction), integer, signed)

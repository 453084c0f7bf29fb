"""The fixed-point type of every wire of a quantised network."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding, bits_for_range
from trigger_prune.quantize.graph import PASS_THROUGH, is_add, is_cat, module_of
from trigger_prune.quantize.input_slices import is_slice
from trigger_prune.quantize.layers import QUANTIZERS


def wire_types(network: fx.GraphModule) -> dict[fx.Node, FixedPoint]:
    """Type of each node's output; nodes that carry a full accumulator are absent."""
    types: dict[fx.Node, FixedPoint] = {}
    for node in network.graph.nodes:
        found = _type_of(network, node, types)
        if found is not None:
            types[node] = found
    return types


def _type_of(network: fx.GraphModule, node: fx.Node, types: dict[fx.Node, FixedPoint]) -> FixedPoint | None:
    if node.op == "placeholder":
        return network.meta["input_type"]  # type: ignore[no-any-return]
    module = module_of(network, node)
    if isinstance(module, QUANTIZERS):
        return module.fixed
    sources: Any = node.args[0] if is_cat(node) else [arg for arg in node.args if isinstance(arg, fx.Node)]
    known = [types[source] for source in sources if source in types] if node.op != "output" else []
    if not known or len(known) != len(sources):
        return None
    if isinstance(module, (*PASS_THROUGH, nn.ReLU, nn.Identity)) or is_slice(node):
        return known[0]
    if is_cat(node):
        return _hull(known)
    if is_add(node):
        return _sum(known)
    return None


def _hull(types: list[FixedPoint]) -> FixedPoint:
    """The narrowest type that holds every value of all ``types``."""
    return _from_range(min(t.min_value for t in types), max(t.max_value for t in types), max(t.fraction for t in types))


def _sum(types: list[FixedPoint]) -> FixedPoint:
    """The narrowest type that holds every sum of one value of each type."""
    return _from_range(sum(t.min_value for t in types), sum(t.max_value for t in types), max(t.fraction for t in types))


def _from_range(low: float, high: float, fraction: int) -> FixedPoint:
    integer, signed = bits_for_range(low, high)
    return FixedPoint(max(1, integer + fraction), integer, signed, Rounding.AP_TRN, Overflow.AP_SAT)


def require_type(types: dict[fx.Node, FixedPoint], node: fx.Node) -> FixedPoint:
    """Type of a wire that must be known. Raises ModelError naming the wire otherwise."""
    if node not in types:
        raise ModelError(f"the wire {node.name!r} has no fixed-point type: a quantiser is missing on it")
    return types[node]

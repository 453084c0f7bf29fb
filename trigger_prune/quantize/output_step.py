"""The grid that the outputs of a quantised network lie on."""

from __future__ import annotations

from torch import fx

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS
from trigger_prune.quantize.wires import wire_types


def output_fraction_bits(network: fx.GraphModule) -> int:
    """Fraction bits of the outputs: each is a whole multiple of ``2 ** -bits``, whatever the event.

    Outputs are full accumulators or values of the last quantiser; pooling, flattening and joining keep the finest grid
    of what they read. Raises ModelError when an output has no grid.
    """
    fractions = {layer.name: layer.accumulator_fraction for layer in describe_network(network).layers}
    types = wire_types(network)
    (output,) = [node for node in network.graph.nodes if node.op == "output"]
    return _fraction_bits(network, output, types, fractions)


def _fraction_bits(
    network: fx.GraphModule, node: fx.Node, types: dict[fx.Node, FixedPoint], fractions: dict[str, int]
) -> int:
    if node in types:
        return types[node].fraction
    if isinstance(module_of(network, node), WEIGHT_LAYERS):
        return fractions[str(node.target)]
    if not node.all_input_nodes:
        raise ModelError(f"the wire {node.name!r} has no fixed-point grid")
    return max(_fraction_bits(network, source, types, fractions) for source in node.all_input_nodes)

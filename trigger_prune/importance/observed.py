"""The values on a network's wires while events pass through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.importance._base import CriterionData, named_weight_layers
from trigger_prune.quantize.graph import module_of, trace
from trigger_prune.quantize.layers import FixedQuantizer, QuantLinear

_RELU_CALLS = (torch.relu, nn.functional.relu, "relu")
_POOLS = (nn.MaxPool1d, nn.MaxPool2d)


def layer_values(
    network: nn.Module, layer_names: Sequence[str], data: CriterionData, *, side: Literal["input", "output"]
) -> Iterator[tuple[dict[str, list[Tensor]], Tensor]]:
    """For every part of the events the values next to each named layer, float64, one per call of it, and the shares.

    side   ``input``: what the layer reads; ``output``: what its units become, after the ReLU and the quantiser that
           follow it, if any; ``(events, units, ...)``
    Computed on a float64 copy in evaluation mode. Raises ModelError for a name that is no quantised weight layer, for
    a layer that the network does not call, and for a network that cannot be traced.
    """
    named_weight_layers(network, layer_names)
    graph = trace(network).double()
    wires = {name: [n for n in graph.graph.nodes if n.op == "call_module" and n.target == name] for name in layer_names}
    for name, calls in wires.items():
        if not calls:
            raise ModelError(f"layer {name!r} is never called by the network")
        wires[name] = [n.all_input_nodes[0] if side == "input" else _unit_wire(graph, n) for n in calls]
    wanted = {node for nodes in wires.values() for node in nodes}
    device = next(graph.parameters()).device
    for part, shares in data.parts(device):
        recorder = _Recorder(graph, wanted)
        with torch.no_grad():
            recorder.run(part.features)
        yield {name: [recorder.seen[node] for node in nodes] for name, nodes in wires.items()}, shares


class _Recorder(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, wanted: set[fx.Node]) -> None:
        super().__init__(graph)
        self.wanted = wanted
        self.seen: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.wanted:
            # a ReLU in place would overwrite the values
            self.seen[n] = result.clone()
        return result


def _unit_wire(graph: fx.GraphModule, layer: fx.Node) -> fx.Node:
    """Where the layer's units arrive: behind its ReLU (pooling may come first) and the quantiser after that."""
    node, rectified = layer, False
    while len(node.users) == 1:
        (user,) = node.users
        module = module_of(graph, user)
        if isinstance(module, nn.ReLU) or user.target in _RELU_CALLS:
            rectified = True
        elif not isinstance(module, FixedQuantizer) and (rectified or not isinstance(module, _POOLS)):
            break
        node = user
    return node


def units_first(layer: nn.Module, values: Tensor) -> Tensor:
    """``(events, units, positions)`` of a layer's output."""
    moved = values.movedim(-1, 1) if isinstance(layer, QuantLinear) else values
    return moved.reshape(*moved.shape[:2], -1)

"""Whole layers, where the network goes on working without them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import QuantLinear, QuantWeightLayer
from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.coupling import OUTPUT, follow
from trigger_prune.structure.numbering import joined, layers_to_part


@dataclass(frozen=True)
class Layer:
    """Layers that can go as a whole.

    The path with the fewest trained layers from the input to the output stays. A layer beside it, in a residual or
    parallel branch, loses all its weights. A layer on it can only be by-passed, which needs outputs of the shape of its
    inputs: it loses all weights but its diagonal (of a convolution: the centre of the kernel), and passes every value
    on with a factor of its own. All others are refused, and so are the layers that compute the network's outputs.
    ``groups`` raises ModelError, with the reason for each layer, when none can go.
    """

    @property
    def name(self) -> str:
        """``layer``."""
        return "layer"

    def groups(self, network: nn.Module) -> Groups:
        """One group per layer that can go, in the order of the layers."""
        layers = layers_to_part(self.name, network)
        refused, path = refusals(network), kept_path(network)
        local: dict[str, Tensor] = {}
        for name, layer in layers.items():
            if name not in refused:
                local[name] = torch.zeros(layer.weight.shape, dtype=torch.int64)
                if name in path:
                    local[name][diagonal(layer)] = -1
        if not local:
            raise ModelError(
                "structure 'layer': no layer can go: " + "; ".join(f"{name} {why}" for name, why in refused.items()),
                hint="a layer of a residual branch can, and one with as many outputs as inputs",
            )
        return Groups(self.name, *joined(local), whole_layers=True)


def refusals(network: nn.Module) -> dict[str, str]:
    """By name of a prunable layer that cannot go: the reason."""
    coupling = follow(network)
    path = kept_path(network)
    result = {}
    for name, layer in layers_to_part("layer", network).items():
        if any(coupling.fixed.get(unit) == OUTPUT for unit in coupling.rows[name].tolist()):
            result[name] = "computes outputs of the network"
        elif name in path and (shape := _cannot_be_passed(layer)):
            result[name] = f"is the only way through the network, and {shape}"
    return result


def kept_path(network: nn.Module) -> frozenset[str]:
    """Names of the trained layers on the way from input to output that has the fewest of them, then weights."""
    if not isinstance(network, fx.GraphModule):
        raise ModelError(f"structure 'layer': {type(network).__name__} is no graph", hint="quantize_model makes one")
    layers = layers_to_part("layer", network)
    best: dict[fx.Node, tuple[int, int, tuple[str, ...]]] = {}
    for node in network.graph.nodes:
        before = [best[source] for source in node.all_input_nodes if source in best]
        if node.op == "placeholder":
            best[node] = (0, 0, ())
        elif before:
            n_layers, n_weights, names = min(before)
            layer = layers.get(str(node.target)) if module_of(network, node) is not None else None
            if layer is not None:
                n_layers, n_weights = n_layers + 1, n_weights + layer.weight.numel()
                names = (*names, str(node.target))
            best[node] = (n_layers, n_weights, names)
    output = next(node for node in network.graph.nodes if node.op == "output")
    return frozenset(best[output][2])


def diagonal(layer: QuantWeightLayer) -> Tensor:
    """Weights that pass input ``i`` on to output ``i`` at the same position, bool, shaped like the weight."""
    result = torch.zeros(layer.weight.shape, dtype=torch.bool)
    centre = tuple(size // 2 for size in layer.weight.shape[2:])
    for index in range(len(layer.weight)):
        result[(index, index, *centre)] = True
    return result


def _cannot_be_passed(layer: QuantWeightLayer) -> str:
    """Why a layer cannot be replaced by its input; empty if it can."""
    n_outputs, n_inputs = layer.weight.shape[:2]
    if isinstance(layer, QuantLinear):
        return "" if n_inputs == n_outputs else f"turns {n_inputs} values into {n_outputs}"
    if layer.groups != 1:
        return "is a grouped convolution"
    if n_inputs != n_outputs:
        return f"turns {n_inputs} channels into {n_outputs}"
    needed = tuple(apart * (size // 2) for apart, size in zip(layer.dilation, layer.kernel_size, strict=True))
    padding = {"same": needed, "valid": (0,) * len(needed)}.get(str(layer.padding), layer.padding)
    odd = all(size % 2 == 1 for size in layer.kernel_size)
    same = odd and padding == needed and all(step == 1 for step in layer.stride)
    return "" if same else "changes the positions"


register_structure("layer", Layer)

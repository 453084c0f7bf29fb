"""A float network and one fixed-point type per wire and per weight tensor become a quantised network, untrained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint, Rounding
from trigger_prune.quantize.convert import QUANTISED
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import FixedQuantizer
from trigger_prune.quantize.ranges import bias_type
from trigger_prune.quantize.wires import require_type, wire_types


def quantiser_names(structure: fx.GraphModule) -> tuple[str, ...]:
    """Wires of ``build_structure``'s graph that take a type, in order of computation."""
    return tuple(
        str(node.target) for node in structure.graph.nodes if isinstance(module_of(structure, node), nn.Identity)
    )


def float_layers(structure: fx.GraphModule) -> dict[str, Any]:
    """Its weight layers (nn.Linear, nn.Conv1d, nn.Conv2d) by name, in order of computation."""
    return {
        str(node.target): module
        for node in structure.graph.nodes
        if isinstance(module := module_of(structure, node), tuple(QUANTISED))
    }


def build_network(
    structure: fx.GraphModule,
    weights: Mapping[str, FixedPoint],
    activations: Mapping[str, FixedPoint],
    values: Mapping[str, tuple[Tensor, Tensor | None]] | None = None,
) -> fx.GraphModule:
    """Quantised copy of ``structure`` (from ``build_structure``) with these types.

    weights       type of every weight tensor, by layer
    activations   type of every wire that takes one, by quantiser
    values        weight and bias to use instead of the float ones, by layer

    Biases get the accumulator's grid. With AP_TRN half an LSB of the following type goes into the bias of a layer, as
    ``quantize_model`` does it. Raises ModelError for a missing or unknown name.
    """
    layers, wires = float_layers(structure), quantiser_names(structure)
    for what, given, own in (("weight layers", weights, layers), ("wires", activations, wires)):
        if set(given) != set(own):
            raise ModelError(f"types are given for the {what} {sorted(given)}, the network has {sorted(own)}")
    network = copy.deepcopy(structure)
    for name, fixed in activations.items():
        network.set_submodule(name, FixedQuantizer(fixed))
    types = wire_types(network)
    for node in network.graph.nodes:
        layer: Any = module_of(network, node)
        if type(layer) not in QUANTISED:
            continue
        name = str(node.target)
        if values is not None and name in values:
            _put(layer, *values[name])
        fraction = require_type(types, node.all_input_nodes[0]).fraction + weights[name].fraction
        following = following_type(network, node)
        bias = None
        if layer.bias is not None:
            with torch.no_grad():
                layer.bias += half_lsb(following, fraction)
            bias = layer.bias.detach().double().cpu().numpy()
        scale = (following or weights[name]).max_value
        twin = QUANTISED[type(layer)](layer, weights[name], bias_type(bias, fraction, at_least=scale))
        network.set_submodule(name, twin)
    return network.train()


def _put(layer: Any, weight: Tensor, bias: Tensor | None) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)


def half_lsb(following: FixedPoint | None, fraction: int) -> float:
    """What turns the truncation of sums with ``fraction`` bits into rounding to nearest; 0 where nothing is dropped."""
    if following is None or following.rounding is not Rounding.AP_TRN or following.fraction >= fraction:
        return 0.0
    return following.lsb / 2


def following_type(network: fx.GraphModule, node: fx.Node) -> FixedPoint | None:
    """Type that the sums of a layer are converted to, with or without a ReLU in between; None for an output."""
    for user in node.users:
        module = module_of(network, user)
        if isinstance(module, FixedQuantizer):
            return module.fixed
        if isinstance(module, nn.ReLU) and len(node.users) == 1:
            return following_type(network, user)
    return None


def layer_weights(layer: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Weights of a float layer, float64."""
    values: np.ndarray[Any, np.dtype[np.float64]] = layer.weight.detach().double().cpu().numpy()
    return values

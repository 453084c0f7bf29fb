"""Reads the integers out of a quantised network."""

from __future__ import annotations

import numpy as np
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from trigger_prune.cost.network import LayerKind, NetworkSpec, PoolLayer, WeightLayer
from trigger_prune.errors import ModelError, UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.float_only import HINT
from trigger_prune.quantize.graph import PASS_THROUGH, module_of
from trigger_prune.quantize.layers import (
    QUANTIZERS,
    WEIGHT_LAYERS,
    ChannelQuantizer,
    QuantConv1d,
    QuantLinear,
    QuantWeightLayer,
)
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.quantize.wires import require_type, wire_types


def describe_network(network: nn.Module) -> NetworkSpec:
    """The network as integers: weight codes, types of all wires, positions. Raises ModelError for other modules."""
    if is_weights_only(network):
        raise UnsupportedLayerError(
            f"{type(network).__name__} has float activations: there are no integers to build or to estimate", hint=HINT
        )
    if not isinstance(network, fx.GraphModule):
        raise ModelError(f"{type(network).__name__} is not a quantised network", hint="call quantize_model first")
    shape = input_shape_of(network)
    types = wire_types(network)
    device = next(network.parameters()).device
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        ShapeProp(network).propagate(torch.zeros((1, *shape), device=device, dtype=dtype))
    layers: list[WeightLayer] = []
    pools: list[PoolLayer] = []
    n_outputs = 0
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, WEIGHT_LAYERS):
            layers.append(_describe_layer(network, node, module, types))
        if isinstance(module, nn.MaxPool1d | nn.MaxPool2d):
            pools.append(_describe_pool(node, module, types, len(layers)))
        if node.op == "output":
            n_outputs = node.args[0].meta["tensor_meta"].shape.numel()
    if not layers:
        raise ModelError("the network has no weight layer")
    return NetworkSpec(tuple(layers), input_type_of(network), shape, n_outputs, tuple(pools))


def _describe_pool(
    node: fx.Node, pool: nn.MaxPool1d | nn.MaxPool2d, types: dict[fx.Node, FixedPoint], after: int
) -> PoolLayer:
    source = node.args[0]
    if not isinstance(source, fx.Node):
        raise ModelError(f"layer {node.target!r} has no input wire")
    before, behind = source.meta["tensor_meta"].shape, node.meta["tensor_meta"].shape
    rank = len(before) - 2
    return PoolLayer(
        name=str(node.target),
        after=after,
        channels=int(before[1]),
        kernel=_spatial(pool.kernel_size, rank),
        stride=_spatial(pool.stride, rank),
        input_size=tuple(map(int, before[2:])),
        output_size=tuple(map(int, behind[2:])),
        value_type=require_type(types, source),
    )


def _spatial(value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(map(int, value))


def _describe_layer(
    network: fx.GraphModule, node: fx.Node, layer: QuantWeightLayer, types: dict[fx.Node, FixedPoint]
) -> WeightLayer:
    weight = layer.weight_type.to_code(layer.quantized_weight().detach().double().cpu().numpy())
    bias = layer.quantized_bias()
    codes = layer.bias_type.to_code(np.zeros(len(weight)) if bias is None else bias.detach().double().cpu().numpy())
    users = list(node.users)
    relu = len(users) == 1 and isinstance(module_of(network, users[0]), nn.ReLU)
    after = list(users[0].users) if relu else users
    quantizer = module_of(network, after[0]) if len(after) == 1 else None
    kind: LayerKind = (
        "dense" if isinstance(layer, QuantLinear) else "conv1d" if isinstance(layer, QuantConv1d) else "conv2d"
    )
    output_shape = node.meta["tensor_meta"].shape
    source = node.args[0]
    if not isinstance(source, fx.Node):
        raise ModelError(f"layer {node.target!r} has no input wire")
    return WeightLayer(
        name=str(node.target),
        kind=kind,
        weight=weight,
        weight_type=layer.weight_type,
        bias=codes,
        bias_type=layer.bias_type,
        input_type=require_type(types, source),
        output_type=quantizer.fixed if isinstance(quantizer, QUANTIZERS) else None,
        input_channels=_channels_of(network, source),
        output_channels=quantizer.types if isinstance(quantizer, ChannelQuantizer) else (),
        relu=relu,
        positions=1 if kind == "dense" else int(output_shape[2:].numel()),
        groups=1 if isinstance(layer, QuantLinear) else layer.groups,
        input_size=() if isinstance(layer, QuantLinear) else tuple(map(int, source.meta["tensor_meta"].shape[2:])),
        output_size=() if isinstance(layer, QuantLinear) else tuple(map(int, output_shape[2:])),
        stride=() if isinstance(layer, QuantLinear) else tuple(map(int, layer.stride)),
    )


def _channels_of(network: fx.GraphModule, source: fx.Node) -> tuple[FixedPoint | None, ...]:
    """Types of the single channels of a wire, flattened ones repeated; () where all elements share one type."""
    module = module_of(network, source)
    if isinstance(module, ChannelQuantizer):
        return module.types
    before = source.all_input_nodes
    if isinstance(module, (*PASS_THROUGH, nn.ReLU)) and len(before) == 1:
        types = _channels_of(network, before[0])
        positions = before[0].meta["tensor_meta"].shape[2:].numel() if isinstance(module, nn.Flatten) else 1
        return tuple(fixed for fixed in types for _ in range(positions))
    return ()

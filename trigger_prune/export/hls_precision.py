"""The precision of every layer as strings of an hls4ml configuration: weight, bias, result, accum, table.

With these strings hls4ml makes from the *float* network (``float_twin``) the same hardware as from the quantised one:
its C++ rounds weights and biases while it reads them, by the modes in their types, and converts results as the
quantisers do.
Accumulators are exact, and no wider than the largest partial sum that the integer weights and the input's range allow.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import fx, nn

from trigger_prune.errors import ExportError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.accumulators import accumulator_type
from trigger_prune.quantize.convert import input_type_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer, weight_layers
from trigger_prune.quantize.wires import wire_types
from trigger_prune.target import Target


@dataclass(frozen=True)
class LayerPrecision:
    """Types of one hls4ml layer; None where the layer has no such type.

    name    the module in the network; ``input`` for the network's inputs
    kind    ``input``, ``weights``, ``relu`` or ``other`` (pooling, flattening)
    result  type of the outputs: of a weight layer in front of a ReLU the full accumulator, because the conversion comes
            after the ReLU
    table   type of the values of an activation's table. ReLU reads no table; its string is that of the result, so that
            no type of the project is left to hls4ml's default
    """

    name: str
    kind: str
    result: FixedPoint
    weight: FixedPoint | None = None
    bias: FixedPoint | None = None
    accum: FixedPoint | None = None
    table: FixedPoint | None = None

    def strings(self) -> dict[str, str]:
        """The block ``Precision`` of this layer."""
        types = {key: getattr(self, key) for key in ("weight", "bias", "result", "accum", "table")}
        return {key: precision_string(fixed) for key, fixed in types.items() if fixed is not None}


def precision_string(fixed: FixedPoint) -> str:
    """``fixed<W,I,RND_CONV,SAT>`` as hls4ml reads it."""
    rounding, overflow = fixed.rounding.removeprefix("AP_"), fixed.overflow.removeprefix("AP_")
    return f"{'' if fixed.signed else 'u'}fixed<{fixed.width},{fixed.integer},{rounding},{overflow}>"


def layer_precisions(network: fx.GraphModule) -> tuple[LayerPrecision, ...]:
    """Precision of every layer of a quantised network, in order of computation.

    Raises ExportError for sums and concatenations of wires, and where a quantiser stands behind something else than a
    weight layer or its ReLU: hls4ml's layers have no place for its type.
    """
    types = wire_types(network)
    layers = {layer.name: layer for layer in describe_network(network).layers}
    found = [LayerPrecision("input", "input", input_type_of(network))]
    carried: dict[fx.Node, FixedPoint] = {}
    for node in network.graph.nodes:
        module, name = module_of(network, node), str(node.target)
        if node.op == "placeholder":
            carried[node] = types[node]
        elif isinstance(module, WEIGHT_LAYERS):
            accum = accumulator_type(layers[name])
            result = _converted(network, node) or accum
            bias = module.bias_type if module.bias is not None else accum
            found.append(LayerPrecision(name, "weights", result, module.weight_type, bias, accum))
            carried[node] = result
        elif isinstance(module, nn.ReLU):
            result = _converted(network, node) or carried[node.all_input_nodes[0]]
            found.append(LayerPrecision(name, "relu", result, table=result))
            carried[node] = result
        elif isinstance(module, FixedQuantizer):
            source = node.all_input_nodes[0]
            if carried[source] != module.fixed:
                raise ExportError(
                    f"the quantiser {name!r} follows {source.name!r}, whose hls4ml layer does not convert to its type"
                )
            carried[node] = module.fixed
        elif isinstance(module, nn.Module):
            carried[node] = carried[node.all_input_nodes[0]]
            found.append(LayerPrecision(name, "other", carried[node]))
        elif node.op != "output":
            raise ExportError(
                f"{node.name!r} has no string in hls4ml's configuration", hint="export through QONNX instead"
            )
    return tuple(found)


def precision_config(network: fx.GraphModule, target: Target) -> dict[str, Any]:
    """hls4ml's configuration (``hls_config``) of ``float_twin(network)``: blocks Model and LayerName.

    Layer names are those of hls4ml's PyTorch front end, dots replaced by underscores; the inputs' block has
    the name of the twin's first wire.
    """
    layers: dict[str, Any] = {}
    for entry in layer_precisions(network):
        name = _placeholder(network) if entry.kind == "input" else entry.name.replace(".", "_")
        layers[name] = {"Precision": entry.strings()}
        if entry.kind == "weights":
            layout = target.layout(entry.name)
            layers[name] |= {"Strategy": layout.strategy, "ReuseFactor": layout.reuse_factor}
    return {
        "Model": {
            "Precision": {"default": precision_string(input_type_of(network))},
            "ReuseFactor": target.reuse_factor,
            "Strategy": target.strategy,
            "ChannelsLastConversion": "internal",
            "TransposeOutputs": False,
        },
        "LayerName": layers,
    }


def write_precision_config(network: fx.GraphModule, target: Target, path: Path) -> Path:
    """Write ``precision_config`` as YAML, under a temporary name first; returns ``path``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(yaml.safe_dump(precision_config(network, target), sort_keys=False))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def float_twin(network: fx.GraphModule) -> fx.GraphModule:
    """The float network behind a quantised one: its float weights (masked) and biases, no quantiser anywhere."""
    twin = freeze(network)
    for name, layer in weight_layers(network).items():
        plain: Any = twin.get_submodule(name)
        with torch.no_grad():
            plain.weight.copy_(layer.weight * layer.weight_mask)
            if layer.bias is not None:
                plain.bias.copy_(layer.bias)
    twin = copy.deepcopy(twin)
    for node in list(twin.graph.nodes):
        if isinstance(module_of(twin, node), FixedQuantizer):
            node.replace_all_uses_with(node.all_input_nodes[0])
            twin.graph.erase_node(node)
    twin.delete_all_unused_submodules()
    twin.graph.lint()
    twin.recompile()
    return twin


def _converted(network: fx.GraphModule, node: fx.Node) -> FixedPoint | None:
    """Type of the one quantiser that reads a node."""
    users = list(node.users)
    module = module_of(network, users[0]) if len(users) == 1 else None
    return module.fixed if isinstance(module, FixedQuantizer) else None


def _placeholder(network: fx.GraphModule) -> str:
    return next(str(node.name) for node in network.graph.nodes if node.op == "placeholder")

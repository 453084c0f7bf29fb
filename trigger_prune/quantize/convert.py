"""A float network becomes one of fixed-point layers, ready for quantisation-aware training."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError, UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint, Rounding
from trigger_prune.quantize.graph import add_module, is_add, module_of, prepare
from trigger_prune.quantize.layers import FixedQuantizer, QuantConv1d, QuantConv2d, QuantLinear
from trigger_prune.quantize.ranges import best_type, bias_type
from trigger_prune.quantize.wires import require_type, wire_types

QUANTISED: dict[Any, Any] = {nn.Linear: QuantLinear, nn.Conv1d: QuantConv1d, nn.Conv2d: QuantConv2d}
"""Each kind of weight layer and its quantised twin."""

INPUT_QUANTIZER = "input_quant"
"""Name of the quantiser of the network's inputs, which only networks with learned widths have."""

_CHUNK_EVENTS = 1024
_WIRE_VALUES = 4_000_000
"""Calibration stops collecting the values of a wire after so many: enough for any range, and they fit in memory."""


class Precision(Protocol):
    """The bit widths that ``quantize_model`` reads (config.project.QuantizeConfig has them)."""

    @property
    def weight_bits(self) -> int: ...
    @property
    def activation_bits(self) -> int: ...
    @property
    def rounding(self) -> str: ...


def quantize_model(
    model: nn.Module, calibration: Tensor, input_type: FixedPoint, precision: Precision
) -> fx.GraphModule:
    """Fixed-point copy of ``model``.

    calibration   float tensor ``(events, *input_shape)`` already on the grid of ``input_type``; its value ranges place
                  the binary points of the activations
    BatchNorm is folded, every weight layer becomes its quantised twin, and every wire between two weight layers gets a
    FixedQuantizer: unsigned where the wire can never be negative, else signed with at least two bits. The network's
    outputs stay full accumulators. With AP_TRN half an LSB goes into the biases, so that dropping bits rounds to
    nearest; a layer without bias in front of the quantiser gets none and truncates. Raises UnsupportedLayerError or
    ModelError.
    """
    if len(calibration) == 0:
        raise ModelError("there is no calibration event to place the binary points with")
    network = build_structure(model, input_type, tuple(calibration.shape[1:]))
    rounding = Rounding(precision.rounding)
    values = _record_wires(network, calibration)
    for node in network.graph.nodes:
        if isinstance(module_of(network, node), nn.Identity):
            signed = _may_be_negative(network, node.args[0])
            width = max(precision.activation_bits, 1 + signed)
            fixed = best_type(values[node], width, signed=signed, rounding=rounding)
            network.set_submodule(str(node.target), FixedQuantizer(fixed))
    for node in network.graph.nodes:
        if isinstance(module_of(network, node), tuple(QUANTISED)):
            _quantize_layer(network, node, precision.weight_bits, rounding)
    return network.train()


def build_structure(model: nn.Module, input_type: FixedPoint, input_shape: tuple[int, ...]) -> fx.GraphModule:
    """The graph of the quantised network with identities where its quantisers go, and float weight layers."""
    network = prepare(model)
    network.meta["input_type"] = input_type
    network.meta["input_shape"] = input_shape
    _insert_quantizers(network)
    return network


def insert_input_quantizer(network: fx.GraphModule) -> None:
    """Put an identity named ``INPUT_QUANTIZER`` behind the network's input, where a quantiser can take its place."""
    source = next(node for node in network.graph.nodes if node.op == "placeholder")
    network.add_submodule(INPUT_QUANTIZER, nn.Identity())
    with network.graph.inserting_after(source):
        quantizer = network.graph.call_module(INPUT_QUANTIZER, (source,))
    source.replace_all_uses_with(quantizer, delete_user_cb=lambda user: user is not quantizer)
    network.graph.lint()
    network.recompile()


def input_type_of(network: nn.Module) -> FixedPoint:
    """Type of the network's inputs. Raises ModelError when ``network`` was not made by ``quantize_model``."""
    return _meta(network)["input_type"]  # type: ignore[no-any-return]


def input_shape_of(network: nn.Module) -> tuple[int, ...]:
    """Shape of one event, without the batch axis."""
    return _meta(network)["input_shape"]  # type: ignore[no-any-return]


def _meta(network: nn.Module) -> dict[str, Any]:
    meta: Any = getattr(network, "meta", {})
    if "input_type" not in meta:
        raise ModelError("this network was not made by quantize_model: its input type is unknown")
    return meta  # type: ignore[no-any-return]


def _insert_quantizers(network: fx.GraphModule) -> None:
    """Put a placeholder quantiser on every wire that leaves a sum and does not only reach the output."""
    for node in list(network.graph.nodes):
        if not (is_add(node) or isinstance(module_of(network, node), tuple(QUANTISED))):
            continue
        last = node
        users = list(node.users)
        if len(users) == 1 and isinstance(module_of(network, users[0]), nn.ReLU):
            last = users[0]
        if all(_only_reaches_output(network, user) for user in last.users):
            continue
        # A ReLU may be called in several places; each call gets a quantiser, and so a range, of its own.
        source = str(last.target).replace(".", "_") if last.op == "call_module" else last.name
        name = add_module(network, f"{source}_quant", nn.Identity())
        with network.graph.inserting_after(last):
            quantizer = network.graph.call_module(name, (last,))
        last.replace_all_uses_with(quantizer, delete_user_cb=lambda user, keep=quantizer: user is not keep)
    network.graph.lint()
    network.recompile()


def _only_reaches_output(network: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "output":
        return True
    return isinstance(module_of(network, node), nn.Flatten) and all(
        _only_reaches_output(network, user) for user in node.users
    )


class _Recorder(fx.Interpreter):
    """Runs the float network and keeps the values of every wire that gets a quantiser."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.network = network
        self.seen: dict[fx.Node, list[NDArray[np.float32]]] = {}

    def run_node(self, n: fx.Node) -> Any:
        module = module_of(self.network, n)
        shape = self.env[n.all_input_nodes[0]].shape if isinstance(module, nn.Linear) else ()
        if len(shape) not in (0, 2):
            raise UnsupportedLayerError(
                f"layer {n.target!r} reads events of shape {tuple(shape[1:])}; Linear takes one vector per event",
                hint="use nn.Conv1d with kernel size 1 on (channels, positions), or nn.Flatten before the layer",
            )
        result = super().run_node(n)
        if isinstance(module, nn.Identity):
            chunks = self.seen.setdefault(n, [])
            if sum(chunk.size for chunk in chunks) < _WIRE_VALUES:
                chunks.append(result.detach().cpu().numpy().ravel())
        return result


def _record_wires(network: fx.GraphModule, calibration: Tensor) -> dict[fx.Node, NDArray[np.float32]]:
    recorder = _Recorder(network.eval())
    like = next(network.parameters(), calibration)
    with torch.no_grad():
        for start in range(0, len(calibration), _CHUNK_EVENTS):
            recorder.run(calibration[start : start + _CHUNK_EVENTS].to(like))
    return {node: np.concatenate(chunks) for node, chunks in recorder.seen.items()}


def _may_be_negative(network: fx.GraphModule, source: fx.Node) -> bool:
    """False when no weights that training can reach make this wire negative."""
    layer: Any = module_of(network, source)
    if isinstance(layer, nn.ReLU):
        return False
    types = wire_types(network)
    if type(layer) in QUANTISED:
        mean_like = not layer.weight.requires_grad and layer.bias is None and bool((layer.weight >= 0).all())
        return not mean_like or require_type(types, source.all_input_nodes[0]).signed
    return require_type(types, source).signed


def _quantize_layer(network: fx.GraphModule, node: fx.Node, weight_bits: int, rounding: Rounding) -> None:
    layer: Any = module_of(network, node)
    weight = layer.weight.detach().double().cpu().numpy()
    if layer.weight.requires_grad:
        weight_type = best_type(weight, weight_bits, signed=True, rounding=Rounding.AP_RND_CONV)
    else:
        weight_type = _frozen_type(weight)
    fraction = require_type(wire_types(network), node.all_input_nodes[0]).fraction + weight_type.fraction
    following = following_quantizer(network, node)
    bias = None
    if layer.bias is not None:
        if rounding is Rounding.AP_TRN and following is not None and following.fraction < fraction:
            with torch.no_grad():
                layer.bias += following.lsb / 2
        bias = layer.bias.detach().double().cpu().numpy()
    scale = (following or weight_type).max_value
    twin = QUANTISED[type(layer)](layer, weight_type, bias_type(bias, fraction, at_least=scale))
    network.set_submodule(str(node.target), twin)


def following_quantizer(network: fx.GraphModule, node: fx.Node) -> FixedPoint | None:
    """Type that the sum is converted to, with or without a ReLU in between; None for an output."""
    for user in node.users:
        module = module_of(network, user)
        if isinstance(module, FixedQuantizer):
            return module.fixed
        if isinstance(module, nn.ReLU) and len(node.users) == 1:
            return following_quantizer(network, user)
    return None


def _frozen_type(weight: NDArray[np.float64]) -> FixedPoint:
    """The narrowest type that holds a constant weight exactly, or 8 bits when it is on no power-of-two grid."""
    for width in range(2, 9):
        candidate = best_type(weight, width, signed=True, rounding=Rounding.AP_RND_CONV)
        if candidate.contains(weight).all():
            return candidate
    return best_type(weight, 8, signed=True, rounding=Rounding.AP_RND_CONV)

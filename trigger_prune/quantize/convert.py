"""A float network becomes one of fixed-point layers, ready for quantisation-aware training."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint, Rounding
from trigger_prune.quantize.graph import is_add, module_of, prepare
from trigger_prune.quantize.layers import FixedQuantizer, QuantConv1d, QuantConv2d, QuantLinear
from trigger_prune.quantize.ranges import best_type, bias_type
from trigger_prune.quantize.wires import wire_types

QUANTISED = {nn.Linear: QuantLinear, nn.Conv1d: QuantConv1d, nn.Conv2d: QuantConv2d}
"""Each kind of weight layer and its quantised twin."""


class Precision(Protocol):
    """The bit widths that ``quantize_model`` reads (config.project.QuantizeConfig has them)."""

    @property
    def weight_bits(self) -> int: ...
    @property
    def activation_bits(self) -> int: ...
    @property
    def rounding(self) -> str: ...


def quantize_model(model: nn.Module, calibration: Tensor, input_type: FixedPoint, precision: Precision) -> fx.GraphModule:
    """Fixed-point copy of ``model``.

    calibration   float tensor ``(events, *input_shape)`` already on the grid of ``input_type``; its value ranges place
                  the binary points of the activations
    BatchNorm is folded, every weight layer becomes its quantised twin, and every wire between two weight layers gets a
    FixedQuantizer. The network's outputs stay full accumulators. With AP_TRN half an LSB goes into the biases, so that
    dropping bits rounds to nearest. Raises UnsupportedLayerError or ModelError.
    """
    network = build_structure(model, input_type, tuple(calibration.shape[1:]))
    ranges = _record_wires(network, calibration)
    rounding = Rounding(precision.rounding)
    for name, values in ranges.items():
        signed = bool((values < 0).any())
        quantizer = FixedQuantizer(best_type(values, precision.activation_bits, signed=signed, rounding=rounding))
        network.set_submodule(name, quantizer)
    _quantize_weights(network, precision.weight_bits)
    if rounding is Rounding.AP_TRN:
        _shift_biases(network)
    return network.train()


def build_structure(model: nn.Module, input_type: FixedPoint, input_shape: tuple[int, ...]) -> fx.GraphModule:
    """The graph of the quantised network with identities where its quantisers go, and float weight layers."""
    network = prepare(model)
    network.meta["input_type"] = input_type
    network.meta["input_shape"] = input_shape
    _insert_quantizers(network)
    return network


def input_type_of(network: nn.Module) -> FixedPoint:
    """Type of the network's inputs. Raises ModelError when ``network`` was not made by ``quantize_model``."""
    return _meta(network)["input_type"]  # type: ignore[no-any-return]


def input_shape_of(network: nn.Module) -> tuple[int, ...]:
    """Shape of one event, without the batch axis."""
    return _meta(network)["input_shape"]  # type: ignore[no-any-return]


def _meta(network: nn.Module) -> dict[str, Any]:
    meta = getattr(network, "meta", {})
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
        name = f"{str(last.target).replace('.', '_') if last.op == 'call_module' else last.name}_quant"
        network.add_submodule(name, nn.Identity())
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
    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.seen: dict[str, np.ndarray[Any, Any]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_module" and str(n.target).endswith("_quant"):
            self.seen[str(n.target)] = result.detach().double().cpu().numpy()
        return result


def _record_wires(network: fx.GraphModule, calibration: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    recorder = _Recorder(network.eval())
    with torch.no_grad():
        recorder.run(calibration)
    return recorder.seen


def _quantize_weights(network: fx.GraphModule, weight_bits: int) -> None:
    types: dict[fx.Node, FixedPoint] = {}
    for node in network.graph.nodes:
        layer = module_of(network, node)
        quantised = QUANTISED.get(type(layer))  # type: ignore[arg-type]
        if quantised is None:
            continue
        types = wire_types(network)
        weight = layer.weight.detach().double().numpy()  # type: ignore[union-attr,operator]
        frozen = not layer.weight.requires_grad  # type: ignore[union-attr]
        weight_type = _frozen_type(weight) if frozen else best_type(
            weight, weight_bits, signed=True, rounding=Rounding.AP_RND_CONV
        )
        fraction = types[node.args[0]].fraction + weight_type.fraction
        bias = None if layer.bias is None else layer.bias.detach().double().numpy()  # type: ignore[union-attr,operator]
        twin = quantised(layer, weight_type, bias_type(bias, fraction))
        twin.weight.requires_grad_(not frozen)
        network.set_submodule(str(node.target), twin)


def _frozen_type(weight: np.ndarray[Any, Any]) -> FixedPoint:
    """The narrowest type that holds a constant weight exactly, or 8 bits when it is on no power-of-two grid."""
    for width in range(2, 9):
        candidate = best_type(weight, width, signed=True, rounding=Rounding.AP_RND_CONV)
        if candidate.contains(weight).all():
            return candidate
    return best_type(weight, 8, signed=True, rounding=Rounding.AP_RND_CONV)


def _shift_biases(network: fx.GraphModule) -> None:
    """Add half an LSB of the following truncating quantiser to each bias."""
    for node in network.graph.nodes:
        quantizer = module_of(network, node)
        if not isinstance(quantizer, FixedQuantizer):
            continue
        source = node.args[0]
        if isinstance(module_of(network, source), nn.ReLU):
            source = source.args[0]
        layer = module_of(network, source)
        if isinstance(layer, tuple(QUANTISED.values())) and layer.bias is not None:
            with torch.no_grad():
                layer.bias += quantizer.fixed.lsb / 2

"""A float network becomes one whose bit widths can be trained, and that one a network of fixed-point layers."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding, bits_for_range
from trigger_prune.quantize.convert import (
    INPUT_QUANTIZER,
    following_quantizer,
    input_type_of,
    insert_input_quantizer,
)
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import (
    QUANTIZERS,
    WEIGHT_LAYERS,
    ChannelQuantizer,
    FixedQuantizer,
    QuantConv1d,
    QuantConv2d,
    QuantLinear,
)
from trigger_prune.quantize.learned.layers import (
    LEARNED_LAYERS,
    Granularity,
    LearnedConv1d,
    LearnedConv2d,
    LearnedLinear,
    LearnedQuantizer,
)

_TWINS: dict[Any, Any] = {QuantLinear: LearnedLinear, QuantConv1d: LearnedConv1d, QuantConv2d: LearnedConv2d}
_FIXED: dict[Any, Any] = {learned: fixed for fixed, learned in _TWINS.items()}
_CHUNK_EVENTS = 4096


@dataclass(frozen=True)
class LearnedBits:
    """How widths are trained.

    weight_bits, activation_bits    widths at the start
    weights, activations            how many numbers share one width; "element" is for weights only
    inputs                          whether the network's inputs have trained widths as well
    wrap                            activations drop the bits above their range (AP_WRAP) instead of saturating
    """

    weight_bits: int = 7
    activation_bits: int = 7
    weights: Granularity = "element"
    activations: Granularity = "channel"
    inputs: bool = True
    wrap: bool = True


def learned_network(network: fx.GraphModule, calibration: Tensor, settings: LearnedBits) -> fx.GraphModule:
    """A copy of a quantised network (``quantize_model``) whose widths can be trained, starting from its weights.

    calibration   ``(events, *input_shape)`` on the grid of the input; the ranges of its wires are where widths start
    Every weight layer that trains gets ``weight_bits`` per weight and every wire ``activation_bits``, whatever they
    were; masks stay. Raises ModelError without events.
    """
    if len(calibration) == 0:
        raise ModelError("there is no calibration event to place the binary points with")
    learned = copy.deepcopy(network)
    if settings.inputs:
        with_input_quantizer(learned)
    _undo_half_lsbs(learned)
    values = _values_at(learned, calibration, QUANTIZERS)
    for node, seen in values.items():
        is_input = node.args[0].op == "placeholder"  # type: ignore[union-attr]
        quantizer = LearnedQuantizer(
            seen,
            settings.activation_bits,
            signed=_may_be_negative(learned, node.args[0]),
            granularity=settings.activations,
            truncate=is_input,
        )
        if is_input:
            with torch.no_grad():
                quantizer.fraction.fill_(float(input_type_of(learned).fraction))
        learned.set_submodule(str(node.target), quantizer)
    for node in learned.graph.nodes:
        layer: Any = module_of(learned, node)
        if isinstance(layer, WEIGHT_LAYERS) and layer.weight.requires_grad:
            twin = _TWINS[type(layer)](layer, settings.weight_bits, settings.weights)
            learned.set_submodule(str(node.target), twin)
    learned.meta["learned_wrap"] = settings.wrap
    return learned.train()


def with_input_quantizer(network: fx.GraphModule) -> None:
    """Give the network a quantiser of its inputs, which changes nothing yet, in place; nothing if it has one."""
    if INPUT_QUANTIZER in dict(network.named_modules()):
        return
    insert_input_quantizer(network)
    fixed = replace(input_type_of(network), rounding=Rounding.AP_TRN, overflow=Overflow.AP_SAT)
    network.set_submodule(INPUT_QUANTIZER, FixedQuantizer(fixed))


def _undo_half_lsbs(network: fx.GraphModule) -> None:
    """Take the half LSB, with which truncation rounds to nearest, out of the biases: trained wires round themselves."""
    for node in network.graph.nodes:
        layer: Any = module_of(network, node)
        if not isinstance(layer, WEIGHT_LAYERS) or layer.bias is None:
            continue
        following = following_quantizer(network, node)
        if following is not None and following.rounding is Rounding.AP_TRN:
            with torch.no_grad():
                layer.bias -= following.lsb / 2


def _may_be_negative(network: fx.GraphModule, source: Any) -> bool:
    """False when no weights that training can reach make this wire negative."""
    if source.op == "placeholder":
        return bool(network.meta["input_type"].signed)
    layer: Any = module_of(network, source)
    if isinstance(layer, nn.ReLU):
        return False
    if isinstance(layer, LearnedQuantizer):
        return layer.signed
    weights = getattr(layer, "weight", None)
    if weights is not None and (weights.requires_grad or layer.bias is not None or bool((weights < 0).any())):
        return True
    return any(_may_be_negative(network, before) for before in source.all_input_nodes)


class _Values(fx.Interpreter):
    """Runs the network and keeps the outputs of modules of one kind."""

    def __init__(self, network: fx.GraphModule, kind: tuple[type[nn.Module], ...]) -> None:
        super().__init__(network)
        self.network = network
        self.kind = kind
        self.seen: dict[fx.Node, list[Tensor]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(module_of(self.network, n), self.kind):
            self.seen.setdefault(n, []).append(result.detach())
        return result


def _values_at(network: fx.GraphModule, events: Tensor, kind: tuple[type[nn.Module], ...]) -> dict[fx.Node, Tensor]:
    interpreter = _Values(network.eval(), kind)
    with torch.no_grad():
        for chunk in torch.split(events, _CHUNK_EVENTS):
            interpreter.run(chunk)
    return {node: torch.cat(parts) for node, parts in interpreter.seen.items()}


def fixed_network(network: fx.GraphModule, events: Tensor) -> fx.GraphModule:
    """The network of fixed-point layers that a trained one stands for; ``network`` is left as it is.

    Every weight is a code on the finest grid of its layer, every activation gets the integer bits that ``events`` (all
    training events) need, so both compute the same on them, bit for bit.
    """
    fixed = copy.deepcopy(network)
    wrap = bool(fixed.meta["learned_wrap"])
    values = _values_at(fixed, events, (LearnedQuantizer,))
    types = {node: _channel_types(module_of(fixed, node), seen, wrap) for node, seen in values.items()}
    fractions = _input_fractions(fixed, types)
    for node in fixed.graph.nodes:
        layer: Any = module_of(fixed, node)
        if isinstance(layer, LEARNED_LAYERS):
            behind = _types_behind(fixed, node, types)
            fixed.set_submodule(str(node.target), _fixed_layer(layer, fractions[node], behind))
    for node, channels in types.items():
        first = channels[0] if len(set(channels)) == 1 else None
        fixed.set_submodule(str(node.target), FixedQuantizer(first) if first else ChannelQuantizer(channels))
    del fixed.meta["learned_wrap"]
    return fixed.train()


Channels = tuple[FixedPoint | None, ...]


def _channel_types(quantizer: Any, values: Tensor, wrap: bool) -> Channels:
    """One type per channel of ``values`` ``(events, channels, ...)``; None where every event has 0."""
    channels = values.shape[1]
    by_channel = values.movedim(1, 0).reshape(channels, -1).double()
    low, high = by_channel.amin(1).tolist(), by_channel.amax(1).tolist()
    fractions = torch.round(quantizer.fraction.detach()).flatten().expand(channels).tolist()
    if quantizer.fraction.numel() == 1:
        low, high = [min(low)] * channels, [max(high)] * channels
    overflow = Overflow.AP_WRAP if wrap else Overflow.AP_SAT
    types: list[FixedPoint | None] = []
    for lowest, highest, fraction in zip(low, high, fractions, strict=True):
        if lowest == highest == 0:
            types.append(None)
            continue
        integer, signed = bits_for_range(min(lowest, 0.0), max(highest, 0.0))
        types.append(
            FixedPoint(
                max(1, integer + int(fraction)), max(integer, 1 - int(fraction)), signed, Rounding.AP_TRN, overflow
            )
        )
    return tuple(types)


def _input_fractions(network: fx.GraphModule, types: dict[fx.Node, Channels]) -> dict[fx.Node, NDArray[np.int64]]:
    """Fraction bits of the inputs of every trained layer, broadcastable to its weight's ``(out, in, ...)``."""
    found: dict[fx.Node, NDArray[np.int64]] = {}
    for node in network.graph.nodes:
        layer: Any = module_of(network, node)
        if isinstance(layer, LEARNED_LAYERS):
            found[node] = _fractions_before(network, node.args[0], types)
    return found


def _fractions_before(network: fx.GraphModule, source: Any, types: dict[fx.Node, Channels]) -> NDArray[np.int64]:
    """The finest fraction of the wire; a bound is enough, it only decides whether half an LSB is needed."""
    if source in types:
        return np.array(max((t.fraction for t in types[source] if t is not None), default=-64))
    if source.op == "placeholder":
        return np.array(network.meta["input_type"].fraction)
    layer: Any = module_of(network, source)
    own = layer.weight_type.fraction if isinstance(layer, WEIGHT_LAYERS) else 0
    return own + np.max([_fractions_before(network, before, types) for before in source.all_input_nodes])  # type: ignore[no-any-return]


def _types_behind(network: fx.GraphModule, node: fx.Node, types: dict[fx.Node, Channels]) -> Channels | None:
    """Types that a layer's sums are converted to, with or without a ReLU in between; None where they are not."""
    for user in node.users:
        if user in types:
            return types[user]
        if isinstance(module_of(network, user), nn.ReLU) and len(node.users) == 1:
            return _types_behind(network, user, types)
    return None


def _fixed_layer(layer: Any, input_fraction: NDArray[np.int64], behind: Channels | None) -> nn.Module:
    """The layer with its present codes, and half an LSB of what follows in its biases."""
    with torch.no_grad():
        weight = layer.quantized_weight().double()
        bias = None if layer.bias is None else layer.quantized_bias().double()
        if bias is not None and behind is not None:
            for channel, fixed in enumerate(behind):
                if fixed is not None and _fraction_of(weight[channel]) + int(input_fraction) > fixed.fraction:
                    bias[channel] += fixed.lsb / 2
                elif fixed is not None:  # only the bias may lie between two grid points
                    bias[channel] = torch.floor(bias[channel] / fixed.lsb + 0.5) * fixed.lsb
        twin = _FIXED[type(layer)](layer, _type_of(weight), _type_of(bias if bias is not None else weight[:0]))
        twin.weight.copy_(weight)
        twin.weight_mask.copy_(weight != 0)
        if bias is not None:
            twin.bias.copy_(bias)
    return twin  # type: ignore[no-any-return]


def _fraction_of(values: Tensor) -> int:
    """Fraction bits of the finest of some grid values; -64 when all are zero."""
    nonzero = values[values != 0].double()
    if nonzero.numel() == 0:
        return -64
    mantissa, exponent = np.frexp(nonzero.abs().cpu().numpy())
    odd = np.ldexp(mantissa, 53).astype(np.int64)
    trailing = np.bitwise_count((odd & -odd) - 1).astype(np.int64)
    return int((53 - exponent.astype(np.int64) - trailing).max())


def _type_of(values: Tensor) -> FixedPoint:
    """The narrowest signed type that holds grid values exactly."""
    if not bool((values != 0).any()):
        return FixedPoint(1, 1, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)
    fraction = _fraction_of(values)
    integer = bits_for_range(min(float(values.min()), -(2.0**-fraction)), max(float(values.max()), 0.0))[0]
    return FixedPoint(max(1, integer + fraction), integer, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)

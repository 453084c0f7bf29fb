"""What a search over bits chooses from: units of a network, their widths, and the fixed-point types of these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ConfigError
from trigger_prune.fixed_point import FixedPoint, Rounding
from trigger_prune.quantize.convert import build_structure, quantize_model
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers
from trigger_prune.quantize.ptq.build import build_network, float_layers, layer_weights
from trigger_prune.quantize.ptq.compensate import (
    InputMoments,
    compensated_type,
    compensated_weights,
    input_moments,
)
from trigger_prune.quantize.ptq.observe import WireEvents, observe
from trigger_prune.quantize.ptq.ranges import ChosenRange, Exposure, integer_bits, overflow_limit
from trigger_prune.quantize.ranges import best_type
from trigger_prune.sensitivity.precision import Wiring
from trigger_prune.structure.masks import prunable_layers

_TYPING_EVENTS = 2000
_TYPING_BITS = 8


@dataclass(frozen=True, order=True)
class Setting:
    """Bits of one unit: of its weights, and of the wire behind it. None where there is nothing to choose."""

    weight_bits: int | None
    activation_bits: int | None


Choice = Mapping[str, Setting]
"""Setting of every unit of a network."""


@dataclass(frozen=True)
class Unit:
    """A weight layer with the quantiser that reads its sums, or a quantiser behind a sum of wires.

    sources   units whose quantised values the layer reads; none where it reads the network's inputs
    """

    name: str
    layer: str | None
    quantiser: str | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class RangeRule:
    """How integer bits of wires are placed.

    probability   largest probability per event that a value of the wire saturates, proven with ``confidence`` by the
                  observed events; None: where the mean squared error is smallest, however often that saturates
    """

    probability: float | None = None
    confidence: float = 0.95
    exposure: Exposure = field(default_factory=Exposure)


class PrecisionSpace:
    """A trained float network, what its wires carry in training events, and the types of every width.

    features     training events ``(n, *input_shape)`` on the grid of ``input_type``
    rounding     of the activations, AP_TRN or AP_RND_CONV
    compensate   round weights one after the other so that the outputs stay (``quantize/ptq/compensate.py``), instead
                 of each to the nearest grid value
    Raises what ``quantize_model`` raises, and ConfigError for widths that make no sense.
    """

    def __init__(
        self,
        model: nn.Module,
        features: Tensor,
        input_type: FixedPoint,
        weight_bits: Sequence[int],
        activation_bits: Sequence[int],
        *,
        rounding: str = "AP_TRN",
        rule: RangeRule | None = None,
        compensate: bool = True,
    ) -> None:
        self.weight_bits, self.activation_bits = _widths(weight_bits, 2), _widths(activation_bits, 1)
        self.rule = rule or RangeRule()
        self.rounding = Rounding(rounding)
        bits = SimpleNamespace(weight_bits=_TYPING_BITS, activation_bits=_TYPING_BITS, rounding=rounding)
        typed = quantize_model(model, features[:_TYPING_EVENTS], input_type, bits)
        self.structure = build_structure(model, input_type, tuple(features.shape[1:]))
        self.features = features
        self.wires: dict[str, WireEvents] = observe(self.structure, features)
        self.signed = {
            name: module.fixed.signed for name, module in typed.named_modules() if isinstance(module, FixedQuantizer)
        }
        chosen = prunable_layers(typed)
        self.fixed_weights = {
            name: layer.weight_type for name, layer in weight_layers(typed).items() if name not in chosen
        }
        self.units = _units(typed)
        self.layers = float_layers(self.structure)
        self.moments: dict[str, InputMoments] = input_moments(self.structure, features) if compensate else {}
        self._weight_types: dict[tuple[str, int], FixedPoint] = {}
        self._values: dict[tuple[str, int | None], tuple[Tensor, Tensor | None]] = {}
        self._wire_types: dict[tuple[str, int], FixedPoint] = {}
        self.ranges: dict[tuple[str, int], ChosenRange] = {}
        """Proven ranges by wire and width, where ``rule`` asks for them."""

    def settings(self, unit: Unit) -> tuple[Setting, ...]:
        """All settings of a unit, the widest first. Widths that give the same types are offered once."""
        of_weights: list[int | None] = [None]
        if unit.layer is not None and unit.layer not in self.fixed_weights:
            of_weights = list(reversed(self.weight_bits))
        of_wire: Sequence[int | None] = [None]
        if unit.quantiser is not None:
            least = 1 + self.signed[unit.quantiser]
            of_wire = sorted({max(bits, least) for bits in self.activation_bits}, reverse=True)
        return tuple(Setting(weights, wire) for weights in of_weights for wire in of_wire)

    def widest(self) -> dict[str, Setting]:
        """The choice with all bits."""
        return {unit.name: self.settings(unit)[0] for unit in self.units}

    def weight_type(self, layer: str, bits: int | None) -> FixedPoint:
        """Type of the weights of a layer, the binary point with the least mean squared error; None: it is fixed."""
        if bits is None:
            return self.fixed_weights[layer]
        key = (layer, bits)
        if key not in self._weight_types:
            values = layer_weights(self.layers[layer])
            fixed = best_type(values, bits, signed=True, rounding=Rounding.AP_RND_CONV)
            if layer in self.moments:
                fixed = compensated_type(values, fixed, self.moments[layer])
            self._weight_types[key] = fixed
        return self._weight_types[key]

    def values(self, layer: str, bits: int | None) -> tuple[Tensor, Tensor | None]:
        """Weight on its grid and bias (as it is before any grid) of a layer with ``bits`` bits."""
        key = (layer, bits)
        if key not in self._values:
            source, fixed = self.layers[layer], self.weight_type(layer, bits)
            weight = source.weight.detach()
            bias = None if source.bias is None else source.bias.detach()
            if bits is None or layer not in self.moments:
                self._values[key] = (fixed.fake_quantize(weight), bias)
            else:
                rounded, shift = compensated_weights(layer_weights(source), fixed, self.moments[layer])
                moved = None if bias is None else bias + torch.from_numpy(shift).to(bias)
                self._values[key] = (torch.from_numpy(rounded).to(weight), moved)
        return self._values[key]

    def wire_type(self, quantiser: str, bits: int) -> FixedPoint:
        """Type of a wire: the binary point with the least mean squared error, or further left as the rule demands."""
        key = (quantiser, bits)
        if key not in self._wire_types:
            signed, events = self.signed[quantiser], self.wires[quantiser]
            fixed = best_type(events.values, bits, signed=signed, rounding=self.rounding)
            if self.rule.probability is not None:
                self.ranges[key] = found = integer_bits(
                    events.extremes,
                    bits,
                    signed=signed,
                    rounding=self.rounding,
                    probability=self.rule.probability,
                    confidence=self.rule.confidence,
                    exposure=self.rule.exposure,
                )
                integer = max(found.integer, fixed.integer)
                fixed = FixedPoint(bits, integer, signed, self.rounding, fixed.overflow)
            self._wire_types[key] = fixed
        return self._wire_types[key]

    def types(self, choice: Choice) -> tuple[dict[str, FixedPoint], dict[str, FixedPoint]]:
        """Types of all weights by layer, and of all wires by quantiser."""
        weights, wires = {}, {}
        for unit in self.units:
            setting = choice[unit.name]
            if unit.layer is not None:
                weights[unit.layer] = self.weight_type(unit.layer, setting.weight_bits)
            if unit.quantiser is not None and setting.activation_bits is not None:
                wires[unit.quantiser] = self.wire_type(unit.quantiser, setting.activation_bits)
        return weights, wires

    def build(self, choice: Choice) -> fx.GraphModule:
        """The quantised network of a choice.

        With a rule, wires of the *built* network are held to it: rounding further up can move values a little, and a
        wire that then overflows too often gets an integer bit more and a fraction bit less.
        """
        weights, wires = self.types(choice)
        values = {
            unit.layer: self.values(unit.layer, choice[unit.name].weight_bits) for unit in self.units if unit.layer
        }
        network = build_network(self.structure, weights, wires, values)
        if self.rule.probability is None:
            return network
        for name in wires:
            while self._overflows(network, name) and wires[name].integer < wires[name].width + 32:
                old = wires[name]
                wires[name] = FixedPoint(old.width, old.integer + 1, old.signed, old.rounding, old.overflow)
                network = build_network(self.structure, weights, wires, values)
        return network

    def _overflows(self, network: fx.GraphModule, name: str) -> bool:
        """Whether a wire breaks the rule although a wider range would keep it."""
        module = network.get_submodule(name)
        assert isinstance(module, FixedQuantizer)
        hit = observe(network, self.features)[name].extremes.overflows(module.fixed)
        limit = overflow_limit(hit, self.rule.confidence, self.rule.exposure)
        return limit.upper > float(self.rule.probability or math.inf) and limit.events > 0


def _widths(bits: Sequence[int], least: int) -> tuple[int, ...]:
    found = tuple(sorted(set(bits)))
    if not found or found[0] < least or found[-1] > 16:
        raise ConfigError(f"{list(bits)} are no widths to choose from", hint=f"one or more numbers from {least} to 16")
    return found


def _units(network: fx.GraphModule) -> tuple[Unit, ...]:
    wiring = Wiring(network)
    behind = {name: wiring.quantiser_behind(name) for name in wiring.nodes}
    owner = {node: name for name, node in behind.items() if node is not None}
    units: list[Unit] = []
    for node in network.graph.nodes:
        name = str(node.target)
        if node.op == "call_module" and name in wiring.nodes:
            quantiser = behind[name]
            units.append(
                Unit(name, name, None if quantiser is None else str(quantiser.target), _sources(network, node, owner))
            )
        elif isinstance(module_of(network, node), FixedQuantizer) and node not in owner:
            units.append(Unit(name, None, name, ()))
    return tuple(units)


def _sources(network: fx.GraphModule, node: fx.Node, owner: Mapping[fx.Node, str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for source in node.all_input_nodes:
        if isinstance(module_of(network, source), FixedQuantizer):
            found[owner.get(source, str(source.target))] = None
        else:
            found |= dict.fromkeys(_sources(network, source, owner))
    return tuple(found)

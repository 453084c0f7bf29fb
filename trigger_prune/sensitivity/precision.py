"""Networks of other precision: the weights of one layer, or the activations behind it, with other numbers of bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, fx

from trigger_prune.fixed_point import FixedPoint, Rounding
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer
from trigger_prune.quantize.ranges import best_type
from trigger_prune.quantize.wires import wire_types
from trigger_prune.sensitivity.program import Program
from trigger_prune.sensitivity.variants import Variant, moved_bias, requantised_state
from trigger_prune.structure.masks import prunable_layers

_CALIBRATION_EVENTS = 20_000
_CHUNK_EVENTS = 1024
_WIRE_VALUES = 4_000_000


class Wiring:
    """Types around the weight layers of a quantised graph."""

    def __init__(self, network: fx.GraphModule) -> None:
        self.network = network
        self.types: dict[fx.Node, FixedPoint] = wire_types(network) if "input_type" in network.meta else {}
        self.nodes = {
            str(node.target): node
            for node in network.graph.nodes
            if isinstance(module_of(network, node), WEIGHT_LAYERS)
        }

    def input_fraction(self, layer: str) -> int | None:
        """Fraction bits of what the layer reads; None when it has no type."""
        node = self.nodes.get(layer)
        fixed = None if node is None else self.types.get(node.all_input_nodes[0])
        return None if fixed is None else fixed.fraction

    def quantiser_behind(self, layer: str) -> fx.Node | None:
        """The quantiser that alone reads the layer's sums, with or without a ReLU in between."""
        node: fx.Node | None = self.nodes.get(layer)
        while node is not None and len(node.users) == 1:
            (node,) = node.users
            if isinstance(module_of(self.network, node), FixedQuantizer):
                return node
            if not isinstance(module_of(self.network, node), torch.nn.ReLU):
                return None
        return None

    def following(self, layer: str) -> FixedPoint | None:
        """Type of that quantiser."""
        node = self.quantiser_behind(layer)
        module = None if node is None else module_of(self.network, node)
        return module.fixed if isinstance(module, FixedQuantizer) else None


def weight_variants(network: fx.GraphModule, bits: Sequence[int]) -> list[tuple[str, int, Variant]]:
    """Layer, bits and network for every prunable layer; masks stay."""
    wiring = Wiring(network)
    return [
        (
            name,
            width,
            Variant({name: requantised_state(layer, width, wiring.input_fraction(name), wiring.following(name))}),
        )
        for name, layer in prunable_layers(network).items()
        for width in bits
    ]


def activation_variants(
    network: fx.GraphModule, bits: Sequence[int], calibration: Tensor
) -> list[tuple[str, int, Variant]]:
    """Name, bits and network for every activation quantiser.

    calibration   events on the network's device, whose values place the binary points as ``quantize_model`` does it

    The name is that of the layer whose outputs are quantised, or of the quantiser where it stands behind a sum. A
    signed activation has two bits or more. Where bits are dropped by truncation, the half LSB that quantisation put
    into the bias of the layer moves with the LSB.
    """
    wiring, program = Wiring(network), Program(network)
    owner = {node.name: name for name in wiring.nodes if (node := wiring.quantiser_behind(name)) is not None}
    copies = {node.name: node for node in program.nodes}
    found: list[tuple[str, int, Variant]] = []
    for node in network.graph.nodes:
        module = module_of(network, node)
        if not isinstance(module, FixedQuantizer):
            continue
        values = _values(program, copies[node.name], calibration)
        layer = owner.get(node.name)
        for width in bits:
            fixed = _activation_type(module.fixed, values, width)
            layers = {}
            if layer is not None:
                twin = network.get_submodule(layer)
                shift = _half_lsb(fixed, wiring, layer, twin) - _half_lsb(module.fixed, wiring, layer, twin)
                if shift != 0.0 and twin.bias is not None:
                    layers = {layer: moved_bias(twin, shift)}  # type: ignore[arg-type]
            found.append((layer or str(node.target), width, Variant(layers, {str(node.target): fixed})))
    return found


def _activation_type(present: FixedPoint, values: np.ndarray, width: int) -> FixedPoint:
    width = max(width, 1 + present.signed)
    if width == present.width:
        return present
    return best_type(values, width, signed=present.signed, rounding=present.rounding)


def _half_lsb(fixed: FixedPoint, wiring: Wiring, name: str, layer: object) -> float:
    """What truncation loses on average: nothing where the sums have no finer bits."""
    fraction = wiring.input_fraction(name)
    assert isinstance(layer, WEIGHT_LAYERS)
    finer = fraction is not None and fixed.fraction < fraction + layer.weight_type.fraction
    return fixed.lsb / 2 if fixed.rounding is Rounding.AP_TRN and finer else 0.0


def _values(program: Program, quantiser: fx.Node, calibration: Tensor) -> np.ndarray:
    """What the quantiser reads, as far as it matters for its range."""
    source = quantiser.all_input_nodes[0]
    found: list[np.ndarray] = []
    for start in range(0, min(len(calibration), _CALIBRATION_EVENTS), _CHUNK_EVENTS):
        if sum(part.size for part in found) >= _WIRE_VALUES:
            break
        part = program.wire(calibration[start : start + _CHUNK_EVENTS], source)
        found.append(part.double().cpu().numpy().ravel())
    return np.concatenate(found)

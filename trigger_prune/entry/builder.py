"""Writes the new network: fixed-point layers for a graph with Quant nodes, plain float layers for one without."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from trigger_prune.entry.onnx_constants import MAX_STORED_BITS
from trigger_prune.entry.wires import Sum, Wire, wire_of
from trigger_prune.errors import FixedPointError, ModelError
from trigger_prune.fixed_point import FixedPoint, Rounding
from trigger_prune.quantize.from_integers import from_integers
from trigger_prune.quantize.integer_layers import Codes, IntegerLayer, codes_on_grid, narrowest_type
from trigger_prune.quantize.layers import FixedQuantizer
from trigger_prune.quantize.wires import wire_types

INPUT_HINT = "say it with --input-type, e.g. ap_fixed<10,4>: the type of the events as they reach the network"


class Builder:
    """An fx graph that grows node by node.

    exact   fixed-point layers with the bits of the source; else plain float layers
    notes   what a user should know of the decisions taken
    """

    def __init__(self, input_shape: tuple[int, ...], input_type: FixedPoint | None, *, exact: bool) -> None:
        self.exact = exact
        self.input_shape = input_shape
        self.input_type = input_type
        self.notes: list[str] = []
        self.taken: set[str] = set()
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._input = self._graph.placeholder("events")

    def input_wire(self) -> Wire:
        """The network's input."""
        return wire_of(
            self._input,
            self.input_shape,
            self.input_type,
            not_negative=self.input_type is not None and not self.input_type.signed,
        )

    def is_untyped_input(self, wire: Wire) -> bool:
        """Whether it is the input, seen through reshapes, whose type is not known yet."""
        return wire.node is self._input and self.exact and wire.fixed is None

    def network(self, output: Wire) -> fx.GraphModule:
        """The finished network. Raises ModelError when its output is a reordered tensor."""
        settled = self.settled(output)
        if settled is None or settled.node is None:
            raise ModelError(
                "the outputs of the model are a transposed tensor",
                hint="choose the tensor before the last transposition as the output (--output)",
            )
        self._graph.output(settled.node)
        network = fx.GraphModule(self._root, self._graph)
        network.graph.lint()
        network.meta["input_type"] = self.input_type
        network.meta["input_shape"] = self.input_shape
        return network.train()

    def settled(self, wire: Wire) -> Wire | None:
        """The same tensor as the plain output of a node (a flattening is written where needed), or None."""
        if wire.plain:
            return wire
        if len(wire.shape) == 1 and np.array_equal(wire.index, np.arange(wire.index.size)):
            return self._flattened(wire)
        return None

    def call(self, wire: Wire, name: str, module: nn.Module, shape: tuple[int, ...]) -> Wire:
        """``module`` behind a plain wire, under a name like ``name``; the type is that of the wire."""
        assert wire.node is not None
        node = self._add(wire.node, name, module)
        return wire_of(node, shape, wire.fixed, not_negative=wire.not_negative)

    def relu(self, wire: Wire, name: str) -> Wire:
        """ReLU on a wire, nothing where it is never negative."""
        if wire.not_negative:
            return wire
        assert wire.node is not None
        return replace(wire, node=self._add(wire.node, f"{name}_relu", nn.ReLU()), not_negative=True)

    def quantised(self, wire: Wire, name: str, fixed: FixedPoint) -> Wire:
        """Conversion of a wire to ``fixed``; nothing where that changes no value. Rounding is not AP_RND here."""
        before = wire.fixed
        if before is not None and before.fraction <= fixed.fraction:
            if fixed.min_value <= before.min_value and before.max_value <= fixed.max_value:
                return wire
            fixed = replace(fixed, rounding=Rounding.AP_TRN)
        assert wire.node is not None
        node = self._add(wire.node, f"{name}_quant", FixedQuantizer(fixed))
        return replace(wire, node=node, fixed=fixed, not_negative=wire.not_negative or not fixed.signed, sole=True)

    def joined(self, wires: Sequence[Wire], function: Any) -> Wire:
        """Sum (operator.add) or concatenation of channels (torch.cat) of plain wires."""
        nodes = tuple(wire.node for wire in wires)
        shape = wires[0].shape
        if function is operator.add:
            node = self._graph.call_function(function, nodes)
        else:
            node = self._graph.call_function(function, (list(nodes),), {"dim": 1})
            shape = (sum(wire.shape[0] for wire in wires), *shape[1:])
        fixed = self._type_of(node) if all(wire.fixed is not None for wire in wires) else None
        return wire_of(node, shape, fixed, not_negative=all(wire.not_negative for wire in wires))

    def finished(self, layer: Sum, output: FixedPoint | None = None) -> Wire:
        """Write a layer; ``output`` is the type that its result is converted to.

        Raises ModelError or FixedPointError, naming the layer: weights on no grid, a missing Quant node before it.
        """
        source = self._flattened(layer.source) if layer.kind == "dense" else self.settled(layer.source)
        if source is None:
            raise ModelError(
                f"layer {layer.name!r} reads a tensor of shape {layer.source.shape} that was transposed or reshaped",
                hint="a convolution needs (channels, positions) as the layer before gives them",
            )
        weight = layer.weight
        if layer.kind == "dense":
            columns = np.empty_like(weight)
            columns[:, layer.source.index.ravel()] = weight
            weight = columns
        if self.exact:
            wire = self._exact_layer(layer, source, weight, output)
        else:
            wire = self._float_layer(layer, source, weight)
        for move in layer.then:
            wire = move(wire)
        return wire

    def _exact_layer(self, layer: Sum, source: Wire, weight: NDArray[np.float64], output: FixedPoint | None) -> Wire:
        if source.fixed is None:
            if source.node is self._input:
                raise ModelError("the file does not say the type of its inputs", hint=INPUT_HINT)
            raise ModelError(
                f"layer {layer.name!r} reads full sums: there is no Quant node between it and the layer before",
                hint="quantise every activation (Brevitas: QuantReLU, QuantIdentity)",
            )
        codes, weight_type = self._weight_codes(layer, weight)
        bias, bias_type = self._bias_codes(layer, source.fixed.fraction + weight_type.fraction, output)
        integer = IntegerLayer(
            layer.name,
            layer.kind,
            codes,
            weight_type,
            bias,
            bias_type,
            relu=layer.relu,
            output_type=output,
            frozen=layer.frozen,
            **_conv_options(layer),
        )
        node = source.node
        for name, module in from_integers([integer], source.fixed, source.shape).named_children():
            node = self._add(node, name, module)
            output = module.fixed if isinstance(module, FixedQuantizer) else output
        unsigned = output is not None and not output.signed
        return wire_of(node, layer.shape, output, not_negative=layer.relu or unsigned)

    def _float_layer(self, layer: Sum, source: Wire, weight: NDArray[np.float64]) -> Wire:
        plain: Any
        if layer.kind == "dense":
            plain = nn.Linear(weight.shape[1], len(weight), bias=layer.bias is not None)
        else:
            kind: Any = nn.Conv1d if layer.kind == "conv1d" else nn.Conv2d
            plain = kind(
                weight.shape[1] * layer.groups,
                len(weight),
                weight.shape[2:],
                bias=layer.bias is not None,
                **_conv_options(layer),
            )
        with torch.no_grad():
            plain.weight.copy_(torch.from_numpy(weight))
            if layer.bias is not None:
                plain.bias.copy_(torch.from_numpy(layer.bias))
        for parameter in plain.parameters():
            parameter.requires_grad_(not layer.frozen)
        assert source.node is not None
        node = self._add(source.node, layer.name, plain)
        if layer.relu:
            node = self._add(node, f"{layer.name}_relu", nn.ReLU())
        return wire_of(node, layer.shape, None, not_negative=layer.relu)

    def _weight_codes(self, layer: Sum, weight: NDArray[np.float64]) -> tuple[Codes, FixedPoint]:
        where = f"layer {layer.name!r}, weight"
        if layer.declared is not None:
            return codes_on_grid(weight, layer.declared, where), layer.declared
        hint = "quantise the weights (Brevitas: QuantLinear, QuantConv2d), or enter the model as floats (--kind onnx)"
        try:
            fixed = narrowest_type(weight, where)
        except FixedPointError as error:
            raise ModelError(f"{where}: its values lie on no grid of powers of two", hint=hint) from error
        if fixed.width > MAX_STORED_BITS:
            raise ModelError(f"{where}: its values need {fixed.width} bits; they were not quantised", hint=hint)
        return codes_on_grid(weight, fixed, where), fixed

    def _bias_codes(
        self, layer: Sum, product: int, output: FixedPoint | None
    ) -> tuple[Codes | None, FixedPoint | None]:
        """The bias, or where that is on no grid of its own the one next to it that gives the same bits.

        Behind the conversion to ``output`` the sum counts only in steps of ``2**-grid``, and whether it lies on such a
        step or between two. Half a step stands for every value between.
        """
        values, where = layer.bias, f"layer {layer.name!r}, bias"
        if values is None or not values.any():
            return None, None
        if layer.declared_bias is not None:
            return codes_on_grid(values, layer.declared_bias, where), layer.declared_bias
        if output is not None:
            grid = max(product, output.fraction + 1)
            scaled = np.ldexp(values, grid)
            if (scaled != np.floor(scaled)).any():
                between = (scaled != np.floor(scaled)) / 2
                values = np.ldexp(np.floor(scaled) + between, -grid)
                self.notes.append(
                    f"layer {layer.name!r}: the bias is not quantised; it was replaced by the value of {grid + 1} "
                    "fraction bits that gives the same outputs"
                )
        try:
            fixed = narrowest_type(values, where)
        except FixedPointError as error:
            raise ModelError(
                f"{where}: its values lie on no grid of up to 52 bits",
                hint="quantise the bias of the last layer (Brevitas: bias_quant=Int16Bias with power-of-two scales)",
            ) from error
        if output is None and fixed.fraction > product:
            self.notes.append(
                f"layer {layer.name!r}: the bias is finer ({fixed.fraction} fraction bits) than the sums ({product}), "
                "and so are the outputs; quantise it for narrow ones"
            )
        return codes_on_grid(values, fixed, where), fixed

    def _flattened(self, wire: Wire) -> Wire:
        size = math.prod(wire.node_shape)
        if len(wire.node_shape) == 1:
            return wire_of(wire.node, wire.node_shape, wire.fixed, not_negative=wire.not_negative)
        assert wire.node is not None
        name = next(f"flatten{n}" for n in range(len(self.taken) + 2) if f"flatten{n}" not in self.taken)
        self.taken.add(name)
        return wire_of(self._add(wire.node, name, nn.Flatten()), (size,), wire.fixed, not_negative=wire.not_negative)

    def _add(self, source: fx.Node | None, name: str, module: nn.Module) -> fx.Node:
        number, wish = 0, name
        while hasattr(self._root, name):
            number += 1
            name = f"{wish}_{number}"
        self._root.add_module(name, module)
        return self._graph.call_module(name, (source,))

    def _type_of(self, node: fx.Node) -> FixedPoint | None:
        # a copy, because a graph that belongs to a module takes no call of a new submodule
        so_far = fx.GraphModule(self._root, copy.deepcopy(self._graph))
        so_far.meta["input_type"] = self.input_type
        return {found.name: fixed for found, fixed in wire_types(so_far).items()}.get(node.name)


def _conv_options(layer: Sum) -> dict[str, Any]:
    if layer.kind == "dense":
        return {}
    axes = layer.weight.ndim - 2
    return {
        "stride": layer.stride or (1,) * axes,
        "padding": layer.padding or (0,) * axes,
        "dilation": layer.dilation or (1,) * axes,
        "groups": layer.groups,
    }

"""Follows every wire of a network: what can be constant on it, and which neurons are tied to each other.

Numbers of neurons travel with the elements of a tensor, so a flatten, a concatenation or a transposition needs no rule
of its own: it is applied to the numbers. Two wires that are added have the numbers of both tied. What an operation
that is not known here reads must keep its shape.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, ChannelQuantizer, FixedQuantizer
from trigger_prune.structure.shrink import operations as known
from trigger_prune.structure.shrink.constants import (
    Wire,
    through_channels,
    through_elementwise,
    through_layer,
    through_monotone,
    through_norm,
    through_quantizer,
    unknown,
)
from trigger_prune.structure.shrink.ties import Ties

_TWICE = " is called more than once, or shares its weight with another layer"


@dataclass(eq=False)
class Layer:
    """A weight layer: numbers of its input columns and outputs, and what arrives at each column.

    constant   by column: the input never changes
    value      by column: that constant; NaN where it differs between positions
    pads       zeros stand beside the values at the border
    norm       the BatchNorm that alone reads the layer, if there is one
    """

    name: str
    module: Any
    inputs: Tensor
    outputs: Tensor
    constant: Tensor
    value: Tensor
    pads: bool
    norm: str | None

    @property
    def groups(self) -> int:
        """Of a convolution; 1 of a Linear."""
        return int(getattr(self.module, "groups", 1))


@dataclass(eq=False)
class Analysis:
    """Everything that ``follow_wires`` found; ``features`` has the numbers of each input's features, by placeholder."""

    ties: Ties = field(default_factory=Ties)
    layers: dict[str, Layer] = field(default_factory=dict)
    norms: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)


def follow_wires(network: fx.GraphModule, example: tuple[Tensor, ...], input_type: FixedPoint | None) -> Analysis:
    """Analyse a traced network in eval mode.

    example      its inputs for one event, with the batch axis
    input_type   what the inputs can be; None when nothing is known of them
    """
    with torch.no_grad():
        ShapeProp(network).propagate(*example)
        walk = _Walk(network, input_type)
        for node in network.graph.nodes:
            walk.visit(node)
    return walk.found


class _Walk:
    def __init__(self, network: fx.GraphModule, input_type: FixedPoint | None) -> None:
        self.network = network
        self.input_type = input_type
        self.found = Analysis()
        self.ties = self.found.ties
        self.wires: dict[fx.Node, Wire] = {}
        self.shared = _shared(network)

    def visit(self, node: fx.Node) -> None:
        sources = [self.wires[source] for source in node.all_input_nodes if source in self.wires]
        if node.op == "output":
            for wire in sources:
                self.ties.keep(wire.ids, "the network returns it")
            return
        shape = known.shape_of(node)
        if shape is None:
            if node.target not in known.SIZES:
                self._keep(sources, node)
            return
        if node.op == "placeholder":
            self.wires[node] = self._input(node, shape)
        elif node.op == "get_attr":
            value: Any = operator.attrgetter(str(node.target))(self.network)
            ids = self.ties.fresh(1)
            self.ties.keep(ids, f"it meets the parameter {node.target!r}")
            value = value.detach().double().cpu()
            self.wires[node] = Wire(value, value, ids.expand(value.shape))
        else:
            found = self._known(node, sources)
            if found is None or found.ids.shape != shape or found.low.shape != shape:
                self._keep(sources, node)
                ids = self.ties.fresh(1)
                self.ties.keep(ids, self._reason(node))
                found = Wire(*unknown(shape), ids.expand(shape))
            self.wires[node] = found
            if sources and known.is_in_place(node, module_of(self.network, node)):
                self.wires[node.all_input_nodes[0]] = found  # whatever reads it later reads the new values

    def _input(self, node: fx.Node, shape: tuple[int, ...]) -> Wire:
        low, high = unknown(shape)
        if self.input_type is not None:
            low.fill_(self.input_type.min_value)
            high.fill_(self.input_type.max_value)
        if len(shape) < 2:
            raise ModelError(f"input {node.name!r} has shape {shape}: events need a batch axis and features")
        ids = self.ties.fresh(shape[1])
        self.found.features[node.name] = ids
        return Wire(low, high, ids.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape))

    def _known(self, node: fx.Node, sources: list[Wire]) -> Wire | None:
        """The wire behind an operation that is understood; None otherwise."""
        module: Any = module_of(self.network, node)
        if module is not None:
            return self._module(node, module, sources[0]) if len(sources) == 1 else None
        if node.target in known.JOINS:
            return self._join(node)
        if node.target in known.BINARY:
            return self._binary(node)
        if len(sources) != 1 or not node.args or node.args[0] not in self.wires:
            return None
        return self._call(node, self.wires[node.args[0]])  # type: ignore[index]

    def _module(self, node: fx.Node, module: Any, wire: Wire) -> Wire | None:
        if type(module) in known.PLAIN_LAYERS or isinstance(module, WEIGHT_LAYERS):
            return self._layer(node, module, wire)
        if type(module) in known.NORMS and module.running_mean is not None:
            ids = self._by_channel(wire.ids, 1)
            self._record_norm(str(node.target), ids)
            return Wire(*through_norm(module, wire), wire.ids)
        if isinstance(module, known.SAME):
            return wire
        if isinstance(module, FixedQuantizer):
            return Wire(*through_quantizer(module.fixed, wire), wire.ids)
        if isinstance(module, ChannelQuantizer):
            self._record_norm(str(node.target), self._by_channel(wire.ids, 1))
            return Wire(*through_channels(module, wire), wire.ids)
        if isinstance(module, known.POOLS) and not getattr(module, "return_indices", False) and wire.ids.ndim > 2:
            return self._pool(module, wire)
        if isinstance(module, known.MONOTONE):
            return Wire(*through_monotone(module, wire), wire.ids)
        if isinstance(module, known.ELEMENTWISE):
            return Wire(*through_elementwise(module, wire), wire.ids)
        return known.moved(module, wire) if isinstance(module, nn.Flatten) and module.start_dim >= 1 else None

    def _layer(self, node: fx.Node, module: Any, wire: Wire) -> Wire:
        name = str(node.target)
        linear = isinstance(module, nn.Linear)
        axis = wire.ids.ndim - 1 if linear else 1
        inputs = self._by_channel(wire.ids, axis)
        low, high = through_layer(module, wire)
        outputs = self.ties.fresh(low.shape[-1] if linear else low.shape[1])
        low_columns = wire.low.movedim(axis, 0).flatten(1)
        constant = wire.constant.movedim(axis, 0).flatten(1).all(dim=1)
        even = (low_columns == low_columns[:, :1]).all(dim=1)
        if name in self.shared:
            reason = f"layer {name!r}{_TWICE}"
            self.ties.keep(inputs, reason)
            self.ties.keep(outputs, reason)
        self.found.layers[name] = Layer(
            name,
            module,
            inputs,
            outputs,
            constant,
            torch.where(constant & even, low_columns[:, 0], torch.nan),
            not linear and module.padding_mode == "zeros" and known.pads(module),
            None if linear and axis > 1 else self._own_norm(node),
        )
        shape = (1,) * (low.ndim - 1) + (-1,) if linear else (1, -1, *[1] * (low.ndim - 2))
        return Wire(low, high, outputs.reshape(shape).expand(low.shape))

    def _own_norm(self, node: fx.Node) -> str | None:
        if len(node.users) != 1:
            return None
        (user,) = node.users
        fits = type(module_of(self.network, user)) in known.NORMS and str(user.target) not in self.shared
        return str(user.target) if fits else None

    def _record_norm(self, name: str, ids: Tensor) -> None:
        if name in self.shared:
            self.ties.keep(ids, f"layer {name!r}{_TWICE}")
        self.found.norms[name] = ids

    def _by_channel(self, ids: Tensor, axis: int) -> Tensor:
        """One number per index along ``axis``; what shares an index is tied."""
        columns = ids.movedim(axis, 0).flatten(1)
        self.ties.unite(columns, columns[:, :1].expand_as(columns))
        return columns[:, 0].clone()

    def _pool(self, function: Callable[[Tensor], Tensor], wire: Wire) -> Wire:
        channels = self._by_channel(wire.ids, 1)
        low, high = through_monotone(function, wire)
        return Wire(low, high, channels.reshape(1, -1, *[1] * (low.ndim - 2)).expand(low.shape))

    def _join(self, node: fx.Node) -> Wire | None:
        given = node.args[0] if node.args else node.kwargs.get("tensors")
        parts: Any = list(given) if isinstance(given, (list, tuple)) else []
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        if not parts or any(part not in self.wires for part in parts) or not isinstance(axis, int):
            return None
        wires = [self.wires[part] for part in parts]
        if axis % (wires[0].ids.ndim + (node.target is torch.stack)) == 0:
            return None
        join: Any = node.target
        return Wire(*(join([getattr(wire, name) for wire in wires], dim=axis) for name in ("low", "high", "ids")))

    def _binary(self, node: fx.Node) -> Wire | None:
        if len(node.args) != 2 or node.kwargs:
            return None
        combine = known.BINARY[node.target]
        left, right = node.args
        first = self.wires.get(left) if isinstance(left, fx.Node) else None
        second = self.wires.get(right) if isinstance(right, fx.Node) else None
        if first is not None and isinstance(right, (int, float)):
            return Wire(*through_monotone(lambda x: combine(x, right), first), first.ids)
        if second is not None and isinstance(left, (int, float)):
            through = through_elementwise if combine is operator.truediv else through_monotone
            return Wire(*through(lambda x: combine(left, x), second), second.ids)
        if first is None or second is None:
            return None
        ids = self._tied(first.ids, second.ids)
        if combine is operator.add:
            return Wire(first.low + second.low, first.high + second.high, ids)
        if combine is operator.sub:
            return Wire(first.low - second.high, first.high - second.low, ids)
        both = first.constant & second.constant
        value = combine(torch.where(both, first.low, 1.0), torch.where(both, second.low, 1.0))
        return Wire(torch.where(both, value, -torch.inf), torch.where(both, value, torch.inf), ids)

    def _tied(self, first: Tensor, second: Tensor) -> Tensor:
        """Numbers of the result of two wires combined element by element.

        An operand that is repeated along the features of the other (a gate per position, say) is not tied to them.
        """
        shape = (first + second).shape
        whole = first.expand(shape), second.expand(shape)
        for one, other in ((first, whole[1]), (second, whole[0])):
            missing = len(shape) - one.ndim
            sizes = (1,) * missing + tuple(one.shape)
            repeated = [axis for axis, size in enumerate(sizes) if size == 1 and shape[axis] > 1]
            if any(not known.same_along(other, axis) for axis in repeated):
                reason = "it is repeated along the features of another wire"
                self.ties.keep(one, reason)
                if len(torch.unique(one)) > 1:
                    self.ties.keep(other, reason)
                return other
        self.ties.unite(*whole)
        return whole[0]

    def _call(self, node: fx.Node, wire: Wire) -> Wire | None:
        rest, options, target = node.args[1:], dict(node.kwargs), node.target
        if any(isinstance(value, fx.Node) for value in options.values()):
            return None

        def run(x: Tensor) -> Any:
            return getattr(x, target)(*rest, **options) if isinstance(target, str) else target(x, *rest, **options)

        if target in ("contiguous", "clone"):
            return wire
        if target is functional.dropout:
            return None if options.get("training", rest[1] if len(rest) > 1 else True) else wire
        if target in known.FLATTENS:
            return known.flattened(node, wire)
        if any(isinstance(value, fx.Node) for value in rest):
            return None
        if target in known.MONOTONE_CALLS:
            return Wire(*through_monotone(run, wire), wire.ids)
        if target in known.ELEMENTWISE_CALLS:
            return Wire(*through_elementwise(run, wire), wire.ids)
        if target in known.POOL_CALLS and wire.ids.ndim > 2:
            return self._pool(run, wire)
        if target in known.AVERAGES:
            return self._averaged(node, run, wire)
        if target in known.MOVES and known.keeps_batch(node, wire.ids.ndim):
            return Wire(run(wire.low), run(wire.high), run(wire.ids))
        return None

    def _averaged(self, node: fx.Node, run: Callable[[Tensor], Tensor], wire: Wire) -> Wire | None:
        given: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        axes = [given] if isinstance(given, int) else list(given) if isinstance(given, (list, tuple)) else []
        axes = [axis % wire.ids.ndim for axis in axes]
        if not axes or 0 in axes:
            return None
        keeps = bool(node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False))
        first = wire.ids.amin(dim=axes, keepdim=True)
        self.ties.unite(wire.ids, first.expand_as(wire.ids))
        return Wire(*through_monotone(run, wire), first if keeps else wire.ids.amin(dim=axes))

    def _keep(self, wires: list[Wire], node: fx.Node) -> None:
        for wire in wires:
            self.ties.keep(wire.ids, self._reason(node))

    def _reason(self, node: fx.Node) -> str:
        module = module_of(self.network, node)
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
        return f"{what} ({node.name}) needs its shape"


def _shared(network: fx.GraphModule) -> set[str]:
    """Modules that are called more than once, or whose weight is that of another one."""
    targets = [str(node.target) for node in network.graph.nodes if node.op == "call_module"]
    weights = {name: getattr(network.get_submodule(name), "weight", None) for name in set(targets)}
    owners = [id(weight) for weight in weights.values() if weight is not None]
    return {name for name in targets if targets.count(name) > 1 or owners.count(id(weights[name])) > 1}

"""Which outputs and inputs of the weight layers belong together, followed through the graph of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.quantize.batch_norm import NORMS
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.graph import is_add, is_cat, module_of
from trigger_prune.quantize.input_slices import is_slice, slice_bounds
from trigger_prune.quantize.layers import QUANTIZERS, WEIGHT_LAYERS, QuantLinear, QuantWeightLayer

Units = NDArray[np.int64]
"""Numbers of units, one per value of a wire."""

OUTPUT = "it is an output of the network"
"""Reason to stay that comes before all others."""

_ONE_BY_ONE = (nn.ReLU, nn.Identity, *QUANTIZERS, nn.Dropout, nn.Dropout1d, nn.Dropout2d, *NORMS)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d)


@dataclass(frozen=True, eq=False)
class Coupling:
    """The units of a network: values that only leave it together.

    rows      by layer name, ``(n_outputs,)``: unit of every output (neuron, filter)
    columns   by layer name, ``(n_inputs,)``: unit of every input (feature, channel; of all groups of a convolution)
    inputs    shaped like one event: unit of every input of the network
    fixed     by unit: why it can never leave
    """

    rows: dict[str, Units]
    columns: dict[str, Units]
    inputs: Units
    fixed: dict[int, str]


def follow(network: nn.Module) -> Coupling:
    """The units of a quantised network.

    The summands of an addition are one unit, channel by channel; a concatenation keeps its parts apart; after a
    Flatten every position of a channel is still that channel; a depthwise convolution passes its channels on, and a
    grouped one ties the inputs and outputs of each group together. Outputs of the network and of frozen layers cannot
    leave. Raises ModelError for what is no ``fx.GraphModule`` and for an operation it cannot follow.
    """
    if not isinstance(network, fx.GraphModule):
        raise ModelError(
            f"{type(network).__name__} is no graph: neurons cannot be followed through it",
            hint="quantize_model makes one; structures weight, block, n_m, dsp, bram and head need none",
        )
    return _Follower(network).result()


class _Shapes(fx.Interpreter):
    """Shape of one event on every wire, without the batch axis."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.found: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.found[n] = tuple(result.shape[1:]) if isinstance(result, Tensor) else ()
        return result


def _shapes(network: fx.GraphModule) -> dict[fx.Node, tuple[int, ...]]:
    like = next(network.parameters())
    shapes = _Shapes(network)
    with torch.no_grad():
        shapes.run(torch.zeros((1, *input_shape_of(network)), dtype=like.dtype, device=like.device))
    return shapes.found


class _Follower:
    """Provisional units along the wires, and the ties between them."""

    def __init__(self, network: fx.GraphModule) -> None:
        self.network = network
        self.shapes = _shapes(network)
        self.count = 0
        self.ties: list[tuple[Units, Units]] = []
        self.kept: list[tuple[Units, str]] = []
        self.rows: dict[str, Units] = {}
        self.columns: dict[str, Units] = {}
        self.inputs: Units = np.zeros(0, dtype=np.int64)
        self.wires: dict[fx.Node, Units] = {}
        for node in network.graph.nodes:
            self.wires[node] = self._wire(node)

    def result(self) -> Coupling:
        first = np.concatenate([np.zeros(0, np.int64), *(a for a, _ in self.ties)])
        second = np.concatenate([np.zeros(0, np.int64), *(b for _, b in self.ties)])
        edges = coo_array((np.ones(len(first)), (first, second)), shape=(self.count, self.count))
        unit = connected_components(edges, directed=False)[1].astype(np.int64)
        fixed: dict[int, str] = {}
        for units, reason in self.kept:
            for number in np.unique(unit[units]).tolist():
                fixed.setdefault(number, reason)
        rows = {name: unit[units] for name, units in self.rows.items()}
        columns = {name: unit[units] for name, units in self.columns.items()}
        return Coupling(rows, columns, unit[self.inputs], fixed)

    def _new(self, shape: tuple[int, ...]) -> Units:
        start, self.count = self.count, self.count + int(np.prod(shape))
        return np.arange(start, self.count, dtype=np.int64).reshape(shape)

    def _tie(self, first: Units, second: Units) -> None:
        one, other = np.broadcast_arrays(first, second)
        self.ties.append((one.ravel(), other.ravel()))

    def _wire(self, node: fx.Node) -> Units:
        if node.op == "placeholder":
            self.inputs = self._new(self.shapes[node])
            return self.inputs
        sources = [self.wires[source] for source in node.all_input_nodes]
        module = module_of(self.network, node)
        if node.op == "output":
            self.kept[:0] = [(units, OUTPUT) for units in sources]
            return sources[0]
        if isinstance(module, WEIGHT_LAYERS):
            return self._through_layer(str(node.target), module, sources[0], self.shapes[node])
        if isinstance(module, _ONE_BY_ONE):
            return sources[0]
        if isinstance(module, nn.Flatten):
            return sources[0].reshape(self.shapes[node])
        if isinstance(module, _POOLS):
            channels = self._per_channel(sources[0], 0)
            return np.broadcast_to(channels.reshape(-1, *[1] * (sources[0].ndim - 1)), self.shapes[node])
        if is_add(node):
            return self._through_sum(node)
        if is_cat(node):
            return self._through_cat(node)
        if is_slice(node):
            return sources[0][slice(*slice_bounds(node, len(sources[0])))]
        what = type(module).__name__ if module is not None else node.format_node()
        raise ModelError(f"{node.name}: neurons cannot be followed through {what}")

    def _per_channel(self, units: Units, axis: int) -> Units:
        """Ties what a channel carries at its positions; one unit of each channel."""
        table = np.moveaxis(units, axis, 0).reshape(units.shape[axis], -1)
        self._tie(table[:, :1], table)
        return table[:, 0]

    def _through_layer(self, name: str, layer: QuantWeightLayer, source: Units, shape: tuple[int, ...]) -> Units:
        axis = -1 if isinstance(layer, QuantLinear) else 0
        columns = self._per_channel(source, axis)
        self._tie(self.columns.setdefault(name, columns), columns)
        if name not in self.rows:
            self.rows[name] = self._new((layer.weight.shape[0],))
        rows = self.rows[name]
        n_groups = 1 if isinstance(layer, QuantLinear) else layer.groups
        if n_groups > 1:
            inputs, outputs = columns.reshape(n_groups, -1), rows.reshape(n_groups, -1)
            self._tie(inputs[:, :1], inputs)
            self._tie(inputs[:, :1], outputs)
        elif not layer.weight.requires_grad:
            self.kept.append((rows, f"layer {name!r} is frozen"))
        rank = len(shape)
        return np.broadcast_to(rows.reshape([-1 if i == axis % rank else 1 for i in range(rank)]), shape)

    def _through_sum(self, node: fx.Node) -> Units:
        summands = [self.wires[arg] for arg in node.args if isinstance(arg, fx.Node)]
        if any(units.ndim != summands[0].ndim for units in summands):
            raise ModelError(f"{node.name}: the summands are of shapes {' and '.join(str(u.shape) for u in summands)}")
        units: list[Units] = [np.broadcast_to(summand, self.shapes[node]) for summand in summands]
        for other in units[1:]:
            self._tie(units[0], other)
        return units[0]

    def _through_cat(self, node: fx.Node) -> Units:
        parts: Any = node.args[0]
        dim: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        units = [self.wires[part] for part in parts]
        axis = dim - 1 if dim > 0 else dim
        if dim == 0 or dim == -1 - units[0].ndim:
            raise ModelError(f"{node.name}: it concatenates events")
        return np.concatenate(units, axis=axis)

"""The exact training loss after a change of one output's weights, by recomputing only what the change reaches.

The values of all wires are kept for every event. A changed row gives one new column of the layer's output; what
follows is run again for those events only in which the column differs behind its quantiser. Sums are exact (float32
below 2**24, else float64), so the result has the same bits as running the whole network.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional

from trigger_prune.cost.network import NetworkSpec
from trigger_prune.errors import ModelError
from trigger_prune.prune.refine.codes import Codes, codes_of, copy_codes
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import QUANTIZERS, FixedQuantizer, weight_layers
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import Task, event_losses

_EXACT_FLOAT32 = 2**24


@dataclass(frozen=True)
class RowChange:
    """New codes of output ``row`` of a layer: ``weight`` ``(fan_in,)`` and its bias."""

    layer: str
    row: int
    weight: NDArray[np.int64]
    bias: int


@dataclass(frozen=True)
class Trial:
    """A change and what it does: the loss after it, and the values to keep if it is accepted."""

    change: RowChange
    loss: float
    columns: dict[fx.Node, Tensor]
    events: Tensor
    values: dict[fx.Node, Tensor]
    losses: Tensor


@dataclass(frozen=True)
class _Path:
    """From a layer: nodes that act on each of its outputs alone, in order, and everything behind them."""

    node: fx.Node
    chain: tuple[fx.Node, ...]
    behind: tuple[fx.Node, ...]


class IncrementalLoss:
    """The loss of a network on ``events`` under changes of its codes. The network itself is never changed.

    ``codes`` are the present ones. Raises ModelError for a layer that is called more than once, for events without
    weight, and for a network that is no quantised graph.
    """

    def __init__(self, network: fx.GraphModule, events: Batches, task: Task) -> None:
        spec = describe_network(network)
        self.spec = spec
        self.codes: Codes = codes_of(spec)
        self.task: Task = task
        self.network = freeze(network, double=_largest_bound(spec, network) >= _EXACT_FLOAT32)
        for module in self.network.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # it would overwrite the values that are kept
        self._types = {name: (layer.weight_type, layer.bias_type) for name, layer in weight_layers(network).items()}
        self._shapes = {name: layer.weight.shape for name, layer in weight_layers(network).items()}
        dtype = next(self.network.parameters()).dtype
        self.events = events.with_features(events.features.to(dtype))
        self._weights = events.weights.double()
        if not float(self._weights.sum()) > 0:
            raise ModelError("the events to refine a network on have no weight above zero")
        self._total = float(self._weights.sum())
        self._interpreter = fx.Interpreter(self.network, garbage_collect_values=False)
        with torch.no_grad():
            self._interpreter.run(self.events.features)
        self.values: dict[fx.Node, Tensor] = self._interpreter.env
        self._output = next(node for node in self.network.graph.nodes if node.op == "output")
        self._losses = self._event_losses(self.values[self._output], slice(None))
        self._paths = {name: self._path(name) for name in self.codes}

    def take_over_quantizers(self, network: fx.GraphModule) -> None:
        """Quantise wires as ``network`` does now; ``assign`` must follow."""
        for name, module in network.named_modules():
            if isinstance(module, QUANTIZERS):
                self.network.set_submodule(name, copy.deepcopy(module))

    @property
    def loss(self) -> float:
        """Weighted mean loss of the present codes."""
        return self._mean(self._losses)

    def units(self, layer: str) -> NDArray[np.float64]:
        """Value of one unit of code of every weight of a row and, last, of its bias: ``(fan_in + 1,)``."""
        weight_type, bias_type = self._types[layer]
        fan_in = self.codes[layer].weight.shape[1]
        return np.array([weight_type.lsb] * fan_in + [bias_type.lsb])

    def input_of(self, layer: str) -> Tensor:
        """What a layer reads now, ``(events, ...)``."""
        return self.values[self._paths[layer].node.all_input_nodes[0]]

    def node_of(self, layer: str) -> fx.Node:
        """Where the network's graph calls a layer."""
        return self._paths[layer].node

    def end_of(self, layer: str) -> fx.Node:
        """Where its outputs arrive, behind the ReLU and the quantiser that follow it."""
        path = self._paths[layer]
        return path.chain[-1] if path.chain else path.node

    @torch.no_grad()
    def trial(self, change: RowChange) -> Trial:
        """The loss if ``change`` were made."""
        path = self._paths[change.layer]
        column = self._new_column(path.node, change)
        columns = {path.node: column}
        for node in path.chain:
            column = self._module(node)(column)
            columns[node] = column
        end = self.end_of(change.layer)
        old = self.values[end][:, change.row : change.row + 1]
        different = (column != old).flatten(1).any(dim=1).nonzero().flatten()
        if len(different) == 0:
            return Trial(change, self.loss, columns, different, {}, self._losses[:0])
        delta = (column[different] - old[different]).flatten(1)
        values = self.values[end][different]
        values[:, change.row : change.row + 1] = column[different]
        new: dict[fx.Node, Tensor] = {end: values}
        for node in path.behind:
            new[node] = self._rerun(node, end, change.row, delta, different, new)
        losses = self._event_losses(new.get(self._output, new[end]), different)
        every = self._losses.clone()
        every[different] = losses
        return Trial(change, self._mean(every), columns, different, new, losses)

    @torch.no_grad()
    def accept(self, trial: Trial) -> None:
        """Make the change of ``trial``, which must be the outcome of the present codes."""
        change = trial.change
        for node, column in trial.columns.items():
            self.values[node][:, change.row : change.row + 1] = column
        end = next(reversed(trial.columns))
        for node, values in trial.values.items():
            if node is not end and node.op != "output":
                self.values[node][trial.events] = values
        self._losses[trial.events] = trial.losses
        codes = self.codes[change.layer]
        codes.weight[change.row] = change.weight
        codes.bias[change.row] = change.bias
        module: Any = self._module(self._paths[change.layer].node)
        weight, bias = self._row_values(change, module)
        module.weight[change.row] = weight[0]
        if module.bias is not None:
            module.bias[change.row] = bias[0]

    @torch.no_grad()
    def assign(self, codes: Codes) -> None:
        """Take over other codes of all layers; everything is computed afresh."""
        for name, wanted in codes.items():
            module: Any = self._module(self._paths[name].node)
            weight_type, bias_type = self._types[name]
            values = torch.from_numpy(wanted.weight.astype(np.float64) * weight_type.lsb)
            module.weight.copy_(values.reshape(module.weight.shape))
            if module.bias is not None:
                module.bias.copy_(torch.from_numpy(wanted.bias.astype(np.float64) * bias_type.lsb))
        self.codes = copy_codes(codes)
        self._interpreter.env = {}
        self._interpreter.run(self.events.features)
        self.values = self._interpreter.env
        self._losses = self._event_losses(self.values[self._output], slice(None))

    def _mean(self, losses: Tensor) -> float:
        return float((losses * self._weights).sum()) / self._total

    def _event_losses(self, outputs: Tensor, rows: Tensor | slice) -> Tensor:
        targets = self.events.targets[rows]
        outputs = outputs.double()
        if self.task != "classify":
            targets = targets.double()
        return event_losses(outputs, targets, self.task)

    def _module(self, node: fx.Node) -> nn.Module:
        return self.network.get_submodule(str(node.target))

    def _row_values(self, change: RowChange, module: Any) -> tuple[Tensor, Tensor]:
        weight_type, bias_type = self._types[change.layer]
        weight = torch.from_numpy(change.weight.astype(np.float64) * weight_type.lsb).to(module.weight)
        return weight.reshape(1, *module.weight.shape[1:]), module.weight.new_tensor([change.bias * bias_type.lsb])

    def _new_column(self, node: fx.Node, change: RowChange) -> Tensor:
        module: Any = self._module(node)
        x = self.values[node.all_input_nodes[0]]
        weight, bias = self._row_values(change, module)
        if isinstance(module, nn.Linear):
            return functional.linear(x, weight, bias)
        per_group = module.weight.shape[1]
        group = change.row // (module.weight.shape[0] // module.groups)
        part = x[:, group * per_group : (group + 1) * per_group]
        convolve = functional.conv1d if isinstance(module, nn.Conv1d) else functional.conv2d
        result: Tensor = convolve(
            part, weight, bias, stride=module.stride, padding=module.padding, dilation=module.dilation
        )
        return result

    def _rerun(
        self, node: fx.Node, end: fx.Node, row: int, delta: Tensor, events: Tensor, new: dict[fx.Node, Tensor]
    ) -> Tensor:
        module = module_of(self.network, node)
        if isinstance(module, nn.Linear) and node.args[0] is end and delta.shape[1] == 1:
            return self.values[node][events] + delta * module.weight[:, row]
        self._interpreter.env = {
            source: new[source] if source in new else self.values[source][events] for source in node.all_input_nodes
        }
        try:
            result: Tensor = self._interpreter.run_node(node)
        finally:
            self._interpreter.env = self.values
        return result

    def _path(self, layer: str) -> _Path:
        calls = [n for n in self.network.graph.nodes if n.op == "call_module" and n.target == layer]
        if len(calls) != 1:
            raise ModelError(f"layer {layer!r} is called {len(calls)} times; refinement needs exactly one call")
        node, chain = calls[0], []
        last = node
        while len(last.users) == 1:
            (user,) = last.users
            if not isinstance(module_of(self.network, user), nn.ReLU | FixedQuantizer | nn.Identity):
                break
            chain.append(user)
            last = user
        reached, behind = {last}, []
        for candidate in self.network.graph.nodes:
            if candidate is not last and any(source in reached for source in candidate.all_input_nodes):
                reached.add(candidate)
                behind.append(candidate)
        return _Path(node, tuple(chain), tuple(behind))


def _largest_bound(spec: NetworkSpec, network: nn.Module) -> int:
    """Largest partial sum of any codes that a refinement can reach: masked weights stay zero."""
    layers = weight_layers(network)
    extreme = []
    for layer in spec.layers:
        mask = layers[layer.name].weight_mask.cpu().numpy() != 0
        weight = np.where(mask, layer.weight_type.min_code, 0).astype(np.int64)
        bias = np.full_like(layer.bias, layer.bias_type.min_code)
        extreme += [replace(layer, weight=weight, bias=bias), replace(layer, weight=-weight, bias=-bias)]
    return max(layer.accumulator_bound for layer in extreme)

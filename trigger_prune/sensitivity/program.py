"""A quantised graph taken apart, so that it can be run from any wire on, for many events and many variants.

Weights are quantised once and not once per batch. Where a quantiser alone reads the sums of a layer, the division by
its LSB is in the weights of that layer, and where only weight layers read a quantiser, the multiplication is in theirs:
what is left of a conversion is a rounding and a clamp in place. LSBs are powers of two, so every number stays the same.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.graph import PASS_THROUGH, module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer, QuantLinear
from trigger_prune.sensitivity.variants import LayerState, state_of

Env = dict[fx.Node, Any]

_NARROW_OUTPUTS = 12
"""A product with fewer columns than a vector register has lanes is computed the other way round, twice as fast."""


class Program:
    """A private copy of a quantised graph in evaluation mode. The network is neither changed nor kept."""

    def __init__(self, network: fx.GraphModule) -> None:
        self.network = copy.deepcopy(network).eval()
        self.nodes: list[fx.Node] = list(self.network.graph.nodes)
        self.modules = {node: module_of(self.network, node) for node in self.nodes}
        self.states: dict[str, LayerState] = {
            str(node.target): state_of(module)
            for node, module in self.modules.items()
            if isinstance(module, WEIGHT_LAYERS)
        }
        self.of_events: set[fx.Node] = set()
        for node in self.nodes:
            if node.op == "placeholder" or any(source in self.of_events for source in node.all_input_nodes):
                self.of_events.add(node)
        self.reads = {node: self._read_by(node) for node in self.nodes}
        self.idle = {
            node
            for node, module in self.modules.items()
            if isinstance(module, nn.ReLU) and all(self.reads[user] != [node] for user in node.users)
        }
        self._interpreter = fx.Interpreter(self.network)
        self._plain = Plan(self)

    def _read_by(self, node: fx.Node) -> list[fx.Node]:
        """The wires a node needs: its inputs, or for a quantiser behind a ReLU that does nothing what the ReLU reads.

        An unsigned, saturating type makes a ReLU idle.
        """
        module = self.modules[node]
        if isinstance(module, FixedQuantizer):
            source = node.all_input_nodes[0]
            idle = not module.fixed.signed and module.fixed.overflow is Overflow.AP_SAT
            if idle and isinstance(self.modules[source], nn.ReLU):
                return source.all_input_nodes
        return node.all_input_nodes

    def plain(self, features: Tensor) -> Tensor:
        """Outputs of the network itself, of events that fit the cache."""
        with torch.inference_mode():
            env: Env = {}
            self._plain.run(self.nodes, env, features)
        result: Tensor = env[self.nodes[-1]]
        return result

    def wire(self, features: Tensor, node: fx.Node) -> Tensor:
        """Values on the wire of ``node``, one of ``nodes``."""
        with torch.no_grad():
            env: Env = {}
            Plan(self, frozenset(str(n.target) for n in self.nodes)).run(
                self.nodes[: self.nodes.index(node) + 1], env, features, idle=True
            )
        result: Tensor = env[node]
        return result

    def widest(self, features: Tensor) -> int:
        """Values per event of the widest wire. ``features`` hold an event or more."""
        env: Env = {}
        with torch.no_grad():
            self._plain.run(self.nodes, env, features[:1])
        return max(value.numel() for node, value in env.items() if isinstance(value, Tensor) and node in self.of_events)

    def call(self, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
        """Value of a node that is neither weight layer nor quantiser."""
        arguments = fx.node.map_arg(node.args, value_of)
        if node.op == "output":
            return arguments[0]
        return getattr(self._interpreter, node.op)(node.target, arguments, fx.node.map_arg(node.kwargs, value_of))


class Plan:
    """A program with factors folded into its weights, as far as the modules ``changed`` leave them what they are."""

    def __init__(self, program: Program, changed: frozenset[str] = frozenset()) -> None:
        self.program = program
        self.on_codes: set[fx.Node] = set()
        """Quantisers whose input is in units of their LSB already."""
        self.gives_codes: set[fx.Node] = set()
        """Quantisers whose output stays in units of their LSB."""
        self.factors = {name: [1.0, 1.0] for name in program.states}
        calls = Counter(str(node.target) for node in program.nodes if node.op == "call_module")
        once = {name for name in program.states if calls[name] == 1}
        for node, module in program.modules.items():
            if not isinstance(module, FixedQuantizer) or str(node.target) in changed or not _simple(module.fixed):
                continue
            (source,) = program.reads[node]
            readers = {user for user in source.users if user not in program.idle}
            behind_relu = {user for relu in source.users if relu in program.idle for user in relu.users}
            if str(source.target) in once and readers | behind_relu == {node}:
                self.on_codes.add(node)
                for position in (0, 1):
                    self.factors[str(source.target)][position] /= module.fixed.lsb
            layers = _weight_readers(program, node)
            if layers and once.issuperset(layers):
                self.gives_codes.add(node)
                for name in layers:
                    self.factors[name][0] *= module.fixed.lsb
        self.weights = {name: self.scaled(name, state.weight, state.bias) for name, state in program.states.items()}

    def scaled(self, name: str, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of layer ``name`` with its factors."""
        of_weight, of_bias = self.factors[name]
        return weight * of_weight, None if bias is None else bias * of_bias

    def run(self, nodes: list[fx.Node], env: Env, features: Tensor, idle: bool = False) -> None:
        """Compute ``nodes`` into ``env``; ReLUs that do nothing only with ``idle``."""
        for node in nodes:
            if idle or node not in self.program.idle:
                env[node] = features if node.op == "placeholder" else self.value(node, env)

    def value(self, node: fx.Node, env: Env) -> Any:
        """Value of one node."""
        module = self.program.modules[node]
        if isinstance(module, WEIGHT_LAYERS):
            return apply_layer(module, env[node.all_input_nodes[0]], *self.weights[str(node.target)])
        if isinstance(module, FixedQuantizer):
            return self.quantised(node, module.fixed, env[self.program.reads[node][0]])
        return self.program.call(node, env.__getitem__)

    def quantised(self, node: fx.Node, fixed: FixedPoint, x: Tensor) -> Tensor:
        """Result of a quantiser; what it reads is overwritten where nothing else reads it."""
        if not _simple(fixed):
            return fixed.fake_quantize(x)
        code = x if node in self.on_codes else x * (1.0 / fixed.lsb)
        code = code.floor_() if fixed.rounding is Rounding.AP_TRN else code.round_()
        code = code.clamp_(fixed.min_code, fixed.max_code)
        return code if node in self.gives_codes else code.mul_(fixed.lsb)


def apply_layer(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What the layer computes with this weight and bias."""
    if isinstance(layer, QuantLinear):
        if weight.shape[0] < _NARROW_OUTPUTS and x.ndim == 2 and bias is not None:
            return torch.addmm(bias.unsqueeze(1), weight, x.t()).t()
        return functional.linear(x, weight, bias)
    result: Tensor = layer._conv_forward(x, weight, bias)  # type: ignore[operator]
    return result


def _simple(fixed: FixedPoint) -> bool:
    return fixed.rounding in (Rounding.AP_TRN, Rounding.AP_RND_CONV) and fixed.overflow in (
        Overflow.AP_SAT,
        Overflow.AP_SAT_SYM,
    )


def _weight_readers(program: Program, node: fx.Node) -> list[str]:
    """Weight layers that read a wire, with flattening and pooling in between; none when anything else reads it."""
    found: list[str] = []
    for user in node.users:
        module = program.modules[user]
        if isinstance(module, WEIGHT_LAYERS):
            found.append(str(user.target))
            continue
        behind = _weight_readers(program, user) if isinstance(module, PASS_THROUGH) else []
        if not behind:
            return []
        found.extend(behind)
    return found

"""What hls4ml 1.3.0 builds with the same bits, and what to use where it does not.

``RULES`` is the one table: ``require_supported`` raises from it before hls4ml is called, docs/matrix.md and the tests
read it. Each rule was found by running the C simulation against the network; none of them is a matter of resources
(cost/hls/feasibility.py has those). Layers that no network here can hold are refused earlier (quantize/graph.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from trigger_prune.cost.hls.reuse_factor import allowed_reuse_factors, nearest_reuse_factor
from trigger_prune.errors import ExportError
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import ChannelQuantizer
from trigger_prune.target import LayerLayout, Target

BACKENDS = ("Vitis", "Vivado")
IO_TYPES = ("io_parallel", "io_stream")
STRATEGIES = ("Latency", "Resource", "Resource_Unrolled", "distributed_arithmetic")
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Quantised layers are subclasses of them."""
_BY_LOWER_CASE = {name.lower(): name for name in STRATEGIES}


@dataclass(frozen=True)
class Refusal:
    """Why a design is not built: ``rule`` of the table, ``where`` in the network or target, and the way out."""

    rule: str
    where: str
    reason: str
    instead: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class WeightLayer:
    """A weight layer as a rule sees it; ``n_in`` of a convolution is kernel x channels of one group."""

    name: str
    module: Any
    layout: LayerLayout
    n_in: int
    n_out: int

    @property
    def is_convolution(self) -> bool:
        return not isinstance(self.module, nn.Linear)

    @property
    def groups(self) -> int:
        return int(getattr(self.module, "groups", 1))

    @property
    def is_depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.module.in_channels


@dataclass(frozen=True)
class Design:
    """What is to be built."""

    network: fx.GraphModule
    target: Target
    backend: str
    layers: tuple[WeightLayer, ...]


@dataclass(frozen=True)
class Rule:
    """One line of the table. ``find`` gives the place where it applies and, if it has one, a way out of its own."""

    name: str
    applies_to: str
    reason: str
    instead: str
    find: Callable[[Design], tuple[str, str] | None]


def _unknown(design: Design) -> tuple[str, str] | None:
    layouts = [design.target.strategy, *(layer.layout.strategy for layer in design.layers)]
    for what, value, known in (
        ("backend", design.backend, BACKENDS),
        ("io_type", design.target.io_type, IO_TYPES),
        *(("strategy", strategy.lower(), tuple(_BY_LOWER_CASE)) for strategy in layouts),
    ):
        if value not in known:
            return f"{what} {value!r}", ""
    return None


def _layer(test: Callable[[WeightLayer, Design], bool]) -> Callable[[Design], tuple[str, str] | None]:
    def find(design: Design) -> tuple[str, str] | None:
        return next(((f"layer {layer.name!r}", "") for layer in design.layers if test(layer, design)), None)

    return find


def _strategy(layer: WeightLayer) -> str:
    return layer.layout.strategy.lower()


def _reuse_factor(design: Design) -> tuple[str, str] | None:
    for layer in design.layers:
        strategy: Any = _strategy(layer)
        if layer.is_depthwise or strategy == "distributed_arithmetic":
            continue
        valid = allowed_reuse_factors(layer.n_in, layer.n_out, strategy)
        factor = layer.layout.reuse_factor
        if valid is not None and factor not in valid:
            if strategy == "resource_unrolled":
                valid = valid[1:]  # the first is 1, which is not unrolled
            way_out = (
                f"{nearest_reuse_factor(valid, factor)} is the nearest; reuse factors of this layer: "
                f"{', '.join(map(str, valid))}"
                if valid
                else "strategy Resource or Latency for this layer"
            )
            return f"reuse factor {factor} of layer {layer.name!r}", way_out
    return None


def _pool(test: Callable[[Any, Design], bool]) -> Callable[[Design], tuple[str, str] | None]:
    def find(design: Design) -> tuple[str, str] | None:
        for node in design.network.graph.nodes:
            pool = module_of(design.network, node)
            if isinstance(pool, nn.MaxPool1d | nn.MaxPool2d) and test(pool, design):
                return f"layer {str(node.target)!r}", ""
        return None

    return find


def _positions_at_the_end(design: Design) -> tuple[str, str] | None:
    """A Flatten of positions and channels whose values reach the output without a dense layer in between."""
    if design.target.io_type != "io_stream":
        return None
    [output] = (node for node in design.network.graph.nodes if node.op == "output")
    todo, seen = list(output.all_input_nodes), set()
    while todo:
        node = todo.pop()
        module: Any = module_of(design.network, node)
        if isinstance(module, nn.Linear) or node in seen:
            continue
        if isinstance(module, _WEIGHTED):
            return f"layer {str(node.target)!r}, which no Linear follows", ""
        seen.add(node)
        todo += node.all_input_nodes
    return None


def _channel_types(design: Design) -> tuple[str, str] | None:
    for name, module in design.network.named_modules():
        if isinstance(module, ChannelQuantizer):
            return f"quantiser {name!r}", ""
    return None


def _numbers(value: Any) -> set[int]:
    return set(value) if isinstance(value, tuple) else {value}


def _pair(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value, value)


RULES: tuple[Rule, ...] = (
    Rule(
        "unknown",
        "any other backend, io_type or strategy",
        "it is not known here",
        f"backends {', '.join(BACKENDS)}; io_type {', '.join(IO_TYPES)}; strategy {', '.join(STRATEGIES)}",
        _unknown,
    ),
    Rule(
        "channel types",
        "activations with a type of each channel",
        "hls4ml has one type for all channels of a wire",
        "one type per wire, or the rtl flow, which takes a type for each channel",
        _channel_types,
    ),
    Rule(
        "grouped convolution",
        "convolutions with groups, unless depthwise with as many outputs as inputs",
        "hls4ml has no convolution in groups; with several outputs per input its C++ gives other values (io_stream) or "
        "stops (io_parallel)",
        "groups=1, or depthwise with out_channels = in_channels",
        _layer(
            lambda layer, design: layer.groups > 1
            and not (layer.is_depthwise and layer.module.out_channels == layer.groups)
        ),
    ),
    Rule(
        "dilation",
        "convolutions with dilation",
        "neither qonnx nor hls4ml has a channels-last convolution with dilation",
        "a larger kernel whose weights in between are masked, or a stride",
        _layer(lambda layer, design: layer.is_convolution and _numbers(layer.module.dilation) != {1}),
    ),
    Rule(
        "positions at the end",
        "networks that return what a convolution gives, with io_stream",
        "hls4ml cannot bring its channels-last stream into torch's order",
        "io_type: io_parallel, or Flatten and Linear at the end",
        _positions_at_the_end,
    ),
    Rule(
        "padded pooling",
        "MaxPool with padding, dilation or ceil_mode",
        "hls4ml's C++ gives other values (io_parallel) or stops (io_stream) with padding, and cannot read the others",
        "windows that fit without them; a convolution in front may pad",
        _pool(
            lambda pool, design: pool.ceil_mode or _numbers(pool.padding) != {0} or _numbers(pool.dilation) != {1}
        ),
    ),
    Rule(
        "overlapping pooling",
        "MaxPool2d whose stride is not its kernel, with io_stream",
        "hls4ml's C++ stops at an assertion",
        "stride = kernel_size, or io_type: io_parallel",
        _pool(
            lambda pool, design: isinstance(pool, nn.MaxPool2d)
            and design.target.io_type == "io_stream"
            and _pair(pool.kernel_size) != _pair(pool.stride)
        ),
    ),
    Rule(
        "reuse factor of distributed arithmetic",
        "distributed_arithmetic with a reuse factor above 1",
        "an adder graph has no multiplier that could be reused",
        "reuse_factor: 1, or strategy Resource",
        _layer(
            lambda layer, design: _strategy(layer) == "distributed_arithmetic" and layer.layout.reuse_factor != 1
        ),
    ),
    Rule(
        "depthwise",
        "depthwise convolutions that are trained, with any strategy but Latency",
        "hls4ml's C++ for strategy Resource gives other values (io_stream) or stops (io_parallel), the others it lacks",
        "strategy: Latency, or an ordinary convolution; a frozen mean over positions gets Latency by itself",
        _layer(lambda layer, design: layer.is_depthwise and _strategy(layer) != "latency"),
    ),
    Rule(
        "unrolled without reuse",
        "Resource_Unrolled with reuse factor 1",
        "hls4ml would silently build strategy Resource instead",
        "a reuse factor above 1, or strategy Resource",
        _layer(lambda layer, design: _strategy(layer) == "resource_unrolled" and layer.layout.reuse_factor == 1),
    ),
    Rule(
        "unrolled convolution",
        "Resource_Unrolled of convolutions with io_parallel",
        "hls4ml would silently build strategy Resource instead",
        "io_type: io_stream, or strategy Resource",
        _layer(
            lambda layer, design: _strategy(layer) == "resource_unrolled"
            and layer.is_convolution
            and design.target.io_type == "io_parallel"
        ),
    ),
    Rule(
        "reuse factor",
        "Resource and Resource_Unrolled with a reuse factor that does not fit the layer's matrix",
        "hls4ml would silently take another one",
        "one of the layer's own, named in the error",
        _reuse_factor,
    ),
)  # fmt: skip


def find_refusal(network: fx.GraphModule, target: Target, backend: str = "Vitis") -> Refusal | None:
    """The first rule that speaks against building ``network`` so, or None.

    ``network`` is quantised, or prepared for it (``quantize.graph.prepare``). Raises ExportError as ``layouts`` does.
    """
    by_name = {layout.layer: layout for layout in layouts(network, target)}
    layers = tuple(
        WeightLayer(name, module, by_name[name], module.weight[0].numel(), len(module.weight))
        for name, module in _weight_modules(network)
    )
    design = Design(network, target, backend, layers)
    for rule in RULES:
        found = rule.find(design)
        if found is not None:
            where, instead = found
            return Refusal(rule.name, where, rule.reason, instead or rule.instead)
    return None


def require_supported(network: fx.GraphModule, target: Target, backend: str = "Vitis") -> None:
    """Raise ExportError with reason and way out where ``find_refusal`` finds one."""
    refusal = find_refusal(network, target, backend)
    if refusal is not None:
        raise ExportError(f"hls4ml cannot build this: {refusal}", hint=f"use instead: {refusal.instead}")


def layouts(network: fx.GraphModule, target: Target) -> list[LayerLayout]:
    """Layout of every weight layer, in order of computation.

    A frozen depthwise convolution is the mean over positions; its weights are one power of two and have no multiplier
    that a strategy could lay out, so it gets Latency unless ``target.layers`` names it. Raises
    ExportError where the target lays out a layer that does not exist.
    """
    modules = _weight_modules(network)
    names = [name for name, _ in modules]
    unknown = [entry.layer for entry in target.layers if entry.layer not in names]
    if unknown:
        raise ExportError(f"the target lays out {', '.join(unknown)}", hint=f"weight layers: {', '.join(names)}")
    own = {entry.layer for entry in target.layers}
    found = []
    for name, module in modules:
        layout = target.layout(name)
        frozen_mean = getattr(module, "groups", 1) > 1 and not module.weight.requires_grad
        if frozen_mean and name not in own:
            layout = LayerLayout(name, "Latency", 1)
        found.append(layout)
    return found


def _weight_modules(network: fx.GraphModule) -> list[tuple[str, Any]]:
    found = []
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, _WEIGHTED):
            found.append((str(node.target), module))
    return found

"""The wires of a network in order of computation: what is compared to find the first layer that differs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.graph import module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer
from trigger_prune.verify.verdict import FirstDifference

WireKind = Literal["sum", "quantised"]


@dataclass(frozen=True)
class Wire:
    """Values behind one weight layer (``sum``) or one activation quantiser (``quantised``), ``(events, ...)``."""

    layer: str
    kind: WireKind
    values: NDArray[np.float64]


class _Collector(fx.Interpreter):
    def __init__(self, network: fx.GraphModule, kinds: dict[str, WireKind]) -> None:
        super().__init__(network)
        self.kinds = kinds
        self.wires: list[Wire] = []

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_module" and n.target in self.kinds:
            self.wires.append(Wire(str(n.target), self.kinds[str(n.target)], result.double().numpy()))
        return result


def torch_wires(network: fx.GraphModule, features: NDArray[np.float32], *, double: bool = True) -> list[Wire]:
    """Wires of the fixed-point torch network, computed in float64 (exact) or float32."""
    kinds: dict[str, WireKind] = {}
    for node in network.graph.nodes:
        module = module_of(network, node)
        if isinstance(module, WEIGHT_LAYERS):
            kinds[str(node.target)] = "sum"
        elif isinstance(module, FixedQuantizer):
            kinds[str(node.target)] = "quantised"
    collector = _Collector(freeze(network, double=double).cpu(), kinds)
    with torch.no_grad():
        collector.run(torch.from_numpy(features.astype(np.float64 if double else np.float32)))
    return collector.wires


def first_difference(reference: Iterable[Wire], other: Iterable[Wire], event: int) -> FirstDifference | None:
    """The first wire of ``reference`` whose values differ from its counterpart, for one event (batches of one).

    Wires are paired by kind in order of computation, because names change from tool to tool. A wire that ``other``
    does not have is skipped: hls4ml may merge a sum with the quantiser behind it. Both are read only as far as needed.
    None when no pair differs, or when the two cannot be paired.
    """
    remaining = iter(reference)
    for wire in other:
        counterpart = next((candidate for candidate in remaining if candidate.kind == wire.kind), None)
        if counterpart is None:
            return None
        expected, got = counterpart.values.reshape(-1), wire.values.reshape(-1)
        if got.shape != expected.shape:
            return None
        different = np.flatnonzero(got != expected)
        if different.size:
            element = int(different[0])
            return FirstDifference(event, counterpart.layer, element, float(expected[element]), float(got[element]))
    return None

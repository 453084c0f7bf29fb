"""The cost that a refinement measures its progress by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import fx

from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.rtl.trace import trace_layers


@dataclass(frozen=True)
class MeasuredCost:
    """Cost of a network, and what each weight layer has of it."""

    total: float
    layers: Mapping[str, float]


CostMeasure = Callable[[fx.GraphModule], MeasuredCost]


def alkaid_cost(network: fx.GraphModule) -> MeasuredCost:
    """Cost of alkaid's adder graph: 0.9 to 1 of the LUTs that Yosys needs for its Verilog, found in a second.

    It shares partial sums by a heuristic: nearly equal networks can differ by several per cent. Raises what
    ``trace_network`` raises, ToolError without alkaid.
    """
    comb, layers = trace_layers(freeze(network), input_type_of(network), input_shape_of(network))
    return MeasuredCost(float(comb.cost), layers)

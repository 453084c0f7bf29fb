"""Which layer the logic belongs to: an attribution by alkaid's adder cost, not a measurement.

Synthesis works on the flattened design, shares logic across layers and keeps no boundary between them, so mapped LUTs
cannot be counted per layer. alkaid's cost of the adder graph can: it is a sum over operations, and the operations of a
layer are those that its outputs need and no earlier layer's outputs did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from trigger_prune.cost.report import LayerCost

INPUT_LOGIC = "input"
"""Name of what comes before the first weight layer."""

NOTE = "LUTs of a layer: the measured total, shared out in proportion to alkaid's adder cost (no measurement per layer)"

_WEIGHT_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def layer_costs(frozen: nn.Module, inputs: Any, values: Mapping[str, Any], outputs: Any) -> dict[str, float]:
    """alkaid's cost (about LUTs) of each weight layer with all that follows it up to the next one.

    ``values`` are the traced outputs of every node in graph order, as ``trace_model(dump=True)`` gives them. Only what
    the network's outputs need counts: a neuron without a reader costs nothing.
    """
    from alkaid.trace.tracer import gather_variables

    weight_layers = {name for name, module in frozen.named_modules() if isinstance(module, _WEIGHT_LAYERS)}
    needed = {variable.id for variable in gather_variables(_variables(inputs), _variables(outputs))}
    groups: dict[str, list[Any]] = {INPUT_LOGIC: []}
    current = INPUT_LOGIC
    for key, results in values.items():
        node, _, kind = key.rpartition("/")
        if kind != "final" or not node:
            continue
        name = node.partition("#")[0].replace("/", ".")
        current = name if name in weight_layers else current
        live = [v for result in results for v in _variables(result) if v.id in needed]
        groups.setdefault(current, []).extend(live)
    costs: dict[str, float] = {}
    so_far: list[Any] = []
    before = 0.0
    for name, live in groups.items():
        so_far += live
        cost = _cost(inputs, so_far)
        costs[name] = max(cost - before, 0.0)
        before = cost
    if not costs[INPUT_LOGIC]:
        del costs[INPUT_LOGIC]
    return costs


def share_out(luts: int, costs: Mapping[str, float]) -> tuple[LayerCost, ...]:
    """``luts`` divided in proportion to ``costs``, whole numbers that add up to ``luts`` (largest remainders)."""
    total = sum(costs.values())
    if not total:
        return ()
    exact = np.array([luts * cost / total for cost in costs.values()])
    whole = np.floor(exact).astype(int)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: luts - int(whole.sum())]] += 1
    return tuple(LayerCost(name, lut=int(lut)) for name, lut in zip(costs, whole, strict=True))


def _variables(array: Any) -> list[Any]:
    """Symbolic elements of an array; numbers are constants and cost nothing."""
    return [element for element in np.ravel(array) if hasattr(element, "qint")]


def _cost(inputs: Any, outputs: list[Any]) -> float:
    from alkaid.trace import trace
    from alkaid.trace.passes import add_surrogate

    return float(add_surrogate(trace(inputs, outputs, optimize=False)).cost) if outputs else 0.0

"""What a variant of a network costs, by the analytic model."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import fx

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.errors import CostError, ModelError
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers
from trigger_prune.sensitivity.variants import Variant
from trigger_prune.target import Target


@dataclass(frozen=True)
class PointCost:
    """LUTs and latency of a whole network."""

    lut: int
    latency_ns: float


class AnalyticScan:
    """Costs of variants; a private copy takes their weights, the network is left alone.

    ``baseline`` is the cost of the network itself; None, as is that of every variant, for a network without formula.
    """

    def __init__(self, network: fx.GraphModule, target: Target) -> None:
        self._network = copy.deepcopy(network).eval()
        self._target = target
        self._known: dict[tuple[object, ...], PointCost | None] = {}
        self.baseline = self._measure()

    def of(self, variant: Variant) -> PointCost | None:
        """Cost of a variant; equal ones are computed once."""
        if self.baseline is None:
            return None
        content = variant.content()
        if content not in self._known:
            self._known[content] = self._with(variant)
        return self._known[content]

    def _with(self, variant: Variant) -> PointCost | None:
        layers = weight_layers(self._network)
        quantisers = dict(self._network.named_modules())
        undo: list[tuple[object, str, object]] = []

        def put(owner: object, name: str, value: object) -> None:
            undo.append((owner, name, getattr(owner, name)))
            setattr(owner, name, value)

        for name, state in variant.layers.items():
            layer = layers[name]
            put(layer, "weight", torch.nn.Parameter(state.weight, requires_grad=False))
            put(layer, "weight_mask", torch.ones_like(state.weight))
            put(layer, "weight_type", state.weight_type)
            put(layer, "bias_type", state.bias_type)
            if state.bias is not None:
                put(layer, "bias", torch.nn.Parameter(state.bias, requires_grad=False))
        for name, fixed in variant.quantisers.items():
            if isinstance(quantisers[name], FixedQuantizer):
                put(quantisers[name], "fixed", fixed)
        try:
            return self._measure()
        finally:
            for owner, name, value in reversed(undo):
                setattr(owner, name, value)

    def _measure(self) -> PointCost | None:
        try:
            report = AnalyticCost().estimate(describe_network(self._network), self._target)
        except (ModelError, CostError):
            return None
        if report.lut is None or report.latency_cycles is None:
            return None
        return PointCost(int(report.lut), report.latency_cycles * self._target.clock_period_ns)

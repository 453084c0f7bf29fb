"""What one layer is expected to cost, as plain numbers that the solver adds up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.cost.report import HardwareReport
from trigger_prune.prune.budget.options import CostVector
from trigger_prune.synthesis.refined_estimate import RefinedHlsCost
from trigger_prune.target import LayerLayout, Target


class LayerEstimator(Protocol):
    """Predicts the cost of a single layer; the costs of a network's layers add up to about the network's."""

    @property
    def latency_offset_cycles(self) -> float:
        """Cycles to add to the sum over the layers."""
        ...

    def layer_cost(self, layer: WeightLayer, layout: LayerLayout, target: Target) -> CostVector:
        """Cost of one layer as laid out. Raises ConfigError for a layout that hls4ml would replace, CostError for what
        has no formula."""
        ...


class RtlEstimator:
    """The adder formula of the ``rtl`` flow. Its latency is a delay in units of the longest pipeline stage, so that the
    sum over a chain, rounded up, is the number of stages; the rank of input registers is the offset."""

    latency_offset_cycles = 1.0

    def __init__(self, model: AnalyticCost) -> None:
        self.model = model

    def layer_cost(self, layer: WeightLayer, layout: LayerLayout, target: Target) -> CostVector:
        """See ``LayerEstimator``; the layout does not apply to this flow."""
        report = self.model.estimate(_alone(layer), target)
        stages = report.details["delay_units"] / report.details["adders_per_stage"]
        return CostVector(lut=report.lut or 0, ff=report.ff or 0, latency_cycles=stages, ii=1.0)


class HlsEstimator:
    """The csynth formulas: a layer together with its activation. Each layer takes a cycle more than its latency."""

    latency_offset_cycles = -1.0

    def __init__(self, model: HlsAnalyticCost | RefinedHlsCost) -> None:
        self.model = model

    def layer_cost(self, layer: WeightLayer, layout: LayerLayout, target: Target) -> CostVector:
        """See ``LayerEstimator``."""
        alone = replace(target, strategy=layout.strategy, reuse_factor=layout.reuse_factor, layers=())
        return _vector(self.model.estimate(_alone(layer), alone), extra_cycles=1.0)


class RuntimeEstimator:
    """Time on a processor in proportion to the multiplications of a dense layer of this shape.

    ``measured``: report of the unpruned network and its multiplications, which set the scale.
    """

    latency_offset_cycles = 0.0

    def __init__(self, report: HardwareReport, multiplications: int) -> None:
        self.p99_us = (report.latency_p99_us or 0.0) / multiplications
        self.event_us = (report.event_time_us or 0.0) / multiplications

    def layer_cost(self, layer: WeightLayer, layout: LayerLayout, target: Target) -> CostVector:
        """See ``LayerEstimator``. Rows and columns without weight are removed before the model is timed."""
        used = layer.weight.reshape(*layer.weight.shape[:2], -1) != 0
        size = int(used.any(axis=(1, 2)).sum()) * int(used.any(axis=(0, 2)).sum()) * used.shape[2] * layer.positions
        return CostVector(latency_p99_us=self.p99_us * size, event_time_us=self.event_us * size)


def chain_cost(
    estimator: LayerEstimator, layers: tuple[WeightLayer, ...], layout: Callable[[str], LayerLayout], target: Target
) -> CostVector:
    """Sum over the layers of a network, as the solver sees it: latency with the offset, the largest II."""
    costs = [estimator.layer_cost(layer, layout(layer.name), target) for layer in layers]
    sums = {name: sum(getattr(cost, name) for cost in costs) for name in vars(costs[0])}
    sums["latency_cycles"] += estimator.latency_offset_cycles
    sums["ii"] = max(cost.ii for cost in costs)
    return CostVector(**sums)


def _alone(layer: WeightLayer) -> NetworkSpec:
    """The layer as a network of its own."""
    channels = int(layer.weight.shape[1]) * layer.groups
    shape = (channels,) if layer.kind == "dense" else (channels, *layer.input_size)
    return NetworkSpec((layer,), layer.input_type, shape, len(layer.weight) * layer.positions)


def _vector(report: HardwareReport, extra_cycles: float) -> CostVector:
    return CostVector(
        lut=report.lut or 0,
        ff=report.ff or 0,
        dsp=report.dsp or 0,
        bram18=report.bram18 or 0,
        uram=report.uram or 0,
        latency_cycles=(report.latency_cycles or 0) + extra_cycles,
        ii=report.ii or 1,
    )

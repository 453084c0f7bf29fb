"""What the light and the full model of a two-stage trigger cost: estimated per reuse factor and clock, or measured.

Both are estimated by one model of cost (``HlsAnalyticCost`` unless another is given), so their sum is honest. The light
model is laid out in strategy latency at reuse factor 1; the full model at every reuse factor that is tried, with the
interval and latency that it then has: only multipliers become fewer as the reuse factor grows. hls4ml takes a reuse
factor per layer, and not every one: a wanted factor is rounded down in every layer to what hls4ml can build there, so
that no layer is slower than what was wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from trigger_prune.config.project import CostConfig
from trigger_prune.cost._base import CostModel
from trigger_prune.cost.hls.from_spec import design_from_spec, inferred_type
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.hls.reuse_factor import (
    MULTIPLYING_KINDS,
    allowed_reuse_factors,
    effective_strategy,
    multiplication_size,
)
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import ConfigError, CostError
from trigger_prune.target import LayerLayout, Target
from trigger_prune.two_stage.latency import CLOCK_TOLERANCE
from trigger_prune.two_stage.options import UNROLLED, FullOption
from trigger_prune.units import BUNCH_CROSSING_NS

if TYPE_CHECKING:
    from torch import nn

Network: TypeAlias = "nn.Module | NetworkSpec"

MOST_CROSSINGS = 8
"""Slowest engine that is tried when nothing else is said: one object in so many crossings."""

_MEASURING = ("csynth", "vsynth", "pnr")


def engine_cost_model(config: CostConfig, project_dir: Path = Path()) -> CostModel:
    """What both models of a two-stage trigger are measured or estimated with.

    The compiler itself where the project measures with it (a synthesis per reuse factor and clock); otherwise the
    estimate of its report, as adder trees in Verilog cannot be shared. Raises as ``make_cost_model``.
    """
    from trigger_prune.synthesis.backends import csynth_estimate, make_cost_model

    if config.backend in _MEASURING:
        return make_cost_model(config, project_dir)
    return csynth_estimate(config, project_dir)


def light_cost(
    network: Network,
    target: Target,
    clock_multiple: int,
    model: CostModel | None = None,
    strategy: str = "Latency",
) -> HardwareReport:
    """One copy of a light model, fully parallel (reuse factor 1), at this multiple of the LHC clock.

    ``target`` gives the part and the interface. Raises as the cost model, and CostError for a report without latency
    or interval.
    """
    layout = replace(_clocked(target, clock_multiple), strategy=strategy, reuse_factor=1, layers=())
    return _stated(_measure(network, layout, model), "the light model")


def full_options(
    name: str,
    network: Network,
    target: Target,
    strategy: str,
    reuse_factors: Sequence[int] | None,
    clock_multiples: Sequence[int],
    model: CostModel | None = None,
) -> tuple[FullOption, ...]:
    """The full model as the shared engine, one option per clock and distinct layout, fastest first.

    ``reuse_factors`` None: 1 and powers of two within a crossing, then one to eight whole crossings. An option's
    ``reuse_factor`` is the largest of its layers; ``cost.details["reuse_factors"]`` has that of every layer. Raises
    ConfigError for a reuse factor above 1 of a strategy that cannot be shared, else as the cost model.
    """
    found = []
    for multiple in clock_multiples:
        known: set[tuple[int, ...]] = set()
        for wanted in _wanted(strategy, reuse_factors, multiple, name):
            layout = layout_of(network, target, strategy, wanted, multiple)
            factors = {entry.layer: entry.reuse_factor for entry in layout.layers}
            if tuple(factors.values()) in known:
                continue
            known.add(tuple(factors.values()))
            cost = _stated(_measure(network, layout, model), f"{name}, reuse factor {layout.reuse_factor}")
            cost = cost.with_details(reuse_factors=factors)
            found.append(FullOption(name, strategy, layout.reuse_factor, cost, multiple))
    return tuple(found)


def layout_of(network: Network, target: Target, strategy: str, reuse_factor: int, clock_multiple: int) -> Target:
    """How hls4ml is to lay out the full model: every layer at the largest reuse factor up to ``reuse_factor`` that it
    can be built with, at this multiple of the LHC clock. Raises ConfigError for an unknown strategy or a factor below
    1."""
    if reuse_factor < 1:
        raise ConfigError(f"reuse factor {reuse_factor} is below 1")
    clocked = replace(_clocked(target, clock_multiple), strategy=strategy, reuse_factor=1, layers=())
    design = design_from_spec(_spec(network), clocked)
    layers = []
    for layer in design.layers:
        if layer.kind not in MULTIPLYING_KINDS:
            continue
        built = effective_strategy(layer.strategy, reuse_factor, layer.kind, design.setting.io_type)
        allowed = allowed_reuse_factors(*multiplication_size(layer), built)
        factor = reuse_factor if allowed is None else max((f for f in allowed if f <= reuse_factor), default=1)
        layers.append(LayerLayout(layer.name, strategy, factor))
    largest = max(layer.reuse_factor for layer in layers)
    return replace(clocked, reuse_factor=largest, layers=tuple(layers))


def full_options_from_reports(
    name: str, strategy: str, reports: Mapping[tuple[int, int], HardwareReport]
) -> tuple[FullOption, ...]:
    """The full model as it was measured: ``(reuse factor, clock multiple)`` -> report, e.g. of csynth.

    The light models must then be measured in the same way (``measured_cost``), or their sum is refused. Raises
    StageMismatchError when the reports are not of one stage, CostError as ``measured_cost``, ConfigError as
    ``FullOption``.
    """
    found: list[FullOption] = []
    for (factor, multiple), report in sorted(reports.items(), key=lambda item: (item[0][1], item[0][0])):
        cost = measured_cost(report, multiple, f"{name}, reuse factor {factor}")
        if found:
            found[0].cost.require_same_stage(cost)
        found.append(FullOption(name, strategy, factor, cost, multiple))
    return tuple(found)


def measured_cost(report: HardwareReport, clock_multiple: int, what: str) -> HardwareReport:
    """A report of the user's for a design at this multiple of the LHC clock.

    The clock period becomes the exact one, so that reports that round differently can be added. Raises CostError when
    latency or interval are not stated, or the period is another one by more than 0.5 %.
    """
    wanted = _period_ns(clock_multiple)
    period = report.clock_period_ns
    if period is None or abs(period / wanted - 1) > CLOCK_TOLERANCE:
        clock = "no clock period" if period is None else f"a clock period of {period:g} ns"
        raise CostError(
            f"{what}: {report.source} has {clock}, {clock_multiple} cycles per crossing are {wanted:.4g} ns",
            hint="synthesise it at that period, or name the clock multiple that it was made for",
        )
    return replace(_stated(report, what), clock_period_ns=wanted)


def word_bits(network: Network) -> int:
    """Bits of one object as this network reads it."""
    spec = _spec(network)
    size = 1
    for length in spec.input_shape:
        size *= length
    return size * spec.input_type.width


def score_bits(network: Network, *, difference: bool = False) -> int:
    """Bits of the network's output, one more for a score that is a difference of outputs."""
    last = _spec(network).layers[-1]
    return (last.output_type or inferred_type(last)).width + difference


def _wanted(strategy: str, reuse_factors: Sequence[int] | None, multiple: int, name: str) -> tuple[int, ...]:
    if strategy.lower() in UNROLLED:
        shared = [factor for factor in reuse_factors or () if factor > 1]
        if shared:
            raise ConfigError(
                f"{name}: strategy {strategy} is fully unrolled; reuse factors {shared} do not make it smaller",
                hint="leave two_stage.reuse_factors out, or set two_stage.strategy to Resource",
            )
        return (1,)
    if reuse_factors is not None:
        return tuple(sorted(set(reuse_factors)))
    within = [2**power for power in range(multiple.bit_length()) if 2**power < multiple]
    return (*(within or [1]), *(multiple * crossings for crossings in range(1, MOST_CROSSINGS + 1)))


def _period_ns(clock_multiple: int) -> float:
    if clock_multiple < 1:
        raise ConfigError(f"a clock of {clock_multiple} cycles per crossing makes no sense")
    return BUNCH_CROSSING_NS / clock_multiple


def _clocked(target: Target, clock_multiple: int) -> Target:
    return replace(target, clock_period_ns=_period_ns(clock_multiple))


def _measure(network: Network, target: Target, model: CostModel | None) -> HardwareReport:
    if not isinstance(network, NetworkSpec):
        return (model or HlsAnalyticCost()).measure(network, target)
    estimate: Callable[[NetworkSpec, Target], HardwareReport] | None = getattr(
        model or HlsAnalyticCost(), "estimate", None
    )
    if estimate is None:
        raise CostError("a network given as integers can only be estimated, not built")
    return estimate(network, target)


def _stated(report: HardwareReport, what: str) -> HardwareReport:
    if report.latency_cycles is None or not report.ii:
        raise CostError(f"{what}: {report.source} states no latency or no initiation interval")
    return report


def _spec(network: Network) -> NetworkSpec:
    if isinstance(network, NetworkSpec):
        return network
    from trigger_prune.quantize.describe import describe_network

    return describe_network(network)

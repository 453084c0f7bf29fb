"""What a two-stage design can be made of: light models, full models at their reuse factors, and their hardware."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from trigger_prune.cost.report import RESOURCES, CostStage, HardwareReport
from trigger_prune.errors import ConfigError, CostError
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.traffic import Engine

UNROLLED = ("distributed_arithmetic",)
"""Strategies whose multipliers are gone: there is nothing left that several objects could share over time."""

BufferCost = Callable[[Engine], HardwareReport]
"""FIFO, comparators and control of an engine, at a stage of their own."""


@dataclass(frozen=True, eq=False)
class LightOption:
    """A light model at one clock.

    validation, test   its scores beside those of the full model
    cost               of one copy; needs ``latency_cycles`` and ``ii``
    clock_multiple     clock cycles per bunch crossing

    Raises CostError when the cost states no latency or interval, ConfigError for a multiple below 1.
    """

    name: str
    validation: TwoStageSample
    test: TwoStageSample
    cost: HardwareReport
    clock_multiple: int

    def __post_init__(self) -> None:
        _check(self.name, self.cost, self.clock_multiple)


@dataclass(frozen=True, eq=False)
class FullOption:
    """The full model at one reuse factor and clock; ``cost`` is that of this reuse factor, ``cost.ii`` the interval.

    Raises as ``LightOption`` does, and ConfigError for a strategy that cannot be time-shared at a reuse factor above 1.
    """

    name: str
    strategy: str
    reuse_factor: int
    cost: HardwareReport
    clock_multiple: int

    def __post_init__(self) -> None:
        _check(self.name, self.cost, self.clock_multiple)
        if self.strategy in UNROLLED and self.reuse_factor > 1:
            raise ConfigError(
                f"{self.name}: strategy {self.strategy} is fully unrolled, a reuse factor of {self.reuse_factor} does "
                "not make it smaller",
                hint="two stages save nothing here; compare with strategy resource, or prune the network alone",
            )

    def engine(self, fifo_depth: int) -> Engine:
        """This model behind a FIFO. Raises ConfigError for a negative depth."""
        return Engine(int(self.cost.ii or 0), self.clock_multiple, fifo_depth)


@dataclass(frozen=True, eq=False)
class EveryObject:
    """A model that judges every object of every crossing, without a queue: a light model, or a full one alone.

    copies           instances side by side, as few as keep up
    cost             of all copies
    latency_cycles   until the last object of a crossing has its score: a copy takes its objects one after the other
    """

    copies: int
    cost: HardwareReport
    latency_cycles: int


def judging_every_object(cost: HardwareReport, clock_multiple: int, objects_per_crossing: int) -> EveryObject:
    """How often a model must be there to judge up to ``objects_per_crossing`` objects in each crossing.

    With one object and a reuse factor up to the cycles per crossing this is the model itself: time-sharing that costs
    no physics and needs no second stage. Raises CostError for a cost without latency or interval.
    """
    _check("the model", cost, clock_multiple)
    interval, latency = int(cost.ii or 0), int(cost.latency_cycles or 0)
    copies = math.ceil(objects_per_crossing * interval / clock_multiple)
    in_turn = math.ceil(objects_per_crossing / copies)
    return EveryObject(copies, times(cost, copies), latency + (in_turn - 1) * interval)


def times(cost: HardwareReport, copies: int) -> HardwareReport:
    """Resources of identical designs side by side; latency and interval stay those of one."""
    if copies == 1:
        return cost
    numbers: dict[str, Any] = {
        name: None if getattr(cost, name) is None else copies * getattr(cost, name) for name in RESOURCES
    }
    return replace(
        cost,
        layers=cost.layers * copies,
        interval_90={},
        content_hash=f"{copies} x {cost.content_hash}",
        **numbers,
    )


def together(light: HardwareReport, full: HardwareReport) -> HardwareReport:
    """Resources of both models side by side.

    Where one is estimated and the other measured at the very stage that the estimate predicts, the sum is an estimate
    of that stage (``details["measured"]`` says what is none). Raises StageMismatchError for any other mixture.
    """
    for estimate, other in ((light, full), (full, light)):
        if estimate.stage is CostStage.ANALYTIC and estimate.predicts is other.stage:
            predicted = {name: getattr(estimate, name) for name in ("stage", "tool", "tool_version", "predicts")}
            named = replace(other, **predicted)
            both = light + named if other is full else named + full
            return both.with_details(measured=other.source)
    return light + full


def used(resource: str, *costs: HardwareReport | None) -> int:
    """Sum of one resource over designs that may be of different stages. Raises CostError where one states none."""
    total = 0
    for cost in costs:
        if cost is None:
            continue
        value = getattr(cost, resource) if resource in RESOURCES else None
        if value is None:
            raise CostError(f"{cost.source} does not state {resource}", hint=f"choose one of {', '.join(RESOURCES)}")
        total += value
    return total


def _check(name: str, cost: HardwareReport, clock_multiple: int) -> None:
    if clock_multiple < 1:
        raise ConfigError(f"{name}: a clock of {clock_multiple} cycles per crossing makes no sense")
    if cost.latency_cycles is None or not cost.ii:
        raise CostError(f"{name}: {cost.source} states no latency or no initiation interval")

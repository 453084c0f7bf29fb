"""The lines of the comparison: every figure of test events, at thresholds that validation events have set."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.hls.shared_error import SHARED_ERROR
from trigger_prune.cost.report import HardwareReport
from trigger_prune.physics.intervals import Estimate, clustered_fraction_estimate
from trigger_prune.physics.rates import RateEstimate, find_threshold, sum_rate
from trigger_prune.two_stage.compare import Ladder, PairedLoss, paired_loss, single_ladder, two_stage_ladder
from trigger_prune.two_stage.findings import ComparedRow, RowKind
from trigger_prune.two_stage.options import FullOption
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.search import Requirements, SingleStage, TwoStageDesign, single_stages
from trigger_prune.two_stage.working_point import TwoStageWorkingPoint

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class AloneModel:
    """A model that judges every object without another.

    validation, test   float64 ``(objects,)``: its scores
    options            its hardware at every reuse factor and clock that may be taken
    note               what must be said beside its line
    """

    kind: RowKind
    name: str
    validation: Floats
    test: Floats
    options: tuple[FullOption, ...]
    note: str = ""


@dataclass(frozen=True, eq=False)
class MenuDecisions:
    """What a cut-based menu, fitted on validation, accepts of test: bool ``(rows,)``."""

    name: str
    test: Bools


@dataclass(frozen=True)
class JudgedRow:
    """A line with what the recommendation must know of it.

    used       of the resource that is to be small; None for a menu
    spread     half width of the 90 % interval of its logarithm; None where an estimate states no interval
    problems   why it cannot be built as required; empty where it can
    shared     part of ``spread`` that the estimates of the full model have in common, whatever its reuse factor:
               between two lines only the difference of theirs counts
    """

    row: ComparedRow
    used: int | None
    spread: float | None
    problems: tuple[str, ...]
    shared: float = 0.0


@dataclass(frozen=True, eq=False)
class TableInputs:
    """What all lines share: samples whose ``full`` scores are the reference's, and the seed of the bootstrap.

    Every comparison is made once, also by copies of the object for another latency budget.
    """

    validation: TwoStageSample
    test: TwoStageSample
    requirements: Requirements
    seed: int = 0
    _losses: dict[tuple[bytes, TwoStageSample], PairedLoss] = field(default_factory=dict, repr=False)

    def loss(self, candidate: Ladder, test: TwoStageSample | None = None) -> PairedLoss:
        """Against the full model alone, both at exactly the target rate."""
        sample, needs = test or self.test, self.requirements
        digest = hashlib.sha256()
        for array in (candidate.row, candidate.score, candidate.probability):
            digest.update(array.tobytes())
        key = (digest.digest(), sample)
        if key not in self._losses:
            reference = single_ladder(sample, sample.full)
            self._losses[key] = paired_loss(
                sample, reference, candidate, needs.target_hz, needs.signal_name, seed=self.seed
            )
        return self._losses[key]


def smallest_single(options: tuple[FullOption, ...], requirements: Requirements) -> tuple[SingleStage, FullOption]:
    """The smallest single stage that judges every object and meets everything; where none does, the smallest of all.

    Among equally small ones that with the fewest LUTs, then the quickest.
    """
    pairs = list(zip(single_stages(options, requirements), options, strict=True))

    def order(pair: tuple[SingleStage, FullOption]) -> tuple[bool, int, float, float]:
        stage = pair[0]
        lut = stage.every.cost.lut
        return bool(stage.problems), stage.resource_used, math.inf if lut is None else lut, stage.latency.output_ns

    return min(pairs, key=order)


def single_row(model: AloneModel, table: TableInputs) -> JudgedRow:
    """A model alone, as its smallest single stage."""
    needs = table.requirements
    stage, option = smallest_single(model.options, needs)
    threshold = threshold_alone(table.validation, model.validation, needs.target_hz)
    passes = table.test.best(model.test) >= threshold
    efficiency, rate = _passing(table.test, passes, needs.signal_name)
    is_reference = model.kind == "full"
    row = ComparedRow(
        kind=model.kind,
        name=model.name,
        efficiency=efficiency,
        rate=rate,
        loss=None if is_reference else table.loss(single_ladder(table.test, model.test)),
        cost=stage.every.cost,
        buffer=None,
        latency=stage.latency,
        note=_joined(_layout(stage, option), _slowest(model, stage, needs), model.note, *stage.problems),
    )
    spread = _spread(needs.resource, option.cost)
    shared = _shared(needs.resource, option.cost) if is_reference else 0.0
    return JudgedRow(row, stage.resource_used, spread, stage.problems, shared)


def menu_row(menu: MenuDecisions, table: TableInputs) -> JudgedRow:
    """Cuts on trigger objects. For the loss its decisions are a score of two values, ties broken at random."""
    efficiency, rate = _passing(table.test, menu.test, table.requirements.signal_name)
    rows = np.arange(len(menu.test))
    ladder = Ladder(rows, menu.test.astype(np.float64), np.ones(len(rows)))
    row = ComparedRow(
        kind="menu",
        name=menu.name,
        efficiency=efficiency,
        rate=rate,
        loss=table.loss(ladder),
        cost=None,
        buffer=None,
        latency=None,
        note="cuts on trigger objects, thresholds in steps of 0.5 GeV",
    )
    return JudgedRow(row, None, None, ())


def two_stage_row(
    design: TwoStageDesign,
    light: HardwareReport,
    full: FullOption,
    test: TwoStageSample,
    point: TwoStageWorkingPoint,
    table: TableInputs,
) -> JudgedRow:
    """A design of the search. ``light`` is the cost of one copy, ``test`` has the scores of its light model."""
    needs = table.requirements
    ladder = two_stage_ladder(test, point.thresholds, test.rooms(point.queue))
    engine = design.engine
    share = point.escalated
    row = ComparedRow(
        kind="two_stage",
        name=f"{design.light_name}, then {design.full_name}",
        efficiency=point.efficiency[needs.signal_name],
        rate=point.test_rate,
        loss=table.loss(ladder, test),
        cost=design.cost,
        buffer=design.buffer,
        latency=design.latency,
        note=_joined(
            f"reuse factor {full.reuse_factor}{_measured(full)}, II {engine.ii_cycles} cycles, FIFO of "
            f"{engine.fifo_depth}; "
            f"{100 * share.value:.3g} +- {100 * share.error:.1g} % escalated, "
            f"{point.queue.overflow_per_object:.2g} of these lost",
            *design.problems,
        ),
    )
    spreads = [_spread(needs.resource, light), _spread(needs.resource, full.cost)]
    sizes = [getattr(cost, needs.resource) or 0 for cost in (design.light.cost, full.cost)]
    spread, shared = None, 0.0
    if None not in spreads and design.resource_used:
        # the parts' errors are taken as independent
        spread = math.hypot(
            *((one or 0.0) * size / design.resource_used for one, size in zip(spreads, sizes, strict=True))
        )
        shared = _shared(needs.resource, full.cost) * sizes[1] / design.resource_used
    return JudgedRow(row, design.resource_used, spread, design.problems, shared)


def threshold_alone(validation: TwoStageSample, scores: Floats, target_hz: float) -> float:
    """Of a model that judges alone: the lowest of its ``scores`` ``(objects,)`` whose rate is within the target."""
    best = validation.best(scores)[validation.background]
    some = np.isfinite(best)
    weights = np.where(some, validation.weights[validation.background], 0.0)
    return find_threshold(np.where(some, best, 0.0), weights, target_hz).value


def _passing(test: TwoStageSample, passes: Bools, signal_name: str) -> tuple[Estimate, RateEstimate]:
    signal = test.signal == test.process(signal_name)
    accepted = test.background & passes
    return (
        clustered_fraction_estimate(passes[signal], test.weights[signal], test.groups[signal]),
        sum_rate(test.weights[accepted], test.groups[accepted]),
    )


def _layout(stage: SingleStage, option: FullOption) -> str:
    copies = "" if stage.every.copies == 1 else f", {stage.every.copies} copies"
    return f"{option.strategy}, reuse factor {stage.reuse_factor}, II {option.cost.ii}{copies}{_measured(option)}"


def _measured(option: FullOption) -> str:
    """Said of a full model that reports of the user's are about, beside estimates."""
    return f", measured: {option.cost.stage}" if "report" in option.cost.details else ""


def _slowest(model: AloneModel, chosen: SingleStage, requirements: Requirements) -> str:
    """Of the full model: the largest reuse factor that one copy keeps up with, where a smaller one is smaller yet."""
    if model.kind != "full" or chosen.every.copies > 1:
        return ""
    single = [stage for stage in single_stages(model.options, requirements) if stage.every.copies == 1]
    slowest = max(single, key=lambda stage: stage.reuse_factor)
    if slowest.reuse_factor <= chosen.reuse_factor:
        return ""
    unit = requirements.resource.upper()
    return f"reuse factor {slowest.reuse_factor}, the largest that keeps up, takes {slowest.resource_used} {unit}"


def _spread(resource: str, cost: HardwareReport) -> float | None:
    """Half width of the 90 % interval of the logarithm; 0 for a measurement, None for an estimate without interval."""
    low, high = cost.interval_90.get(resource, (0.0, 0.0))
    if low > 0:
        return math.log(high / low) / 2
    return None if cost.predicts is not None and getattr(cost, resource) else 0.0


def _shared(resource: str, cost: HardwareReport) -> float:
    """Part of ``_spread`` that an estimate at another reuse factor has in common; 0 where nothing is said of it."""
    found = cost.details.get(SHARED_ERROR, {}).get(resource, 0.0)
    return min(float(found), _spread(resource, cost) or 0.0)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)

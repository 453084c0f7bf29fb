"""The test side of a two-stage study: the chosen design with its working point, comparators and parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from trigger_prune.errors import DataError
from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.rates import Threshold
from trigger_prune.two_stage.buffer import buffer_parts
from trigger_prune.two_stage.decision import Thresholds
from trigger_prune.two_stage.findings import BestDesign, DesignPart, DesignPoint
from trigger_prune.two_stage.options import FullOption
from trigger_prune.two_stage.queue import QueueResult, solve_queue
from trigger_prune.two_stage.search import TwoStageDesign
from trigger_prune.two_stage.study_inputs import LightCandidate, StudyInputs, full_of
from trigger_prune.two_stage.table import JudgedRow, TableInputs, two_stage_row
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure, Engine
from trigger_prune.two_stage.working_point import TwoStageWorkingPoint, quote


def quoted(
    design: TwoStageDesign, light: LightCandidate, full: FullOption, inputs: StudyInputs, table: TableInputs
) -> tuple[BestDesign, JudgedRow]:
    """The design on test."""
    assert design.decision is not None
    solve = _solver(inputs.beam, design.engine)
    needs = inputs.requirements
    point = quote(light.validation, light.test, design.decision, needs.target_hz, solve)
    cost = next(option.cost for option in light.options if option.clock_multiple == design.engine.clock_multiple)
    row = two_stage_row(design, cost, full, light.test, point, table)
    copies = "" if design.light.copies == 1 else f", {design.light.copies} copies"
    parts = [
        DesignPart(f"light model {light.name}{copies}", design.light.cost),
        DesignPart(f"{full.name}, reuse factor {full.reuse_factor}", full.cost),
    ]
    if design.buffer is not None:
        parts += buffer_parts(design.buffer)
    best = BestDesign(
        point=design_point(design, inputs),
        thresholds=point.thresholds,
        integer_thresholds=integer_thresholds(point.thresholds, light.firmware, inputs.full_firmware),
        parts=tuple(parts),
        working_point=point,
        overflow_by_depth=_overflow_by_depth(point, design.engine, inputs),
    )
    return best, row


def integer_thresholds(thresholds: Thresholds, light: FirmwareScore, full: FirmwareScore) -> dict[str, int | None]:
    """The thresholds in steps of the scores; None where nothing passes.

    Raises DataError when a threshold is not on the grid of its score.
    """
    found: dict[str, int | None] = {}
    for name, value in vars(thresholds).items():
        firmware = full if name == "t_full" else light
        found[name] = firmware.integer(Threshold(value, 0.0, 0.0, 0.0))
    return found


def _solver(beam: BeamStructure, engine: Engine) -> Callable[[Arrivals], QueueResult]:
    known: dict[Arrivals, QueueResult] = {}

    def solve(arrivals: Arrivals) -> QueueResult:
        if arrivals not in known:
            known[arrivals] = solve_queue(beam, arrivals, engine)
        return known[arrivals]

    return solve


def _overflow_by_depth(
    point: TwoStageWorkingPoint, engine: Engine, inputs: StudyInputs
) -> tuple[tuple[int, float], ...]:
    arrivals = Arrivals(point.queue.batch_probability)
    depths = sorted({*range(max(inputs.fifo_depths) + 1), engine.fifo_depth})
    found = []
    for depth in depths:
        try:
            queue = solve_queue(inputs.beam, arrivals, replace(engine, fifo_depth=depth))
        except DataError:  # a queue that never settles has no loss to show
            continue
        found.append((depth, queue.overflow_per_object))
    return tuple(found)


def design_point(design: TwoStageDesign, inputs: StudyInputs) -> DesignPoint:
    """A design of the search in short."""
    full = full_of(design, inputs)
    multiplicity = inputs.lights[0].validation.multiplicity
    objects = 1.0 if multiplicity is None else float(np.arange(len(multiplicity)) @ np.asarray(multiplicity))
    queue, decision = design.queue, design.decision
    return DesignPoint(
        light_name=design.light_name,
        full_name=design.full_name,
        reuse_factor=full.reuse_factor,
        engine=design.engine,
        escalated_wanted=design.escalated,
        escalated=None if queue is None else queue.objects_per_crossing / objects,
        overflow=None if queue is None else queue.overflow_per_object,
        efficiency=None if decision is None else decision.efficiency,
        resource_used=design.resource_used,
        latency=design.latency,
        problems=design.problems,
        full_stage=full.cost.stage.value,
    )

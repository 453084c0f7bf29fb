"""The whole two-stage study: search on validation, figures on test, comparison with every simpler way, advice.

A study knows scores and costs, not networks: where they come from is the pipeline's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trigger_prune.two_stage.exploration import choose, front_of, loss_curve, search_all
from trigger_prune.two_stage.findings import BestDesign, SinglePoint, TwoStageFindings
from trigger_prune.two_stage.options import UNROLLED, FullOption, used
from trigger_prune.two_stage.quoted import design_point, quoted
from trigger_prune.two_stage.recommend import Facts, recommend
from trigger_prune.two_stage.search import TwoStageDesign, single_stages
from trigger_prune.two_stage.study_inputs import LightCandidate, StudyInputs, full_of, light_of
from trigger_prune.two_stage.table import AloneModel, JudgedRow, TableInputs, menu_row, single_row

LIGHT_STRATEGY = "Latency"
"""Light models are fully parallel."""


@dataclass(frozen=True, eq=False)
class Study:
    """The findings, and the chosen design as the search knows it with its light model."""

    findings: TwoStageFindings
    design: TwoStageDesign | None
    light: LightCandidate | None
    full: FullOption | None


def run_study(inputs: StudyInputs, note: Callable[[str], None] = lambda _: None) -> Study:
    """Search, choose, quote, compare, advise.

    A budget without solution is a finding, no error. Raises StageMismatchError when costs were not obtained alike,
    CostError when a resource is not stated, DataError for samples that cannot be compared.
    """
    warnings: list[str] = []
    inputs = _with_a_resource(inputs, warnings.append)
    needs = inputs.requirements
    curves = [loss_curve(light, inputs, warnings.append) for light in inputs.lights]
    shared = inputs.strategy not in UNROLLED
    designs = search_all(inputs, curves, note) if shared else ()
    front = front_of(designs)
    table = TableInputs(inputs.lights[0].validation, inputs.lights[0].test, needs, inputs.seed)
    chosen = choose(designs, front, inputs, table)
    rows = [single_row(inputs.full, table)]
    rows += [single_row(inputs.pruned, table)] if inputs.pruned is not None else []
    rows += [single_row(_alone(light), table) for light in inputs.lights]
    rows += [menu_row(inputs.menu, table)] if inputs.menu is not None else []
    best, light, full = None, None, None
    if chosen is not None:
        light, full = light_of(chosen, inputs), full_of(chosen, inputs)
        best, row = quoted(chosen, light, full, inputs, table)
        rows.append(row)
    warnings += _warnings(rows, best)
    points = tuple(design_point(design, inputs) for design in designs)
    overflow = None
    if best is not None:
        point = best.working_point
        overflow = (point.queue.overflow_per_object, point.overflow_low, point.overflow_high)
    findings = TwoStageFindings(
        signal_name=needs.signal_name,
        target_hz=needs.target_hz,
        rate_weights=inputs.rate_weights,
        beam=inputs.beam.name,
        filled=tuple(bool(slot) for slot in inputs.beam.filled),
        latency_budget_ns=needs.latency_budget_ns,
        resource=needs.resource,
        rows=tuple(judged.row for judged in rows),
        designs=points,
        front=front,
        singles=_singles(inputs),
        loss_curves=tuple(curve for curve in curves if curve.escalated),
        best=best,
        recommendation=recommend(Facts(tuple(rows), points, needs, inputs.strategy, inputs.max_loss, overflow)),
        warnings=(*inputs.remarks, *dict.fromkeys(warnings)),
        max_overflow=needs.max_overflow,
        max_loss=inputs.max_loss,
    )
    return Study(findings, chosen, light, full)


def _with_a_resource(inputs: StudyInputs, warn: Callable[[str], None]) -> StudyInputs:
    """LUTs instead of a resource that the full model does not need at any reuse factor; told as a warning."""
    needs = inputs.requirements
    if any(used(needs.resource, option.cost) for option in inputs.fulls) or needs.resource == "lut":
        return inputs
    warn(
        f"the full model needs no {needs.resource.upper()} at any reuse factor (its products are made of LUTs): "
        "LUTs are made small instead (two_stage.resource: lut)"
    )
    return replace(inputs, requirements=replace(needs, resource="lut"))


def _alone(light: LightCandidate) -> AloneModel:
    options = tuple(
        FullOption(light.name, LIGHT_STRATEGY, 1, option.cost, option.clock_multiple) for option in light.options
    )
    return AloneModel("light", light.name, light.validation.light, light.test.light, options, " ".join(light.notes))


def _singles(inputs: StudyInputs) -> tuple[SinglePoint, ...]:
    return tuple(
        SinglePoint(
            stage.full_name, stage.reuse_factor, stage.every.copies, stage.resource_used, stage.latency, stage.problems
        )
        for stage in single_stages(inputs.full.options, inputs.requirements)
    )


def _warnings(rows: Sequence[JudgedRow], best: BestDesign | None) -> list[str]:
    found = []
    for judged in rows:
        row = judged.row
        if row.rate.warning is not None:
            found.append(f"{row.name}: {row.rate.warning}")
        found += [f"{row.name}: {text}" for text in (row.loss.warnings if row.loss is not None else ())]
    if best is not None:
        found += list(best.working_point.warnings)
    return found

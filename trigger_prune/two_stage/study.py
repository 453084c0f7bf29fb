"""The whole two-stage study: search on validation, figures on test, comparison with every simpler way, advice.

A study knows scores and costs, not networks: where they come from is the pipeline's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trigger_prune.two_stage.exploration import choose, front_of, loss_curve, search_all
from trigger_prune.two_stage.findings import (
    BestDesign,
    BudgetPoint,
    DesignPoint,
    LossCurve,
    Recommendation,
    SinglePoint,
    TwoStageFindings,
)
from trigger_prune.two_stage.options import UNROLLED, FullOption, used
from trigger_prune.two_stage.quoted import design_point, quoted
from trigger_prune.two_stage.recommend import Facts, recommend
from trigger_prune.two_stage.search import Solved, TwoStageDesign, single_stages
from trigger_prune.two_stage.study_inputs import LightCandidate, SmallerBudget, StudyInputs, full_of, light_of
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


@dataclass(frozen=True, eq=False)
class _AtBudget:
    """The outcome of one latency budget."""

    inputs: StudyInputs
    rows: tuple[JudgedRow, ...]
    points: tuple[DesignPoint, ...]
    front: tuple[int, ...]
    design: TwoStageDesign | None
    best: BestDesign | None
    recommendation: Recommendation

    def in_short(self) -> BudgetPoint:
        """As a line of the table of budgets."""
        row = self.rows[-1].row if self.best is not None else None
        point = self.best.point if self.best is not None else None
        return BudgetPoint(self.inputs.requirements.latency_budget_ns, point, row, self.recommendation)


def run_study(inputs: StudyInputs, note: Callable[[str], None] = lambda _: None) -> Study:
    """Search, choose, quote, compare, advise.

    A budget without solution is a finding, no error. Raises StageMismatchError when costs were not obtained alike,
    CostError when a resource is not stated, DataError for samples that cannot be compared.
    """
    warnings: list[str] = []
    inputs = _with_a_resource(inputs, warnings.append)
    needs = inputs.requirements
    curves = [loss_curve(light, inputs, warnings.append) for light in inputs.lights]
    solved = Solved()
    table = TableInputs(inputs.lights[0].validation, inputs.lights[0].test, needs, inputs.seed)
    found = _at_budget(inputs, curves, table, solved, note)
    warnings += _warnings(found)
    budgets = [found.in_short()] if inputs.smaller_budgets else []
    for smaller in inputs.smaller_budgets:
        at = _at_budget(_with_budget(inputs, smaller), curves, table, solved, lambda _: None)
        solutions = sum(not point.problems for point in at.points)
        note(f"{smaller.latency_budget_ns:g} ns: {solutions} of these designs are solutions")
        warnings += [f"{smaller.latency_budget_ns:g} ns: {text}" for text in _warnings(at) if text not in warnings]
        budgets.append(at.in_short())
    findings = TwoStageFindings(
        signal_name=needs.signal_name,
        target_hz=needs.target_hz,
        rate_weights=inputs.rate_weights,
        beam=inputs.beam.name,
        filled=tuple(bool(slot) for slot in inputs.beam.filled),
        latency_budget_ns=needs.latency_budget_ns,
        resource=needs.resource,
        rows=tuple(judged.row for judged in found.rows),
        designs=found.points,
        front=found.front,
        singles=_singles(inputs),
        loss_curves=tuple(curve for curve in curves if curve.escalated),
        best=found.best,
        recommendation=found.recommendation,
        warnings=(*inputs.remarks, *dict.fromkeys(warnings)),
        max_overflow=needs.max_overflow,
        max_loss=inputs.max_loss,
        budgets=tuple(sorted(budgets, key=lambda budget: budget.latency_budget_ns)),
    )
    design = found.design
    if design is None:
        return Study(findings, None, None, None)
    return Study(findings, design, light_of(design, inputs), full_of(design, inputs))


def _with_budget(inputs: StudyInputs, smaller: SmallerBudget) -> StudyInputs:
    needs = replace(inputs.requirements, latency_budget_ns=smaller.latency_budget_ns)
    return replace(inputs, requirements=needs, buffer_cost=smaller.buffer_cost, smaller_budgets=())


def _at_budget(
    inputs: StudyInputs,
    curves: Sequence[LossCurve],
    table: TableInputs,
    solved: Solved,
    note: Callable[[str], None],
) -> _AtBudget:
    """Search, choice, comparison and advice at the budget of ``inputs``."""
    table = replace(table, requirements=inputs.requirements)
    designs = search_all(inputs, curves, solved, note) if inputs.strategy not in UNROLLED else ()
    front = front_of(designs)
    chosen = choose(designs, front, inputs, table)
    rows = [single_row(inputs.full, table)]
    rows += [single_row(inputs.pruned, table)] if inputs.pruned is not None else []
    rows += [single_row(_alone(light), table) for light in inputs.lights]
    rows += [menu_row(inputs.menu, table)] if inputs.menu is not None else []
    best, overflow = None, None
    if chosen is not None:
        best, row = quoted(chosen, light_of(chosen, inputs), full_of(chosen, inputs), inputs, table)
        rows.append(row)
        point = best.working_point
        overflow = (point.queue.overflow_per_object, point.overflow_low, point.overflow_high)
    points = tuple(design_point(design, inputs) for design in designs)
    facts = Facts(tuple(rows), points, inputs.requirements, inputs.strategy, inputs.max_loss, overflow)
    return _AtBudget(inputs, tuple(rows), points, front, chosen, best, recommend(facts))


def _with_a_resource(inputs: StudyInputs, warn: Callable[[str], None]) -> StudyInputs:
    """LUTs instead of a resource that the full model can do without, of which there is nothing to save; told as a
    warning."""
    needs = inputs.requirements
    without = [option.reuse_factor for option in inputs.fulls if not used(needs.resource, option.cost)]
    if not without or needs.resource == "lut":
        return inputs
    where = f"reuse factor {min(without)}" if len(without) < len(inputs.fulls) else "any reuse factor"
    warn(
        f"the full model needs no {needs.resource.upper()} at {where} (its products are made of LUTs): "
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
            stage.full_name,
            stage.reuse_factor,
            stage.every.copies,
            stage.resource_used,
            stage.latency,
            stage.problems,
            stage.every.cost.stage.value,
        )
        for stage in single_stages(inputs.full.options, inputs.requirements)
    )


def _warnings(found: _AtBudget) -> list[str]:
    texts = []
    for judged in found.rows:
        row = judged.row
        if row.rate.warning is not None:
            texts.append(f"{row.name}: {row.rate.warning}")
        texts += [f"{row.name}: {text}" for text in (row.loss.warnings if row.loss is not None else ())]
    if found.best is not None:
        texts += list(found.best.working_point.warnings)
    return texts

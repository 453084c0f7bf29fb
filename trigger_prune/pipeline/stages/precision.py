"""Stage ``precision`` of ``trigger-prune precision``: bits per layer of the float network, without training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from trigger_prune.config.project import make_budget, make_target
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ConfigError, ExportError
from trigger_prune.export.hls_precision import layer_precisions, write_precision_config
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.events import LOAD
from trigger_prune.pipeline.stages.goal import GOAL_KEYS, goal_of, make_batches
from trigger_prune.pipeline.stages.teacher import TEACHER
from trigger_prune.pipeline.stages.training import (
    COST_KEYS,
    COST_LIMITS,
    MODEL_KEYS,
    TRAIN,
    calibration_features,
    model_files,
    trained_float_model,
)
from trigger_prune.precision.search import (
    PrecisionPoint,
    PrecisionSearch,
    SearchInputs,
    search_tolerance,
    search_within,
)
from trigger_prune.precision.space import PrecisionSpace, RangeRule
from trigger_prune.precision.tables import candidate_rows, point_row, unit_rows
from trigger_prune.prune.budget.estimators import HlsEstimator, RtlEstimator
from trigger_prune.prune.budget.plan import InfeasibleBudgetError, limits_of
from trigger_prune.quantize.checkpoint import save_network
from trigger_prune.quantize.ptq.ranges import Exposure
from trigger_prune.sensitivity.table import write_csv
from trigger_prune.synthesis.backends import analytic_cost, csynth_estimate, make_cost_model
from trigger_prune.target import Budget
from trigger_prune.train.evaluate import evaluate

FOLDER = "precision"
"""Below the output folder."""

_MEASUREMENTS = 3

_ENOUGH = 0.95
"""Measured use / limit from which a budget counts as used."""


@dataclass(frozen=True)
class PrecisionResult:
    """What the stage found, as plain values: see ``precision.json``."""

    figures: dict[str, Any]
    folder: Path


@dataclass(frozen=True)
class _Found:
    search: PrecisionSearch
    network: fx.GraphModule
    figures: dict[str, Any]
    units: list[dict[str, Any]]
    notes: list[str]
    report: HardwareReport | None
    target: Any


def _compute(context: StageContext) -> _Found:
    config, events, goal = context.config, context.result("load"), goal_of(context)
    own, target = config.precision, make_target(config.target)
    model = trained_float_model(context, events).eval()
    train = make_batches(events, "train", goal)
    validation = make_batches(events, "validation", goal, plain_weights=goal.task == "classify")
    test = make_batches(events, "test", goal, plain_weights=goal.task == "classify")
    rows = torch.randperm(len(validation), generator=torch.Generator().manual_seed(config.seed))[: own.max_events]
    groups = torch.from_numpy(events.train.groups)[train.weights > 0]
    features = calibration_features(train)
    # the same rows as the features
    groups = groups[torch.arange(len(features)) * len(groups) // len(features)]
    rule = RangeRule(own.overflow_probability, own.confidence, Exposure(groups=groups.numpy()))
    space = PrecisionSpace(
        model,
        features,
        events.transform.fixed,
        own.weight_bits,
        own.activation_bits,
        rounding=config.quantize.rounding,
        rule=rule,
        compensate=own.compensate,
    )
    estimator, estimate = _formula(context)
    inputs = SearchInputs(
        space,
        validation.take(rows),
        validation,
        goal.task,
        goal.objective,
        target,
        estimator,
        estimate,
        own.step,
        own.rounds,
    )
    reference = evaluate(model, validation, goal.task, goal.objective)
    budget = make_budget(config.budget, config.target)

    def note(point: PrecisionPoint) -> None:
        text = f"loss {point.loss:.4f}, {goal.objective.label} {abs(point.merit):.4f}, expected LUT {point.cost.lut}"
        context.progress.note(f"{point.phase}: {text}")

    if own.tolerance is not None:
        found = search_tolerance(inputs, own.tolerance, reference.merit, own.minimise, note)
        report = _measured(context, found) if own.measure else None
    elif own.measure:
        found, report = _within_measured(context, inputs, budget, note)
    else:
        found, report = search_within(inputs, budget, note), None
    final = evaluate(found.network, test, goal.task, goal.objective)
    before = evaluate(model, test, goal.task, goal.objective)
    over = [] if report is None or own.tolerance is not None else _excess(report, budget)
    figures = {
        "objective": goal.objective.label or goal.objective.name,
        "float": {"validation": asdict(reference), "test": asdict(before)},
        "chosen": point_row(found.chosen, space),
        "test": asdict(final),
        "measured": None if report is None else json.loads(report.to_json()),
        "exceeded": over,
        "overflow_probability": own.overflow_probability,
        "confidence": own.confidence,
        "calibration_events": len(features),
    }
    units, notes = unit_rows(space, found, own.confidence)
    for line in notes:
        context.progress.warn(line)
    if over:
        context.progress.warn(f"the measured network exceeds the budget in {', '.join(over)}")
    return _Found(found, found.network, figures, units, notes, report, target)


def _measured(context: StageContext, found: PrecisionSearch) -> HardwareReport:
    config = context.config
    return make_cost_model(config.cost, context.project_dir).measure(found.network, make_target(config.target))


def _within_measured(
    context: StageContext, inputs: SearchInputs, budget: Budget, note: Callable[[PrecisionPoint], None]
) -> tuple[PrecisionSearch, HardwareReport]:
    """The best network whose measured cost is within the budget; the nearest where none is.

    What was measured corrects the expected costs, and the search is repeated while the budget is exceeded or a part of
    it was left unused.
    """
    tried: list[tuple[PrecisionSearch, HardwareReport]] = []
    for _ in range(_MEASUREMENTS):
        scale = _ratios(tried[-1][1], tried[-1][0].chosen.cost, budget) if tried else {}
        try:
            found = search_within(inputs, budget, note, scale)
        except InfeasibleBudgetError:
            if not tried:
                raise
            break  # the limits of a corrected search are not the user's; what was measured says what is missing
        if any(dict(found.chosen.choice) == dict(before.chosen.choice) for before, _ in tried):
            break
        report = _measured(context, found)
        tried.append((found, report))
        use = _use(report, budget)
        if _ENOUGH <= use <= 1:
            break
        context.progress.note(f"measured: {use:.0%} of the budget; the search is repeated with corrected costs")
    inside = [pair for pair in tried if _use(pair[1], budget) <= 1]
    if inside:
        return min(inside, key=lambda pair: pair[0].chosen.loss)
    return min(tried, key=lambda pair: _use(pair[1], budget))


def _use(report: HardwareReport, budget: Budget) -> float:
    """Largest use / limit of what the report states."""
    pairs = [(getattr(report, name), limit) for name, limit in limits_of(budget).items() if name != "ii"]
    return max((used / max(limit, 1e-9) for used, limit in pairs if used is not None), default=0.0)


def _formula(context: StageContext) -> tuple[Any, Any]:
    """What predicts single layers, and the whole network, for the project's backend."""
    config = context.config.cost
    if config.backend == "runtime":
        raise ConfigError(
            "bits do not change the time on a processor, so there is nothing to search",
            hint="set cost.backend to rtl, analytic or one of the HLS backends",
        )
    if config.backend in ("rtl", "analytic"):
        adders = analytic_cost(config)
        return RtlEstimator(adders), adders.estimate
    predicts = CostStage.VSYNTH if config.backend in ("vsynth", "pnr") else CostStage.CSYNTH
    compiler = csynth_estimate(config, context.project_dir, predicts)
    return HlsEstimator(compiler), compiler.estimate


def _excess(report: HardwareReport, budget: Budget) -> list[str]:
    return [
        name
        for name, limit in limits_of(budget).items()
        if getattr(report, name) is not None and getattr(report, name) > limit
    ]


def _ratios(report: HardwareReport, expected: HardwareReport, budget: Budget) -> dict[str, float]:
    pairs = {name: (getattr(report, name), getattr(expected, name)) for name in limits_of(budget)}
    return {name: measured / guess for name, (measured, guess) in pairs.items() if measured and guess and name != "ii"}


def _save(result: _Found, folder: Path) -> None:
    into = folder / FOLDER
    into.mkdir()
    try:
        strings = [
            {"name": entry.name, "kind": entry.kind, **entry.strings()} for entry in layer_precisions(result.network)
        ]
        write_precision_config(result.network, result.target, into / "hls4ml_precision.yml")
    except ExportError as error:
        strings, result.notes[:] = [], [*result.notes, f"no hls4ml strings: {error.message}"]
    space_rows = [{**row, **_strings_of(row["unit"], strings)} for row in result.units]
    write_csv(space_rows, into / "precision.csv")
    write_csv([point_row(point, None) for point in result.search.points], into / "front.csv")
    write_csv(candidate_rows(result.search.candidates), into / "candidates.csv")
    save_network(result.network, into / "network.pt")
    figures = {**result.figures, "layers": space_rows, "strings": strings, "notes": result.notes}
    (into / "precision.json").write_text(json.dumps(figures, indent=1))


def _strings_of(unit: str, strings: list[dict[str, str]]) -> dict[str, str]:
    found = next((row for row in strings if row["name"] == unit), {})
    return {key: found.get(key, "") for key in ("weight", "bias", "result", "accum")}


def _load(folder: Path) -> PrecisionResult:
    return PrecisionResult(json.loads((folder / FOLDER / "precision.json").read_text()), folder / FOLDER)


PRECISION: Stage[Any] = Stage(
    name="precision",
    title="bits per layer without training",
    inputs=("load", "teacher", "train"),
    config_keys=(
        *MODEL_KEYS,
        *GOAL_KEYS,
        "precision",
        "quantize.rounding",
        "budget",
        "target",
        *COST_KEYS,
    ),
    limit_keys=COST_LIMITS,
    compute=_compute,
    save=_save,
    load=_load,
    publish=lambda folder, out: [copy_atomically(folder / FOLDER, out / FOLDER)],
    files=model_files,
    tools=("torch", "alkaid", "pyosys", "hls4ml"),
)

PRECISION_STAGES: tuple[Stage[Any], ...] = (LOAD, TEACHER, TRAIN, PRECISION)
"""Stages of ``trigger-prune precision``; all but the last are shared with ``trigger-prune run``."""

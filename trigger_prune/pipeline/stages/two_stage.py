"""Stage ``two_stage`` of ``trigger-prune two-stage``: search, comparison and recommendation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import fx

from trigger_prune.config.load import LoadedProject
from trigger_prune.cost.report import HardwareReport
from trigger_prune.physics.scores import Score
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.deployment import deployed_network
from trigger_prune.pipeline.stages.events import LOAD
from trigger_prune.pipeline.stages.goal import goal_of
from trigger_prune.pipeline.stages.pruning import PRUNE
from trigger_prune.pipeline.stages.sensitivity import SENSITIVITY
from trigger_prune.pipeline.stages.teacher import TEACHER
from trigger_prune.pipeline.stages.training import (
    BASELINE,
    COST_KEYS,
    COST_LIMITS,
    MODEL_KEYS,
    QUANTIZE,
    TRAIN,
    TRAIN_KEYS,
    model_files,
)
from trigger_prune.pipeline.stages.trigger import network_scores
from trigger_prune.pipeline.stages.two_stage_costs import CONTROL_CYCLES, Costs
from trigger_prune.pipeline.stages.two_stage_lights import FOLDER, LIGHTS
from trigger_prune.pipeline.stages.two_stage_report import refresh_report
from trigger_prune.pipeline.stages.two_stage_setup import (
    Rows,
    beam_of,
    check_signal,
    check_two_stage,
    comparator,
    full_model,
    full_report_paths,
    menu_decisions,
    multiplicity,
    resource_limits,
    signal_name,
    target_rate,
    two_stage_files,
)
from trigger_prune.prune.trial_files import write_table
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.report.two_stage_page import write_two_stage_page
from trigger_prune.two_stage.figures import findings_from_dict, findings_to_dict
from trigger_prune.two_stage.findings import TwoStageFindings
from trigger_prune.two_stage.flat import budget_table, comparison_table, design_table, single_table
from trigger_prune.two_stage.full_reports import report_files
from trigger_prune.two_stage.models.light_inputs import FullModel
from trigger_prune.two_stage.models.light_model import LightModel
from trigger_prune.two_stage.options import LightOption
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.search import Requirements
from trigger_prune.two_stage.study import run_study
from trigger_prune.two_stage.study_inputs import LightCandidate, SmallerBudget, StudyInputs
from trigger_prune.two_stage.table import AloneModel, Floats

FINDINGS, PAGE = "two_stage.json", "two_stage.html"
TABLES = {
    "comparison": comparison_table,
    "designs": design_table,
    "single_stages": single_table,
    "budgets": budget_table,
}
"""Files of the folder ``two_stage``."""

Pair = tuple[Floats, Floats]


def _compute(context: StageContext) -> tuple[TwoStageFindings, str]:
    inputs = study_inputs(context)
    with context.progress.track(None, "design search"):
        return run_study(inputs, context.progress.note).findings, context.config.project


def study_inputs(context: StageContext) -> StudyInputs:
    """Scores, costs and requirements of the project."""
    config, events = context.config, context.result("load")
    section = config.two_stage
    check_signal(config, events.train, section.signal)
    goal = goal_of(context)
    assert goal.score is not None
    full, lights = full_model(context, goal.score), context.result("lights")
    assert isinstance(full.network, fx.GraphModule)
    costs, name = Costs.of(context), _full_name(context)
    measured = costs.full(name, full.network, full_report_paths(config, context.project_dir))
    fulls = measured.options
    light_costs = {light.name: costs.light(light.network) for light in lights}
    rows = [Rows.of(part, goal, section.signal is not None) for part in (events.validation, events.test)]
    scores = _scores(context, full)
    budget, remarks = resource_limits(config)
    requirements = Requirements(
        target_hz=target_rate(config, events),
        signal_name=signal_name(config, events, goal),
        latency_budget_ns=section.latency_budget_ns,
        control_cycles=CONTROL_CYCLES,
        objects_per_crossing=costs.objects,
        max_overflow=section.max_overflow,
        resource=section.resource,
        budget=budget,
    )
    buffers = {
        budget: costs.buffer(full.network, goal.score, lights, light_costs, budget)
        for budget in (section.latency_budget_ns, *section.smaller_budgets_ns)
    }
    return StudyInputs(
        full=AloneModel("full", name, *scores, fulls),
        pruned=None if section.full == "deployed" else _pruned(context, goal.score, costs),
        fulls=fulls,
        full_firmware=comparator(full.network, goal.score, events, events.train.class_names),
        lights=tuple(_light(context, light, scores, rows, light_costs[light.name]) for light in lights),
        menu=menu_decisions(config, events, goal, requirements.target_hz),
        beam=beam_of(config, context.project_dir),
        requirements=requirements,
        strategy=section.strategy,
        escalated=tuple(section.escalated),
        fifo_depths=tuple(section.fifo_depths),
        max_loss=section.max_loss,
        rate_weights=events.train.rate_weights,
        buffer_cost=buffers[section.latency_budget_ns],
        seed=config.seed,
        remarks=(*measured.remarks, *remarks, *_remarks(section.multiplicity is None, events.train.rate_weights)),
        smaller_budgets=tuple(SmallerBudget(budget, buffers[budget]) for budget in section.smaller_budgets_ns),
    )


def _remarks(one_object: bool, rate_weights: bool) -> tuple[str, ...]:
    if one_object and not rate_weights:
        return (
            "every filled crossing is taken to bring one object that the light model judges; "
            "two_stage.multiplicity says how many there are",
        )
    if not one_object and rate_weights:
        return ("with two_stage.multiplicity rates count objects, not crossings",)
    return ()


def _full_name(context: StageContext) -> str:
    name: str = context.config.two_stage.full
    return name if name in ("dense", "deployed") else Path(name).name


def _scores(context: StageContext, model: FullModel | LightModel) -> Pair:
    """Of validation and test events."""
    events = context.result("load")
    before, after = (
        network_scores(model.network, part, model.score, model.kept_inputs) for part in (events.validation, events.test)
    )
    return before, after


def _light(
    context: StageContext, light: LightModel, full: Pair, rows: list[Rows], costs: dict[int, HardwareReport]
) -> LightCandidate:
    events, objects = context.result("load"), multiplicity(context.config)
    validation, test = (
        TwoStageSample.from_events(part.scored(mine), part.scored(theirs), objects)
        for part, mine, theirs in zip(rows, _scores(context, light), full, strict=True)
    )
    options = tuple(LightOption(light.name, validation, test, cost, multiple) for multiple, cost in costs.items())
    grid = comparator(light.network, light.score, events, events.train.class_names)
    return LightCandidate(options, grid, light.notes)


def _pruned(context: StageContext, score: Score, costs: Costs) -> AloneModel | None:
    """The deployed network; None where it has no fixed-point form."""
    network = deployed_network(context)
    if is_weights_only(network):
        return None
    model = FullModel(network, context.result("prune").kept_inputs, score)
    return AloneModel("pruned", "deployed", *_scores(context, model), costs.alone("deployed", network))


def _save(result: tuple[TwoStageFindings, str], folder: Path) -> None:
    findings, project = result
    (folder / FOLDER).mkdir()
    write_two_stage_page(findings, folder / FOLDER / PAGE, project)
    (folder / FOLDER / FINDINGS).write_text(json.dumps(findings_to_dict(findings), allow_nan=False))
    for name, table in TABLES.items():
        lines = table(findings)
        if lines:
            write_table(lines, folder / FOLDER / name)


def _load(folder: Path) -> TwoStageFindings:
    return findings_from_dict(json.loads((folder / FOLDER / FINDINGS).read_text()))


def _publish(folder: Path, out: Path) -> list[Path]:
    """File by file: the light models and the firmware stand in the same folder. The section goes into the project's
    report too, where there is one of the same state of the project."""
    copied = [
        copy_atomically(path, out / FOLDER / path.name)
        for path in sorted((folder / FOLDER).iterdir())
        if path.is_file()
    ]
    refresh_report(out)
    return copied


def two_stage_stage_files(project: LoadedProject) -> list[Path]:
    """Files that decide which networks there are."""
    return [*model_files(project), *two_stage_files(project)]


def _files(project: LoadedProject) -> list[Path]:
    check_two_stage(project.config, project.project_dir)
    return [*two_stage_stage_files(project), *report_files(full_report_paths(project.config, project.project_dir))]


TWO_STAGE: Stage[Any] = Stage(
    name="two_stage",
    title="two-stage designs, and what they are compared with",
    inputs=("load", "teacher", "train", "baseline", "prune", "lights"),
    config_keys=(
        *MODEL_KEYS,
        *TRAIN_KEYS,
        "project",
        "physics",
        "luminosity",
        "two_stage",
        "target",
        "budget",
        *COST_KEYS,
    ),
    limit_keys=COST_LIMITS,
    compute=_compute,
    save=_save,
    load=_load,
    publish=_publish,
    files=_files,
    tools=("torch", "scipy", "hls4ml", "matplotlib"),
    version=3,
)

TWO_STAGE_STAGES: tuple[Stage[Any], ...] = (
    LOAD,
    TEACHER,
    TRAIN,
    QUANTIZE,
    BASELINE,
    SENSITIVITY,
    PRUNE,
    LIGHTS,
    TWO_STAGE,
)
"""Stages of ``trigger-prune two-stage``, in order; all but the last two are shared with ``trigger-prune run``."""

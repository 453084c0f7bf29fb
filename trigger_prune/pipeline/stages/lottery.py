"""Stages of ``trigger-prune lottery``: one per seed, the report, and the deployment of the best ticket.

A seed is a stage of its own, so finished seeds are kept when more are asked for, and what a stopped one has finished
(rounds and conditions) lies in its scratch folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trigger_prune.config.load import LoadedProject
from trigger_prune.config.project import ProjectConfig
from trigger_prune.models.build import build_model
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.events import LOAD, Events
from trigger_prune.pipeline.stages.goal import GOAL_KEYS, Goal, goal_of, make_batches
from trigger_prune.pipeline.stages.teacher import TEACHER
from trigger_prune.pipeline.stages.training import MODEL_KEYS, fit_settings, model_files
from trigger_prune.prune.lottery.imp import ImpPlan, Judge
from trigger_prune.prune.lottery.report import (
    LotteryReport,
    conditions_csv,
    make_report,
    markdown,
    rounds_csv,
)
from trigger_prune.prune.lottery.rounds import RoundStore
from trigger_prune.prune.lottery.study import SeedResult, SeedStudy, StudyPlan, Trainings, study_seed, study_transfer
from trigger_prune.prune.lottery.ticket import Ticket, load_ticket, save_aside, save_ticket
from trigger_prune.prune.lottery.training import State
from trigger_prune.train.evaluate import evaluate
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.outputs import output_count

_SEARCH_KEYS = tuple(
    f"lottery.{name}"
    for name in (
        "sparsity",
        "fraction_per_round",
        "rewind_step",
        "scope",
        "epochs",
        "early_bird_distance",
        "early_bird_window",
    )
)
"""Keys that decide the figures of one seed; the others say how many there are and how they are summed up."""

_OTHER_DRAW = 1_000_003
"""Added to a seed for the weights that are drawn anew: no other seed of the study."""

_TICKET, _TRAINED, _RESULT = "ticket.pt", "trained.pt", "result.json"
FOLDER = "lottery"
"""Below the output folder."""


@dataclass(frozen=True)
class StoredSeed:
    """One seed's figures; ``ticket`` and ``trained`` (its weights after training) are read from disk."""

    result: SeedResult
    ticket: Callable[[], Ticket]
    trained: Callable[[], State]


def seed_numbers(config: ProjectConfig) -> tuple[int, ...]:
    """Seeds of the study: the project's own and those after it."""
    return tuple((config.seed + number) % 2**32 for number in range(config.lottery.seeds))


def seed_stage_name(seed: int) -> str:
    """Name of the stage that studies one seed."""
    return f"lottery_seed_{seed}"


def _transfer_stage_name(seed: int) -> str:
    return f"lottery_transfer_{seed}"


def drawn_model(context: StageContext, events: Events, seed: int) -> nn.Module:
    """The project's network with the weights that ``seed`` draws."""
    config = context.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**32)
        return build_model(
            config.model,
            events.train.event_shape,
            output_count(events.train, config.task, config.teacher),
            context.project_dir,
        )


def _shared(seed: int, context: StageContext) -> Trainings:
    config, events, goal = context.config, context.result("load"), goal_of(context)
    given = context.result("teacher").encoder_state

    def make_network(draw: int) -> nn.Module:
        network = drawn_model(context, events, seed + draw * _OTHER_DRAW)
        if draw == 0 and given is not None:
            network.load_state_dict(given)
        return network

    @contextmanager
    def watch(what: str, epochs: int) -> Iterator[Callable[[float], None]]:
        with context.progress.track(epochs, what) as tracker:
            yield lambda loss: tracker.advance(1, loss=round(loss, 4))

    epochs = config.lottery.epochs or config.train.epochs
    settings = fit_settings(context, events, goal, f"lottery, seed {seed}", epochs, config.train.learning_rate)
    return Trainings(
        make_network,
        make_batches(events, "train", goal),
        replace(settings, seed=seed),
        _judge(events, goal, settings),
        # the scratch folder belongs to this stage and this key
        RoundStore(context.scratch, context.stage),
        watch,
        context.progress.note,
    )


def _study(seed: int, context: StageContext) -> SeedStudy:
    section = context.config.lottery
    plan = ImpPlan(section.sparsity, section.fraction_per_round, section.rewind_step, section.scope)
    return study_seed(_shared(seed, context), StudyPlan(plan, section.early_bird_distance, section.early_bird_window))


def _transfer(seed: int, context: StageContext) -> SeedResult:
    stored: StoredSeed = context.result(seed_stage_name(seed))
    masks = load_ticket(context.project_dir / Path(str(context.config.lottery.transfer_from)).expanduser()).masks
    return study_transfer(_shared(seed, context), masks, stored.ticket(), stored.result)


def _judge(events: Events, goal: Goal, settings: FitSettings) -> Judge:
    """Merit, loss and accuracy on validation and test events, with the events' own weights where there are classes."""
    parts = {
        part: make_batches(events, part, goal, plain_weights=goal.task == "classify").to(settings.device)
        for part in ("validation", "test")
    }

    def judge(network: nn.Module) -> dict[str, float]:
        home = next(network.parameters()).device
        network.to(settings.device)
        figures: dict[str, float] = {}
        for part, batches in parts.items():
            found = evaluate(network, batches, goal.task, goal.objective)
            figures |= {f"{part}_merit": found.merit, f"{part}_loss": found.loss}
            if found.accuracy is not None:
                figures[f"{part}_accuracy"] = found.accuracy
        network.to(home)
        return figures

    return judge


def _save_study(study: SeedStudy, folder: Path) -> None:
    (folder / _RESULT).write_text(json.dumps(study.result.to_dict(), indent=1))
    save_ticket(study.imp.ticket, folder / _TICKET)
    save_aside(study.imp.trained, folder / _TRAINED)


def _load_study(folder: Path) -> StoredSeed:
    return StoredSeed(
        SeedResult.from_dict(json.loads((folder / _RESULT).read_text())),
        lambda: load_ticket(folder / _TICKET),
        lambda: torch.load(folder / _TRAINED, map_location="cpu", weights_only=True),
    )


def _save_transfer(result: SeedResult, folder: Path) -> None:
    (folder / _RESULT).write_text(json.dumps(result.to_dict(), indent=1))


def _load_transfer(folder: Path) -> SeedResult:
    return SeedResult.from_dict(json.loads((folder / _RESULT).read_text()))


def _transfer_files(project: LoadedProject) -> list[Path]:
    return [*model_files(project), project.project_dir / Path(str(project.config.lottery.transfer_from)).expanduser()]


def _seed_stage(seed: int) -> Stage[Any]:
    return Stage(
        name=seed_stage_name(seed),
        title=f"tickets and controls of seed {seed}",
        inputs=("load", "teacher"),
        config_keys=(*MODEL_KEYS, *GOAL_KEYS, "train", *_SEARCH_KEYS),
        compute=partial(_study, seed),
        save=_save_study,
        load=_load_study,
        files=model_files,
        tools=("torch",),
    )


def _transfer_stage(seed: int) -> Stage[Any]:
    return Stage(
        name=_transfer_stage_name(seed),
        title=f"transferred mask on seed {seed}",
        inputs=("load", "teacher", seed_stage_name(seed)),
        config_keys=(*MODEL_KEYS, *GOAL_KEYS, "train", "lottery.epochs", "lottery.transfer_from"),
        compute=partial(_transfer, seed),
        save=_save_transfer,
        load=_load_transfer,
        files=_transfer_files,
        tools=("torch",),
    )


@dataclass(frozen=True)
class StoredLottery:
    """The report, and the chosen seed: the one whose ticket is best on validation events."""

    report: LotteryReport
    chosen_seed: int


def _sum_up(seeds: tuple[int, ...], context: StageContext) -> tuple[LotteryReport, int, Path]:
    config, goal = context.config, goal_of(context)
    if config.lottery.transfer_from is None:
        results = [context.result(seed_stage_name(seed)).result for seed in seeds]
    else:
        results = [context.result(_transfer_stage_name(seed)) for seed in seeds]
    chosen = max(results, key=lambda result: float(result.conditions["ticket"].figures["validation_merit"])).seed
    label = "minus loss" if goal.objective.name == "loss" else goal.objective.label or goal.objective.name
    remarks = []
    if context.result("teacher").encoder_state is not None:
        remarks.append("Every seed starts from the teacher's encoder; only `redrawn` has weights drawn at random.")
    report = make_report(
        config.project, label, config.lottery.model_dump(mode="json"), results, config.lottery.confidence, remarks
    )
    if report.verdict.outcome in ("too_few_seeds", "late_rewind"):
        context.progress.warn(report.verdict.text)
    return report, chosen, context.folder(seed_stage_name(chosen)) / _TICKET


def _save_report(result: tuple[LotteryReport, int, Path], folder: Path) -> None:
    report, chosen, ticket = result
    payload = {"chosen_seed": chosen, **report.to_dict()}
    (folder / "lottery.json").write_text(json.dumps(payload, indent=1, allow_nan=False))
    (folder / "lottery.md").write_text(markdown(report))
    (folder / "conditions.csv").write_text(conditions_csv(report))
    (folder / "rounds.csv").write_text(rounds_csv(report))
    copy_atomically(ticket, folder / _TICKET)


def _load_report(folder: Path) -> StoredLottery:
    raw = json.loads((folder / "lottery.json").read_text())
    seeds, settings = [SeedResult.from_dict(entry) for entry in raw["seeds"]], raw["settings"]
    report = make_report(raw["project"], raw["merit_label"], settings, seeds, settings["confidence"], raw["remarks"])
    return StoredLottery(report, raw["chosen_seed"])


_PUBLISHED = ("lottery.md", "lottery.json", "conditions.csv", "rounds.csv", _TICKET)


def _publish_report(folder: Path, out: Path) -> list[Path]:
    return [copy_atomically(folder / name, out / FOLDER / name) for name in _PUBLISHED]


def lottery_stages(config: ProjectConfig) -> tuple[Stage[Any], ...]:
    """Every stage up to the report."""
    seeds = seed_numbers(config)
    transfers = () if config.lottery.transfer_from is None else tuple(map(_transfer_stage, seeds))
    studies = (*map(_seed_stage, seeds), *transfers)
    report: Stage[Any] = Stage(
        name="lottery",
        title="verdict over the seeds",
        inputs=("load", "teacher", *(stage.name for stage in studies)),
        config_keys=("project", *GOAL_KEYS, "lottery"),
        compute=partial(_sum_up, seeds),
        save=_save_report,
        load=_load_report,
        publish=_publish_report,
        tools=("scipy",),
    )
    return (LOAD, TEACHER, *studies, report)

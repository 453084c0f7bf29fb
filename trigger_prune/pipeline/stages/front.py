"""Stage ``front`` of ``trigger-prune budget``: the best network for every budget of a grid."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from torch import fx

from trigger_prune.config.project import ProjectConfig, make_budget
from trigger_prune.cost.report import BUDGETED
from trigger_prune.errors import ConfigError
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.model_folder import write_model_folder
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.events import LOAD
from trigger_prune.pipeline.stages.goal import GOAL_KEYS, goal_of, make_batches
from trigger_prune.pipeline.stages.prune_setup import prune_setup
from trigger_prune.pipeline.stages.sensitivity import SENSITIVITY
from trigger_prune.pipeline.stages.teacher import TEACHER
from trigger_prune.pipeline.stages.training import (
    COST_KEYS,
    COST_LIMITS,
    MODEL_KEYS,
    QUANTIZE,
    TRAIN,
    TRAIN_KEYS,
    epoch_bar,
    model_files,
)
from trigger_prune.prune.budget.front import Front, FrontPoint, budget_front
from trigger_prune.prune.budget.loop import SolverInputs
from trigger_prune.prune.start import layouts_of
from trigger_prune.prune.trial_files import trial_row, write_table
from trigger_prune.quantize.state import load_network_state
from trigger_prune.report.front_plot import draw_front
from trigger_prune.target import Budget
from trigger_prune.train.evaluate import Evaluation, evaluate

FOLDER = "front"
"""Below the output folder."""


@dataclass(frozen=True)
class FrontRow:
    """One budget of the front; None where no network is within it (``error`` says why).

    ``test_merit`` is the objective's figure on test events, ``network`` the folder with the model.
    """

    lut_limit: int | None
    latency_limit_ns: float | None
    round: int | None
    validation_merit: float | None
    test_merit: float | None
    test_accuracy: float | None
    test_loss: float | None
    cost: dict[str, float | None]
    network: str | None
    error: str | None


def grid(config: ProjectConfig) -> list[tuple[Budget, int | None, float | None]]:
    """Every pair of the lists as (budget, LUT, latency in ns). Raises ConfigError when nothing is limited."""
    luts: Sequence[int | None] = config.front.lut or [config.budget.lut]
    latencies: Sequence[float | None] = config.front.latency_ns or [config.budget.latency_ns]
    found = []
    for lut, latency in product(luts, latencies):
        limits = config.budget.model_copy(update={"lut": lut, "latency_ns": latency})
        found.append((make_budget(limits, config.target), lut, latency))
    if not any(limit is not None for limit in vars(found[0][0]).values()):
        raise ConfigError(
            "no budget is given",
            hint="trigger-prune budget PROJECT --lut 2000,5000 --latency-ns 50,100, or keys in section front",
        )
    return found


def _compute(context: StageContext) -> tuple[list[FrontRow], Front, Path]:
    config = context.config
    setup, goal = prune_setup(context), goal_of(context)
    wanted = grid(config)
    inputs = SolverInputs(setup.inputs, setup.estimator(), layouts_of(config.prune, setup.inputs.target))

    def announce(budget: Budget) -> None:
        limits = ", ".join(f"{name} {limit:g}" for name, limit in vars(budget).items() if limit is not None)
        context.progress.note(f"budget: {limits}")

    with epoch_bar(context, None, "pruning and fine-tuning") as advance:
        front = budget_front(
            setup.network,
            inputs,
            [budget for budget, _, _ in wanted],
            refine=config.refine,
            scratch=context.scratch / "budgets",
            on_epoch=advance,
            on_trial=setup.report,
            on_budget=announce,
        )
    folder = context.scratch / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    test = make_batches(context.result("load"), "test", goal, setup.kept, plain_weights=goal.task == "classify")
    judged: dict[int, Evaluation] = {}
    rows = []
    for (_, lut, latency), point in zip(wanted, front.points, strict=True):
        if point.trial is not None and point.trial not in judged:
            network = _network(front, point.trial)
            judged[point.trial] = evaluate(network, test, goal.task, goal.objective)
            trial = front.trials[point.trial].trial
            problem = write_model_folder(
                network,
                trial,
                folder / f"trial{trial.round}",
                transform=context.result("load").transform,
                kept_inputs=setup.kept,
                target=setup.inputs.target,
                project=config.project,
            )
            if problem is not None:
                context.progress.warn(f"trial {trial.round} has no hls4ml project: {problem}")
        rows.append(_row(front, point, lut, latency, judged))
    draw_front([asdict(row) for row in rows], goal.objective.label, folder / "front.svg")
    return rows, front, folder


def _network(front: Front, number: int) -> fx.GraphModule:
    network = copy.deepcopy(front.network)
    load_network_state(network, front.trials[number].state)
    return network


def _row(
    front: Front, point: FrontPoint, lut: int | None, latency: float | None, judged: dict[int, Evaluation]
) -> FrontRow:
    if point.trial is None:
        return FrontRow(lut, latency, None, None, None, None, None, {}, None, point.error)
    trial, result = front.trials[point.trial].trial, judged[point.trial]
    cost = {name: getattr(trial.cost, name) for name in BUDGETED if getattr(trial.cost, name) is not None}
    cost["latency_ns"] = trial.cost.latency_ns
    return FrontRow(
        lut_limit=lut,
        latency_limit_ns=latency,
        round=trial.round,
        validation_merit=trial.validation_merit,
        test_merit=result.merit,
        test_accuracy=result.accuracy,
        test_loss=result.loss,
        cost=cost,
        network=f"trial{trial.round}",
        error=None,
    )


def _save(result: tuple[list[FrontRow], Front, Path], folder: Path) -> None:
    rows, front, files = result
    shutil.copytree(files, folder / FOLDER)
    (folder / FOLDER / "front.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    write_table([_flat(row) for row in rows], folder / FOLDER / "front")
    write_table([trial_row(entry.trial) for entry in front.trials], folder / FOLDER / "trials")


def _flat(row: FrontRow) -> dict[str, Any]:
    values = asdict(row)
    return {**{name: value for name, value in values.items() if name != "cost"}, **values["cost"]}


def _load(folder: Path) -> tuple[FrontRow, ...]:
    return tuple(FrontRow(**raw) for raw in json.loads((folder / FOLDER / "front.json").read_text()))


FRONT: Stage[Any] = Stage(
    name="front",
    title="the best network for every budget",
    inputs=("load", "teacher", "train", "quantize", "sensitivity"),
    config_keys=(
        *MODEL_KEYS,
        *TRAIN_KEYS,
        *GOAL_KEYS,
        "project",
        "prune",
        "refine",
        "budget",
        "front",
        "target",
        *COST_KEYS,
    ),
    limit_keys=COST_LIMITS,
    compute=_compute,
    save=_save,
    load=_load,
    publish=lambda folder, out: [copy_atomically(folder / FOLDER, out / FOLDER)],
    files=model_files,
    tools=("torch", "alkaid", "pyosys", "onnx", "qonnx", "hls4ml"),
    version=4,
)

FRONT_STAGES: tuple[Stage[Any], ...] = (LOAD, TEACHER, TRAIN, QUANTIZE, SENSITIVITY, FRONT)
"""Stages of ``trigger-prune budget``, in order; all but the last are shared with ``trigger-prune run``."""

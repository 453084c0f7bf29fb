"""Stages ``sensitivity`` and ``prune``."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from trigger_prune.importance import criterion_by_name
from trigger_prune.pipeline.progress import Tracker
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.goal import GOAL_KEYS, goal_of, make_batches
from trigger_prune.pipeline.stages.prune_setup import prune_setup
from trigger_prune.pipeline.stages.training import (
    COST_KEYS,
    COST_LIMITS,
    MODEL_KEYS,
    TRAIN_KEYS,
    epoch_bar,
    model_files,
    trained_float_model,
)
from trigger_prune.prune.fine_tune import criterion_events
from trigger_prune.prune.inputs import DroppedInput
from trigger_prune.prune.measured import PruneResult
from trigger_prune.prune.start import prune
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.prune.trial_files import TRIALS, save_trials
from trigger_prune.quantize.checkpoint import load_network, save_network
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.sensitivity.findings import SensitivityScan
from trigger_prune.sensitivity.scan import scan
from trigger_prune.sensitivity.weights_only import scan_weights_only
from trigger_prune.structure.shrink.quantised import ShrunkNetwork, shrink_network
from trigger_prune.target import LayerLayout
from trigger_prune.train.history import FitHistory


@dataclass(frozen=True)
class Pruned:
    """The deployed network: ``kept_inputs`` index the features of stage ``load``; ``network`` reads it from disk.

    ``layouts`` are those of layers that differ from the target; ``trials_folder`` holds every trial and its network,
    which reads the features ``trial_inputs``.
    """

    network: Callable[[nn.Module], fx.GraphModule]
    kept_inputs: tuple[int, ...]
    dropped_inputs: tuple[DroppedInput, ...]
    trials: tuple[PruneTrial, ...]
    histories: tuple[FitHistory, ...]
    layouts: tuple[LayerLayout, ...] = ()
    removed_neurons: dict[str, int] = field(default_factory=dict)
    failures: tuple[FailedTrial, ...] = ()
    trials_folder: Path | None = None
    trial_inputs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """What the stage computed: the loop's result, its network without what has no effect, and what all trials share."""

    pruned: PruneResult
    shrunk: ShrunkNetwork
    kept_inputs: tuple[int, ...]
    dropped_inputs: tuple[DroppedInput, ...]
    config: dict[str, Any]
    trial_inputs: tuple[int, ...]


_SCANNED = {"layers": "events through every layer and sparsity", "inputs": "inputs shuffled"}


def _compute_sensitivity(context: StageContext) -> SensitivityScan:
    config, events = context.config, context.result("load")
    network = context.result("quantize").network(trained_float_model(context, events))
    goal = goal_of(context)
    validation = make_batches(events, "validation", goal, plain_weights=goal.task == "classify")
    order = torch.randperm(len(validation), generator=torch.Generator().manual_seed(config.seed))
    subset = validation.take(order[: config.sensitivity.max_events])
    with ExitStack() as bars:
        trackers: dict[str, tuple[Tracker, int]] = {}

        def advance(part: str, done: int, total: int) -> None:
            if part not in trackers:
                bar = context.progress.track(total, _SCANNED[part])
                trackers[part] = (bars.enter_context(bar), 0)
            tracker, before = trackers[part]
            tracker.advance(done - before)
            trackers[part] = (tracker, done)

        look: Callable[..., SensitivityScan] = scan_weights_only if is_weights_only(network) else scan
        return look(
            network,
            events.train.features,
            subset,
            events.train.feature_names,
            config.sensitivity.sparsities,
            criterion_by_name(config.prune.criterion, with_data=True),
            goal.task,
            objective=goal.objective,
            criterion_data=criterion_events(make_batches(events, "train", goal), goal.task, config.seed),
            seed=config.seed,
            progress=advance,
        )


def _save_scan(result: SensitivityScan, folder: Path) -> None:
    (folder / "sensitivity.json").write_text(json.dumps(result.to_dict(), indent=1))
    _write_csv([asdict(point) for point in result.layers], folder / "layers.csv")
    _write_csv([asdict(finding) for finding in result.inputs], folder / "inputs.csv")


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    import csv

    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def _load_scan(folder: Path) -> SensitivityScan:
    return SensitivityScan.from_dict(json.loads((folder / "sensitivity.json").read_text()))


def _compute_prune(context: StageContext) -> Any:
    setup = prune_setup(context)
    config = context.config
    with epoch_bar(context, None, "pruning and fine-tuning") as advance:
        result = prune(
            setup.network,
            setup.inputs,
            setup.estimator,
            scratch=context.scratch,
            on_epoch=advance,
            on_trial=setup.report,
            on_failure=setup.failed,
        )
    shrunk = shrink_network(result.network)
    for remark in shrunk.remarks:
        context.progress.note(remark)
    names = context.result("load").train.feature_names
    unread = tuple(
        DroppedInput(names[setup.kept[index]], "nothing reads it any more") for index in shrunk.dropped_inputs
    )
    shared = {"prune": config.prune.model_dump(), "seed": config.seed, "target": setup.inputs.target.to_dict()}
    kept = tuple(setup.kept[index] for index in shrunk.kept_inputs)
    return Deployment(result, shrunk, kept, (*setup.dropped, *unread), shared, setup.kept)


def _save_pruned(result: Any, folder: Path) -> None:
    pruned = result.pruned
    save_network(result.shrunk.network, folder / "network.pt")
    save_trials(pruned, folder / TRIALS, result.config)
    payload = {
        "kept_inputs": result.kept_inputs,
        "trial_inputs": result.trial_inputs,
        "dropped_inputs": [asdict(item) for item in result.dropped_inputs],
        "removed_neurons": result.shrunk.removed,
        "layouts": [asdict(layout) for layout in pruned.chosen.layouts],
        "trials": [trial.to_dict() for trial in pruned.trials],
        "failures": [asdict(failure) for failure in pruned.failures],
        "histories": [history.to_dict() for history in pruned.histories],
    }
    (folder / "prune.json").write_text(json.dumps(payload, indent=1))


def _load_pruned(folder: Path) -> Any:
    payload = json.loads((folder / "prune.json").read_text())
    return Pruned(
        network=lambda model: load_network(folder / "network.pt", model),
        kept_inputs=tuple(payload["kept_inputs"]),
        dropped_inputs=tuple(DroppedInput(**item) for item in payload["dropped_inputs"]),
        trials=tuple(PruneTrial.from_dict(raw) for raw in payload["trials"]),
        histories=tuple(FitHistory.from_dict(raw) for raw in payload["histories"]),
        layouts=tuple(LayerLayout(**raw) for raw in payload["layouts"]),
        removed_neurons={name: len(rows) for name, rows in payload["removed_neurons"].items()},
        failures=tuple(FailedTrial(**raw) for raw in payload["failures"]),
        trials_folder=folder / TRIALS,
        trial_inputs=tuple(payload["trial_inputs"]),
    )


SENSITIVITY: Stage[SensitivityScan] = Stage(
    name="sensitivity",
    title="sensitivity of layers and inputs",
    inputs=("load", "teacher", "train", "quantize"),
    config_keys=(*MODEL_KEYS, *GOAL_KEYS, "sensitivity", "prune.criterion"),
    compute=_compute_sensitivity,
    save=_save_scan,
    load=_load_scan,
    files=model_files,
    tools=("torch",),
    version=2,
)

PRUNE: Stage[Any] = Stage(
    name="prune",
    title="prune until the measured cost meets the budget",
    inputs=("load", "teacher", "train", "quantize", "sensitivity"),
    config_keys=(*MODEL_KEYS, *TRAIN_KEYS, "prune", "budget", "target", *COST_KEYS),
    limit_keys=COST_LIMITS,
    compute=_compute_prune,
    save=_save_pruned,
    load=_load_pruned,
    files=model_files,
    tools=("torch", "alkaid", "pyosys"),
    version=3,
)

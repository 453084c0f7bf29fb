"""Stage ``prune``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import fx, nn

from trigger_prune.config.project import LearnConfig
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.prune_setup import prune_setup
from trigger_prune.pipeline.stages.training import (
    COST_KEYS,
    COST_LIMITS,
    MODEL_KEYS,
    TRAIN_KEYS,
    epoch_bar,
    model_files,
)
from trigger_prune.prune.inputs import DroppedInput
from trigger_prune.prune.laid_out import shrink_laid_out
from trigger_prune.prune.measured import PruneResult
from trigger_prune.prune.refine.to_budget import pruning_budget, refine_behind
from trigger_prune.prune.start import prune
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.prune.trial_files import TRIALS, save_trials
from trigger_prune.quantize.checkpoint import load_network, save_network
from trigger_prune.structure.shrink.quantised import ShrunkNetwork
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


def _compute_prune(context: StageContext) -> Any:
    setup = prune_setup(context)
    config = context.config
    budget = setup.inputs.budget
    inputs = replace(setup.inputs, budget=pruning_budget(budget, config.refine))

    def report(trial: PruneTrial) -> None:
        setup.report(replace(trial, meets_budget=trial.cost.meets(budget)))

    with epoch_bar(context, None, "pruning and fine-tuning") as advance:
        result = prune(
            setup.network,
            inputs,
            setup.estimator,
            learn=_learn_settings(config),
            scratch=context.scratch,
            on_epoch=advance,
            on_trial=report,
            on_failure=setup.failed,
        )
    if config.refine.enabled:
        with context.progress.track(config.refine.rounds + 1, "refinement") as tracker:
            result = refine_behind(
                result,
                setup.inputs,
                config.refine,
                on_point=lambda point: tracker.advance(1, cost=round(point.cost), merit=point.validation_merit),
                on_trial=setup.report,
            )
    shrunk, _ = shrink_laid_out(result.network, replace(setup.inputs.target, layers=result.chosen.layouts))
    for remark in shrunk.remarks:
        context.progress.note(remark)
    names = context.result("load").train.feature_names
    unread = tuple(
        DroppedInput(names[setup.kept[index]], "nothing reads it any more") for index in shrunk.dropped_inputs
    )
    shared = {"prune": config.prune.model_dump(), "seed": config.seed, "target": setup.inputs.target.to_dict()}
    kept = tuple(setup.kept[index] for index in shrunk.kept_inputs)
    return Deployment(result, shrunk, kept, (*setup.dropped, *unread), shared, setup.kept)


def _learn_settings(config: Any) -> LearnConfig:
    """Section learn with the granularity of activations that the backend can build."""
    learn: LearnConfig = config.learn
    channel = config.prune.scope == "learned" and learn.per_channel(config.cost.backend)
    return learn.model_copy(update={"activations": "channel" if channel else "tensor"})


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


PRUNE: Stage[Any] = Stage(
    name="prune",
    title="prune until the measured cost meets the budget",
    inputs=("load", "teacher", "train", "quantize", "sensitivity"),
    config_keys=(*MODEL_KEYS, *TRAIN_KEYS, "prune", "learn", "refine", "budget", "target", *COST_KEYS),
    limit_keys=COST_LIMITS,
    compute=_compute_prune,
    save=_save_pruned,
    load=_load_pruned,
    files=model_files,
    tools=("torch", "alkaid", "pyosys"),
    version=10,
)

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

from trigger_prune.config.project import CostConfig, make_budget, make_target
from trigger_prune.cost._base import CostModel
from trigger_prune.cost.hls.products import moved_to_lut
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ConfigError, CostError
from trigger_prune.importance import criterion_by_name
from trigger_prune.physics.rates import MINIMUM_EFFECTIVE_EVENTS
from trigger_prune.pipeline.progress import Tracker
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.goal import GOAL_KEYS, goal_of, make_batches
from trigger_prune.pipeline.stages.objective import effective_background
from trigger_prune.pipeline.stages.training import (
    COST_KEYS,
    COST_LIMITS,
    MODEL_KEYS,
    TRAIN_KEYS,
    epoch_bar,
    fit_settings,
    model_files,
    trained_float_model,
)
from trigger_prune.pipeline.stages.trigger import network_scores
from trigger_prune.prune.budget.estimators import HlsEstimator, LayerEstimator, RtlEstimator, RuntimeEstimator
from trigger_prune.prune.fine_tune import criterion_events
from trigger_prune.prune.inputs import DroppedInput, drop_redundant
from trigger_prune.prune.measured import LoopInputs, PruneResult, describe_cost
from trigger_prune.prune.plan_of import groups_of
from trigger_prune.prune.start import prune
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.prune.trial_files import TRIALS, save_trials
from trigger_prune.quantize.checkpoint import load_network, save_network
from trigger_prune.quantize.describe import describe_network
from trigger_prune.sensitivity.findings import SensitivityScan
from trigger_prune.sensitivity.scan import scan
from trigger_prune.structure.shrink.quantised import ShrunkNetwork, shrink_network
from trigger_prune.synthesis.backends import analytic_cost, csynth_estimate, make_cost_model
from trigger_prune.target import LayerLayout, Target
from trigger_prune.train.history import FitHistory


@dataclass(frozen=True)
class Pruned:
    """The deployed network: ``kept_inputs`` index the features of stage ``load``; ``network`` reads it from disk.

    ``layouts`` are those of layers that differ from the target; ``trials_folder`` holds every trial and its network.
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


@dataclass(frozen=True)
class Deployment:
    """What the stage computed: the loop's result, its network without what has no effect, and what all trials share."""

    pruned: PruneResult
    shrunk: ShrunkNetwork
    kept_inputs: tuple[int, ...]
    dropped_inputs: tuple[DroppedInput, ...]
    config: dict[str, Any]


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

        return scan(
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
    config, events, goal = context.config, context.result("load"), goal_of(context)
    names = events.train.feature_names
    network = context.result("quantize").network(trained_float_model(context, events))
    kept: tuple[int, ...] = tuple(range(len(names)))
    dropped: tuple[DroppedInput, ...] = ()
    if config.prune.drop_redundant_inputs:
        kept, dropped = drop_redundant(network, context.result("sensitivity").inputs, names)
        for item in dropped:
            context.progress.note(f"input {item.name} dropped: {item.reason}")
    _warn_of_few_events(context, network, kept)
    target = make_target(config.target)
    cost_model = make_cost_model(config.cost, context.project_dir)
    estimate = _estimate_for(config.cost, context.project_dir, cost_model, network)
    inputs = LoopInputs(
        train=make_batches(events, "train", goal, kept),
        validation=make_batches(events, "validation", goal, kept),
        settings=fit_settings(context, events, goal, "prune", 1, config.prune.learning_rate),
        config=config.prune,
        budget=make_budget(config.budget, config.target),
        target=target,
        cost_model=cost_model,
        estimate=estimate,
        groups=groups_of(config.prune, network, target),
    )

    last: list[HardwareReport] = []

    def report(trial: PruneTrial) -> None:
        merit = f"validation {goal.objective.label} {abs(trial.validation_merit):.4f}"
        context.progress.note(
            f"round {trial.round} ({trial.phase}): {trial.nonzeros} weights, {describe_cost(trial.cost)}, {merit}"
            f"{', within the budget' if trial.meets_budget else ''}"
        )
        for moved in moved_to_lut(last[-1], trial.cost) if last else ():
            context.progress.note(moved)
        last.append(trial.cost)

    def failed(failure: FailedTrial) -> None:
        context.progress.warn(f"round {failure.round} ({failure.phase}) has no measured cost: {failure.error}")

    def estimator() -> LayerEstimator:
        return _layer_estimator(config.cost, context.project_dir, network, target, estimate)

    with epoch_bar(context, None, "pruning and fine-tuning") as advance:
        result = prune(
            network,
            inputs,
            estimator,
            scratch=context.scratch,
            on_epoch=advance,
            on_trial=report,
            on_failure=failed,
        )
    shrunk = shrink_network(result.network)
    for remark in shrunk.remarks:
        context.progress.note(remark)
    unread = tuple(DroppedInput(names[kept[index]], "nothing reads it any more") for index in shrunk.dropped_inputs)
    shared = {"prune": config.prune.model_dump(), "seed": config.seed, "target": target.to_dict()}
    kept = tuple(kept[index] for index in shrunk.kept_inputs)
    return Deployment(result, shrunk, kept, (*dropped, *unread), shared)


def _layer_estimator(
    config: CostConfig,
    project_dir: Path,
    network: fx.GraphModule,
    target: Target,
    estimate: Callable[[NetworkSpec, Target], HardwareReport],
) -> LayerEstimator:
    """What predicts the cost of single layers for the backend."""
    if config.backend == "runtime":
        spec = describe_network(network)
        products = sum(layer.n_weights * layer.positions for layer in spec.layers)
        return RuntimeEstimator(estimate(spec, target), products)
    if config.backend in ("rtl", "analytic"):
        return RtlEstimator(analytic_cost(config))
    predicts = CostStage.VSYNTH if config.backend in ("vsynth", "pnr") else CostStage.CSYNTH
    return HlsEstimator(csynth_estimate(config, project_dir, predicts))


def _warn_of_few_events(context: StageContext, network: fx.GraphModule, kept: tuple[int, ...]) -> None:
    """Every line of the loop shows the objective: said once, before the first, when few events are behind it."""
    objective, sample = goal_of(context).objective, context.result("load").validation
    if objective.score is None or objective.background_fraction is None:
        return
    scores = network_scores(network, sample, objective.score, kept)
    behind = effective_background(scores, sample, goal_of(context), objective.background_fraction)
    if behind < MINIMUM_EFFECTIVE_EVENTS:
        context.progress.warn(
            f"{objective.label}: {behind:.0f} effective background events on validation, below "
            f"{MINIMUM_EFFECTIVE_EVENTS:g}; networks are chosen by an uncertain figure"
        )


def _estimate_for(
    config: CostConfig, project_dir: Path, cost_model: CostModel, network: fx.GraphModule
) -> Callable[[NetworkSpec, Target], HardwareReport]:
    """What sets the size of the loop's first cut: a formula for what the backend measures."""
    adders = analytic_cost(config)
    if cost_model.stage is CostStage.RUNTIME:
        # No formula: the unpruned network itself is timed, which takes seconds.
        return lambda _spec, target: cost_model.measure(network, target)
    if config.backend in ("rtl", "analytic"):
        return adders.estimate
    predicts = CostStage.VSYNTH if config.backend in ("vsynth", "pnr") else CostStage.CSYNTH
    compiler = csynth_estimate(config, project_dir, predicts)

    def estimate(spec: NetworkSpec, target: Target) -> HardwareReport:
        try:
            return compiler.estimate(spec, target)
        except (ConfigError, CostError):  # what has no formula; only the first cut depends on it
            return adders.estimate(spec, target)

    return estimate


def _save_pruned(result: Any, folder: Path) -> None:
    pruned = result.pruned
    save_network(result.shrunk.network, folder / "network.pt")
    save_trials(pruned, folder / TRIALS, result.config)
    payload = {
        "kept_inputs": result.kept_inputs,
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

"""Stages ``train``, ``quantize`` and ``baseline``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from trigger_prune.config.load import LoadedProject
from trigger_prune.errors import UnsupportedLayerError
from trigger_prune.models.build import build_model
from trigger_prune.models.source import model_source_files
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.pipeline.stages.goal import GOAL_KEYS, Goal, goal_of, make_batches
from trigger_prune.quantize.checkpoint import load_network, save_network
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.weights_only import quantize_weights
from trigger_prune.train.device import resolve_device
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.history import EpochRecord, FitHistory
from trigger_prune.train.outputs import output_count
from trigger_prune.train.surrogate import EfficiencySurrogate, efficiency_surrogate

MODEL_KEYS = ("model", "task", "seed", "teacher.target", "teacher.latent")
TRAIN_KEYS = (
    "train.batch_size",
    "train.weight_decay",
    "train.gradient_clip_norm",
    "train.loss",
    "train.device",
    *GOAL_KEYS,
)
"""Keys of ``train`` that fine-tuning shares with training."""

PIPELINE_KEYS = ("cost.adders_per_stage", "cost.pipeline_stages", "cost.register_ns", "cost.unit_ns")
"""Keys that decide where the rtl flow puts its registers."""

COST_KEYS = (
    "cost.backend",
    *PIPELINE_KEYS,
    "cost.ecp5_seeds",
    "cost.tool_version",
    "cost.provider",
    "cost.threads",
    "cost.batch_sizes",
    "cost.runtime_seconds",
)
COST_LIMITS = (
    "cost.timeout_s",
    "cost.memory_limit_mib",
    "cost.licences",
    "cost.use_store",
    "cost.store",
    "cost.offline",
)

_STEPS_PER_EPOCH = 20
_SMALLEST_BATCH = 16

_CALIBRATION_EVENTS = 20_000
"""Training events that place the binary points; their ranges move by less than one step with more."""


@dataclass(frozen=True)
class TrainedFloat:
    """Weights of the float network and how they were found."""

    state: dict[str, torch.Tensor]
    history: FitHistory


@dataclass(frozen=True)
class TrainedNetwork:
    """A quantised network on disk and how it was trained. ``network`` reads it."""

    network: Callable[[nn.Module], fx.GraphModule]
    history: FitHistory


def float_model(context: StageContext, events: Events) -> nn.Module:
    """The project's network with the weights every run starts from (they follow from the seed alone)."""
    config = context.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_model(
            config.model,
            events.train.event_shape,
            output_count(events.train, config.task, config.teacher),
            context.project_dir,
        )


def batch_size(context: StageContext, events: Events) -> int:
    """Events per step: the configured number, but at least ``_STEPS_PER_EPOCH`` steps an epoch on a small sample."""
    return min(context.config.train.batch_size, max(_SMALLEST_BATCH, events.train.n_events // _STEPS_PER_EPOCH))


def fit_settings(
    context: StageContext, events: Events, goal: Goal, phase: str, epochs: int, learning_rate: float, **more: Any
) -> FitSettings:
    """Settings that all fits of a project share."""
    config = context.config
    return FitSettings(
        phase=phase,
        epochs=epochs,
        batch_size=batch_size(context, events),
        learning_rate=learning_rate,
        seed=config.seed,
        task=goal.task,
        objective=goal.objective,
        batch_loss=None if config.train.loss == "default" else _surrogate_of(goal),
        weight_decay=config.train.weight_decay,
        gradient_clip_norm=config.train.gradient_clip_norm,
        device=resolve_device(config.train.device),
        **more,
    )


def _surrogate_of(goal: Goal) -> EfficiencySurrogate:
    return efficiency_surrogate(goal.task, goal.objective, goal.trained_classes)


@contextmanager
def epoch_bar(
    context: StageContext, epochs: int | None, description: str
) -> Iterator[Callable[[EpochRecord, int], None]]:
    """A progress callback for ``fit``."""
    with context.progress.track(epochs, description) as tracker:

        def advance(record: EpochRecord, _epochs: int) -> None:
            fields: dict[str, float | str] = {"loss": round(record.validation_loss, 4)}
            if record.validation_accuracy is not None:
                fields["accuracy"] = round(record.validation_accuracy, 4)
            if record.validation_merit not in (-record.validation_loss, record.validation_accuracy):
                fields["merit"] = round(record.validation_merit, 4)
            if record.sparsity > 0:
                fields["sparsity"] = round(record.sparsity, 3)
            tracker.advance(1, **fields)

        yield advance


def _compute_train(context: StageContext) -> TrainedFloat:
    config, events = context.config, context.result("load")
    goal = goal_of(context)
    model = float_model(context, events)
    start = context.result("teacher").encoder_state
    if start is not None:
        model.load_state_dict(start)
    train, validation = make_batches(events, "train", goal), make_batches(events, "validation", goal)
    settings = fit_settings(
        context,
        events,
        goal,
        "float",
        config.train.epochs,
        config.train.learning_rate,
        patience_epochs=config.train.patience_epochs,
    )
    if settings.batch_size < config.train.batch_size:
        context.progress.note(f"{settings.batch_size} events per step instead of {config.train.batch_size}: few events")
    with epoch_bar(context, settings.epochs, "float training") as advance:
        history = fit(model, train, validation, settings, progress=advance)
    return TrainedFloat(model.state_dict(), history)


def _save_train(result: TrainedFloat, folder: Path) -> None:
    torch.save(result.state, folder / "float.pt")
    save_history(result.history, folder)


def _load_train(folder: Path) -> TrainedFloat:
    state = torch.load(folder / "float.pt", map_location="cpu", weights_only=True)
    return TrainedFloat(state, load_history(folder))


def _quantised(context: StageContext, phase: str, bits: Any, epochs: int, learning_rate: float) -> Any:
    events, goal = context.result("load"), goal_of(context)
    model = trained_float_model(context, events)
    train, validation = make_batches(events, "train", goal), make_batches(events, "validation", goal)
    network = _quantised_network(context, model, calibration_features(train), events, bits)
    settings = fit_settings(context, events, goal, phase, epochs, learning_rate)
    with epoch_bar(context, epochs, f"quantisation-aware training, {bits.weight_bits} bits") as advance:
        history = fit(network, train, validation, settings, progress=advance)
    return network, history


def _quantised_network(
    context: StageContext, model: nn.Module, calibration: torch.Tensor, events: Events, bits: Any
) -> nn.Module:
    """A fixed-point network; for a processor quantised weights alone will do where there is none."""
    fixed = events.transform.fixed
    try:
        return quantize_model(model, calibration, fixed, bits)
    except UnsupportedLayerError as refusal:
        if context.config.cost.backend != "runtime":
            raise
        network = quantize_weights(
            model, bits.weight_bits, input_type=fixed, input_shape=tuple(events.train.event_shape)
        )
        context.progress.note(f"only the weights are quantised, activations stay float: {refusal.message}")
        return network


def calibration_features(train: Batches, most: int = _CALIBRATION_EVENTS) -> torch.Tensor:
    """Features of at most ``most`` events of positive weight, evenly spread over all of them.

    Events may come process by process, the soft ones first: the first rows alone would give too small ranges.
    """
    used = train.features[train.weights > 0]
    n_rows = min(len(used), most)
    return used[torch.arange(n_rows) * len(used) // n_rows]


def trained_float_model(context: StageContext, events: Events) -> nn.Module:
    """The project's network with the weights found by stage ``train``."""
    model = float_model(context, events)
    model.load_state_dict(context.result("train").state)
    return model


@dataclass(frozen=True)
class _Bits:
    weight_bits: int
    activation_bits: int
    rounding: str


def _compute_quantize(context: StageContext) -> Any:
    section = context.config.quantize
    return _quantised(context, "qat", section, section.epochs, section.learning_rate)


def _compute_baseline(context: StageContext) -> Any:
    config = context.config
    bits = _Bits(config.baseline.bits, config.baseline.bits, config.quantize.rounding)
    return _quantised(context, "dense", bits, config.baseline.epochs, config.quantize.learning_rate)


def _save_network(result: Any, folder: Path) -> None:
    network, history = result
    save_network(network, folder / "network.pt")
    save_history(history, folder)


def _load_network(folder: Path) -> Any:
    return TrainedNetwork(lambda model: load_network(folder / "network.pt", model), load_history(folder))


def save_history(history: FitHistory, folder: Path) -> None:
    """Write ``history.json`` into a stage's folder."""
    (folder / "history.json").write_text(json.dumps(history.to_dict(), indent=1))


def load_history(folder: Path) -> FitHistory:
    """Inverse of ``save_history``."""
    return FitHistory.from_dict(json.loads((folder / "history.json").read_text()))


def model_files(project: LoadedProject) -> list[Path]:
    """Source files of the user's own network."""
    return model_source_files(project.config.model, project.project_dir)


TRAIN: Stage[TrainedFloat] = Stage(
    name="train",
    title="train in floating point",
    inputs=("load", "teacher"),
    config_keys=(*MODEL_KEYS, *GOAL_KEYS, "train"),
    compute=_compute_train,
    save=_save_train,
    load=_load_train,
    files=model_files,
    tools=("torch",),
    version=2,
)

QUANTIZE: Stage[Any] = Stage(
    name="quantize",
    title="quantisation-aware training",
    inputs=("load", "teacher", "train"),
    config_keys=(*MODEL_KEYS, *TRAIN_KEYS, "quantize"),
    # decides whether a model without fixed-point form is an error, and nothing about the others
    limit_keys=("cost.backend",),
    compute=_compute_quantize,
    save=_save_network,
    load=_load_network,
    files=model_files,
    tools=("torch",),
    version=3,
)

BASELINE: Stage[Any] = Stage(
    name="baseline",
    title="dense baseline, quantisation-aware training",
    inputs=("load", "teacher", "train"),
    config_keys=(*MODEL_KEYS, *TRAIN_KEYS, "baseline", "quantize.rounding", "quantize.learning_rate"),
    limit_keys=("cost.backend",),
    compute=_compute_baseline,
    save=_save_network,
    load=_load_network,
    files=model_files,
    tools=("torch",),
    version=3,
)

"""What the networks of a project are trained for and judged by: targets and weights of the loss, score, objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trigger_prune.data.class_choice import signal_classes, trained_classes
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import ConfigError
from trigger_prune.physics.scores import Score
from trigger_prune.pipeline.stage import StageContext
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective, ObjectiveName
from trigger_prune.train.weights import class_factors

SCORE_KEYS = ("task", "physics.signal", "teacher.target", "data.weight_unit")
"""Keys that decide what the trigger's score is."""

GOAL_KEYS = (
    *SCORE_KEYS,
    "objective",
    "physics.rate_khz",
    "physics.false_positive_rate",
    "train.class_weights",
    "train.weight_power",
    "train.classes",
)
"""Keys that decide targets, loss weights and objective."""

_DEFAULT_OBJECTIVE: dict[Task, ObjectiveName] = {
    "classify": "accuracy",
    "binary": "auc",
    "autoencoder": "loss",
    "distil": "loss",
}


@dataclass(frozen=True)
class Goal:
    """See the module. ``score`` is None where no class is signal; ``targets`` hold a teacher's outputs per part."""

    task: Task
    objective: Objective
    score: Score | None
    signal_classes: tuple[int, ...]
    trained_classes: tuple[int, ...]
    class_weights: str
    weight_power: float
    targets: Mapping[str, NDArray[np.float32]] | None = None


def goal_of(context: StageContext) -> Goal:
    """The goal of the project whose stages ``load`` and ``teacher`` are done.

    Raises ConfigError for classes that do not exist, and for an objective that the events or the task do not allow.
    """
    config, events = context.config, context.result("load")
    signal = signal_classes(config.physics.signal, events.train)
    _require_rates(events.train, signal, config.data.weight_unit)
    score = score_of(config.task, config.teacher.target, signal, events.train.n_classes)
    return Goal(
        task=config.task,
        objective=_objective(context, events, score, signal),
        score=score,
        signal_classes=signal,
        trained_classes=trained_classes(config.train.classes, events.train),
        class_weights=config.train.class_weights,
        weight_power=config.train.weight_power,
        targets=context.result("teacher").targets,
    )


def _require_rates(sample: EventSample, signal: tuple[int, ...], weight_unit: str) -> None:
    """Refuse a background class whose weights are no rates: only those of class 0 are, unless the file states all."""
    others = [name for i, name in enumerate(sample.class_names) if i > 0 and i not in signal]
    if signal and sample.rate_weights and weight_unit != "hz" and others:
        raise ConfigError(
            f"physics.signal leaves {', '.join(others)} to the background, but only the weights of "
            f"{sample.class_names[0]} are rates",
            hint="name every class but the first in physics.signal, or leave processes out with data.signals",
        )


def score_of(task: Task, teacher_target: str, signal: tuple[int, ...], n_classes: int) -> Score | None:
    """The score that the firmware computes from the outputs; None where no class is signal."""
    if not signal:
        return None
    if task == "classify":
        return Score("difference", signal, tuple(i for i in range(n_classes) if i not in signal))
    if task == "autoencoder":
        return Score("reconstruction")
    return Score("sum_of_squares") if task == "distil" and teacher_target == "latent" else Score("head")


def make_batches(
    events: Events, part: str, goal: Goal, kept: Sequence[int] | None = None, *, plain_weights: bool = False
) -> Batches:
    """Tensors of one part: the features ``kept`` (default all), targets, weights of the loss, classes.

    With ``plain_weights`` the loss counts with the events' own weights, as figures of merit do.
    """
    sample: EventSample = getattr(events, part)
    features = sample.features if kept is None else sample.features[:, list(kept)]
    weights = sample.weights if plain_weights else _loss_weights(events, sample, goal)
    return Batches(
        torch.from_numpy(np.ascontiguousarray(features)),
        _targets(sample, part, goal),
        torch.from_numpy((weights * _trained(sample, goal)).astype(np.float32)),
        torch.from_numpy(sample.labels),
        torch.from_numpy(sample.weights),
    )


def is_signal(sample: EventSample, goal: Goal) -> NDArray[np.bool_]:
    """Whether each event is of a signal class."""
    return np.isin(sample.labels, goal.signal_classes)


def _targets(sample: EventSample, part: str, goal: Goal) -> torch.Tensor:
    if goal.task == "classify":
        return torch.from_numpy(sample.labels)
    if goal.task == "binary":
        return torch.from_numpy(is_signal(sample, goal).astype(np.float32))
    if goal.task == "autoencoder":
        return torch.from_numpy(sample.features)
    if goal.targets is None:
        raise ConfigError("task distil has no teacher's outputs to follow")
    return torch.from_numpy(goal.targets[part])


def _trained(sample: EventSample, goal: Goal) -> NDArray[np.bool_]:
    return np.isin(sample.labels, goal.trained_classes)


def _loss_weights(events: Events, sample: EventSample, goal: Goal) -> NDArray[np.float64]:
    train = events.train
    kinds = 2 if goal.task == "binary" else train.n_classes

    def kind(part: EventSample) -> NDArray[np.int64]:
        return is_signal(part, goal).astype(np.int64) if goal.task == "binary" else part.labels

    used = _trained(train, goal)
    present = np.unique(kind(train)[used])
    # classes that are not trained on must not count in the balance
    position = np.zeros(kinds, np.int64)
    position[present] = np.arange(len(present))
    powered = train.weights[used] ** goal.weight_power
    factors = class_factors(position[kind(train)[used]], powered, len(present), goal.class_weights)  # type: ignore[arg-type]
    weights: NDArray[np.float64] = sample.weights**goal.weight_power * factors[position[kind(sample)]]
    return weights


def _objective(context: StageContext, events: Events, score: Score | None, signal: tuple[int, ...]) -> Objective:
    config = context.config
    name = config.objective or _DEFAULT_OBJECTIVE[config.task]
    if name == "accuracy" and config.task not in ("classify", "binary"):
        raise ConfigError(f"objective accuracy: task {config.task} has no classes", hint="use objective: loss")
    if name in ("loss", "accuracy"):
        return Objective(name, label=name)
    if name == "auc":
        if score is None and config.task != "classify":
            raise ConfigError("objective auc: no class is signal", hint="name the signal classes in physics.signal")
        return Objective(name, score, signal, label="AUC")
    if score is None:
        raise ConfigError(f"objective {name}: no class is signal", hint="name the signal classes in physics.signal")
    if name == "efficiency_at_fpr":
        fraction = config.physics.false_positive_rate
        return Objective(name, score, signal, fraction, f"signal efficiency at {100 * fraction:g} % background")
    if not events.train.rate_weights:
        raise ConfigError(
            "objective efficiency_at_rate: the events' weights are no rates",
            hint="set data.weight_unit to minimum_bias or hz, or use efficiency_at_fpr",
        )
    background = events.validation.weights[~np.isin(events.validation.labels, signal)]
    fraction = 1e3 * config.physics.rate_khz / float(background.sum())
    if not fraction < 1:
        raise ConfigError(
            f"physics.rate_khz: {config.physics.rate_khz:g} kHz is not below the rate of all background events, "
            f"{background.sum() / 1e3:.6g} kHz"
        )
    return Objective(name, score, signal, fraction, f"signal efficiency at {config.physics.rate_khz:g} kHz")

"""A small network with one output, trained for the task, for the full model's scores, or for the full's decision."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.config.two_stage_section import LightConfig
from trigger_prune.models.mlp import Mlp
from trigger_prune.physics.scores import Score
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.train.evaluate import LOSS, Batches
from trigger_prune.train.fit import fit
from trigger_prune.train.loss import Task, event_losses, weighted_mean
from trigger_prune.train.teacher import standardisation
from trigger_prune.two_stage.models.difficulty import difficulty_batches
from trigger_prune.two_stage.models.light_inputs import FullScores, LightInputs, is_signal
from trigger_prune.two_stage.models.light_model import LightModel

_CALIBRATION_EVENTS = 20_000
"""Training events that place the binary points."""

_LEARNING_RATE, _QUANTISED_RATE = 0.03, 0.015
"""Peaks of the float and of the quantisation-aware training. A network of a hundred weights takes, and needs, far
larger steps than one of thousands: with the rates of full networks 16-8-1 loses half as much again at a trigger's rate
(jets16, two seeds)."""

_SLOPE_PENALTY = 1e-6
_NEWTON_STEPS = 100
_LONGEST_STEP = 2.0


@dataclass(frozen=True)
class _Bits:
    weight_bits: int
    activation_bits: int
    rounding: str


def make_tiny(
    name: str,
    config: LightConfig,
    features: Sequence[int],
    inputs: LightInputs,
    full_scores: FullScores,
    notes: tuple[str, ...] = (),
) -> LightModel:
    """A network of ``config.hidden`` on the features ``features`` with one output: the light score.

    A trigger needs one number per object, so signal stands against background even where the full model tells many
    classes apart. Events with several axes are flattened.
    """
    lesson = _lesson(config, inputs, full_scores)
    lesson = replace(lesson, train=_reading(lesson.train, features), validation=_reading(lesson.validation, features))
    shrunk = shrink_network(_train(name, config, lesson, inputs))
    kept = tuple(features[index] for index in shrunk.kept_inputs)
    notes = (*notes, *lesson.notes)
    return LightModel(name, config.kind, config.difficulty, shrunk.network, kept, Score("head"), notes)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Events with targets, the task of these targets, the loss of a batch where it is another, and what to tell."""

    train: Batches
    validation: Batches
    task: Task
    batch_loss: Callable[[Tensor, Batches], Tensor] | None = None
    notes: tuple[str, ...] = ()


def _lesson(config: LightConfig, inputs: LightInputs, full_scores: FullScores) -> _Lesson:
    if config.difficulty == "learned":
        train, validation, rule = difficulty_batches(inputs, *full_scores)
        said = f"its output says whether the full score reaches {rule.threshold:.6g}"
        return _Lesson(train, validation, "binary", notes=(said,))
    weights = inputs.train.weights.double().numpy()
    if inputs.settings.task in ("classify", "binary"):
        line = logit_of(full_scores[0], is_signal(inputs.train, inputs.signal_classes).double().numpy(), weights)
        targets = [line.of(scores) for scores in full_scores]
        loss = MixedLoss(inputs.signal_classes, config.distil, weighted_variance(targets[0], weights))
        several = ("its one output is for signal against background, whatever the process",)
        notes = several if inputs.settings.task == "classify" else ()
        return _Lesson(*_following(inputs, targets), "distil", loss, notes)
    scale = standardisation(full_scores[0], weights, centre=True)
    said = f"task {inputs.settings.task} has no labels: it follows the full model's score alone"
    train, validation = _following(inputs, [scale.apply(scores) for scores in full_scores])
    return _Lesson(train, validation, "distil", notes=(said,))


def _following(inputs: LightInputs, targets: Sequence[NDArray[np.floating]]) -> tuple[Batches, Batches]:
    train, validation = (
        replace(events, targets=torch.from_numpy(values.astype(np.float32))[:, None])
        for events, values in zip((inputs.train, inputs.validation), targets, strict=True)
    )
    return train, validation


@dataclass(frozen=True)
class MixedLoss:
    """``(1 - distil) x`` cross-entropy of signal and background ``+ distil x`` squared distance from the full logit.

    The logits are the events' targets ``(n, 1)``, and their ``variance`` is the unit of the distance. Logits and not
    probabilities: those of the objects near a trigger's threshold are all close to 1, and a loss of them says nothing
    (J. Ba and R. Caruana, NeurIPS 2014, arXiv:1312.6184).
    """

    signal_classes: tuple[int, ...]
    distil: float
    variance: float

    def __call__(self, outputs: Tensor, events: Batches) -> Tensor:
        """A scalar from outputs ``(n, 1)``."""
        labels = is_signal(events, self.signal_classes).to(outputs.dtype)
        task = event_losses(outputs, labels, "binary")
        followed = event_losses(outputs, events.targets, "distil") / self.variance
        return weighted_mean((1.0 - self.distil) * task + self.distil * followed, events.weights)


@dataclass(frozen=True)
class Line:
    """``slope x score + offset``."""

    slope: float
    offset: float

    def of(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(events,)``."""
        found: NDArray[np.float64] = self.slope * scores + self.offset
        return found


def logit_of(scores: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64]) -> Line:
    """Logit of the label given the score: weighted logistic regression by Newton's method (J. Platt 1999).

    A full model's outputs may have any scale, and a difference of largest logits is no logit of signal; a light model
    that learns from labels and scores at once needs both in one unit. A score that separates perfectly has no best
    slope: a small quadratic penalty keeps the answer finite.
    """
    shares = weights / weights.sum()
    centre, spread = float(shares @ scores), math.sqrt(weighted_variance(scores, weights))
    x = np.stack([(scores - centre) / spread, np.ones(len(scores))], axis=1)
    solution, penalty = np.zeros(2), np.array([_SLOPE_PENALTY, 0.0])
    for _ in range(_NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ solution, -30.0, 30.0)))
        gradient = x.T @ (shares * (p - labels)) + penalty * solution
        curvature = (x * (shares * p * (1.0 - p))[:, None]).T @ x + np.diag(penalty) + 1e-12 * np.eye(2)
        step = np.clip(np.linalg.solve(curvature, gradient), -_LONGEST_STEP, _LONGEST_STEP)
        solution = solution - step
        if float(np.abs(step).max()) < 1e-10:
            break
    slope = float(solution[0]) / spread
    return Line(slope, float(solution[1]) - slope * centre)


def weighted_variance(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Variance of values with weights; 1 where they do not vary."""
    shares = weights / weights.sum()
    return float(shares @ np.square(values - shares @ values)) or 1.0


def _reading(events: Batches, features: Sequence[int]) -> Batches:
    return events.with_features(events.features[:, list(features)])


def _train(name: str, config: LightConfig, lesson: _Lesson, inputs: LightInputs) -> fx.GraphModule:
    """Float training, then quantisation-aware training of as many epochs."""
    model = _float_network(tuple(lesson.train.features.shape[1:]), config.hidden, inputs.settings.seed)
    settings = replace(
        inputs.settings,
        phase=name,
        epochs=config.epochs,
        task=lesson.task,
        learning_rate=_LEARNING_RATE,
        objective=LOSS,
        batch_loss=lesson.batch_loss,
        patience_epochs=None,
        select="last",
        select_from_epoch=0,
    )
    fit(model, lesson.train, lesson.validation, settings, progress=inputs.on_epoch)
    bits = _Bits(config.weight_bits, config.activation_bits, inputs.rounding)
    network = quantize_model(model, calibration_features(lesson.train), inputs.input_type, bits)
    settings = replace(settings, phase=f"{name}, quantised", learning_rate=_QUANTISED_RATE)
    fit(network, lesson.train, lesson.validation, settings, progress=inputs.on_epoch)
    return network


def _float_network(shape: tuple[int, ...], hidden: Sequence[int], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dense = Mlp((math.prod(shape),), 1, hidden)
    if len(shape) == 1:
        return dense
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), dense=dense))


def calibration_features(train: Batches) -> Tensor:
    """Features of training events of positive weight, evenly spread over all of them."""
    used = train.features[train.weights > 0]
    n_rows = min(len(used), _CALIBRATION_EVENTS)
    return used[torch.arange(n_rows) * len(used) // n_rows]

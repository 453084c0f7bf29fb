"""Learned difficulty: would the full model accept this object? Its answers are the targets, not the labels.

What the full model says of an event is a function of the event, so these targets have no label noise: a small network
spends nothing on signal that the full model would reject anyway, and nothing on background that is no danger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from trigger_prune.errors import ConfigError
from trigger_prune.physics.rates import find_thresholds
from trigger_prune.train.evaluate import Batches
from trigger_prune.two_stage.models.light_inputs import LightInputs, is_signal

_SOFTNESS = 2.0
"""The soft step of the targets is as wide as the full score changes over this factor in rate."""

_MOST = 1000.0
"""Largest weight of an accepted event against a rejected one, whatever the balance asks for."""


@dataclass(frozen=True)
class SoftAccept:
    """``1 / (1 + exp(-(score - threshold) / scale))`` of the full score; a hard step where ``scale`` is 0."""

    threshold: float
    scale: float

    def targets(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Targets in 0 .. 1, ``(events,)``."""
        if self.scale == 0.0:
            return (scores >= self.threshold).astype(np.float64)
        # no logit beyond 30 differs from 0 or 1 in a loss of float32
        logits = np.clip((scores - self.threshold) / self.scale, -30.0, 30.0)
        found: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits))
        return found


def soft_accept(
    scores: NDArray[np.float64], is_background: NDArray[np.bool_], physical: NDArray[np.float64], fraction: float
) -> SoftAccept:
    """Threshold of the full model alone at ``fraction`` of the background, and the width of the step.

    The width is the distance to the threshold at twice the rate. Raises ConfigError when no score is rare enough.
    """
    background, weights = scores[is_background], physical[is_background]
    rate = fraction * float(weights.sum())
    wider = min(_SOFTNESS * rate, float(weights.sum()))
    tight, loose = find_thresholds(background, weights, (rate, wider))
    if tight.passes_nothing:
        raise ConfigError(
            f"the highest full score alone accepts {tight.step_hz / weights.sum():.3g} of the background, "
            f"more than the target of {fraction:.3g}: there is no threshold to learn",
            hint="raise the target rate, or give the full model's outputs more bits",
        )
    return SoftAccept(tight.value, max(0.0, tight.value - loose.value))


def difficulty_batches(
    inputs: LightInputs, train_scores: NDArray[np.float64], validation_scores: NDArray[np.float64]
) -> tuple[Batches, Batches, SoftAccept]:
    """Training and validation events whose targets are the full model's answers, float32 ``(events,)``.

    The threshold is that of the training events. Accepted and rejected events get the same total weight of the loss,
    on the training events and by the same factors on validation: at a trigger's rate nearly everything is rejected, and
    to reject everything would be a good answer otherwise.
    """
    assert inputs.train.physical is not None  # LightInputs has looked
    background = ~is_signal(inputs.train, inputs.signal_classes).numpy()
    rule = soft_accept(train_scores, background, inputs.train.physical.double().numpy(), inputs.background_fraction)
    answers = rule.targets(train_scores)
    weights = inputs.train.weights.double().numpy()
    accepted, rejected = float(weights @ answers), float(weights @ (1.0 - answers))
    if not accepted > 0 or not rejected > 0:
        raise ConfigError(
            f"the full model {'rejects' if not accepted > 0 else 'accepts'} every event that light models are trained "
            "on: there is no difficulty to learn",
            hint="use difficulty: score, or train on signal and background",
        )
    factor = min(rejected / accepted, _MOST)
    return (
        _with_answers(inputs.train, answers, factor),
        _with_answers(inputs.validation, rule.targets(validation_scores), factor),
        rule,
    )


def _with_answers(events: Batches, answers: NDArray[np.float64], factor: float) -> Batches:
    weights = events.weights.double() * torch.from_numpy(1.0 + (factor - 1.0) * answers)
    return replace(events, targets=torch.from_numpy(answers).float(), weights=weights.float())

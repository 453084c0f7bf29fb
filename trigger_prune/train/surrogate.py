"""A smooth upper bound of the signal that is lost at a fixed background rate, as a term of the training loss.

With ``t`` the threshold at which the background has the wanted rate, the lost signal is the weighted fraction of
``s < t``. Neither the threshold nor the count has a useful gradient; each gives way to a bound:

    t        ``T log(sum_b w e^(s/T) / (f sum_b w))``, the Chernoff bound: whatever the distribution of the scores, at
             most the fraction ``f`` of the background lies above it
    s < t    ``log2(1 + e^((t - s)/T))``

To replace both counts by smooth bounds is the idea of E. Eban et al., "Scalable learning of non-decomposable
objectives", AISTATS 2017 (arXiv:1608.04802), who leave the threshold and a Lagrange multiplier of the rate to gradient
steps. The exponential bound needs neither: nothing is carried from batch to batch, so a resumed run repeats the
interrupted one to the bit. The log-sum-exp over the background is that of the soft partial AUC of D. Zhu et al., "When
AUC meets DRO", ICML 2022 (arXiv:2203.00176).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.scores import Score
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import Task, event_losses, weighted_mean
from trigger_prune.train.objective import Objective

_ABSENT = -1e9
"""Logarithm of a weight of zero: finite, so that a batch without background has no NaN among its gradients."""

_LN2 = 0.6931471805599453


def threshold_bound(
    scores: Tensor, background_weights: Tensor, background_fraction: float, temperature: float = 1.0
) -> Tensor:
    """A scalar that at most ``background_fraction`` of the background's weight reaches; differentiable.

    ``background_weights`` ``(n,)`` are zero for events of signal. Without any background it is far below all scores.
    """
    shares = background_weights / background_weights.sum().clamp_min(torch.finfo(background_weights.dtype).tiny)
    log_shares = (shares / background_fraction).log().clamp_min(_ABSENT).to(scores.dtype)
    return temperature * torch.logsumexp(scores / temperature + log_shares, dim=0)


def lost_signal_bound(
    scores: Tensor, signal: Tensor, weights: Tensor, background_fraction: float, temperature: float = 1.0
) -> Tensor:
    """At least ``1 - signal efficiency`` at the background fraction, for these very events; a differentiable scalar.

    scores        ``(n,)``; adding a number to all of them changes nothing
    signal        ``(n,)`` bool, the others are background
    weights       ``(n,)`` >= 0, physical: a row of weight 2 counts as two rows
    temperature   width of the smooth steps, in units of the score. How tight the bound is depends on it and on the
                  scale of the scores together, and a network may scale its scores

    Zero where signal or background is missing: nothing is lost then.
    """
    threshold = threshold_bound(scores, weights * ~signal, background_fraction, temperature)
    steps = functional.softplus((threshold - scores) / temperature) / _LN2
    signal_weights = weights * signal
    total = signal_weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return (steps * (signal_weights / total).to(scores.dtype)).sum()


@dataclass(frozen=True)
class EfficiencySurrogate:
    """Loss of a batch: the task's cross-entropy plus ``strength`` times ``lost_signal_bound``; for FitSettings.

    The cross-entropy counts with the weights of the loss, the bound with the physical ones. The cross-entropy stays,
    as the bound alone says little about how several classes of signal or of background differ. What the bound buys and
    costs is measured by benchmarks/surrogate.py.
    Raises DataError when called with events that have no classes or physical weights.
    """

    task: Task
    score: Score
    signal_classes: tuple[int, ...]
    background_fraction: float
    temperature: float = 1.0
    strength: float = 1.0

    def __call__(self, outputs: Tensor, events: Batches) -> Tensor:
        """A scalar from network outputs ``(n, k)``."""
        if events.classes is None or events.physical is None:
            raise DataError("the surrogate of the efficiency needs events with classes and physical weights")
        signal = torch.isin(events.classes, torch.tensor(self.signal_classes, device=events.classes.device))
        bound = lost_signal_bound(
            self.score.tensor(outputs), signal, events.physical, self.background_fraction, self.temperature
        )
        return weighted_mean(event_losses(outputs, events.targets, self.task), events.weights) + self.strength * bound


def efficiency_surrogate(task: Task, objective: Objective, trained_classes: tuple[int, ...]) -> EfficiencySurrogate:
    """The loss that goes with ``objective`` for a training on ``trained_classes``.

    Raises ConfigError for a task, an objective or classes that have none.
    """
    if task not in ("classify", "binary"):
        raise ConfigError(
            f"train.loss efficiency_surrogate: task {task} learns no signal", hint="use train.loss: default"
        )
    if objective.score is None or objective.background_fraction is None:
        raise ConfigError(
            f"train.loss efficiency_surrogate: objective {objective.name} has no background rate",
            hint="set objective: efficiency_at_rate (with physics.rate_khz) or efficiency_at_fpr",
        )
    signal = set(trained_classes) & set(objective.signal_classes)
    if not signal or len(signal) == len(trained_classes):
        raise ConfigError(
            "train.loss efficiency_surrogate: train.classes must name signal and background",
            hint="leave train.classes out, or use train.loss: default",
        )
    return EfficiencySurrogate(task, objective.score, objective.signal_classes, objective.background_fraction)

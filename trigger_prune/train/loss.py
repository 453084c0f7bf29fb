"""Losses per event and their weighted mean."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

Task = Literal["classify", "binary", "autoencoder", "distil"]
"""What a network is trained to do."""


def event_losses(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Loss of each event, shape ``(n,)``.

    classify      cross-entropy (natural logarithm) of logits ``(n, classes)`` with class indices ``(n,)``
    binary        the same for one logit ``(n, 1)``, with targets ``(n,)`` of 1 for signal and 0 for background
    autoencoder   mean squared difference of ``outputs`` and ``targets`` over all values of an event
    distil        the same, ``targets`` being a teacher's outputs
    """
    if task == "binary":
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets, reduction="none")
    if task == "classify":
        return functional.cross_entropy(outputs, targets, reduction="none")
    return (outputs.flatten(1) - targets.flatten(1)).square().mean(dim=1)


def right_decisions(outputs: Tensor, targets: Tensor, task: Task) -> Tensor | None:
    """Whether each event is put in its class, bool ``(n,)``; None for a task without classes."""
    if task == "classify":
        return outputs.argmax(dim=1) == targets
    if task == "binary":
        return (outputs[:, 0] > 0) == (targets > 0.5)
    return None


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """``sum(w l) / sum(w)``, a scalar; an event of weight 3 counts as three events."""
    return (losses * weights).sum() / weights.sum()

"""Losses per event and their weighted mean."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

Task = Literal["classify", "autoencoder"]
"""What a network is trained to do."""


def event_losses(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Loss of each event, shape ``(n,)``.

    classify      cross-entropy (natural logarithm) of logits ``(n, classes)`` with class indices ``(n,)``
    autoencoder   mean squared difference of ``outputs`` and ``targets`` over all values of an event
    """
    if task == "classify":
        return functional.cross_entropy(outputs, targets, reduction="none")
    return (outputs.flatten(1) - targets.flatten(1)).square().mean(dim=1)


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """``sum(w l) / sum(w)``, a scalar; an event of weight 3 counts as three events."""
    return (losses * weights).sum() / weights.sum()

"""Pruning inside quantisation-aware training, and polishing with a frozen mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import fx

from trigger_prune.importance import CriterionData, criterion_by_name
from trigger_prune.prune.schedule import cubic_sparsity
from trigger_prune.structure.masks import Scope, masked_fraction, prunable_layers, raise_sparsity, zero_masked
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.history import EpochRecord, FitHistory
from trigger_prune.train.loss import Task

_MASK_INTERVAL_STEPS = 25
"""Steps between two updates of the mask on the ramp: often enough for a smooth cubic, rare enough to cost nothing."""

_CRITERION_EVENTS = 2048
"""Training events that a criterion sees; scores are taken many times on a ramp."""


def ramp(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    *,
    sparsity: float,
    criterion: str,
    scope: Scope,
    progress: Callable[[EpochRecord, int], None] | None = None,
) -> FitHistory:
    """Raise the masked fraction to ``sparsity`` on a cubic schedule over the first half of the epochs, in place.

    The second half fine-tunes with the final mask; only its epochs can be selected as best. With a single epoch the
    whole cut is made before its first step.
    """
    ramp_epochs = settings.epochs // 2
    score = criterion_by_name(criterion, with_data=True).score
    data = criterion_events(train, settings.task, settings.seed)
    start = masked_fraction(network)

    def update(step: int, total_steps: int) -> None:
        ramp_steps = total_steps * ramp_epochs // settings.epochs
        if step <= ramp_steps and (step % _MASK_INTERVAL_STEPS == 0 or step == ramp_steps):
            wanted = cubic_sparsity(step, ramp_steps, start, sparsity)
            raise_sparsity(network, score(network, list(prunable_layers(network)), data), wanted, scope)

    chosen = replace(settings, select_from_epoch=min(ramp_epochs + 1, settings.epochs - 1))
    return _fit(network, train, validation, chosen, update, progress)


def criterion_events(train: Batches, task: Task, seed: int) -> CriterionData:
    """A random part of the training events for criteria that look at events, the same for the same seed."""
    used = train.take(train.weights > 0)
    rows = torch.randperm(len(used), generator=torch.Generator().manual_seed(seed))
    return CriterionData(used.take(rows[:_CRITERION_EVENTS].to(used.features.device)), task)


def polish(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    progress: Callable[[EpochRecord, int], None] | None = None,
) -> FitHistory:
    """Fine-tune with the mask as it is, in place."""
    return _fit(network, train, validation, settings, None, progress)


def _fit(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    on_step: Callable[[int, int], None] | None,
    progress: Callable[[EpochRecord, int], None] | None,
) -> FitHistory:
    def hold(optimizer: torch.optim.Optimizer) -> None:
        zero_masked(network, optimizer)

    return fit(network, train, validation, settings, on_step=on_step, on_after_step=hold, progress=progress)

"""Pruning inside quantisation-aware training, and polishing with a frozen mask."""

from __future__ import annotations

import torch
from torch import fx

from trigger_prune.prune.schedules import RampPlan, schedule_by_name
from trigger_prune.prune.schedules._base import Progress
from trigger_prune.prune.schedules._masking import criterion_events
from trigger_prune.structure.masks import zero_masked
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.history import FitHistory

__all__ = ["RampPlan", "criterion_events", "polish", "ramp"]


def ramp(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    plan: RampPlan,
    progress: Progress | None = None,
) -> FitHistory:
    """Prune ``network`` as planned while it trains, in place.

    What is masked at the end is exactly ``round(sparsity * n)``, also of every layer that the plan names; a network
    that is sparser already stays so. ``adaptive`` alone may end below the sparsity asked for.
    Raises ConfigError for an unknown schedule, criterion or layer, ModelError when the training fails.
    """
    return schedule_by_name(plan.schedule)(network, train, validation, settings, plan, progress)


def polish(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    progress: Progress | None = None,
) -> FitHistory:
    """Fine-tune with the mask as it is, in place. Masked weights and their optimiser moments stay exactly zero."""

    def hold(optimizer: torch.optim.Optimizer) -> None:
        zero_masked(network, optimizer)

    return fit(network, train, validation, settings, on_after_step=hold, progress=progress)

"""Schedules whose sparsity follows from the step alone, with regrowth on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import fx

from trigger_prune.errors import ConfigError
from trigger_prune.prune import regrowth
from trigger_prune.prune.schedules._base import Progress
from trigger_prune.prune.schedules._masking import Masking
from trigger_prune.prune.schedules._plan import RampPlan
from trigger_prune.prune.schedules._repair import repaired_cut
from trigger_prune.structure.masks import masked_fraction, zero_masked
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.history import FitHistory

SparsityAt = Callable[[float, float, float, float], float]
"""(step, ramp_steps, start, end) -> sparsity; ``end`` from ``ramp_steps`` on."""

_INTERVAL_STEPS = 25
"""Steps between two updates of the mask on the ramp: often enough for a smooth cubic, rare enough to cost nothing."""

_REGROW_INTERVAL_STEPS = 100
"""The same with regrowth (RigL's value): a weight given back at zero needs some steps before its size says anything."""

_LEAST_UPDATES = 16
"""A ramp of few steps is still a ramp."""


def update_steps(ramp_steps: int, interval: int = _INTERVAL_STEPS) -> list[int]:
    """Steps from 0 to ``ramp_steps`` at which the mask is updated: evenly spaced, at most ``interval`` apart."""
    n = min(ramp_steps, max(_LEAST_UPDATES, math.ceil(ramp_steps / interval)))
    return sorted({round(k * ramp_steps / n) for k in range(n + 1)}) if n else [0]


def run_timed(
    at: SparsityAt,
    at_once: bool,
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    plan: RampPlan,
    progress: Progress | None,
) -> FitHistory:
    """Train with the sparsity of ``at``, in place; afterwards the mask is frozen. See ``RampPlan``.

    at_once   the whole cut is at step 0, and the mask changes no more without regrowth
    With a single epoch everything happens before its first step.
    Raises ConfigError for a cut before the first step by a criterion that has to watch the training.
    """
    masking = Masking(network, train, settings.task, settings.seed, plan)
    if masking.needs_training and (at_once or settings.epochs == 1):
        raise ConfigError(
            f"criterion {plan.criterion!r} gathers its scores while training, and here the cut comes before that",
            hint="use schedule: cubic with more than one epoch, or another criterion",
        )
    frozen_from = min(math.floor(settings.epochs * plan.ramp_fraction + 1e-9), settings.epochs - 1)
    if at_once and plan.regrow == "none":
        frozen_from = 0
    state = _Ramp(masking, at, train, settings, frozen_from)
    if plan.repair:
        repaired_cut(masking)
    # the epoch right after the last change of the mask has not recovered from it
    select_from = min(frozen_from + 1, settings.epochs - 1) if frozen_from else 0
    with masking.watching():
        return fit(
            network,
            train,
            validation,
            replace(settings, select_from_epoch=select_from),
            on_step=state.before_step,
            on_after_step=state.after_step,
            progress=progress,
        )


class _Ramp:
    """The hooks of one training."""

    def __init__(
        self, masking: Masking, at: SparsityAt, train: Batches, settings: FitSettings, frozen_from: int
    ) -> None:
        self.masking = masking
        self.at = at
        self.train = train
        self.settings = settings
        self.frozen_from = frozen_from
        self.optimizer: torch.optim.Optimizer | None = None
        self.updates: frozenset[int] | None = None
        self.draws = torch.Generator().manual_seed(settings.seed)

    def before_step(self, step: int, total_steps: int) -> None:
        """Update the mask where it is due."""
        ramp_steps = total_steps * self.frozen_from // self.settings.epochs
        plan = self.masking.plan
        if self.updates is None:
            interval = _INTERVAL_STEPS if plan.regrow == "none" else _REGROW_INTERVAL_STEPS
            self.updates = frozenset(update_steps(ramp_steps, interval))
        if step not in self.updates:
            return
        self.masking.raise_to(lambda start, end: self.at(step, ramp_steps, start, end))
        fraction = regrowth.cosine(step, ramp_steps, plan.regrow_fraction)
        # before the first step a criterion that watches the training has nothing to say
        speechless = self.optimizer is None and self.masking.needs_training
        if plan.regrow != "none" and fraction > 0 and masked_fraction(self.masking.network) > 0 and not speechless:
            self._exchange(fraction)

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Masked weights and their moments stay zero."""
        self.optimizer = optimizer
        zero_masked(self.masking.network, optimizer)

    def _exchange(self, fraction: float) -> None:
        network, plan = self.masking.network, self.masking.plan
        if self.optimizer is not None:
            # what this update has just masked may come back: at zero, and without momentum
            zero_masked(network, self.optimizer)
        growth = (
            regrowth.random_growth(network, self.draws)
            if plan.regrow == "set"
            else regrowth.dense_gradients(network, regrowth.draw_events(self.train, self.draws), self.settings)
        )
        growth = {name: values.abs() for name, values in growth.items()}
        scores = self.masking.scores()
        for part in self.masking.parts:
            regrowth.exchange(part.layers, scores, growth, fraction, part.scope)

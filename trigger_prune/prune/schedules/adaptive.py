"""Adaptive: as fast as the validation merit allows, with a step back where a cut costs too much.

Rounds of equal length: cut a fraction of what is left, train from a high learning rate down to a low one, judge. A
drop beyond the tolerance takes weights, masks and optimiser state back to the best checkpoint and halves the step; a
drop of less than half the tolerance makes the step 1.5 times larger. The rest of the epochs polishes the checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import fx

from trigger_prune.errors import ConfigError
from trigger_prune.prune.schedules._base import Progress, register_schedule
from trigger_prune.prune.schedules._checkpoint import Checkpoint
from trigger_prune.prune.schedules._masking import Masking
from trigger_prune.prune.schedules._plan import RampPlan
from trigger_prune.prune.schedules.geometric import geometric_sparsity
from trigger_prune.structure.masks import zero_masked
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.history import EpochRecord, FitHistory
from trigger_prune.train.schedule import one_cycle_learning_rate

Stopped = Literal["target", "step", "epochs"]

_ROUNDS = 12
"""Rounds that the search's epochs are parted into, where there are as many epochs."""

_FASTER = 1.5
_LOWEST_RATE = 0.05
"""Learning rate at both ends of a round, as a fraction of the peak: low enough to judge, high enough to go on from."""

_ROUND_WARMUP = 0.2


@dataclass(frozen=True)
class AdaptiveRound:
    """One cut and the training after it.

    epoch      index of the last epoch, whose end was judged
    progress   towards the plan's sparsity: 0 at the start, 1 there; equal steps remove equal fractions of what is left
    sparsity   masked fraction of all prunable weights during the round
    drop       of the merit on validation, from the baseline
    """

    epoch: int
    progress: float
    sparsity: float
    drop: float
    accepted: bool


@dataclass(frozen=True)
class AdaptiveResult:
    """How an adaptive pruning went; the network has the best checkpoint, polished.

    baseline   merit on validation before
    stopped    ``target``: the plan's sparsity is reached; ``step``: a smaller cut would be none to speak of;
               ``epochs``: the search's epochs are used up
    """

    history: FitHistory
    rounds: tuple[AdaptiveRound, ...]
    baseline: float
    stopped: Stopped


def adaptive(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    plan: RampPlan,
    tolerance: float,
    *,
    baseline: float | None = None,
    smallest_step: float = 0.02,
    progress: Progress | None = None,
) -> AdaptiveResult:
    """Prune towards the plan's sparsity while the merit on validation drops by at most ``tolerance``, in place.

    tolerance       drop of the merit that is accepted, in its units (0.01 of accuracy is a point)
    baseline        merit to compare with; None: that of the network as it is
    smallest_step   of the progress (see AdaptiveRound), below which a step is no longer halved but the search ends
    The plan's ``ramp_fraction`` of the epochs searches; the others, one at least, polish the last accepted checkpoint,
    which gives way only to a better epoch. When no cut is accepted, the result is the best epoch of polishing with the
    masks the network came with.
    Raises ConfigError for a tolerance below 0, too few epochs, or regrowth.
    """
    search_epochs = min(settings.epochs - 1, math.floor(settings.epochs * plan.ramp_fraction + 1e-9))
    if not tolerance >= 0:
        raise ConfigError(f"tolerance {tolerance} is not 0 or above")
    if search_epochs < 1:
        raise ConfigError(
            f"schedule adaptive: {settings.epochs} epochs with ramp_fraction {plan.ramp_fraction} leave none to search",
            hint="give it two epochs at least, and a larger ramp_fraction",
        )
    if plan.regrow != "none":
        raise ConfigError(f"schedule adaptive has no regrow {plan.regrow!r}", hint="use schedule: cubic")
    masking = Masking(network, train, settings.task, settings.seed, plan)
    if baseline is None:
        events = validation.to(next(network.parameters()).device)
        baseline = evaluate(network, events, settings.task, settings.objective).merit
    search = _Search(masking, settings, search_epochs, tolerance, baseline, smallest_step, progress)
    with masking.watching():
        history = fit(
            network,
            train,
            validation,
            replace(settings, select="last", select_from_epoch=0, patience_epochs=None),
            on_step=search.before_step,
            on_after_step=search.after_step,
            progress=search.after_epoch,
        )
    search.best.restore(network)
    assert search.stopped is not None
    history = FitHistory(history.epochs, search.best_epoch)
    return AdaptiveResult(history, tuple(search.rounds), baseline, search.stopped)


class _Search:
    """The hooks of one training, which is cut into rounds and a polishing."""

    def __init__(
        self,
        masking: Masking,
        settings: FitSettings,
        search_epochs: int,
        tolerance: float,
        baseline: float,
        smallest_step: float,
        progress: Progress | None,
    ) -> None:
        self.masking = masking
        self.settings = settings
        self.tolerance = tolerance
        self.baseline = baseline
        self.smallest_step = smallest_step
        self.progress = progress
        self.round_epochs = max(1, search_epochs // _ROUNDS)
        self.n_rounds = search_epochs // self.round_epochs
        # without a step back the target is reached in half the rounds
        self.step = min(1.0, 2.0 / self.n_rounds)
        self.at = self.trial = 0.0
        self.rounds: list[AdaptiveRound] = []
        self.stopped: Stopped | None = "target" if masking.reached() else None
        self.optimizer: torch.optim.Optimizer | None = None
        self.best = Checkpoint.of(masking.network, None)
        self.best_epoch = 0
        self.best_figures = (-math.inf, -math.inf)
        self.segment = (0, settings.epochs if self.stopped else self.round_epochs)
        """First epoch and number of epochs of the round, or of the polishing."""

    def before_step(self, step: int, total_steps: int) -> None:
        """Cut at the start of a round; the learning rate of the round, or of the polishing."""
        per_epoch = total_steps // self.settings.epochs
        first, n_epochs = self.segment
        if step == first * per_epoch and self.stopped is None:
            self._cut()
        if self.optimizer is None:
            return
        searching = self.stopped is None
        settings = self.settings
        rate = one_cycle_learning_rate(
            step - first * per_epoch,
            n_epochs * per_epoch,
            settings.learning_rate,
            warmup_fraction=_ROUND_WARMUP if searching else settings.warmup_fraction,
            start_fraction=_LOWEST_RATE if searching else settings.start_lr_fraction,
            final_fraction=_LOWEST_RATE if searching else settings.final_lr_fraction,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Masked weights and their moments stay zero."""
        self.optimizer = optimizer
        zero_masked(self.masking.network, optimizer)

    def after_epoch(self, record: EpochRecord, epochs: int) -> None:
        """Judge at the end of a round; while polishing keep the best epoch."""
        if self.progress is not None:
            self.progress(record, epochs)
        first, n_epochs = self.segment
        if self.stopped is not None:
            if _figures(record) > self.best_figures:
                self._keep(record)
        elif record.epoch == first + n_epochs - 1:
            self._judge(record)
            begin = record.epoch + 1
            self.segment = (begin, self.settings.epochs - begin if self.stopped else self.round_epochs)

    def _cut(self) -> None:
        if self.masking.needs_training and not self.rounds:
            # a criterion that watches the training has nothing to say yet: this round only trains
            return
        self.trial = self.at
        changed = False
        while not changed and self.trial < 1.0:
            # of a few groups a small step takes none
            self.trial = min(1.0, self.trial + self.step)
            changed = self.masking.raise_to(lambda start, end: geometric_sparsity(self.trial, 1.0, start, end))

    def _judge(self, record: EpochRecord) -> None:
        drop = self.baseline - record.validation_merit
        accepted = drop <= self.tolerance
        self.rounds.append(AdaptiveRound(record.epoch, self.trial, record.sparsity, drop, accepted))
        if accepted:
            self.at = self.trial
            self._keep(record)
            self.step *= _FASTER if drop < self.tolerance / 2 else 1.0
        else:
            self.best.restore(self.masking.network, self.optimizer)
            self.step /= 2
        if accepted and (self.at >= 1.0 or self.masking.reached()):
            self.stopped = "target"
        elif self.step < self.smallest_step:
            self.stopped = "step"
        elif len(self.rounds) == self.n_rounds:
            self.stopped = "epochs"

    def _keep(self, record: EpochRecord) -> None:
        self.best = Checkpoint.of(self.masking.network, self.optimizer)
        self.best_epoch = record.epoch
        self.best_figures = _figures(record)


def _figures(record: EpochRecord) -> tuple[float, float]:
    """Larger is better; a tie of the merit is decided by the loss."""
    return record.validation_merit, -record.validation_loss


def _run(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    plan: RampPlan,
    progress: Progress | None,
) -> FitHistory:
    return adaptive(network, train, validation, settings, plan, plan.tolerance, progress=progress).history


register_schedule("adaptive", _run)

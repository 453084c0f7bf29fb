"""A training of exactly so many optimiser steps, which can begin at any step of the schedule and holds a mask.

Between rounds and conditions only weights and masks may differ, so nothing here depends on validation events: no epoch
is selected and none is the last before its time. With all weights kept and from step 0 it gives the bits that
``train.fit`` gives with ``select="last"``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.prune.lottery.masks import Masks, apply_masks, weights_of
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.loss import event_losses, weighted_mean
from trigger_prune.train.schedule import one_cycle_learning_rate
from trigger_prune.train.threads import suitable_threads

State = dict[str, Tensor]
"""Every parameter and buffer of a network by name, on the CPU."""

EpochCallback = Callable[[nn.Module, int, float], bool]
"""``(network, epoch, training loss)`` after every epoch that was run; True ends the training."""


def never_ending(advance: Callable[[float], None]) -> EpochCallback:
    """An epoch callback that tells ``advance`` the training loss and never ends the training."""

    def call(_network: nn.Module, _epoch: int, loss: float) -> bool:
        advance(loss)
        return False

    return call


@dataclass(frozen=True)
class Trained:
    """steps      optimiser steps that were taken
    seconds       wall time
    loss          weighted mean training loss of the last epoch (of the part of it that was run)
    kept          state before step ``keep_at``; None when none was asked for
    """

    steps: int
    seconds: float
    loss: float
    kept: State | None = None


def network_state(network: nn.Module) -> State:
    """A copy of all parameters and buffers, also of those that ``state_dict`` leaves out."""
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}


def set_state(network: nn.Module, state: State) -> None:
    """Inverse of ``network_state``, in place. Raises ModelError naming a tensor that is missing or does not fit."""
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    wrong = [name for name in {**named, **state} if name not in state or name not in named]
    wrong += [name for name in named if name in state and named[name].shape != state[name].shape]
    if wrong:
        raise ModelError(f"the weights are of another network than this {type(network).__name__}: {wrong[0]!r}")
    with torch.no_grad():
        for name, tensor in named.items():
            tensor.copy_(state[name])


def steps_per_epoch(train: Batches, batch_size: int) -> int:
    """Optimiser steps of one epoch; events of weight zero take no part."""
    return -(-int((train.weights > 0).sum()) // batch_size)


def total_steps(train: Batches, settings: FitSettings) -> int:
    """Optimiser steps of a whole training."""
    return steps_per_epoch(train, settings.batch_size) * settings.epochs


def train_steps(
    network: nn.Module,
    train: Batches,
    settings: FitSettings,
    *,
    masks: Masks | None = None,
    start: int = 0,
    stop: int | None = None,
    keep_at: int | None = None,
    on_epoch: EpochCallback | None = None,
) -> Trained:
    """Train ``network`` in place with the steps ``start .. stop - 1`` of the schedule of ``settings``.

    masks     weights outside are set to zero first and stay exactly zero: their gradient does not enter the clipping
              norm and no moment of AdamW moves them
    start     events come in the order, and with the learning rate, that they have there in a training from step 0; the
              optimiser starts without moments
    stop      None: the end of the schedule
    keep_at   step before which the state is copied

    ``epochs``, ``batch_size``, ``learning_rate``, its schedule, ``seed``, ``task``, ``batch_loss``, ``weight_decay``,
    ``gradient_clip_norm`` and ``device`` of the settings apply. torch's global random state is as before.
    Raises ConfigError for steps outside the schedule, ModelError when the loss is not finite or nothing can be trained.
    """
    used = train.take(train.weights > 0)
    if len(used) == 0:
        raise ModelError(f"{settings.phase}: no training event has a weight above zero")
    end = total_steps(train, settings) if stop is None else stop
    if not 0 <= start <= end <= total_steps(train, settings):
        raise ConfigError(
            f"{settings.phase}: steps {start} to {end} are outside the training's {total_steps(train, settings)}",
            hint="choose a smaller lottery.rewind_step, or more epochs",
        )
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        raise ModelError(f"{settings.phase}: the network has no parameter to train")
    home = parameters[0].device
    modes = {module: module.training for module in network.modules()}
    devices = [settings.device] if settings.device.type == "cuda" else []
    with suitable_threads(network), torch.random.fork_rng(devices=devices):
        torch.manual_seed(settings.seed)
        network.to(settings.device)
        if masks is not None:
            apply_masks(network, masks)
        try:
            return _Run(network, used.to(settings.device), settings, masks).steps(start, end, keep_at, on_epoch)
        finally:
            network.to(home)
            for module, mode in modes.items():
                module.training = mode


class _Run:
    def __init__(self, network: nn.Module, train: Batches, settings: FitSettings, masks: Masks | None) -> None:
        self.network, self.train, self.settings = network, train, settings
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        weights = weights_of(network) if masks is not None else {}
        self.masked = list(weights.values())
        self.masks = [(masks or {})[name].to(weight) for name, weight in weights.items()]
        self.per_epoch = steps_per_epoch(train, settings.batch_size)
        self.total = self.per_epoch * settings.epochs

    def steps(self, start: int, end: int, keep_at: int | None, on_epoch: EpochCallback | None) -> Trained:
        began = time.perf_counter()
        order = torch.Generator().manual_seed(self.settings.seed)
        kept = network_state(self.network) if keep_at == start else None
        loss, done = math.nan, 0
        for epoch in range(self.settings.epochs):
            first, last = max(start, epoch * self.per_epoch), min(end, (epoch + 1) * self.per_epoch)
            if first >= end:
                break
            rows = torch.randperm(len(self.train), generator=order)
            if first >= last:
                continue
            parts = self.train.take(rows.to(self.settings.device)).parts(self.per_epoch)
            self.network.train()
            losses = []
            for step in range(first, last):
                losses.append(self._step(parts[step - epoch * self.per_epoch], step))
                if keep_at == step + 1:
                    kept = network_state(self.network)
            done += last - first
            loss = self._mean(losses, parts[first - epoch * self.per_epoch :][: last - first], epoch)
            if on_epoch is not None and on_epoch(self.network, epoch, loss):
                break
        return Trained(done, time.perf_counter() - began, loss, kept)

    def _step(self, part: Batches, step: int) -> Tensor:
        settings = self.settings
        rate = one_cycle_learning_rate(
            step,
            self.total,
            settings.learning_rate,
            warmup_fraction=settings.warmup_fraction,
            start_fraction=settings.start_lr_fraction,
            final_fraction=settings.final_lr_fraction,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        outputs = self.network(part.features)
        if settings.batch_loss is not None:
            loss = settings.batch_loss(outputs, part)
        else:
            loss = weighted_mean(event_losses(outputs, part.targets, settings.task), part.weights)
        loss.backward()  # type: ignore[no-untyped-call]
        pairs = [(weight.grad, mask) for weight, mask in zip(self.masked, self.masks, strict=True)]
        reached = [(grad, mask) for grad, mask in pairs if grad is not None]
        if reached:
            torch._foreach_mul_([grad for grad, _ in reached], [mask for _, mask in reached])
        if settings.gradient_clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, settings.gradient_clip_norm)
        self.optimizer.step()
        return loss.detach()

    def _mean(self, losses: list[Tensor], parts: list[Batches], epoch: int) -> float:
        values = torch.stack(losses).double()
        finite = torch.isfinite(values)
        if not bool(finite.all()):
            # looked at once per epoch: reading every step would stall the device, and NaN does not go away
            raise ModelError(
                f"{self.settings.phase}, epoch {epoch}: the training loss is {float(values[~finite][0])}",
                hint="lower train.learning_rate, and check the range of features and event weights",
            )
        totals = torch.stack([part.weights.sum(dtype=torch.float64) for part in parts])
        return float((values * totals).sum() / totals.sum())

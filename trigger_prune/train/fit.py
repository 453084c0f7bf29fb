"""The fit loop: AdamW, one-cycle schedule, gradient clipping, early stopping, the best epoch kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.train.evaluate import LOSS, Batches, Evaluation, evaluate, predict
from trigger_prune.train.history import EpochRecord, FitHistory
from trigger_prune.train.loss import Task, event_losses, weighted_mean
from trigger_prune.train.objective import Objective
from trigger_prune.train.schedule import one_cycle_learning_rate
from trigger_prune.train.threads import suitable_threads

__all__ = ["Batches", "Evaluation", "FitSettings", "evaluate", "fit", "predict"]


@dataclass(frozen=True)
class FitSettings:
    """How to fit.

    phase                 name in the history and in messages
    learning_rate         peak of the one-cycle schedule, which starts at ``start_lr_fraction`` of it, peaks after
                          ``warmup_fraction`` of all steps and ends at ``final_lr_fraction`` of it
    objective             what the validation events say of an epoch; a tie is decided by the validation loss
    batch_loss            loss of a batch, a scalar, from outputs and events; None: weighted mean of the task's loss
    patience_epochs       stop after so many epochs without a better merit on validation; None: never
    gradient_clip_norm    largest norm of all gradients together; None: no clipping
    select                keep the weights of the epoch with the best merit on validation, or of the last
                          (then patience does not apply)
    select_from_epoch     epochs before this one are neither selected nor counted for patience (a pruning ramp)
    """

    phase: str
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    task: Task = "classify"
    objective: Objective = LOSS
    batch_loss: Callable[[Tensor, Batches], Tensor] | None = None
    weight_decay: float = 1e-4
    patience_epochs: int | None = None
    gradient_clip_norm: float | None = 1.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    warmup_fraction: float = 0.3
    start_lr_fraction: float = 0.04
    final_lr_fraction: float = 1e-3
    select: Literal["best", "last"] = "best"
    select_from_epoch: int = 0


def fit(
    network: nn.Module,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    *,
    on_step: Callable[[int, int], None] | None = None,
    on_gradients: Callable[[int, int], None] | None = None,
    on_after_step: Callable[[torch.optim.Optimizer], None] | None = None,
    progress: Callable[[EpochRecord, int], None] | None = None,
) -> FitHistory:
    """Trains ``network`` in place and leaves it with the weights and buffers of the selected epoch.

    on_step(step, total_steps)   before the forward pass of every step, counted from 0 over all epochs
    on_gradients(step, total)    after the backward pass of every step, before clipping: may add to the gradients
    on_after_step(optimizer)     after every optimiser step: AdamW moves a masked weight too (decay, momentum), so a
                                 pruning schedule puts it and its moments back here
    progress(record, epochs)     after every epoch

    Same seed, network and events give the same bits on the same machine. The network comes back on its device, in its
    training mode, and torch's global random state is as before. Parameters with ``requires_grad`` False are not
    touched. Events of weight zero are left out, so they do not even enter batch statistics.
    Raises ModelError when the loss is not finite, naming phase, epoch and step, and when nothing can be trained.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    train = train.take(train.weights > 0)
    if not parameters:
        raise ModelError(f"{settings.phase}: the network has no parameter to train")
    if len(train) == 0:
        raise ModelError(f"{settings.phase}: no training event has a weight above zero")
    if not 0 <= settings.select_from_epoch < settings.epochs:
        raise ModelError(
            f"{settings.phase}: select_from_epoch {settings.select_from_epoch} leaves none of {settings.epochs} epochs"
        )
    home = parameters[0].device
    modes = {module: module.training for module in network.modules()}
    devices = [settings.device] if settings.device.type == "cuda" else []
    with suitable_threads(network), torch.random.fork_rng(devices=devices):
        torch.manual_seed(settings.seed)
        network.to(settings.device)
        try:
            loop = _Loop(network, train.to(settings.device), settings, on_step, on_gradients, on_after_step)
            return _run_epochs(loop, validation.to(settings.device), progress)
        finally:
            network.to(home)
            for module, mode in modes.items():
                module.training = mode


class _Loop:
    """One epoch after another over shuffled training events."""

    def __init__(
        self,
        network: nn.Module,
        train: Batches,
        settings: FitSettings,
        on_step: Callable[[int, int], None] | None,
        on_gradients: Callable[[int, int], None] | None,
        on_after_step: Callable[[torch.optim.Optimizer], None] | None,
    ) -> None:
        self.network = network
        self.train = train
        self.settings = settings
        self.on_step = on_step
        self.on_gradients = on_gradients
        self.on_after_step = on_after_step
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.order = torch.Generator().manual_seed(settings.seed)
        self.steps_per_epoch = -(-len(train) // settings.batch_size)
        self.total_steps = self.steps_per_epoch * settings.epochs
        self.step = 0

    def run_epoch(self, epoch: int) -> float:
        """Weighted mean training loss of the epoch; leaves the learning rate in the optimiser."""
        shuffled = self.train.take(torch.randperm(len(self.train), generator=self.order).to(self.settings.device))
        # near-equal parts: a last batch of a few events would upset batch normalisation
        parts = shuffled.parts(self.steps_per_epoch)
        losses: list[Tensor] = []
        self.network.train()
        for part in parts:
            self._set_learning_rate()
            if self.on_step is not None:
                self.on_step(self.step, self.total_steps)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._loss(self.network(part.features), part)
            loss.backward()  # type: ignore[no-untyped-call]
            if self.on_gradients is not None:
                self.on_gradients(self.step, self.total_steps)
            if self.settings.gradient_clip_norm is not None:
                nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_clip_norm)
            self.optimizer.step()
            if self.on_after_step is not None:
                self.on_after_step(self.optimizer)
            losses.append(loss.detach())
            self.step += 1
        return self._mean_loss(epoch, torch.stack(losses).double(), [part.weights for part in parts])

    def _loss(self, outputs: Tensor, part: Batches) -> Tensor:
        if self.settings.batch_loss is not None:
            return self.settings.batch_loss(outputs, part)
        return weighted_mean(event_losses(outputs, part.targets, self.settings.task), part.weights)

    def _set_learning_rate(self) -> None:
        rate = one_cycle_learning_rate(
            self.step,
            self.total_steps,
            self.settings.learning_rate,
            warmup_fraction=self.settings.warmup_fraction,
            start_fraction=self.settings.start_lr_fraction,
            final_fraction=self.settings.final_lr_fraction,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _mean_loss(self, epoch: int, losses: Tensor, weights: list[Tensor]) -> float:
        finite = torch.isfinite(losses)
        if not bool(finite.all()):
            # looked at once per epoch: reading every step would stall the device, and NaN does not go away
            step = int((~finite).nonzero()[0])
            raise ModelError(
                f"{self.settings.phase}, epoch {epoch}, step {step} of {self.steps_per_epoch}: "
                f"the training loss is {float(losses[step])}",
                hint="lower the learning rate, and check the range of features and event weights",
            )
        totals = torch.stack([weight.sum(dtype=torch.float64) for weight in weights])
        return float((losses * totals).sum() / totals.sum())


def _run_epochs(loop: _Loop, validation: Batches, progress: Callable[[EpochRecord, int], None] | None) -> FitHistory:
    settings = loop.settings
    records: list[EpochRecord] = []
    best_index = settings.select_from_epoch
    best_state: list[Tensor] = []
    for epoch in range(settings.epochs):
        started = time.perf_counter()
        train_loss = loop.run_epoch(epoch)
        result = evaluate(loop.network, validation, settings.task, settings.objective)
        if not torch.isfinite(torch.tensor(result.loss)):
            raise ModelError(
                f"{settings.phase}, epoch {epoch}, after step {loop.steps_per_epoch - 1}: "
                f"the validation loss is {result.loss}",
                hint="lower the learning rate, and check the range of the validation features",
            )
        records.append(
            EpochRecord(
                phase=settings.phase,
                epoch=epoch,
                train_loss=train_loss,
                validation_loss=result.loss,
                validation_accuracy=result.accuracy,
                learning_rate=loop.optimizer.param_groups[0]["lr"],
                sparsity=_masked_fraction(loop.network),
                seconds=time.perf_counter() - started,
                validation_merit=result.merit,
            )
        )
        if progress is not None:
            progress(records[-1], settings.epochs)
        if epoch < settings.select_from_epoch:
            continue
        first = not best_state
        if first or settings.select == "last" or _better(records[-1], records[best_index]):
            best_index = epoch
            best_state = [tensor.detach().clone() for tensor in _state(loop.network)]
        elif settings.patience_epochs is not None and epoch - best_index >= settings.patience_epochs:
            break
    with torch.no_grad():
        for tensor, kept in zip(_state(loop.network), best_state, strict=True):
            tensor.copy_(kept)
    return FitHistory(tuple(records), best_index)


def _better(record: EpochRecord, best: EpochRecord) -> bool:
    if record.validation_merit == best.validation_merit:
        return record.validation_loss < best.validation_loss
    return record.validation_merit > best.validation_merit


def _state(network: nn.Module) -> list[Tensor]:
    """Parameters and buffers, the ones left out of state_dict included."""
    return [*network.parameters(), *network.buffers()]


def _masked_fraction(network: nn.Module) -> float:
    """Fraction of trained weights that a ``weight_mask`` buffer (as in the quantised layers) sets to zero."""
    masks = [
        module.get_buffer("weight_mask")
        for module in network.modules()
        if "weight_mask" in dict(module.named_buffers(recurse=False)) and module.get_parameter("weight").requires_grad
    ]
    total = sum(mask.numel() for mask in masks)
    return sum(int((mask == 0).sum()) for mask in masks) / total if total else 0.0

"""Quantisation-aware training of the float networks of two peers, in the project's environment, kept plain.

A peer is a fixed yardstick: this uses the toolkit's layers and fit loop, but none of the methods it is compared with.
Weights are removed by magnitude, all layers ranked together, on a cubic schedule over the first half of the epochs
(M. Zhu, S. Gupta, arXiv:1710.01878).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from in_peer import Job
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.structure.masks import prunable_layers, raise_sparsity, zero_masked
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit

MASK_INTERVAL_STEPS = 25


@dataclass(frozen=True)
class Bits:
    """What ``quantize_model`` reads."""

    weight_bits: int
    activation_bits: int
    rounding: str = "AP_TRN"


def batches(job: Job, part: str) -> Batches:
    """Events of one part, all of weight 1."""
    y = torch.from_numpy(job.events.y[part])
    ones = torch.ones(len(y))
    return Batches(torch.from_numpy(job.events.x[part]), y, ones, y, ones.double())


def train_float(model: nn.Module, job: Job, epochs: int) -> int:
    """Train in place; returns the number of optimiser steps."""
    return _fit(model, job, "float", epochs)


def quantize(model: nn.Module, job: Job) -> fx.GraphModule:
    """Fixed-point network; its ranges come from all training events."""
    settings = job.settings
    fixed = FixedPoint(job.events.width, job.events.integer, True, Rounding.AP_RND, Overflow.AP_SAT)
    calibration = torch.from_numpy(job.events.x["train"])
    return quantize_model(model, calibration, fixed, Bits(settings["weight_bits"], settings["activation_bits"]))


def train_quantised(network: fx.GraphModule, job: Job, epochs: int, sparsity: float) -> int:
    """Prune to ``sparsity`` and train in place; returns the number of optimiser steps."""
    ramp_epochs = epochs // 2

    def prune(step: int, total_steps: int) -> None:
        ramp_steps = max(1, total_steps * ramp_epochs // epochs)
        if step <= ramp_steps and (step % MASK_INTERVAL_STEPS == 0 or step == ramp_steps):
            wanted = sparsity * (1 - (1 - step / ramp_steps) ** 3)
            raise_sparsity(network, _magnitudes(network), wanted, "global")

    def hold(optimizer: torch.optim.Optimizer) -> None:
        zero_masked(network, optimizer)

    return _fit(
        network, job, "quantised", epochs, select_from=ramp_epochs + 1 if sparsity else 0, step=prune, hold=hold
    )


def _magnitudes(network: nn.Module) -> dict[str, Tensor]:
    return {name: layer.weight.detach().abs() for name, layer in prunable_layers(network).items()}


def _fit(model, job, phase, epochs, *, select_from=0, step=None, hold=None) -> int:  # type: ignore[no-untyped-def]
    train = batches(job, "train")
    settings = FitSettings(
        phase=phase,
        epochs=epochs,
        batch_size=job.settings["batch_size"],
        learning_rate=job.settings["learning_rate"],
        seed=job.seed,
        select_from_epoch=min(select_from, epochs - 1),
    )
    fit(model, train, batches(job, "validation"), settings, on_step=step, on_after_step=hold)
    return epochs * -(-len(train) // settings.batch_size)

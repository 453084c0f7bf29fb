"""Training of weights and bit widths together, along a falling cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from trigger_prune.quantize.learned.charge import Charge, ChargeKind
from trigger_prune.quantize.learned.layers import LearnedQuantizer
from trigger_prune.quantize.learned.price import CostPath, PriceController
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.history import EpochRecord, FitHistory

CORRECTED_AT = (0.5, 0.75, 0.9)
"""Parts of a training after which its goal may be corrected: late enough for the bits to be nearly the final ones, and
early enough for the cost to follow."""

_SETTLED = 0.8
"""Part of an anneal after which the weights hardly move. The cost still does, by some per cent from epoch to epoch: of
a thousand codes some lie at the border of a digit. Any of these epochs can be kept."""

_CLOSE = math.log(1.015)
"""Settled epochs with a cost so near to the wanted one are equally near: the merit decides between them."""

_CHARGE_INTERVAL = 4
"""Steps for which the gradient of the cost is used again: it moves slowly, and it takes a third of a step."""


def train_to_cost(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    controller: PriceController,
    path: CostPath,
    *,
    anneal: bool,
    kind: ChargeKind = "adder_bits",
    progress: Callable[[EpochRecord, int], None] | None = None,
    cost: Callable[[], float] | None = None,
    lead: float = 1.0,
) -> FitHistory:
    """Train weights and widths of a ``learned_network`` in place while its charge goes along ``path``.

    anneal    the learning rate falls from its peak to a hundredth; else it stays
    kind      what is charged
    cost      cost of the network as it is now / the one wanted at the end, by what knows more than the charge: asked
              at ``CORRECTED_AT``, it corrects the end of ``path``; asked at the last epochs of an anneal, it chooses
              the one to keep
    lead      factor on the charge that the correction asks for, where the charge is known to end below its goal
    Without ``cost``, and without ``anneal``, the weights of the last epoch are kept: every epoch has another cost.
    Raises ModelError when the training fails.
    """
    for module in network.modules():
        if isinstance(module, LearnedQuantizer):
            module.restart()  # a training that goes on from a file shall look at the ranges at the same steps
    charge = Charge(network, kind)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients: list[Tensor | None] = []
    price = 0.0

    def add_price(step: int, total_steps: int) -> None:
        nonlocal gradients, price
        if step % _CHARGE_INTERVAL == 0 or not gradients:
            present = charge()
            gradients = list(torch.autograd.grad(present, parameters, allow_unused=True))
            goal = path.at(step / max(1, total_steps - 1))
            price = controller.price(float(present.detach()), goal, _CHARGE_INTERVAL)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = gradient * price
            else:
                parameter.grad.add_(gradient, alpha=price)

    asked_after = {max(1, round(part * settings.epochs)) for part in CORRECTED_AT} - {settings.epochs}

    kept: _Kept | None = None

    def after_epoch(record: EpochRecord, epochs: int) -> None:
        nonlocal kept
        done = record.epoch + 1
        if cost is not None and anneal and done >= _SETTLED * epochs:
            rank = _rank(cost(), record.validation_merit)
            if kept is None or rank < kept.rank:
                kept = _Kept(rank, record.epoch, [tensor.detach().clone() for tensor in _state(network)])
        if cost is not None and done in asked_after:
            # by the charge itself, not by the goal: what lags behind its goal is the controller's business
            path.turn(done / epochs, lead * charge_of(network, kind) / cost())
        if progress is not None:
            progress(record, epochs)

    chosen = replace(
        settings,
        select="last",
        patience_epochs=None,
        gradient_clip_norm=None,
        warmup_fraction=0.0,
        start_lr_fraction=1.0,
        final_lr_fraction=0.01 if anneal else 1.0,
    )
    history = fit(network, train, validation, chosen, on_gradients=add_price, progress=after_epoch)
    if kept is None:
        return history
    with torch.no_grad():
        for tensor, value in zip(_state(network), kept.state, strict=True):
            tensor.copy_(value)
    return replace(history, best_index=kept.epoch)


@dataclass(frozen=True)
class _Kept:
    """The best epoch so far; a lower rank is better."""

    rank: tuple[float, float]
    epoch: int
    state: list[Tensor]


def _rank(cost: float, merit: float) -> tuple[float, float]:
    distance = abs(math.log(max(cost, 1e-9)))
    return (0.0, -merit) if distance <= _CLOSE else (distance, -merit)


def _state(network: fx.GraphModule) -> list[Tensor]:
    """Parameters and buffers, those included that no file holds."""
    return [*network.parameters(), *network.buffers()]


def charge_of(network: fx.GraphModule, kind: ChargeKind = "adder_bits") -> float:
    """Present charge of a ``learned_network``."""
    with torch.no_grad():
        return float(Charge(network, kind)())

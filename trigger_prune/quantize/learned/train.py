"""Training of weights and bit widths together, along a falling cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, fx

from trigger_prune.quantize.learned.charge import Charge, ChargeKind
from trigger_prune.quantize.learned.layers import LearnedQuantizer
from trigger_prune.quantize.learned.price import PriceController, goal_between
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.history import EpochRecord, FitHistory

_CHARGE_INTERVAL = 4
"""Steps for which the gradient of the cost is used again: it moves slowly, and it takes a third of a step."""


def train_to_cost(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    controller: PriceController,
    *,
    start: float,
    end: float,
    anneal: bool,
    kind: ChargeKind = "adder_bits",
    progress: Callable[[EpochRecord, int], None] | None = None,
) -> FitHistory:
    """Train weights and widths of a ``learned_network`` in place while its charge goes from ``start`` to ``end``.

    anneal    the learning rate falls from its peak to a hundredth; else it stays
    kind      what is charged
    The weights of the last epoch are kept: every epoch has another cost. Raises ModelError when the training fails.
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
            cost = charge()
            gradients = list(torch.autograd.grad(cost, parameters, allow_unused=True))
            goal = goal_between(start, end, step / max(1, total_steps - 1))
            price = controller.price(float(cost.detach()), goal, _CHARGE_INTERVAL)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = gradient * price
            else:
                parameter.grad.add_(gradient, alpha=price)

    chosen = replace(
        settings,
        select="last",
        patience_epochs=None,
        gradient_clip_norm=None,
        warmup_fraction=0.0,
        start_lr_fraction=1.0,
        final_lr_fraction=0.01 if anneal else 1.0,
    )
    return fit(network, train, validation, chosen, on_gradients=add_price, progress=progress)


def charge_of(network: fx.GraphModule, kind: ChargeKind = "adder_bits") -> float:
    """Present charge of a ``learned_network``."""
    with torch.no_grad():
        return float(Charge(network, kind)())

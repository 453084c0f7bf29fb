"""The price of an adder bit: what makes the training land on a wanted cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

LOWEST, HIGHEST = 1e-9, 1e-2
"""Loss per adder bit. At the upper end a network of 100 adder bits pays one unit of loss: nothing would be left."""


@dataclass
class PriceController:
    """Proportional-integral control of the logarithm of the price by the logarithm of cost / goal.

    gain      proportional
    per_step  integral, per training step
    """

    log_price: float = math.log(2e-6)
    gain: float = 1.0
    per_step: float = 0.003

    def price(self, cost: float, goal: float, steps: int = 1) -> float:
        """The price for the next ``steps`` steps, loss per adder bit."""
        error = math.log(max(cost, 1.0) / max(goal, 1.0))
        integrated = self.log_price + self.per_step * steps * error
        self.log_price = min(max(integrated, math.log(LOWEST)), math.log(HIGHEST))
        return float(min(max(math.exp(self.log_price + self.gain * error), LOWEST), HIGHEST))


@dataclass
class CostPath:
    """The wanted cost from ``start`` to ``end`` while a training goes on: equal factors in equal times.

    done   part of the training (0 to 1) at which ``start`` was, or is since the last ``turn``
    """

    start: float
    end: float
    done: float = 0.0

    def at(self, progress: float) -> float:
        """Wanted cost when the part ``progress`` (0 to 1) of the training is done."""
        share = (min(max(progress, 0.0), 1.0) - self.done) / max(1.0 - self.done, 1e-9)
        return float(self.start * (self.end / self.start) ** max(share, 0.0))

    def turn(self, progress: float, end: float) -> None:
        """From ``progress`` on go to another ``end``."""
        self.start, self.end, self.done = self.at(progress), end, progress

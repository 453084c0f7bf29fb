"""What is known so far about the smallest loss: the best plan, a proven bound, and when to stop."""

from __future__ import annotations

import time

import numpy as np

from trigger_prune.prune.budget.plan import relative_gap as gap_of
from trigger_prune.prune.budget.tables import Choice, Tables, feasible, total

INSIDE = 1 - 1e-6
"""Part of the wanted gap that a proof aims for, so that rounding leaves it within the whole."""


class Progress:
    """Plans are positions in ``tables``. ``infeasible``: proven that there is no plan within the limits."""

    def __init__(self, tables: Tables, relative_gap: float, deadline: float) -> None:
        """``deadline``: in the time of ``time.monotonic``."""
        self.tables, self.relative_gap, self.deadline = tables, relative_gap, deadline
        self.choice: Choice | None = None
        self.loss, self.bound = np.inf, -np.inf
        self.infeasible = False

    def offer(self, choice: Choice | None) -> None:
        """Keep the choice if it is feasible and better."""
        if choice is None:
            return
        loss = total(self.tables, choice)[0]
        if loss < self.loss and feasible(self.tables, choice):
            self.choice, self.loss = choice, loss

    def raise_bound(self, bound: float) -> None:
        """Keep the best proof."""
        if np.isfinite(bound):
            self.bound = max(self.bound, bound)

    def aim(self) -> float:
        """No plan with less loss than this: then the best one is close enough."""
        return self.loss - INSIDE * self.relative_gap * abs(self.loss)

    def done(self) -> bool:
        """Close enough, or out of time."""
        close = self.choice is not None and gap_of(self.loss, self.bound) <= self.relative_gap
        return close or self.infeasible or time.monotonic() > self.deadline

"""Lower bounds on every completion of partial plans, from many sets of prices on the limits at once.

For any prices >= 0 on the limits: what a partial plan has spent, plus the exact smallest priced completion, less
price x limit, bounds the loss of every plan that continues it. The best prices of the whole problem are poor ones for
a partial plan that has spent much of one limit and little of another, so that many sets are tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
BLOCK = 12
"""Rows that are tried at once; who fails them needs no further ones."""
FORGET = 0.5
"""What a row was worth one layer before counts this much."""


@dataclass(frozen=True, eq=False)
class Step:
    """One layer of the enumeration: what an option adds depends on the frontier, the layers with a neighbour ahead."""

    spent: Values  # [frontier before, option, quantity]; quantities: loss, then every limited one
    after: Whole  # [frontier before, option] -> frontier after
    allowed: npt.NDArray[np.bool_]  # [frontier before, option]
    free: bool  # all allowed


def completions(steps: Sequence[Step], weights: Values) -> list[Values]:
    """Smallest completion [frontier, row] before each of the steps and after the last, for weights [row, quantity]."""
    rest = [np.zeros((1, len(weights)))]
    for step in reversed(steps):
        rest.append(_through(step, weights, rest[-1]).min(1))
    return rest[::-1]


def _through(step: Step, weights: Values, rest: Values) -> Values:
    """Smallest completion [frontier before, option, row] by every option."""
    before, options, quantities = step.spent.shape
    through = (step.spent.reshape(-1, quantities) @ weights.T).reshape(before, options, len(weights))
    through += rest[step.after]
    if not step.free:
        through[~step.allowed] = np.inf
    return through


class LabelBounds:
    """Rows of bounds: the loss and each limited quantity alone, then sets of prices.

    ``prices`` [set, limit]: the sets to begin with. Layers are asked for in the order of the steps.
    """

    def __init__(self, steps: Sequence[Step], limits: Values, prices: Values, ceiling: float) -> None:
        self.steps, self.ceiling = steps, ceiling
        # what counts as feasible may pass a limit by rounding
        self.limits = limits = limits + 1e-9 * np.maximum(1.0, np.abs(limits))
        self.alone = 1 + len(limits)
        self.weights = np.concatenate([np.eye(self.alone), _priced(prices)])
        worth = prices @ limits
        self.highest = np.concatenate([[ceiling], limits, ceiling + worth])
        self.offset = np.concatenate([[0.0], np.full(len(limits), np.inf), worth])  # a limit alone bounds no loss
        self.useful = np.concatenate([np.full(self.alone, np.inf), -np.arange(len(prices), dtype=np.float64)])
        self.rest = completions(steps, self.weights)[1:]

    def extend(self, number: int, spent: Values, state: Whole) -> tuple[Whole, Whole]:
        """Parents and options of the extensions by one layer that pass the most useful row alone."""
        step, rest = self.steps[number], self.rest[number]
        row = self.alone + int(np.argmax(self.useful[self.alone :]))
        least = (spent @ self.weights[row])[:, None]
        least = least + ((step.spent @ self.weights[row]) + rest[step.after, row])[state]
        parent, option = np.nonzero((least <= self.highest[row]) & step.allowed[state])
        return parent, option

    def cut(self, number: int, spent: Values, state: Whole) -> tuple[Whole, Values]:
        """Which partial plans (positions) pass all rows after layer ``number``, and the bound on the loss of each."""
        order = np.argsort(-self.useful, kind="stable")
        keep, bound = np.arange(len(spent)), np.full(len(spent), -np.inf)
        self.useful[self.alone :] = np.maximum(self.useful[self.alone :], 0) * FORGET
        for at in range(0, len(order), BLOCK):
            rows = order[at : at + BLOCK]
            least = spent @ self.weights[rows].T
            least += self.rest[number][:, rows][state]
            fails = least > self.highest[rows]
            self.useful[rows] += fails.sum(0) / max(1, len(fails))
            left = np.flatnonzero(~fails.any(1))
            bound = np.maximum(bound[left], (least[left] - self.offset[rows]).max(1))
            keep, spent, state = keep[left], spent[left], state[left]
        return keep, bound


def _priced(prices: Values) -> Values:
    """Weights [row, quantity]: the loss as it is, every limited quantity at its price."""
    return np.concatenate([np.ones((len(prices), 1)), prices], axis=1)

"""Lower bounds on every completion of partial plans, from prices that are fitted to the partial plans themselves.

For any prices >= 0 on the limits: what a partial plan has spent, plus the exact smallest priced completion, less
price x limit, bounds the loss of every plan that continues it. The best prices of the whole problem are poor ones for
a partial plan that has spent much of one limit and little of another. So prices are fitted again, on the way, to a few
of the partial plans that are left, and then tried on all of them: neighbours fall to the same prices. The fit is the
subgradient method with Polyak's step (Polyak, USSR Comput. Math. Math. Phys. 9 (1969) 14) towards the ceiling: it ends
where the bound passes the ceiling, if any prices do that.
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
MAX_PRICES = 40
"""Sets of prices kept; the least useful ones go."""
SAMPLE, ITERATIONS, OVERSHOOT = 24, 7, 0.003
"""Partial plans to which prices are fitted at once, subgradient steps, and how far above the ceiling they aim."""
FIT_EVERY, FIT_FROM, FIT_CELLS = 2, 400, 2.0
"""Fit after every so many layers, where at least so many partial plans are left, and so many per table cell ahead."""
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
        self.random = np.random.default_rng(0)
        self.scale = np.where(limits > 0, limits, 1.0)
        # what counts as feasible may pass a limit by rounding
        self.limits = limits = limits + 1e-9 * np.maximum(1.0, np.abs(limits))
        self.alone = 1 + len(limits)
        self.weights = np.concatenate([np.eye(self.alone), _priced(prices)])
        worth = prices @ limits
        self.highest = np.concatenate([[ceiling], limits, ceiling + worth])
        self.offset = np.concatenate([[0.0], np.full(len(limits), np.inf), worth])  # a limit alone bounds no loss
        self.useful = np.concatenate([np.full(self.alone, np.inf), -np.arange(len(prices), dtype=np.float64)])
        self.rest = completions(steps, self.weights)[1:]
        cells = [step.allowed.size for step in steps]
        self.ahead = np.append(np.cumsum(cells[:0:-1])[::-1], 0)  # cells of the tables after each layer

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

    def worth_fitting(self, number: int, count: int) -> bool:
        """Whether prices fitted to some of the ``count`` partial plans after layer ``number`` repay their time."""
        if not len(self.limits) or number % FIT_EVERY:
            return False
        return count >= max(FIT_FROM, FIT_CELLS * float(self.ahead[number]))

    def fit(self, number: int, spent: Values, state: Whole) -> tuple[Whole, Values]:
        """As ``cut``, by prices fitted to some of these partial plans; the prices become rows."""
        some = np.unique(self.random.integers(len(spent), size=SAMPLE))
        prices, reached = self._fitted(number, spent[some], state[some])
        weights = _priced(prices[reached > self.ceiling - OVERSHOOT * abs(self.ceiling)])
        rest = completions(self.steps[number + 1 :], weights)
        worth = weights[:, 1:] @ self.limits
        bound = spent @ weights.T
        bound += rest[0][state]
        bound -= worth
        fails = bound > self.ceiling
        self.weights = np.concatenate([self.weights, weights])
        self.highest = np.concatenate([self.highest, self.ceiling + worth])
        self.offset = np.concatenate([self.offset, worth])
        self.useful = np.concatenate([self.useful, fails.mean(0)])
        keep = np.sort(np.argsort(-self.useful, kind="stable")[: self.alone + MAX_PRICES])
        self.weights, self.highest, self.offset = self.weights[keep], self.highest[keep], self.offset[keep]
        self.useful = self.useful[keep]
        for later, new in enumerate(rest, start=number):
            self.rest[later] = np.concatenate([self.rest[later], new], axis=1)[:, keep]
        left = np.flatnonzero(~fails.any(1))
        return left, bound[left].max(1, initial=-np.inf)

    def _fitted(self, number: int, spent: Values, state: Whole) -> tuple[Values, Values]:
        """Prices [partial plan, limit] with a high bound for each partial plan, and that bound."""
        every = np.arange(len(spent))
        steps = self.steps[number + 1 :]
        known = spent @ self.weights[self.alone :].T + self.rest[number][state, self.alone :]
        prices = self.weights[self.alone + np.argmax(known - self.offset[self.alone :], axis=1), 1:]
        best, reached = prices, np.full(len(spent), -np.inf)
        target = self.ceiling + OVERSHOOT * abs(self.ceiling)
        for _ in range(ITERATIONS):
            weights = _priced(prices)
            rest, options = np.zeros((1, len(spent))), []
            for step in reversed(steps):
                through = _through(step, weights, rest)
                options.append(through.argmin(1))
                rest = through.min(1)
            value = (spent * weights).sum(1) + rest[state, every] - prices @ self.limits
            better = value > reached
            best, reached = np.where(better[:, None], prices, best), np.maximum(value, reached)
            cost, at = spent.copy(), state
            for step, chosen in zip(steps, reversed(options), strict=True):
                option = chosen[at, every]
                cost += step.spent[at, option]
                at = step.after[at, option]
            slope = (cost[:, 1:] - self.limits) / self.scale
            slope = np.where((prices <= 0) & (slope < 0), 0.0, slope)
            length = np.maximum(target - value, 0.0) / np.maximum((slope**2).sum(1), 1e-12)
            prices = np.maximum(prices + length[:, None] * slope / self.scale, 0.0)
        return best, reached


def _priced(prices: Values) -> Values:
    """Weights [row, quantity]: the loss as it is, every limited quantity at its price."""
    return np.concatenate([np.ones((len(prices), 1)), prices], axis=1)

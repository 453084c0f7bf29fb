"""Priced bounds of many nodes of a search tree at once, each with its own options and its own prices.

A node is the problem with some options taken away. For any prices >= 0 on the limits its smallest priced loss, less
price x limit, bounds the loss of all plans left in it; the smallest priced loss through each option bounds the plans
with that option. Prices are fitted node by node with Polyak's step (USSR Comput. Math. Math. Phys. 9 (1969) 14) towards
the ceiling: a node whose bound passes it is done with. All nodes go through the layers together, one column each, so a
node costs microseconds instead of the overhead of its own pass. Layers without a neighbour need no pass at all. The
step goes along the subgradient plus part of the direction before (Camerini, Fratta and Maffioli, Mathematical
Programming Study 3 (1975) 26).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trigger_prune.prune.budget.label_bounds import Step, Values, Whole

Masks = npt.NDArray[np.bool_]
OVERSHOOT = 0.003
"""How far above the ceiling the prices aim, relative to it."""
MEMORY = 0.6
"""Part of the direction before in the direction of the prices."""
SINGLE_THREAD = 200_000
"""Multiplications of one matrix product at most."""
COMPACT = 0.6
"""Nodes that are done with leave the computation when less than this part is left."""


@dataclass(frozen=True, eq=False)
class NodeBound:
    """Nodes that may hold a plan below the ceiling. ``node``: their rows of the masks given.

    ``value`` [node]: bound on all plans; ``through`` [node, option]: on those with the option; ``prices`` [node, limit]
    are those of the bound; ``share`` [node, option]: how often the option was part of the smallest priced plan.
    """

    node: Whole
    value: Values
    through: Values
    prices: Values
    share: Values


@dataclass(frozen=True, eq=False)
class _Down:
    """One pass from the last step to the first, at given prices.

    ``lowest`` [node]: smallest priced sum; ``others`` [node]: the part of the layers alone. ``alone``: their priced
    options [layer, option, node], by
    rectangle, and the ``least`` of each layer; ``joint``: of the other steps, with the smallest completion [frontier,
    option, node]; ``rest``: that completion [frontier, node] before each of them and after the last.
    """

    lowest: Values
    others: Values
    alone: list[Values]
    least: list[Values]
    joint: dict[int, Values]
    rest: dict[int, Values]


class NodeBounds:
    """The steps of one problem laid out for many nodes. Options are numbered step by step."""

    def __init__(self, steps: Sequence[Step], limits: Values) -> None:
        self.steps = steps
        self.scale = np.where(limits > 0, limits, 1.0)
        # what counts as feasible may pass a limit by rounding
        self.limits = limits + 1e-9 * np.maximum(1.0, np.abs(limits))
        sizes = [step.allowed.shape[1] for step in steps]
        self.start = np.cumsum([0, *sizes])[:-1]
        self.options = int(sum(sizes))
        self.cells = sum(step.allowed.size for step in steps)
        self.step_of = np.repeat(np.arange(len(steps)), sizes)
        self.own = np.concatenate([step.spent.mean(0) for step in steps])
        after = [*(step.allowed.shape[0] for step in steps[1:]), 1]
        alone = [step.allowed.shape[0] == 1 == states and step.free for step, states in zip(steps, after, strict=True)]
        self.joined = [number for number, free in enumerate(alone) if not free]
        kinds: dict[int, list[int]] = {}  # layers whose numbers of options are alike share a rectangle
        for number in np.flatnonzero(alone).tolist():
            kinds.setdefault((sizes[number] - 1).bit_length(), []).append(number)
        self.fixed = self.start[kinds.pop(0, [])]  # options without an alternative
        self.base = self.own[self.fixed].sum(0)
        self.alone = [_rectangle(self.start, sizes, numbers) for numbers in kinds.values()]
        self.flat = {n: steps[n].spent.reshape(-1, steps[n].spent.shape[2]) for n in self.joined}
        self.closed = {n: np.where(steps[n].allowed, 0.0, np.inf)[:, :, None] for n in self.joined if not steps[n].free}
        self.arrivals = {n: _arrivals(steps[n].after) for n in self.joined}
        self.states_after = dict(enumerate(after))

    def bound(
        self, masks: Masks, prices: Values, ceiling: Callable[[], float], iterations: int, met: Callable[..., None]
    ) -> NodeBound:
        """Bounds of the nodes ``masks`` [node, option], the prices fitted from ``prices`` [node, limit].

        ``ceiling()`` may fall on the way; ``met(choice [step, plan], loss [plan])`` hears of the plans that were met
        within all limits.
        """
        node = np.arange(len(masks))
        closed = self._closed(masks)
        best, value = prices, np.full(len(node), -np.inf)
        share, direction = np.zeros((self.options, len(node))), np.zeros(prices.shape)
        for iteration in range(iterations):
            down = self._down(prices, closed)
            now = down.lowest - prices @ self.limits
            if iteration:  # at the prices of the node that was split, its options are closed already
                self._close(closed, down, ceiling() - now)
            choice, cost = self._follow(down)
            share.reshape(-1)[(choice + self.start[:, None]) * len(node) + np.arange(len(node))] += 1.0
            within = np.flatnonzero((cost[:, 1:] <= self.limits).all(1) & np.isfinite(now))
            if len(within):
                met(choice[:, within], cost[within, 0])
            best = np.where((now > value)[:, None], prices, best)
            value = np.maximum(now, value)
            slope = (cost[:, 1:] - self.limits) / self.scale
            slope = np.where((prices <= 0) & (slope < 0), 0.0, slope)
            direction = slope + MEMORY * direction
            top = ceiling()
            left = value < top
            target = top + OVERSHOOT * abs(top)
            length = np.where(left, np.maximum(target - now, 0.0), 0.0) / np.maximum((direction**2).sum(1), 1e-12)
            prices = np.maximum(prices + length[:, None] * direction / self.scale, 0.0)
            if left.sum() < COMPACT * len(left):
                node, best, value, prices, direction = (part[left] for part in (node, best, value, prices, direction))
                share, closed = share[:, left], closed[:, left]
            if not len(node):
                break
        left = value < ceiling()
        node, best, value, share, closed = node[left], best[left], value[left], share[:, left], closed[:, left]
        through = np.where(closed[:-1] == 0, self._through(best, closed), np.inf).T if len(node) else share.T
        return NodeBound(node, value, through, best, share.T)

    def completions(self, masks: Masks, prices: Values) -> list[Values]:
        """Smallest priced sum [frontier, node] of all joined steps after each of them."""
        if not self.joined:
            return []
        rest = self._down(prices, self._closed(masks)).rest
        return [rest[n] for n in (*self.joined[1:], len(self.steps))]

    def _closed(self, masks: Masks) -> Values:
        """0 for an option of the node, infinity for others and for the one behind the last; [option + 1, node]."""
        closed = np.full((self.options + 1, len(masks)), np.inf)
        closed[:-1][masks.T] = 0.0
        return closed

    def _down(self, prices: Values, closed: Values) -> _Down:
        weights = np.concatenate([np.ones((1, len(prices))), prices.T])
        others = self.base @ weights + closed[self.fixed].sum(0)
        alone, least = [], []
        if self.alone:
            every = closed.copy()
            every[:-1] += _product(self.own, weights)
            alone = [every[grid] for _, grid in self.alone]
            least = [values.min(1) for values in alone]
            others += sum(values.sum(0) for values in least)
        joint, rest = {}, {len(self.steps): np.zeros((1, len(prices)))}
        after = len(self.steps)
        for n in reversed(self.joined):
            step = self.steps[n]
            through = _product(self.flat[n], weights).reshape(*step.allowed.shape, -1)
            through += rest[after][step.after]
            through += closed[self.start[n] : self.start[n] + step.allowed.shape[1]]
            if n in self.closed:
                through += self.closed[n]
            joint[n], rest[n], after = through, through.min(1), n
        return _Down(others + rest[after][0], others, alone, least, joint, rest)

    def _close(self, closed: Values, down: _Down, room: Values) -> None:
        """Close the options of the layers alone through which every plan is over the least by ``room`` [node]."""
        room = np.where(np.isfinite(down.lowest), room, np.inf)
        for (_, grid), values, least in zip(self.alone, down.alone, down.least, strict=True):
            over = values >= (least + room)[:, None]
            some = over.any(2)
            closed[grid[some]] = np.where(over[some], np.inf, closed[grid[some]])

    def _follow(self, down: _Down) -> tuple[Whole, Values]:
        """The smallest plan of each node: option by step [step, node], and what it costs [node, quantity]."""
        count, joint = len(down.lowest), down.joint
        every, at = np.arange(count), np.zeros(count, dtype=np.int64)
        choice = np.zeros((len(self.steps), count), dtype=np.int64)
        cost = np.tile(self.base, (count, 1))
        for (numbers, _), values in zip(self.alone, down.alone, strict=True):
            option = values.argmin(1)
            choice[numbers] = option
            cost += self.own[option + self.start[numbers, None]].sum(0)
        for n in self.joined:
            step = self.steps[n]
            option = joint[n][0].argmin(0) if len(joint[n]) == 1 else joint[n][at, :, every].argmin(1)
            choice[n] = option
            cost += step.spent[at, option]
            at = step.after[at, option]
        return choice, cost

    def _through(self, prices: Values, closed: Values) -> Values:
        """Bound of the plans through each option [option, node]."""
        count = len(prices)
        down = self._down(prices, closed)
        joint, rest = down.joint, down.rest
        through = np.empty((self.options + 1, count))
        through[self.fixed] = down.lowest
        for (_, grid), values, least in zip(self.alone, down.alone, down.least, strict=True):
            through[grid] = values - least[:, None] + down.lowest
        front = down.others[None]
        for n, following in itertools.pairwise([*self.joined, len(self.steps)]):
            step = self.steps[n]
            table = joint[n] + front[:, None]
            through[self.start[n] : self.start[n] + step.allowed.shape[1]] = table.min(0)
            ahead = rest[following]
            table -= np.where(np.isfinite(ahead), ahead, 0.0)[step.after]
            order, first, states = self.arrivals[n]
            front = np.full((self.states_after[n], count), np.inf)
            front[states] = np.minimum.reduceat(table.reshape(-1, count)[order], first, axis=0)
        bound: Values = through[:-1] - self.limits @ prices.T
        return bound


def _product(rows: Values, columns: Values) -> Values:
    """Matrix product in pieces that are too small for several threads, whose start costs more than they save here."""
    piece = max(1, SINGLE_THREAD // columns.size)
    if len(rows) <= piece:
        return rows @ columns
    product = np.empty((len(rows), columns.shape[1]))
    for first in range(0, len(rows), piece):
        np.matmul(rows[first : first + piece], columns, out=product[first : first + piece])
    return product


def _rectangle(start: Whole, sizes: Sequence[int], numbers: Sequence[int]) -> tuple[Whole, Whole]:
    """The steps and their options [step, option]; what is too much is a forbidden option behind the last of all."""
    grid = np.full((len(numbers), max(sizes[number] for number in numbers)), sum(sizes))
    for row, number in zip(grid, numbers, strict=True):
        row[: sizes[number]] = start[number] + np.arange(sizes[number])
    return np.array(numbers, dtype=np.int64), grid


def _arrivals(after: Whole) -> tuple[Whole, Whole, Whole]:
    """Cells of a step sorted by the state they lead to, where each state begins, and the states."""
    order = np.argsort(after.ravel(), kind="stable")
    states, first = np.unique(after.ravel()[order], return_index=True)
    return order, first, states

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

from trigger_prune.prune.budget.label_bounds import Step, Values, Whole
from trigger_prune.prune.budget.lone_layers import LoneLayers, Masks, Rectangles, product

OVERSHOOT = 0.003
"""How far above the ceiling the prices aim, relative to it."""
MEMORY = 0.6
"""Part of the direction before in the direction of the prices."""
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
class _Cells:
    """A number for every option of every node: ``alone`` for the layers alone, ``joint`` for the other steps [option,
    node], and ``fixed`` [node] for all options without an alternative together."""

    fixed: Values
    alone: Rectangles
    joint: dict[int, Values]

    def part(self, nodes: Masks) -> _Cells:
        """Of some nodes."""
        joint = {number: values[:, nodes] for number, values in self.joint.items()}
        return _Cells(self.fixed[nodes], [values[:, :, nodes] for values in self.alone], joint)

    def zeros(self) -> _Cells:
        """As many zeros."""
        joint = {number: np.zeros_like(values) for number, values in self.joint.items()}
        return _Cells(np.zeros_like(self.fixed), [np.zeros_like(values) for values in self.alone], joint)


@dataclass(frozen=True, eq=False)
class _Down:
    """One pass from the last step to the first, at given prices.

    ``lowest`` [node]: smallest priced sum; ``others`` [node]: the part of the layers alone. ``alone``: their priced
    options and the ``least`` of each layer; ``joint``: of the other steps, with the smallest completion [frontier,
    option, node]; ``rest``: that completion [frontier, node] before each of them and after the last.
    """

    lowest: Values
    others: Values
    alone: Rectangles
    least: Rectangles
    joint: dict[int, Values]
    rest: dict[int, Values]


@dataclass(frozen=True, eq=False)
class _Plans:
    """The smallest plan of each node: marks of the layers alone, options [node] of the other steps, what it costs."""

    alone: Rectangles
    joint: dict[int, Whole]
    cost: Values  # [node, quantity]


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
        fixed = [number for number, free in enumerate(alone) if free and sizes[number] == 1]
        self.fixed = self.start[fixed]  # options without an alternative
        self.base = self.own[self.fixed].sum(0)
        torn = [number for number, free in enumerate(alone) if free and sizes[number] > 1]
        self.alone = LoneLayers(torn, self.start, sizes, self.own)
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
        share = closed.zeros()
        direction = np.zeros(prices.shape)
        for iteration in range(iterations):
            down = self._down(prices, closed)
            now = down.lowest - prices @ self.limits
            if iteration:  # at the prices of the node that was split, its options are closed already
                self.alone.close(
                    closed.alone, down.alone, down.least, np.where(np.isfinite(now), ceiling() - now, np.inf)
                )
            plans = self._follow(down)
            _count(share, plans)
            cost = plans.cost
            within = np.flatnonzero((cost[:, 1:] <= self.limits).all(1) & np.isfinite(now))
            if len(within):
                met(self._choice(plans, within), cost[within, 0])
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
                share, closed = share.part(left), closed.part(left)
            if not len(node):
                break
        left = value < ceiling()
        node, best, value = node[left], best[left], value[left]
        often = self._spread(share.part(left))
        through = self._through(best, closed.part(left)).T if len(node) else often
        return NodeBound(node, value, through, best, often)

    def completions(self, masks: Masks, prices: Values) -> list[Values]:
        """Smallest priced sum [frontier, node] of all joined steps after each of them."""
        if not self.joined:
            return []
        rest = self._down(prices, self._closed(masks)).rest
        return [rest[n] for n in (*self.joined[1:], len(self.steps))]

    def _closed(self, masks: Masks) -> _Cells:
        """0 for an open option of a node, infinity for a closed one."""
        flat = np.full((self.options + 1, len(masks)), np.inf)
        flat[:-1][masks.T] = 0.0
        joint = {n: flat[self.start[n] : self.start[n] + self.steps[n].allowed.shape[1]] for n in self.joined}
        return _Cells(flat[self.fixed].sum(0), self.alone.closed(flat), joint)

    def _down(self, prices: Values, closed: _Cells) -> _Down:
        weights = np.concatenate([np.ones((1, len(prices))), prices.T])
        others = self.base @ weights + closed.fixed
        alone, least = self.alone.priced(weights, closed.alone)
        for values in least:
            others += values.sum(0)
        joint, rest = {}, {len(self.steps): np.zeros((1, len(prices)))}
        after = len(self.steps)
        for n in reversed(self.joined):
            step = self.steps[n]
            through = product(self.flat[n], weights).reshape(*step.allowed.shape, -1)
            through += rest[after][step.after]
            through += closed.joint[n]
            if n in self.closed:
                through += self.closed[n]
            joint[n], rest[n], after = through, through.min(1), n
        return _Down(others + rest[after][0], others, alone, least, joint, rest)

    def _follow(self, down: _Down) -> _Plans:
        count, joint = len(down.lowest), {}
        every, at = np.arange(count), np.zeros(count, dtype=np.int64)
        alone, spent = self.alone.chosen(down.alone, down.least, np.isfinite(down.lowest))
        cost = self.base + spent
        for n in self.joined:
            step, values = self.steps[n], down.joint[n]
            option = values[0].argmin(0) if len(values) == 1 else values[at, :, every].argmin(1)
            joint[n] = option
            cost += step.spent[at, option]
            at = step.after[at, option]
        return _Plans(alone, joint, cost)

    def _choice(self, plans: _Plans, nodes: Whole) -> Whole:
        """Option by step [step, one of ``nodes``]."""
        choice = np.zeros((len(self.steps), len(nodes)), dtype=np.int64)
        self.alone.write(plans.alone, nodes, choice)
        for n, option in plans.joint.items():
            choice[n] = option[nodes]
        return choice

    def _spread(self, share: _Cells) -> Values:
        """How often [node, option] an option was part of the smallest plan; 1 for those without an alternative."""
        flat = np.zeros((self.options + 1, len(share.fixed)))
        flat[self.fixed] = 1.0
        self.alone.spread(share.alone, flat)
        for n, values in share.joint.items():
            flat[self.start[n] : self.start[n] + len(values)] = values
        return flat[:-1].T

    def _through(self, prices: Values, closed: _Cells) -> Values:
        """Bound of the plans through each option [option, node]."""
        count = len(prices)
        down = self._down(prices, closed)
        joint, rest = down.joint, down.rest
        through = np.empty((self.options + 1, count))
        through[self.fixed] = down.lowest
        over = [values - least[:, None] for values, least in zip(down.alone, down.least, strict=True)]
        self.alone.spread([values + down.lowest for values in over], through)
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


def _count(share: _Cells, plans: _Plans) -> None:
    """One more for each option of the plans."""
    for values, marks in zip(share.alone, plans.alone, strict=True):
        values += marks
    for number, option in plans.joint.items():
        share.joint[number][option, np.arange(len(option))] += 1.0


def _arrivals(after: Whole) -> tuple[Whole, Whole, Whole]:
    """Cells of a step sorted by the state they lead to, where each state begins, and the states."""
    order = np.argsort(after.ravel(), kind="stable")
    states, first = np.unique(after.ravel()[order], return_index=True)
    return order, first, states

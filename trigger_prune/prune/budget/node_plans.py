"""All plans of many small nodes of a search tree at once, as far as they may be below the ceiling.

Near the leaves of the tree there are more nodes than plans worth looking at. Partial plans of all nodes are extended
together, layer by layer, each by the options of its own node; only those are kept whose spent part plus the smallest
priced completion of the node is below the ceiling, and whose spent part plus the smallest completion of each limited
quantity alone is within its limit. In every node only the layers with a choice left are visited.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trigger_prune.prune.budget.label_bounds import Values, Whole
from trigger_prune.prune.budget.lone_layers import Masks
from trigger_prune.prune.budget.node_bounds import NodeBounds

MAX_PARTIAL = 300_000
"""Plans of the nodes that are looked at together."""


def complete(
    bounds: NodeBounds,
    masks: Masks,
    prices: Values,
    *,
    ceiling: Callable[[], float],
    met: Callable[[Whole, Values], None],
) -> None:
    """``met(choice [step, plan], loss [plan])`` hears of plans of the nodes ``masks`` [node, option] within all limits.

    Of all of them the best one that is below the ceiling is among them. ``prices`` [node, limit]: any, for the bounds.
    Every node has an option left in every step.
    """
    counts = np.add.reduceat(masks, bounds.start, axis=1, dtype=np.int64)
    plans = np.exp2(np.log2(counts).sum(1))
    group = np.cumsum(plans) // MAX_PARTIAL
    for number in np.unique(group):
        some = group == number
        _Labels(bounds, masks[some], counts[some], prices[some]).run(ceiling, met)


class _Labels:
    """Partial plans: the node of each, what it has spent [plan, quantity], and that priced."""

    def __init__(self, bounds: NodeBounds, masks: Masks, counts: Whole, prices: Values) -> None:
        self.bounds, self.masks = bounds, masks
        self.weights = np.concatenate([np.ones((len(masks), 1)), prices], axis=1)
        self.worth = prices @ bounds.limits
        self.node = np.arange(len(masks))
        self.history: list[tuple[Whole, Whole]] = []  # of each extension: the partial plan extended, the option
        alone = np.ones(len(bounds.start), dtype=bool)
        alone[bounds.joined] = False
        only = masks & (alone & (counts == 1))[:, bounds.step_of]
        self.spent = only @ bounds.own
        self.priced = (self.spent * self.weights).sum(1)
        # options [node, rank, number] of the layers alone that have a choice left; -1: no further option or layer
        torn = alone & (counts > 1)
        rank = np.cumsum(torn, axis=1) - 1
        node, option = np.nonzero(masks & torn[:, bounds.step_of])
        step = bounds.step_of[option]
        fresh = np.diff(node * len(bounds.start) + step, prepend=-1) != 0
        number = np.arange(len(node)) - np.maximum.accumulate(np.where(fresh, np.arange(len(node)), 0))
        shape = (len(masks), int(torn.sum(1).max(initial=0)), int(number.max(initial=0)) + 1)
        self.choices = np.full(shape, -1)
        self.choices[node, rank[node, step], number] = option
        # a rank without a layer has one option that costs nothing
        self.padded = np.concatenate([bounds.own, np.zeros((1, bounds.own.shape[1]))])
        own = self.padded[self.choices]
        possible = self.choices >= 0
        possible[:, :, 0] = True
        self.price = np.where(possible, np.einsum("nrkq,nq->nrk", own, self.weights), np.inf)
        # smallest completion by the layers alone from each rank on: priced [node, rank], of each quantity
        self.rest = _from_the_end(self.price.min(2))
        self.alone_rest = _from_the_end(np.where(possible[..., None], own, np.inf).min(2))

    def run(self, ceiling: Callable[[], float], met: Callable[[Whole, Values], None]) -> None:
        """Extend through the joined steps, then rank by rank through the layers alone."""
        bounds = self.bounds
        state = np.zeros(len(self.node), dtype=np.int64)
        ahead = bounds.completions(self.masks, self.weights[:, 1:])
        for n, rest in zip(bounds.joined, ahead, strict=True):
            step, start = bounds.steps[n], bounds.start[n]
            size = step.allowed.shape[1]
            parent, option = np.nonzero(self.masks[self.node, start : start + size] & step.allowed[state])
            at, node = state[parent], self.node[parent]
            spent, after = step.spent[at, option], step.after[at, option]
            priced = self.priced[parent] + (spent * self.weights[node]).sum(1)
            keep = np.flatnonzero(priced + rest[after, node] + self.rest[node, 0] < (ceiling() + self.worth)[node])
            self._extend(parent[keep], option[keep] + start, spent[keep], priced[keep])
            state = after[keep]
        for rank in range(self.choices.shape[1]):
            priced = self.priced[:, None] + self.price[self.node, rank]
            top = (ceiling() + self.worth - self.rest[:, rank + 1])[self.node]
            parent, number = np.nonzero(priced < top[:, None])
            option = self.choices[self.node[parent], rank, number]
            self._extend(parent, option, self.padded[option], priced[parent, number])
            within = (self.spent + self.alone_rest[self.node, rank + 1])[:, 1:] <= bounds.limits
            self._keep(np.flatnonzero(within.all(1)))
        whole = np.flatnonzero((self.spent[:, 0] < ceiling()) & (self.spent[:, 1:] <= bounds.limits).all(1))
        if len(whole):
            met(self._walk_back(whole), self.spent[whole, 0])

    def _extend(self, parent: Whole, option: Whole, spent: Values, priced: Values) -> None:
        self.history.append((parent, option))
        self.node, self.spent, self.priced = self.node[parent], self.spent[parent] + spent, priced

    def _keep(self, keep: Whole) -> None:
        parent, option = self.history[-1]
        self.history[-1] = (parent[keep], option[keep])
        self.node, self.spent, self.priced = self.node[keep], self.spent[keep], self.priced[keep]

    def _walk_back(self, plans: Whole) -> Whole:
        """Option by step [step, plan]."""
        bounds = self.bounds
        first = np.where(self.masks, np.arange(bounds.options), bounds.options)
        choice = np.minimum.reduceat(first, bounds.start, axis=1)[self.node[plans]] - bounds.start
        every, at = np.arange(len(plans)), plans
        for parent, option in reversed(self.history):
            chosen = option[at]
            some = chosen >= 0
            step = bounds.step_of[chosen[some]]
            choice[every[some], step] = chosen[some] - bounds.start[step]
            at = parent[at]
        result: Whole = choice.T
        return result


def _from_the_end(values: Values) -> Values:
    """Sums over axis 1 from each position to the end, and 0 behind it."""
    behind = np.zeros((len(values), 1, *values.shape[2:]))
    return np.cumsum(np.concatenate([values, behind], axis=1)[:, ::-1], axis=1)[:, ::-1]

"""Branch and bound on groups of options, many nodes at a time, the nodes with the smallest bounds first.

Prices on the limits are fitted to every node (``node_bounds``); the plans that they lead to meet the limits on average
only. A node is split in the layer whose options differ most in priced cost among those plans, at the mean of the
quantity that differs most, so that neither half can give that average again. Options whose own bound passes the ceiling
leave the node. Lagrangian branch and bound: Fisher, Management Science 27 (1981) 1; splitting sets of options and not
single ones: Beale and Tomlin's special ordered sets (1970).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trigger_prune.prune.budget.label_bounds import Values, Whole
from trigger_prune.prune.budget.lone_layers import Masks
from trigger_prune.prune.budget.node_bounds import NodeBound, NodeBounds
from trigger_prune.prune.budget.node_plans import complete
from trigger_prune.prune.budget.open_nodes import OpenNodes

BATCH, BATCH_CELLS = 320, 300_000
"""Nodes at a time, and at most so many table cells of all of them."""
ITERATIONS = 6
"""Prices that are tried per node."""
FEW_PLANS = 12.0
"""Nodes with at most 2 to the power of this plans are not split."""
MAX_OPEN = 200_000
"""Open nodes that memory is spent on."""


class Tree:
    """The open nodes of one problem. ``search`` may be stopped and continued."""

    def __init__(self, bounds: NodeBounds, prices: Values) -> None:
        """``prices`` [limit]: those to begin with."""
        self._lay_out(bounds)
        self._open = OpenNodes(bounds.options, len(prices))
        self._open.add(np.array([-np.inf]), np.ones((1, bounds.options), dtype=bool), prices[None])

    @property
    def full(self) -> bool:
        """Whether there are too many open nodes to go on."""
        return len(self._open) > MAX_OPEN

    def _lay_out(self, bounds: NodeBounds) -> None:
        self.bounds = bounds
        self.batch = int(np.clip(BATCH_CELLS // max(bounds.cells, 1), 1, BATCH))

    def restrict(self, bounds: NodeBounds, columns: Whole) -> None:
        """Go on with fewer options: ``columns`` are theirs among those so far; no plan below the ceiling has others."""
        self._lay_out(bounds)
        self._open.restrict(columns)

    def search(
        self,
        *,
        ceiling: Callable[[], float],
        met: Callable[[Whole, Values], None],
        stop: Callable[[], bool],
    ) -> float:
        """No plan but those that ``met`` heard of has a loss below the value returned, which is at most the ceiling.

        ``ceiling()``: only plans below it are looked for; it may fall as plans are met. ``met(choice [step, plan],
        loss [plan])``: plans within all limits. ``stop()``: asked before every batch.
        """
        while (lowest := self._open.lowest()) < ceiling():
            if stop() or self.full:
                return lowest
            masks, prices = self._open.take(self.batch)
            found = self.bounds.bound(masks, prices, ceiling, ITERATIONS, met)
            if len(found.node):
                self._branch(masks[found.node], found, ceiling, met)
        return ceiling()

    def _branch(
        self, masks: Masks, found: NodeBound, ceiling: Callable[[], float], met: Callable[[Whole, Values], None]
    ) -> None:
        """Open the halves of the nodes ``masks`` [node, option]; try all plans of those that have few."""
        start = self.bounds.start
        masks = masks & (found.through < ceiling())
        counts = np.add.reduceat(masks, start, axis=1, dtype=np.int64)
        alive = (counts > 0).all(1)
        small = alive & (np.log2(np.maximum(counts, 1)).sum(1) <= FEW_PLANS)
        if small.any():
            complete(self.bounds, masks[small], found.prices[small], ceiling=ceiling, met=met)
        nodes = np.flatnonzero(alive & ~small)
        if not len(nodes):
            return
        for half in _halves(self.bounds, masks[nodes], counts[nodes], found, nodes):
            # every plan passes one option of each layer
            lowest = np.minimum.reduceat(np.where(half, found.through[nodes], np.inf), start, axis=1).max(1)
            self._open.add(np.maximum(lowest, found.value[nodes]), half, found.prices[nodes])


def _halves(bounds: NodeBounds, masks: Masks, counts: Whole, found: NodeBound, nodes: Whole) -> tuple[Masks, Masks]:
    """Both halves of each node: the options ``masks`` [node, option], ``counts`` of them [node, step]."""
    share, prices, through = found.share[nodes] * masks, found.prices[nodes], found.through[nodes]
    every, steps, own = np.arange(len(nodes)), len(bounds.start), bounds.own[:, 1:]
    share /= np.maximum(np.add.reduceat(share, bounds.start, axis=1), 1e-12)[:, bounds.step_of]
    inside, low = np.zeros(masks.shape, dtype=bool), np.zeros(masks.shape, dtype=bool)
    # most layers agree on one option: the others are few, so they are summed one by one
    node, option = np.nonzero((share > 0) & (share < 1))
    if own.shape[1] and len(node):
        place, part = node * steps + bounds.step_of[option], share[node, option][:, None]
        mean = _summed(place, part * own[option], len(nodes) * steps)
        away = np.abs(own[option] - mean[place]) * part
        torn = _summed(place, away, len(nodes) * steps).reshape(len(nodes), steps, -1) * prices[:, None, :]
        step = torn.sum(2).argmax(1)
        quantity = torn[every, step].argmax(1)
        inside = masks & (bounds.step_of == step[:, None])
        middle = mean.reshape(torn.shape)[every, step, quantity]
        low = inside & (own.T[quantity] <= middle[:, None])
    plain = ~low.any(1) | (low == inside).all(1)
    if plain.any():  # nothing is torn: the best option of the layer with the most of them, and its others
        inside[plain] = masks[plain] & (bounds.step_of == counts[plain].argmax(1)[:, None])
        low[plain] = False
        low[np.flatnonzero(plain), np.where(inside[plain], through[plain], np.inf).argmin(1)] = True
    return masks & (~inside | low), masks & ~low


def _summed(place: Whole, values: Values, places: int) -> Values:
    """Sums [place, quantity] of the rows of ``values``."""
    return np.stack([np.bincount(place, column, places) for column in values.T], axis=1)

"""The open nodes of a search tree, in arrays: hundreds are taken and added at a time, so no heap of single ones."""

from __future__ import annotations

import numpy as np

from trigger_prune.prune.budget.label_bounds import Values, Whole
from trigger_prune.prune.budget.lone_layers import Masks

FIRST = 1024
"""Nodes that there is room for at first; the room doubles."""


class OpenNodes:
    """Nodes with a bound, a mask of options and prices each. Those taken leave, in no particular order."""

    def __init__(self, options: int, limits: int) -> None:
        self._count = 0
        self._bound = np.empty(FIRST)
        self._mask = np.empty((FIRST, options), dtype=bool)
        self._prices = np.empty((FIRST, limits))

    def __len__(self) -> int:
        return self._count

    def lowest(self) -> float:
        """Smallest bound, infinity where there is no node."""
        return float(self._bound[: self._count].min(initial=np.inf))

    def add(self, bound: Values, mask: Masks, prices: Values) -> None:
        """Nodes with ``bound`` [node], ``mask`` [node, option], ``prices`` [node, limit]."""
        first, last = self._count, self._count + len(bound)
        while last > len(self._bound):
            self._bound, self._mask, self._prices = (
                np.concatenate([part, np.empty_like(part)]) for part in (self._bound, self._mask, self._prices)
            )
        self._bound[first:last], self._mask[first:last], self._prices[first:last] = bound, mask, prices
        self._count = last

    def take(self, most: int) -> tuple[Masks, Values]:
        """Masks [node, option] and prices [node, limit] of the ``most`` nodes with the smallest bounds."""
        count = self._count
        most = min(most, count)
        taken = np.argpartition(self._bound[:count], most - 1)[:most]
        masks, prices = self._mask[taken], self._prices[taken]
        # the last nodes fill the holes
        left = count - most
        stay = np.ones(most, dtype=bool)
        stay[taken[taken >= left] - left] = False
        source, hole = left + np.flatnonzero(stay), taken[taken < left]
        for part in (self._bound, self._mask, self._prices):
            part[hole] = part[source]
        self._count = left
        return masks, prices

    def restrict(self, columns: Whole) -> None:
        """Only the options ``columns`` from now on."""
        self._mask = self._mask[:, columns]

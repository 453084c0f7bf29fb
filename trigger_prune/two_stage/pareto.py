"""Points that no other point beats in everything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto_front(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of ``costs`` ``(points, quantities)``, all to be small, no other row dominates; bool ``(points,)``.

    A row dominates another when nothing of it is larger and something smaller. Equal rows are all kept.
    """
    kept = np.ones(len(costs), np.bool_)
    for i in np.lexsort(costs.T[::-1]):
        if kept[i]:
            beaten = (costs >= costs[i]).all(axis=1) & (costs > costs[i]).any(axis=1)
            kept &= ~beaten
    return kept

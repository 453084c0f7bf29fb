"""Rows of one generated collision belong together: sums per collision, without sorting where that is possible.

A simulated sample may use one generated collision several times (with other pile-up, or other noise). Such rows are
not independent: variances are sums of squares of the sums per collision (a cluster), never of single rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cluster_index(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Collision numbers as non-negative indices small enough to count with, int64 ``(rows,)``.

    Numbers that are dense already are only shifted, as finding the distinct ones of ten million rows takes seconds.
    """
    if len(groups) == 0:
        return groups
    low, high = int(groups.min()), int(groups.max())
    if high - low < 8 * len(groups) + 1024:
        return groups if low == 0 else groups - low
    _, index = np.unique(groups, return_inverse=True)
    return index.astype(np.int64, copy=False)


def cluster_sums(groups: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of ``values`` per collision; numbers that no row carries may appear with a sum of zero."""
    return weight_per_index(cluster_index(groups), values)


def weight_per_index(index: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of ``values`` at every index, float64 ``(index.max() + 1,)``."""
    return np.bincount(index, values).astype(np.float64, copy=False)


def running_squares(
    index: NDArray[np.int64], weights: NDArray[np.float64], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    """For every end, the sum over clusters of the squared weight of the rows before it; float64 ``(ends,)``.

    ``index`` comes from ``cluster_index``; ``ends`` must not decrease. One pass over the rows, whatever the number of
    ends: a cluster that grows from A to A' by rows of weight w adds A'^2 - A^2 = sum w (A + A').
    """
    sums = np.zeros(int(index.max()) + 1 if len(index) else 0)
    result = np.zeros(len(ends))
    squares, start = 0.0, 0
    for position, end in enumerate(ends):
        cluster, weight = index[start:end], weights[start:end]
        before = sums[cluster]
        np.add.at(sums, cluster, weight)
        squares += float(weight @ (before + sums[cluster]))
        result[position] = squares
        start = max(start, int(end))
    return result

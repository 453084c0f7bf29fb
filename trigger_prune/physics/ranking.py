"""Rows in descending order of score: what passes at every threshold, from one sort (or one of the top rows only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError

ROUNDING = 1e-9
"""A rate that exceeds a target by this relative amount still meets it: sums of weights are not exact."""

FIRST_SHARE = 64
"""The first attempt at the top rows takes one row in this many."""


@dataclass(frozen=True)
class Ranking:
    """Rows with weight from the highest score down; rows of equal score belong together (``-0.0`` equals ``0.0``).

    rows     int64 ``(rows,)``: row numbers in that order
    values   ``(k,)``: the distinct scores, descending, of the type of the scores
    ends     int64 ``(k,)``: ``rows[:ends[i]]`` are the rows with ``score >= values[i]``
    sums     float64 ``(k,)``: their sum of weights
    total    sum of the weights of all rows, also of those below a truncated ranking
    """

    rows: NDArray[np.int64]
    values: NDArray[np.floating]
    ends: NDArray[np.int64]
    sums: NDArray[np.float64]
    total: float

    def fitting(self, limits: NDArray[np.float64]) -> NDArray[np.int64]:
        """For every limit the number of values whose sum does not exceed it (up to ``ROUNDING``)."""
        return np.searchsorted(self.sums, limits * (1 + ROUNDING), side="right")

    def values_above(self, thresholds: NDArray[np.floating], inclusive: bool) -> NDArray[np.int64]:
        """For every threshold the number of values ``> threshold``, or ``>= threshold`` when ``inclusive``."""
        ascending = self.values[::-1]
        return len(ascending) - np.searchsorted(ascending, thresholds, side="left" if inclusive else "right")

    def sum_of(self, count: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of weights at the ``count`` highest values."""
        return np.where(count > 0, self.sums[np.maximum(count, 1) - 1], 0.0)


def check_weighted_scores(scores: NDArray[np.floating], weights: NDArray[np.float64], what: str = "score") -> None:
    """Raise DataError unless there are rows, each with a finite score and a finite weight >= 0."""
    if scores.ndim != 1 or scores.shape != weights.shape:
        raise DataError(f"{what}s of shape {scores.shape} and weights of shape {weights.shape} are not one per row")
    if weights.dtype != np.float64:
        raise DataError(
            f"weights are {weights.dtype}; the sum of many of them would not be exact", hint="convert them to float64"
        )
    if len(scores) == 0:
        raise DataError(f"no events: the arrays of {what}s and weights are empty")
    for name, values, good in (
        (what, scores, np.isfinite(scores)),
        ("weight", weights, np.isfinite(weights) & (weights >= 0)),
    ):
        if not good.all():
            row = int(np.argmin(good))
            wanted = "a finite number" if name == what else "a finite number >= 0"
            raise DataError(
                f"{name} of row {row} is {values[row]}, not {wanted} ({int((~good).sum())} such rows)",
                hint="remove or repair these rows; nothing is replaced silently",
            )


def rank(scores: NDArray[np.floating], weights: NDArray[np.float64], up_to: float = np.inf) -> Ranking:
    """Rank rows that have weight; rows without weight are left out, so they never set a threshold.

    With ``up_to`` only the top is sorted, so far that its sum of weights exceeds ``up_to`` (or that all rows are in).
    The scores must be finite and the weights >= 0 (``check_weighted_scores``).
    """
    total = float(weights.sum())
    used = None if weights.all() else np.flatnonzero(weights)
    if used is not None:
        scores, weights = scores[used], weights[used]
    top = _top_rows(scores, weights, up_to) if up_to < total else None
    order = np.argsort(scores if top is None else scores[top])[::-1]
    if top is not None:
        order = top[order]
    values = scores[order]
    if np.issubdtype(values.dtype, np.floating):
        values += 0.0  # negative zero becomes zero
    sums = weights[order]
    np.cumsum(sums, out=sums)
    rows = order if used is None else used[order]
    last = np.append(values[1:] != values[:-1], True) if len(values) else np.zeros(0, np.bool_)
    ends = np.flatnonzero(last)
    if len(ends) < len(values):
        values, sums = values[ends], sums[ends]
    ends += 1
    return Ranking(rows, values, ends, sums, total)


def _top_rows(scores: NDArray[np.floating], weights: NDArray[np.float64], up_to: float) -> NDArray[np.int64] | None:
    """Rows of all scores down to some value whose weight exceeds ``up_to``; None when that takes (almost) all rows."""
    n = len(scores)
    count = max(1024, n // FIRST_SHARE)
    while count < n // 2:
        pivot = np.partition(scores, n - count)[n - count]
        rows = np.flatnonzero(scores >= pivot)
        if weights[rows].sum() > up_to:
            return rows
        count *= 4
    return None

"""From logits to what a trigger decides: the class and the one-versus-rest score.

A firmware that ends in logits can compare and subtract them, but has no softmax. The score of class ``c`` is therefore
``z_c - max(z of the other classes)``, for the float and the deployed network alike, so that both are
judged by the same rule. It is positive exactly where ``c`` is the (unique) decision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError


def check_logits(logits: NDArray[np.floating], labels: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
    """Raise DataError unless logits are finite ``(events, classes >= 2)`` and labels and weights match them."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(f"logits have shape {logits.shape}, not (events, classes) with two classes or more")
    if not len(logits) == len(labels) == len(weights):
        raise DataError(f"{len(logits)} rows of logits, {len(labels)} labels and {len(weights)} weights do not match")
    if len(labels) == 0:
        raise DataError("no events to evaluate")
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"logits of row {row} are {logits[row].tolist()} ({int((~finite).sum())} rows are not finite)")
    outside = (labels < 0) | (labels >= logits.shape[1])
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(f"label {labels[row]} of row {row} has no logit; the network has {logits.shape[1]} outputs")


def decide(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    """Class with the largest logit; among equal ones the first, as a comparator chain does it. int64 ``(events,)``."""
    decision: NDArray[np.int64] = np.argmax(logits, axis=1).astype(np.int64)
    return decision


def class_score(logits: NDArray[np.floating], class_index: int) -> NDArray[np.float64]:
    """``z_c - max(z of the other classes)``, float64 ``(events,)``. Exact for fixed-point logits, so ties stay ties."""
    exact = logits.astype(np.float64)
    others = np.delete(exact, class_index, axis=1).max(axis=1)
    score: NDArray[np.float64] = exact[:, class_index] - others
    return score

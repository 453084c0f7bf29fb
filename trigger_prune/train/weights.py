"""Event weights of the loss."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError


def class_factors(
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    n_classes: int,
    class_weights: Literal["none", "balanced"],
) -> NDArray[np.float64]:
    """Factor per class, shape ``(n_classes,)``, that turns physical event weights into weights of the loss.

    Computed on the training part; the mean of ``weights * factors[labels]`` over it is 1. ``balanced`` also gives
    every class the same total. Multiply the weights of all parts by these factors.
    Raises DataError when all weights are zero, or with ``balanced`` when one class has no weight.
    """
    totals = np.bincount(labels, weights=weights, minlength=n_classes)
    if not totals.sum() > 0:
        raise DataError("the training part has no event of weight above zero")
    if class_weights == "none":
        return np.full(n_classes, len(labels) / totals.sum())
    if not (totals > 0).all():
        raise DataError(
            f"class {int(np.argmin(totals))} has no weight in the training part",
            hint="class_weights: balanced needs every class; use none, or give more events",
        )
    return np.asarray(len(labels) / n_classes / totals, dtype=np.float64)

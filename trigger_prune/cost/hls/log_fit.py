"""``fit_positive``: a sum of non-negative terms fitted to the logarithm of measured counts.

Counts span four decades and a few reports are odd (a copied project, a directive set by hand), so the error is relative
and outliers are damped: soft L1 on log(prediction / truth).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from trigger_prune.errors import CostError

_SOFTNESS = 0.1
"""Relative error from which a sample counts as an outlier."""

_PRIOR_WEIGHT = 1e-2
"""Pull of a coefficient towards its start value, in units of one project's total weight: it decides only what the
samples leave open."""


def fit_positive(
    terms: NDArray[np.float64],
    truth: NDArray[np.float64],
    start: Sequence[float],
    groups: Sequence[str],
) -> NDArray[np.float64]:
    """Coefficients ``c >= 0`` with ``terms @ c`` near ``truth`` in the logarithm; every group counts the same.

    ``terms`` (samples, coefficients) and ``truth`` (samples,) are non-negative; samples whose truth is 0 are left out.
    A coefficient whose term is 0 in all samples keeps its start value. Raises CostError without samples.
    """
    keep = (truth > 0) & (terms.sum(axis=1) > 0)
    if not keep.any():
        raise CostError("no sample with a count above 0 to fit to")
    names = [group for group, used in zip(groups, keep, strict=True) if used]
    terms, target = terms[keep], truth[keep]
    weights = np.sqrt(np.array([1.0 / names.count(name) for name in names]))
    first = np.maximum(np.asarray(start, dtype=np.float64), 1e-3)
    moved = terms.max(axis=0) > 0

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        coefficients = first.copy()
        coefficients[moved] = first[moved] * np.exp(logs)
        ratio = np.log(np.maximum(terms @ coefficients, 1e-9) / target)
        damped = np.sign(ratio) * _SOFTNESS * np.sqrt(2.0 * (np.sqrt(1.0 + (ratio / _SOFTNESS) ** 2) - 1.0))
        return np.concatenate([weights * damped, _PRIOR_WEIGHT * logs])

    found = least_squares(residuals, np.zeros(int(moved.sum())), bounds=(-12.0, 6.0), max_nfev=200)
    result = first.copy()
    result[moved] = first[moved] * np.exp(found.x)
    return result

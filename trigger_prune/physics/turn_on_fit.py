"""Fit of a turn-on: ``plateau / 2 * (1 + erf((x - x50) / (sqrt(2) sigma)))`` by maximum likelihood on the events."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtr, ndtri, xlogy

from trigger_prune.physics.clusters import cluster_index, weight_per_index
from trigger_prune.physics.intervals import effective_events

CELLS = 2000
"""The likelihood is maximised on this many cells of equal population; the errors come from single events."""

FLAT_LIMIT = 13.8
"""2 ln(likelihood ratio to a constant efficiency) that chance exceeds once in a thousand (two more parameters)."""

SMALLEST_PLATEAU = 1e-6
LARGEST_EXPONENT = 300.0
Z95 = float(ndtri(0.95))

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class TurnOnFit:
    """Parameters of the error function, x in the unit of the variable, with standard errors.

    x50 and x95 are where 50 % and 95 % of the plateau are reached. ``plateau_error`` is 0 when the plateau is at its
    limit of 1. Errors are those of independent generated collisions.
    """

    plateau: float
    plateau_error: float
    x50: float
    x50_error: float
    sigma: float
    sigma_error: float
    x95: float
    x95_error: float

    def efficiency(self, x: Vector) -> Vector:
        """The fitted curve at ``x``."""
        curve: Vector = self.plateau * ndtr((x - self.x50) / self.sigma)
        return curve

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``from_dict`` restores an equal fit."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> TurnOnFit:
        """Inverse of ``to_dict``."""
        return cls(**raw)


def fit_turn_on(
    values: NDArray[np.floating], passes: NDArray[np.bool_], weights: Vector, groups: NDArray[np.int64]
) -> tuple[TurnOnFit | None, str]:
    """The fit and an empty note; or None and the reason; or a fit and what limits it.

    All arrays ``(rows,)``, every weight > 0. Weighted events give a quasi-likelihood; its covariance is the sandwich
    with scores summed per collision (White, Econometrica 50 (1982) 1), which holds for any weights and repetitions.
    """
    if passes.all() or not passes.any():
        return None, f"{'every' if passes.any() else 'no'} event passes: there is no turn-on to fit"
    x = values.astype(np.float64)
    low, high = float(x.min()), float(x.max())
    if not high > low:
        return None, "the variable has a single value: there is no turn-on to fit"
    # fit in units of the spread, so that the minimiser sees numbers of order one
    centre, scale = float(np.median(x)), float(np.std(x))
    x = (x - centre) / scale
    effective = min(effective_events(weights), effective_events(weight_per_index(cluster_index(groups), weights)))
    share = weights * (effective / float(weights.sum()))
    cells = _cells(x, share * passes, share * ~passes)
    best = _maximise(*cells)
    if best is None:
        return None, "the fit of the error function did not converge"
    parameters, log_likelihood = best
    passing = float(cells[1].sum())
    flat = float(xlogy(passing, passing / effective) + xlogy(effective - passing, 1 - passing / effective))
    if 2 * (log_likelihood - flat) < FLAT_LIMIT:
        return None, "the efficiency does not rise significantly in this range: there is no turn-on to fit"
    covariance = _covariance(parameters, x, passes, share, groups)
    if covariance is None:
        return None, "the fit of the error function did not converge: its parameters cannot be told apart"
    plateau, x50, sigma = float(parameters[0]), float(parameters[1]), math.exp(parameters[2])
    x95_slope = np.array([0.0, 1.0, Z95 * sigma])
    fit = TurnOnFit(
        plateau,
        math.sqrt(covariance[0, 0]),
        centre + scale * x50,
        scale * math.sqrt(covariance[1, 1]),
        scale * sigma,
        scale * sigma * math.sqrt(covariance[2, 2]),
        centre + scale * (x50 + Z95 * sigma),
        scale * math.sqrt(float(x95_slope @ covariance @ x95_slope)),
    )
    if not low <= fit.x50 <= high:
        return None, f"the efficiency rises beyond the range of the events ({low:.4g} to {high:.4g}): no turn-on to fit"
    if fit.x95 > high:
        return fit, f"the 95 % point lies beyond the largest value ({high:.4g}): it is an extrapolation"
    return fit, ""


def _cells(x: Vector, passing: Vector, failing: Vector) -> tuple[Vector, Vector, Vector]:
    """Neighbouring rows joined: mean x, passing and failing weight of every cell."""
    order = np.argsort(x)
    starts = np.unique(np.linspace(0, len(x), CELLS, endpoint=False).astype(np.int64))
    counts = np.diff(np.append(starts, len(x)))
    return (
        np.add.reduceat(x[order], starts) / counts,
        np.add.reduceat(passing[order], starts),
        np.add.reduceat(failing[order], starts),
    )


def _maximise(x: Vector, passing: Vector, failing: Vector) -> tuple[Vector, float] | None:
    """Parameters (plateau, x50, ln sigma) and log-likelihood; None without convergence from any start."""
    efficiency = np.cumsum(passing[::-1]) / np.cumsum((passing + failing)[::-1])
    start_plateau = float(np.clip(efficiency[len(x) // 10], 0.05, 0.99))
    best: tuple[Vector, float] | None = None
    bounds = [(SMALLEST_PLATEAU, 1.0), (None, None), (math.log(1e-5), math.log(1e3))]
    total = float((passing + failing).sum())

    def objective(parameters: Vector) -> tuple[float, Vector]:
        log_pass, log_fail, pass_slopes, fail_slopes = _log_terms(parameters, x)
        value = float(passing @ log_pass + failing @ log_fail)
        return -value / total, -(pass_slopes @ passing + fail_slopes @ failing) / total

    for start_x50 in np.quantile(x, [0.2, 0.5, 0.8]):
        start = np.array([start_plateau, start_x50, math.log(0.5)])
        result = minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-7}
        )
        value = -float(result.fun) * total
        # a line search that can gain nothing more ends without success, but at the maximum
        settled = result.success or _is_flat(np.asarray(result.jac), result.x, bounds)
        if settled and math.isfinite(value) and (best is None or value > best[1]):
            best = np.asarray(result.x, np.float64), value
    return best


def _is_flat(gradient: Vector, parameters: Vector, bounds: list[tuple[float | None, float | None]]) -> bool:
    """Whether the likelihood per event cannot be improved within the bounds."""
    at_plateau_limit = parameters[0] >= (bounds[0][1] or 1.0)
    free = gradient[1:] if at_plateau_limit and gradient[0] <= 0 else gradient
    return bool(np.abs(free).max() < 1e-5)


def _log_terms(parameters: Vector, x: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    """ln(efficiency), ln(1 - efficiency) and their slopes ``(3, rows)`` in plateau, x50 and ln sigma.

    Logarithms throughout, so that an event far on the wrong side costs much, but not infinitely much.
    """
    plateau, x50, log_sigma = (float(p) for p in parameters)
    sigma = math.exp(log_sigma)
    z = (x - x50) / sigma
    log_density = -0.5 * z * z - 0.5 * math.log(2 * math.pi)
    log_curve, log_tail = log_ndtr(z), log_ndtr(-z)
    log_plateau = math.log(plateau)
    log_lost = math.log1p(-plateau) if plateau < 1 else -math.inf
    log_fail = np.logaddexp(log_lost, log_plateau + log_tail)
    pass_slope = np.exp(log_density - log_curve)
    fail_slope = -np.exp(log_plateau + log_density - log_fail)
    pass_slopes = np.stack([np.full_like(x, 1 / plateau), -pass_slope / sigma, -pass_slope * z])
    # far above the turn-on the slope of a failure overflows when the plateau is 1; it multiplies no event there
    lost_slope = -np.exp(np.minimum(log_curve - log_fail, LARGEST_EXPONENT))
    fail_slopes = np.stack([lost_slope, -fail_slope / sigma, -fail_slope * z])
    return log_plateau + log_curve, log_fail, pass_slopes, fail_slopes


def _covariance(
    parameters: Vector, x: Vector, passes: NDArray[np.bool_], share: Vector, groups: NDArray[np.int64]
) -> Vector | None:
    """Sandwich covariance of (plateau, x50, ln sigma); a plateau at its limit of 1 is fixed. None when singular."""
    _, _, pass_slopes, fail_slopes = _log_terms(parameters, x)
    scores = share * np.where(passes, pass_slopes, fail_slopes)
    # expected information: w e' e' / (e (1 - e)), with e' / e the slope of a pass and -e' / (1 - e) that of a failure
    information = -(share * pass_slopes) @ fail_slopes.T
    free = np.arange(1 if parameters[0] >= 1 - 1e-9 else 0, 3)
    index = cluster_index(groups)
    per_cluster = np.stack([weight_per_index(index, score) for score in scores])
    meat = per_cluster @ per_cluster.T
    part = information[np.ix_(free, free)]
    if not np.isfinite(part).all() or np.linalg.cond(part) > 1e12:
        return None
    inverse = np.linalg.inv(part)
    covariance = np.zeros((3, 3))
    covariance[np.ix_(free, free)] = inverse @ meat[np.ix_(free, free)] @ inverse
    return covariance if (np.diag(covariance)[free] > 0).all() else None

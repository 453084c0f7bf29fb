"""Signal efficiency at fixed background rates: thresholds from the validation events, figures from the test events."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trigger_prune.physics.equal_efficiency import RankedBackground, equal_rate_points, rank_background
from trigger_prune.physics.intervals import Estimate, clustered_fraction_estimate
from trigger_prune.physics.rates import RateEstimate, Threshold, find_thresholds, sum_rate
from trigger_prune.physics.scored_events import BACKGROUND, ScoredEvents

TARGETS_KHZ = (1.0, 10.0, 100.0)
"""Rates at which triggers are compared."""

COARSE_STEP = 0.1
"""A next lower score that adds more than this share of the target rate is worth a warning."""

TOTALS_AGREE = 0.05
"""Validation and test are the same bunch crossings: their total rates may differ by this much."""


@dataclass(frozen=True)
class WorkingPoint:
    """One target rate.

    threshold                  set on validation, with its rate and step there
    validation_rate            the rate on validation, with its error
    test_rate                  the rate of that threshold on test
    moved, moved_error         test rate / validation rate - 1 and its statistical error; None when nothing passes
    efficiency                 of every signal process on test, at that threshold
    efficiency_at_equal_rate   on test at exactly the target rate, by randomised tie-breaking: only for
                               comparing networks, no firmware threshold gives it
    warnings                   sentences to print wherever this working point is shown
    """

    target_khz: float
    threshold: Threshold
    validation_rate: RateEstimate
    test_rate: RateEstimate
    moved: float | None
    moved_error: float | None
    efficiency: dict[str, Estimate]
    efficiency_at_equal_rate: dict[str, Estimate]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal working point."""
        return asdict(self) | {"threshold": self.threshold.to_dict(), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> WorkingPoint:
        """Inverse of ``to_dict``."""
        parts = {
            "threshold": Threshold.from_dict(raw["threshold"]),
            "validation_rate": RateEstimate.from_dict(raw["validation_rate"]),
            "test_rate": RateEstimate.from_dict(raw["test_rate"]),
            "warnings": tuple(raw["warnings"]),
        }
        for key in ("efficiency", "efficiency_at_equal_rate"):
            parts[key] = {name: Estimate.from_dict(value) for name, value in raw[key].items()}
        return cls(**(raw | parts))


def working_points(
    validation: ScoredEvents,
    test: ScoredEvents,
    targets_khz: tuple[float, ...] = TARGETS_KHZ,
    test_background: RankedBackground | None = None,
) -> tuple[WorkingPoint, ...]:
    """One working point per target rate, in the order given.

    The background weights of either sample must add up to the rate of filled bunch crossings; a warning says when the
    two totals differ by more than 5 %. Efficiencies count generated collisions, not rows, for their intervals.
    ``test_background`` (``rank_background(test)``) saves a sort when other metrics use it too. Raises DataError on a
    target that is not positive.
    """
    scores, weights, groups = validation.part(BACKGROUND)
    thresholds = find_thresholds(scores, weights, tuple(1e3 * target for target in targets_khz))
    total = float(weights.sum())
    passing = [np.flatnonzero(scores >= np.float64(threshold.value)) for threshold in thresholds]
    validation_rates = [sum_rate(weights[rows], groups[rows]) for rows in passing]
    test_rates, test_total = _test_rates(test, thresholds)

    by_rate = np.argsort(targets_khz)
    rates = np.array([threshold.target_hz for threshold in thresholds])[by_rate]
    background = test_background or rank_background(test, up_to_hz=3 * float(rates[-1]))
    equal: list[dict[str, Estimate]] = [{} for _ in thresholds]
    efficiency: list[dict[str, Estimate]] = [{} for _ in thresholds]
    for process, name in enumerate(test.signal_names):
        points = equal_rate_points(test, process, rates, background)
        for position, estimate in zip(by_rate, points.efficiencies, strict=True):
            equal[position][name] = estimate
        scores, weights, groups = test.part(process)
        for position, threshold in enumerate(thresholds):
            passes = scores >= np.float64(threshold.value)
            efficiency[position][name] = clustered_fraction_estimate(passes, weights, groups)

    result = []
    for position, threshold in enumerate(thresholds):
        before, after = validation_rates[position], test_rates[position]
        moved, moved_error = rate_change(before, after)
        result.append(
            WorkingPoint(
                float(targets_khz[position]),
                threshold,
                before,
                after,
                moved,
                moved_error,
                efficiency[position],
                equal[position],
                _warnings(threshold, before, after, total, test_total),
            )
        )
    return tuple(result)


def rate_change(before: RateEstimate, after: RateEstimate) -> tuple[float | None, float | None]:
    """``after / before - 1`` of two independent samples and its statistical error; None without a rate before."""
    if not before.rate_hz > 0:
        return None, None
    ratio = after.rate_hz / before.rate_hz
    # with nothing passing afterwards, one event like those before is the scale of the error
    after_error = after.error_hz if after.events else before.error_hz / math.sqrt(before.n_effective)
    return ratio - 1, math.hypot(after_error, ratio * before.error_hz) / before.rate_hz


def _test_rates(test: ScoredEvents, thresholds: tuple[Threshold, ...]) -> tuple[list[RateEstimate], float]:
    """Background rate on test at every threshold, and in total."""
    rows = test.rows(BACKGROUND)
    scores, weights = test.scores[rows], test.weights[rows]
    rates = []
    for threshold in thresholds:
        passing = np.flatnonzero(scores >= np.float64(threshold.value))
        rates.append(sum_rate(weights[passing], test.groups[rows[passing]]))
    return rates, float(weights.sum())


def _warnings(
    threshold: Threshold, before: RateEstimate, after: RateEstimate, total: float, test_total: float
) -> tuple[str, ...]:
    """All that a reader must know before trusting a working point."""
    target = threshold.target_hz
    found = []
    if threshold.passes_nothing:
        found.append(
            f"the highest score alone has {threshold.step_hz / 1e3:.4g} kHz on validation, "
            f"above {target / 1e3:g} kHz: nothing passes"
        )
    for where, rate in (("validation", before), ("test", after)):
        if rate.warning:
            found.append(f"{where}: {rate.warning}")
    if not threshold.passes_nothing and threshold.step_hz > COARSE_STEP * target and before.warning is None:
        found.append(
            f"the score is coarse: {threshold.rate_hz / 1e3:.4g} kHz at the threshold, "
            f"{(threshold.rate_hz + threshold.step_hz) / 1e3:.4g} kHz one step lower"
        )
    for where, rate_hz in (("validation", total), ("test", test_total)):
        if rate_hz <= target:
            found.append(f"the whole {where} background has {rate_hz / 1e3:.4g} kHz: everything passes")
    if abs(test_total / total - 1) > TOTALS_AGREE:
        found.append(
            f"validation has {total / 1e3:.4g} kHz of background and test {test_total / 1e3:.4g} kHz: "
            "the weights were not normalised to the same bunch crossings"
        )
    return tuple(found)

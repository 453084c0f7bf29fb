"""Error measures of estimates: pairs of predicted and true values to figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trigger_prune.physics.intervals import LEVEL_95, clopper_pearson

QUANTITIES = ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii")
"""What is predicted, named as in LayerEstimate and HardwareReport."""


AIMED_COVERAGE = (0.85, 0.95)
"""Between which the coverage of a 90 % interval is as it should be."""


@dataclass(frozen=True)
class Errors:
    """Of one quantity over one set of samples.

    count            samples; 0 = no figure below means anything
    smape            mean of 200 |p - t| / (|p| + |t|), %; 0 where both are 0
    median_relative  median of |p - t| / t, % (t > 0; where t = 0, 0 for an exact estimate, else 100)
    r2_log           coefficient of determination of log(1 + value); NaN when all true values are equal
    exact            share whose rounded estimate is the true value
    bias             median of p / t - 1, % (t > 0)
    coverage         share of true values within the 90 % interval; NaN without intervals
    coverage_low, coverage_high     95 % Clopper-Pearson interval of the coverage, as if all samples were independent
    width            median of upper / lower end of the interval (ends + 1); NaN without intervals
    """

    count: int
    smape: float
    median_relative: float
    r2_log: float
    exact: float
    bias: float
    coverage: float = float("nan")
    coverage_low: float = float("nan")
    coverage_high: float = float("nan")
    width: float = float("nan")

    @property
    def coverage_verdict(self) -> str:
        """Whether the coverage is within ``AIMED_COVERAGE``: ``yes``, or what its uncertainty leaves open.

        ``perhaps`` = the Clopper-Pearson interval reaches into the aimed one; ``too wide`` and ``too narrow`` = it does
        not; "" without intervals.
        """
        least, most = AIMED_COVERAGE
        if self.coverage != self.coverage:
            return ""
        if self.coverage_low > most:
            return "too wide"
        if self.coverage_high < least:
            return "too narrow"
        return "yes" if least <= self.coverage_low and self.coverage_high <= most else "perhaps"

    def to_dict(self) -> dict[str, float | None]:
        """Figures by name; NaN as None, which JSON can hold."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def smape(predicted: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    """Symmetric percentage error of each pair, 0 .. 200; 0 where both values are 0."""
    p, t = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    total = np.abs(p) + np.abs(t)
    quotient: NDArray[np.float64] = np.divide(200 * np.abs(p - t), total, out=np.zeros_like(total), where=total > 0)
    return quotient


def relative_error(predicted: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    """|p - t| / t of each pair in %; where t is 0: 0 for an exact estimate, else 100."""
    p, t = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    return np.where(t > 0, 100 * np.abs(p - t) / np.where(t > 0, t, 1), np.where(np.rint(p) == 0, 0.0, 100.0))


def r2_log(predicted: ArrayLike, true: ArrayLike) -> float:
    """1 - residual / total sum of squares of log(1 + value); NaN when the true values do not vary."""
    p, t = np.log1p(np.asarray(predicted, np.float64)), np.log1p(np.asarray(true, np.float64))
    total = float(((t - t.mean()) ** 2).sum())
    return 1 - float(((t - p) ** 2).sum()) / total if total > 0 else float("nan")


def errors(
    predicted: Sequence[float], true: Sequence[float], intervals: Sequence[tuple[float, float] | None] | None = None
) -> Errors:
    """Every measure over pairs; ``intervals`` are the 90 % intervals, None where a sample has none.

    An estimate counts as covered when its interval, rounded outwards to whole units, holds the true value.
    """
    nan = float("nan")
    if not len(true):
        return Errors(0, nan, nan, nan, nan, nan)
    p, t = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    covered: list[bool] = []
    widths: list[float] = []
    for interval, value in zip(intervals or [None] * len(t), t, strict=True):
        if interval is not None:
            low, high = np.floor(interval[0]), np.ceil(interval[1])
            covered.append(bool(low <= value <= high))
            widths.append(float((high + 1) / (low + 1)))
    positive = t > 0
    held = (nan, nan) if not covered else clopper_pearson(sum(covered), len(covered), LEVEL_95)
    return Errors(
        count=len(t),
        smape=float(smape(p, t).mean()),
        median_relative=float(np.median(relative_error(p, t))),
        r2_log=r2_log(p, t),
        exact=float((np.rint(p) == t).mean()),
        bias=float(np.median(100 * (p[positive] / t[positive] - 1))) if positive.any() else nan,
        coverage=float(np.mean(covered)) if covered else nan,
        coverage_low=held[0],
        coverage_high=held[1],
        width=float(np.median(widths)) if widths else nan,
    )

"""Background rates in Hz from weighted events, and the threshold that meets a rate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.clusters import cluster_sums
from trigger_prune.physics.intervals import effective_events
from trigger_prune.physics.ranking import check_weighted_scores, rank

MINIMUM_EFFECTIVE_EVENTS = 100.0
"""Below this effective number of passing events a rate carries a warning (its error is then over 10 %)."""


@dataclass(frozen=True)
class RateEstimate:
    """A rate with its statistical error.

    rate_hz       sum of the weights (Hz) of the passing events
    error_hz      sqrt(sum w^2), w being the weight of a generated collision where rows share one
    n_effective   (sum w)^2 / sum w^2: as many events of equal weight would be as informative
    events        passing rows with weight
    """

    rate_hz: float
    error_hz: float
    n_effective: float
    events: int

    @property
    def warning(self) -> str | None:
        """What to print beside this rate when too few events stand behind it."""
        if self.n_effective >= MINIMUM_EFFECTIVE_EVENTS:
            return None
        if self.events == 0:
            return "no background event passes: the rate is only known to be small"
        return (
            f"rate of {self.n_effective:.3g} effective background events "
            f"(below {MINIMUM_EFFECTIVE_EVENTS:g}): uncertain by {100 * self.error_hz / self.rate_hz:.0f} %"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``from_dict`` restores an equal estimate."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> RateEstimate:
        """Inverse of ``to_dict``."""
        return cls(**raw)


@dataclass(frozen=True)
class Threshold:
    """``score >= value`` passes; the lowest score value whose rate does not exceed ``target_hz``.

    rate_hz   rate at the threshold, at most the target
    step_hz   by how much the rate would rise at the next lower score value; 0 when everything passes already

    ``value`` is infinite, and nothing passes, when the highest score alone exceeds the target.
    """

    value: float
    target_hz: float
    rate_hz: float
    step_hz: float

    @property
    def passes_nothing(self) -> bool:
        """Whether no score meets the target rate."""
        return math.isinf(self.value)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; JSON knows no infinity, so a threshold that nothing passes has the value None."""
        return asdict(self) | {"value": None if self.passes_nothing else self.value}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Threshold:
        """Inverse of ``to_dict``."""
        return cls(**(raw | {"value": math.inf if raw["value"] is None else raw["value"]}))


def sum_rate(weights_hz: NDArray[np.float64], groups: NDArray[np.int64] | None = None) -> RateEstimate:
    """Rate of the events given, all of which pass (none is fine). With ``groups``, errors are those of collisions."""
    rate = float(weights_hz.sum())
    independent = weights_hz if groups is None or len(groups) == 0 else cluster_sums(groups, weights_hz)
    squares = float(independent @ independent)
    return RateEstimate(rate, math.sqrt(squares), effective_events(independent), int(np.count_nonzero(weights_hz)))


def rate_above(
    scores: NDArray[np.floating],
    weights_hz: NDArray[np.float64],
    threshold: float,
    groups: NDArray[np.int64] | None = None,
) -> RateEstimate:
    """Rate of ``score >= threshold``; scores float32 or float64 ``(rows,)``, weights float64 ``(rows,)`` in Hz.

    ``groups`` (int64 ``(rows,)``) are the generated collisions; without them every row counts as independent.
    Raises DataError, naming the row, on scores that are not finite and weights that are not finite or negative, and on
    empty input.
    """
    check_weighted_scores(scores, weights_hz)
    # a plain float would be rounded to the type of the scores before the comparison
    rows = np.flatnonzero(scores >= np.float64(threshold))
    return sum_rate(weights_hz[rows], None if groups is None else groups[rows])


def find_threshold(scores: NDArray[np.floating], weights_hz: NDArray[np.float64], target_hz: float) -> Threshold:
    """Lowest value among the scores of background events with weight whose rate is at most ``target_hz``.

    Integer scores tie, so the rate may be well below the target: ``step_hz`` says by how much it would rise. A rate
    above the target by a relative 1e-9 still counts as on target. Events without weight set no threshold. Raises
    DataError as ``rate_above`` does, when no event has weight and unless the target is positive.
    """
    return find_thresholds(scores, weights_hz, (target_hz,))[0]


def find_thresholds(
    scores: NDArray[np.floating], weights_hz: NDArray[np.float64], targets_hz: tuple[float, ...]
) -> tuple[Threshold, ...]:
    """``find_threshold`` for several targets from one ranking."""
    check_weighted_scores(scores, weights_hz)
    for target in targets_hz:
        if not (target > 0 and math.isfinite(target)):
            raise DataError(f"a target rate of {target} Hz makes no sense", hint="give a positive rate in Hz")
    ranking = rank(scores, weights_hz, up_to=1.01 * max(targets_hz))
    if not ranking.total > 0:
        raise DataError("all weights are zero: the background has no rate and no threshold can be set")
    found = []
    for target, count in zip(targets_hz, ranking.fitting(np.array(targets_hz)), strict=True):
        value = float(ranking.values[count - 1]) if count else math.inf
        rate = float(ranking.sums[count - 1]) if count else 0.0
        above = float(ranking.sums[count]) if count < len(ranking.sums) else rate
        found.append(Threshold(value, float(target), rate, above - rate))
    return tuple(found)

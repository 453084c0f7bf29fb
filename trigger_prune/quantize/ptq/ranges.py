"""Integer bits of a wire from events, such that it overflows with no more than a stated probability per event.

The number of overflowing events in a sample is binomial. Its one-sided Clopper-Pearson limit (Biometrika 26 (1934) 404)
bounds the probability with the wanted confidence; without any overflow in n events the limit is
1 - (1 - confidence)**(1/n), about 3 / n at 95 % (the rule of three). A sample cannot prove less than that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding, bits_for_range, round_to_integers
from trigger_prune.physics.clusters import cluster_index, weight_per_index
from trigger_prune.physics.intervals import clopper_pearson, effective_events

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EventRange:
    """Lowest and highest value of one wire in every event, float64 ``(n,)`` each: all that overflow depends on."""

    low: Floats
    high: Floats

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or self.low.ndim != 1 or not len(self.low):
            raise DataError(f"extremes of shape {self.low.shape} and {self.high.shape} are not one pair per event")

    def overflows(self, fixed: FixedPoint) -> Bools:
        """Events in which any value of the wire does not fit ``fixed`` after rounding, ``(n,)``."""
        # rounding is monotonic, so the extremes decide for all values between them
        low = round_to_integers(np.ldexp(self.low, fixed.fraction), fixed.rounding, np)
        high = round_to_integers(np.ldexp(self.high, fixed.fraction), fixed.rounding, np)
        found: Bools = (low < fixed.min_code) | (high > fixed.max_code)
        return found


@dataclass(frozen=True, eq=False)
class Exposure:
    """The events that a probability is estimated with.

    weights   float64 ``(n,)``, e.g. rates; None: every event counts once
    groups    int64 ``(n,)``: numbers of the generated collisions; None: every event is one
    """

    weights: Floats | None = None
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class OverflowLimit:
    """How often a wire overflows.

    events       events that overflowed, of ``n_events``
    probability  their (weighted) fraction
    upper        with ``confidence`` the probability per event is no larger
    provable     the smallest limit that this sample could give, with no overflow at all
    """

    events: int
    n_events: int
    probability: float
    upper: float
    provable: float
    confidence: float


@dataclass(frozen=True)
class ChosenRange:
    """Integer bits and what they are worth. ``proven``: ``limit.upper`` is no larger than what was asked for.

    Where it is not, the bits hold every value of the sample, which is too small to prove more.
    """

    integer: int
    limit: OverflowLimit
    proven: bool


def overflow_limit(overflowed: Bools, confidence: float, exposure: Exposure | None = None) -> OverflowLimit:
    """One-sided upper limit on the probability that an event overflows.

    Equal weights: the exact binomial limit. Rows of one collision are not independent, so that collisions are counted
    then, one overflowing row being enough (an upper bound). Other weights: the weighted fraction of as many
    events as would be equally informative, an approximation. Raises DataError without events or weight, or for a
    confidence outside 0.5..1.
    """
    if not 0.5 < confidence < 1:
        raise DataError(f"a confidence of {confidence:g} is not inside 0.5..1")
    if not len(overflowed):
        raise DataError("there are no events to estimate an overflow probability with")
    exposure = exposure or Exposure()
    weights = np.ones(len(overflowed)) if exposure.weights is None else np.asarray(exposure.weights, np.float64)
    if not weights.sum() > 0:
        raise DataError("an overflow probability of events without weight is not defined")
    hit = overflowed & (weights > 0)
    probability = float(weights[hit].sum() / weights.sum())
    if exposure.groups is not None:
        index = cluster_index(exposure.groups)
        weights, any_hit = weight_per_index(index, weights), weight_per_index(index, hit.astype(np.float64)) > 0
    else:
        any_hit = hit
    used = weights > 0
    if np.ptp(weights[used]) == 0 or (exposure.weights is None):
        total, passed = float(used.sum()), float((any_hit & used).sum())
    else:
        total = effective_events(weights)
        passed = min(float(weights[any_hit].sum() / weights.sum()) * total, total)
    level = 2 * confidence - 1  # central interval whose upper tail is 1 - confidence
    return OverflowLimit(
        events=int(hit.sum()),
        n_events=len(overflowed),
        probability=probability,
        upper=clopper_pearson(passed, total, level)[1],
        provable=clopper_pearson(0.0, total, level)[1],
        confidence=confidence,
    )


def integer_bits(
    extremes: EventRange,
    width: int,
    *,
    signed: bool,
    rounding: Rounding,
    probability: float,
    confidence: float = 0.95,
    exposure: Exposure | None = None,
) -> ChosenRange:
    """Fewest integer bits with which a saturating type of ``width`` bits overflows in an event with no more than
    ``probability``, at this confidence.

    Types are tried from the widest range down, and the first that fails ends the search, so that the confidence needs
    no correction for the number tried (a test of hypotheses in a fixed sequence).
    """
    if not 0 < probability < 1:
        raise DataError(f"an overflow probability of {probability:g} is not inside 0..1")
    low, high = float(extremes.low.min()), float(extremes.high.max())
    if low == high == 0.0:
        never = overflow_limit(np.zeros(len(extremes.low), dtype=np.bool_), confidence, exposure)
        return ChosenRange(0, never, never.upper <= probability)
    # one bit more than the range: rounding up can reach the next power of two
    integer = bits_for_range(min(low, 0.0) if signed else 0.0, max(high, 0.0))[0] + 1 + int(signed and low >= 0)

    def limit_of(bits: int) -> OverflowLimit:
        fixed = FixedPoint(width, bits, signed, rounding, Overflow.AP_SAT)
        return overflow_limit(extremes.overflows(fixed), confidence, exposure)

    limit = limit_of(integer)
    if limit.upper > probability:
        while integer > -width:
            smaller = limit_of(integer - 1)
            if smaller.events:
                break
            integer, limit = integer - 1, smaller
        return ChosenRange(integer, limit, False)
    while integer > -width:
        smaller = limit_of(integer - 1)
        if smaller.upper > probability:
            break
        integer, limit = integer - 1, smaller
    return ChosenRange(integer, limit, True)

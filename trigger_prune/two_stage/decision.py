"""The four thresholds of a two-stage trigger, solved together so that the total rate, overflow included, is on target.

An object with light < t_reject is dropped, with light >= t_accept accepted at once; the others are escalated. Of them,
those that the FIFO takes are accepted from t_full on, those that it cannot take when light >= t_overflow. The escalated
fraction, hence the queue and its losses, follow from t_reject and t_accept alone. Given the losses, every t_overflow
has one t_full that spends what is left of the rate; the pair with the highest signal efficiency is taken. Thresholds
are values of the scores, as a comparator tells these apart and nothing between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.ranking import ROUNDING
from trigger_prune.physics.rates import find_threshold
from trigger_prune.two_stage.outcomes import Outcomes, outcomes_of
from trigger_prune.two_stage.queue import QueueResult
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.traffic import Arrivals

Floats = NDArray[np.float64]

ACCEPT_SHARES = (0.0, 0.1, 0.25, 0.5)
"""Shares of the target rate that the light model may accept at once, among which the best is chosen."""

OVERFLOW_STEPS = 32
"""Light scores tried as t_overflow."""


@dataclass(frozen=True)
class Thresholds:
    """``score >= threshold`` passes; infinite where nothing does.

    t_reject, t_accept, t_overflow   of the light score
    t_full                           of the full score
    """

    t_reject: float
    t_accept: float
    t_full: float
    t_overflow: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values; JSON knows no infinity, so a threshold that nothing passes is None."""
        return {name: None if math.isinf(value) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Thresholds:
        """Inverse of ``to_dict``."""
        return cls(**{name: math.inf if value is None else value for name, value in raw.items()})


@dataclass(frozen=True, eq=False)
class Split:
    """The light model's part of the decision on one sample: what is rejected, accepted and escalated.

    outcomes holds the background by descending full score first, then the wanted signal; ``n_background`` counts the
    former. ``weights`` are those of the rows, of signal normalised to 1 in total.
    """

    t_reject: float
    t_accept: float
    accept_share: float
    arrivals: Arrivals
    outcomes: Outcomes
    weights: Floats
    n_background: int


@dataclass(frozen=True)
class Decision:
    """Thresholds with what they give on the sample that they were chosen on.

    rate_hz, rate_step_hz   expected total rate, and by how much it would rise at the next lower full score
    efficiency              of the wanted signal, overflow included
    """

    thresholds: Thresholds
    accept_share: float
    rate_hz: float
    rate_step_hz: float
    efficiency: float


def split_by_light(
    sample: TwoStageSample, escalated: float, accept_share: float, target_hz: float, signal_name: str
) -> Split:
    """t_accept spends at most ``accept_share`` of the target rate; t_reject escalates at most ``escalated`` objects
    per row of background (per filled crossing where rows are crossings).

    Both are the lowest light scores that do. Raises DataError for an ``escalated`` that is not positive or that the
    highest score alone exceeds, an accept share outside 0 .. 1, and an unknown signal.
    """
    if not 0 < escalated < math.inf or not 0 <= accept_share < 1:
        raise DataError(f"escalated {escalated:g} per crossing, accepted share {accept_share:g}: that makes no sense")
    background, process = sample.background, sample.process(signal_name)
    t_accept = math.inf
    if accept_share:
        best = sample.best(sample.light)[background]
        weights = np.where(np.isfinite(best), sample.weights[background], 0.0)
        t_accept = find_threshold(np.where(np.isfinite(best), best, 0.0), weights, accept_share * target_hz).value
    objects = background[sample.row] & (sample.light < t_accept)
    if not objects.any():
        raise DataError("every background object is accepted at once", hint="lower the accepted share")
    found = find_threshold(
        sample.light[objects], sample.weights[sample.row[objects]], escalated * sample.background_weight
    )
    if found.passes_nothing:
        raise DataError(
            f"the highest light score alone has {found.step_hz / sample.background_weight:.3g} objects per crossing, "
            f"more than {escalated:g}",
            hint="escalate more, or give the light score more steps",
        )
    outcomes = outcomes_of(sample, found.value, t_accept)
    of_background = np.flatnonzero(background[outcomes.row])
    of_background = of_background[np.argsort(-outcomes.full[of_background], kind="stable")]
    of_signal = np.flatnonzero(sample.signal[outcomes.row] == process)
    ordered = outcomes.take(np.concatenate([of_background, of_signal]))
    weights = sample.weights[ordered.row]
    weights[len(of_background) :] /= sample.weights[sample.signal == process].sum()
    arrivals = sample.arrivals(found.value, t_accept)
    return Split(found.value, t_accept, accept_share, arrivals, ordered, weights, len(of_background))


def solve_split(split: Split, rooms: Floats, target_hz: float) -> Decision:
    """t_full and t_overflow for these losses. ``rooms`` comes from ``TwoStageSample.rooms``.

    t_overflow is infinite where nothing overflows. Raises DataError when what the light model accepts at once exceeds
    the target already.
    """
    weights = split.weights * split.outcomes.probability(rooms)
    n = split.n_background
    full, light = split.outcomes.full, split.outcomes.overflow_light
    possible = light[:n][(weights[:n] > 0) & np.isfinite(light[:n])]
    tried = np.array([math.inf])
    if len(possible):
        quantiles = np.quantile(possible, np.linspace(1, 0, OVERFLOW_STEPS), method="nearest")
        tried = np.append(tried, np.unique(quantiles)[::-1])
    fixed_rate = weights[:n][full[:n] == math.inf].sum() + _sum_above(light[:n], weights[:n], tried)
    # thresholds on the full score: distinct values, from the top down
    judged = np.flatnonzero(np.isfinite(full[:n]) & (weights[:n] > 0))
    values = full[judged]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if len(values) else np.zeros(0, np.int64)
    sums = fixed_rate[:, None] + np.cumsum(weights[judged])[last]
    # where some objects found room and others did not, what t_overflow has accepted must not count again
    both = np.flatnonzero(np.isfinite(light[judged]))
    if len(both):
        again = np.where(light[judged[both]] >= tried[:, None], weights[judged[both]], 0.0)
        sums -= np.pad(np.cumsum(again, axis=1), ((0, 0), (1, 0)))[:, np.searchsorted(both, last, side="right")]
    limit = target_hz * (1 + ROUNDING)
    if fixed_rate[0] > limit:
        raise DataError(
            f"the light model alone accepts {fixed_rate[0]:.4g} Hz at once, more than {target_hz:.4g} Hz",
            hint="lower the accepted share",
        )
    count = (sums <= limit).sum(axis=1)
    t_full = np.append(math.inf, values[last])[count]
    passes = (full[n:] >= t_full[:, None]) | (light[n:] >= tried[:, None])
    efficiency = np.where(fixed_rate <= limit, passes @ weights[n:], -1.0)
    best = int(np.argmax(efficiency))
    rates = np.append(fixed_rate[best], sums[best])
    rate = float(rates[count[best]])
    step = float(rates[min(count[best] + 1, len(rates) - 1)]) - rate
    thresholds = Thresholds(split.t_reject, split.t_accept, float(t_full[best]), float(tried[best]))
    return Decision(thresholds, split.accept_share, rate, step, min(float(efficiency[best]), 1.0))


def _sum_above(scores: Floats, weights: Floats, thresholds: Floats) -> Floats:
    """Weight of the finite ``scores >= threshold`` for every threshold."""
    finite = np.flatnonzero(np.isfinite(scores))
    order = finite[np.argsort(scores[finite])]
    above = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    found: Floats = above[np.searchsorted(scores[order], thresholds)]
    return found


def choose_thresholds(
    sample: TwoStageSample,
    target_hz: float,
    escalated: float,
    queue_of: Callable[[Arrivals], QueueResult],
    signal_name: str,
    accept_shares: tuple[float, ...] = ACCEPT_SHARES,
) -> Decision:
    """All four thresholds on validation events: the accepted share with the highest efficiency of ``signal_name``.

    ``queue_of`` solves the queue for the arrivals that each split causes. Raises DataError as ``split_by_light`` does.
    """
    found: list[Decision] = []
    for share in accept_shares:
        split = split_by_light(sample, escalated, share, target_hz, signal_name)
        if share and math.isinf(split.t_accept):
            continue  # the highest light score alone is above this share: the same as no share at all
        found.append(solve_split(split, sample.rooms(queue_of(split.arrivals)), target_hz))
    if not found:
        raise DataError(f"no light score accepts one of the shares {accept_shares} at once", hint="add the share 0")
    return max(found, key=lambda decision: decision.efficiency)

"""A two-stage working point: thresholds from validation, every figure from test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.physics.clusters import cluster_index, weight_per_index
from trigger_prune.physics.intervals import (
    Estimate,
    clustered_count,
    clustered_fraction_estimate,
    count_estimate,
    effective_events,
)
from trigger_prune.physics.rates import RateEstimate, sum_rate
from trigger_prune.physics.working_points import rate_change
from trigger_prune.two_stage.decision import Decision, Thresholds
from trigger_prune.two_stage.outcomes import outcomes_of
from trigger_prune.two_stage.queue import QueueResult
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.traffic import Arrivals

Floats = NDArray[np.float64]

MIXTURE_METHOD = "Clopper-Pearson on effective counts of generated collisions, overflow in expectation"


@dataclass(frozen=True, eq=False)
class TwoStageWorkingPoint:
    """What the thresholds chosen on validation give on test, the losses of the queue included everywhere.

    validation_rate, test_rate   expected total rates with statistical errors (in the unit of the weights)
    rate_step_hz                 by how much the rate would rise at the next lower full score, on validation
    moved, moved_error           test rate / validation rate - 1 and its error
    overflow_rate_hz             part of the test rate that passes by t_overflow
    escalated                    share of filled crossings (of objects, where rows are objects) of the test background
                                 that send at least one object to the full model, with the error of generated collisions
    validation_escalated         the same on validation
    queue                        for the arrivals on test
    overflow_low, overflow_high  loss per object when the escalated share is at the ends of its 68 % interval
    efficiency                   per signal process
    efficiency_without_overflow  what it would be at the same thresholds with a FIFO that never overflows
    warnings                     sentences to print beside the working point
    """

    target_hz: float
    thresholds: Thresholds
    validation_rate: RateEstimate
    test_rate: RateEstimate
    rate_step_hz: float
    moved: float | None
    moved_error: float | None
    overflow_rate_hz: float
    escalated: Estimate
    validation_escalated: Estimate
    queue: QueueResult
    overflow_low: float
    overflow_high: float
    efficiency: dict[str, Estimate]
    efficiency_without_overflow: dict[str, float]
    warnings: tuple[str, ...]


def passing_probability(sample: TwoStageSample, thresholds: Thresholds, rooms: Floats) -> Floats:
    """Probability of every row to pass, float64 ``(rows,)``; only overflow makes it other than 0 and 1."""
    outcomes = outcomes_of(sample, thresholds.t_reject, thresholds.t_accept)
    passes = (outcomes.full >= thresholds.t_full) | (outcomes.overflow_light >= thresholds.t_overflow)
    probability = outcomes.probability(rooms) * passes
    return np.minimum(np.bincount(outcomes.row, probability, minlength=len(sample.weights)), 1.0)


def escalated_fraction(sample: TwoStageSample, thresholds: Thresholds) -> Estimate:
    """Share of background rows with an escalated object; errors by generated collision."""
    background = sample.background
    escalated = sample.escalated_rows(thresholds.t_reject, thresholds.t_accept)[background] > 0
    return clustered_fraction_estimate(escalated, sample.weights[background], sample.groups[background])


def quote(
    validation: TwoStageSample,
    test: TwoStageSample,
    decision: Decision,
    target_hz: float,
    queue_of: Callable[[Arrivals], QueueResult],
) -> TwoStageWorkingPoint:
    """Figures of a decision. The queue is solved anew for what is escalated on test."""
    thresholds = decision.thresholds
    rates, queues = [], []
    for sample in (validation, test):
        queue = queue_of(sample.arrivals(thresholds.t_reject, thresholds.t_accept))
        passing = passing_probability(sample, thresholds, sample.rooms(queue))
        background = sample.background
        rates.append(sum_rate((sample.weights * passing)[background], sample.groups[background]))
        queues.append(queue)
    queue = queues[1]
    rooms, always = test.rooms(queue), np.append(np.zeros(len(test.rooms(queue)) + 16), 1.0)
    with_overflow = passing_probability(test, thresholds, rooms)
    without = passing_probability(test, thresholds, always)
    closed = passing_probability(test, _without_policy(thresholds), rooms)
    before, after = escalated_fraction(validation, thresholds), escalated_fraction(test, thresholds)
    edges = [
        queue_of(scaled_arrivals(test, queue, after.value, share)).overflow_per_object if share > 0 else 0.0
        for share in (after.low68, after.high68)
    ]
    moved, moved_error = rate_change(*rates)
    weights, background = test.weights, test.background
    return TwoStageWorkingPoint(
        target_hz=target_hz,
        thresholds=thresholds,
        validation_rate=rates[0],
        test_rate=rates[1],
        rate_step_hz=decision.rate_step_hz,
        moved=moved,
        moved_error=moved_error,
        overflow_rate_hz=float((weights * (with_overflow - closed))[background].sum()),
        escalated=after,
        validation_escalated=before,
        queue=queue,
        overflow_low=edges[0],
        overflow_high=edges[1],
        efficiency={
            name: _mixture_estimate(with_overflow[rows], weights[rows], test.groups[rows])
            for name, rows in _rows_of(test)
        },
        efficiency_without_overflow={
            name: float(weights[rows] @ without[rows] / weights[rows].sum()) for name, rows in _rows_of(test)
        },
        warnings=_warnings(rates[0], rates[1], before, after, queue),
    )


def _rows_of(sample: TwoStageSample) -> list[tuple[str, NDArray[np.int64]]]:
    return [(name, np.flatnonzero(sample.signal == process)) for process, name in enumerate(sample.signal_names)]


def _without_policy(thresholds: Thresholds) -> Thresholds:
    """The same, but what overflows is lost."""
    return Thresholds(thresholds.t_reject, thresholds.t_accept, thresholds.t_full, np.inf)


def scaled_arrivals(sample: TwoStageSample, queue: QueueResult, share: float, wanted: float) -> Arrivals:
    """Arrivals when the share of rows with an escalated object is ``wanted`` instead of ``share``."""
    if sample.multiplicity is not None:
        return Arrivals.thinned(sample.multiplicity, wanted)
    batch = np.asarray(queue.batch_probability[1:]) * (wanted / share)
    return Arrivals((max(0.0, 1.0 - float(batch.sum())), *(float(x) for x in batch)))


def _mixture_estimate(passing: Floats, weights: Floats, groups: NDArray[np.int64]) -> Estimate:
    """Weighted mean of probabilities with intervals by generated collision."""
    total = float(weights.sum())
    index = cluster_index(groups)
    cluster_weights = weight_per_index(index, weights)
    value = min(float(weights @ passing) / total, 1.0)
    residuals = weight_per_index(index, weights * passing) - value * cluster_weights
    count = clustered_count(
        value,
        float(residuals @ residuals) / total**2,
        effective_events(weights),
        effective_events(cluster_weights),
    )
    return count_estimate(value, count, MIXTURE_METHOD)


def _warnings(
    before: RateEstimate, after: RateEstimate, validation: Estimate, test: Estimate, queue: QueueResult
) -> tuple[str, ...]:
    found = [f"{where}: {rate.warning}" for where, rate in (("validation", before), ("test", after)) if rate.warning]
    error = float(np.hypot(validation.error, test.error))
    if abs(test.value - validation.value) > 3 * error:
        found.append(
            f"the escalated share is {test.value:.4g} on test and {validation.value:.4g} on validation, "
            f"more than three errors apart"
        )
    if queue.offered_load >= 1:
        found.append(
            f"filled crossings bring {queue.offered_load:.3g} times the work that the engine does: "
            "the FIFO lives from the gaps between trains alone"
        )
    return tuple(found)

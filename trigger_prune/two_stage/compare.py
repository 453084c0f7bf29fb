"""Two-stage, full alone, light alone: signal efficiencies at exactly equal total rate, paired by generated collision.

Every design becomes a ladder: entries (row, score, probability), of which all from some score on pass. A single model
is a ladder with probability 1. For a two-stage design the full score is the ladder, whatever t_full; what passes
without it (accepted at once, or by t_overflow) stands at the top with an infinite score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.bootstrap import REPLICAS, group_draws, percentile_estimate
from trigger_prune.physics.clusters import cluster_sums
from trigger_prune.physics.intervals import Estimate, effective_events
from trigger_prune.physics.ranking import ROUNDING, rank
from trigger_prune.physics.rates import MINIMUM_EFFECTIVE_EVENTS
from trigger_prune.two_stage.decision import Thresholds
from trigger_prune.two_stage.outcomes import outcomes_of
from trigger_prune.two_stage.sample import TwoStageSample

Floats = NDArray[np.float64]

REACH = 3.0
"""Background is kept up to this many times the target rate, far beyond what a replica can need."""


@dataclass(frozen=True, eq=False)
class Ladder:
    """Entries of one design on one sample: ``row`` int64, ``score`` and ``probability`` float64, all ``(entries,)``."""

    row: NDArray[np.int64]
    score: Floats
    probability: Floats


@dataclass(frozen=True)
class PairedLoss:
    """Signal efficiency of a candidate against a reference, both at exactly ``target_hz`` by randomised tie-breaking.

    relative_loss            (reference - candidate) / reference, error and intervals from the bootstrap
    relative_loss_limit90    90 % of the replicas lose less than this
    background_events        effective background events behind the target rate, the smaller of the two designs'
    warnings                 sentences to print beside it

    A design whose whole ladder stays below the target (a two-stage design that escalates too little) is taken as it is.
    """

    signal_name: str
    target_hz: float
    reference: float
    candidate: float
    relative_loss: Estimate
    relative_loss_limit90: float
    background_events: float
    replicas: int
    warnings: tuple[str, ...]


def single_ladder(sample: TwoStageSample, scores: Floats) -> Ladder:
    """One model alone: every row with its best object. ``scores`` float64 ``(objects,)``."""
    best = sample.best(scores)
    rows = np.flatnonzero(np.isfinite(best))
    return Ladder(rows, best[rows], np.ones(len(rows)))


def two_stage_ladder(sample: TwoStageSample, thresholds: Thresholds, rooms: Floats) -> Ladder:
    """A two-stage design with its losses; ``thresholds.t_full`` is left open. ``rooms`` as in ``solve_split``."""
    outcomes = outcomes_of(sample, thresholds.t_reject, thresholds.t_accept)
    probability = outcomes.probability(rooms)
    score = np.where(outcomes.overflow_light >= thresholds.t_overflow, np.inf, outcomes.full)
    kept = (probability > 0) & (score > -np.inf)
    return Ladder(outcomes.row[kept], score[kept], probability[kept])


def paired_loss(
    sample: TwoStageSample,
    reference: Ladder,
    candidate: Ladder,
    target_hz: float,
    signal_name: str,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> PairedLoss:
    """Bootstrap by generated collision, background and signal alike; both ladders are cut anew in every replica.

    The losses of the queue, t_reject, t_accept and t_overflow stay what they are. Raises DataError for an unknown
    signal, a target that is not positive, and when no signal passes the reference, be it in a replica.
    """
    process = sample.process(signal_name)
    if not 0 < target_hz < np.inf:
        raise DataError(f"a target rate of {target_hz} makes no sense")
    designs = [_Prepared(sample, ladder, process, target_hz) for ladder in (reference, candidate)]
    signal_rows = np.flatnonzero(sample.signal == process)
    # collisions of background far from the thresholds are not drawn: most are
    used = (sample.groups[signal_rows], *(groups for design in designs for groups in design.groups))
    distinct, index = np.unique(np.concatenate(used), return_inverse=True)
    parts = np.split(index, np.cumsum([len(groups) for groups in used])[:-1])
    for design, *indices in zip(designs, parts[1::2], parts[2::2], strict=True):
        design.groups = (indices[0], indices[1])
    totals = np.bincount(parts[0], sample.weights[signal_rows], minlength=len(distinct)).astype(np.float64)
    whole = [design.passing(np.ones(len(distinct))) / totals.sum() for design in designs]
    if not whole[0] > 0:
        raise DataError(f"no {signal_name} passes the reference at {target_hz:g} Hz: there is nothing to lose")
    pairs = np.array(
        [
            [design.passing(drawn) / max(float(drawn @ totals), np.finfo(float).tiny) for design in designs]
            for drawn in group_draws(len(distinct), replicas, seed)
        ]
    )
    if not (pairs[:, 0] > 0).all():
        raise DataError(
            f"a bootstrap replica has no {signal_name} that passes the reference at {target_hz:g} Hz",
            hint="too few generated collisions for a comparison",
        )
    loss = 1 - pairs[:, 1] / pairs[:, 0]
    n_background = min(design.background_events for design in designs)
    return PairedLoss(
        signal_name,
        float(target_hz),
        float(whole[0]),
        float(whole[1]),
        percentile_estimate(float(1 - whole[1] / whole[0]), loss, effective_events(totals)),
        float(np.quantile(loss, 0.9)),
        n_background,
        replicas,
        ()
        if n_background >= MINIMUM_EFFECTIVE_EVENTS
        else (
            f"{n_background:.3g} effective background events at this rate (below {MINIMUM_EFFECTIVE_EVENTS:g}): "
            "the bootstrap intervals are unreliable",
        ),
    )


class _Prepared:
    """A ladder in the order of its scores, ready for many replicas.

    ``groups`` are the collisions of the background kept and of the signal; as indices from 0 before ``passing``.
    """

    def __init__(self, sample: TwoStageSample, ladder: Ladder, process: int, target_hz: float) -> None:
        self.limit = target_hz * (1 + ROUNDING)
        self.target = target_hz
        weights = sample.weights[ladder.row] * ladder.probability
        # the ranking needs finite scores: the top of the ladder becomes a number above all others
        finite = np.isfinite(ladder.score)
        top = float(ladder.score[finite].max(initial=0.0)) + 1.0
        score = np.where(finite, ladder.score, top)
        background = np.flatnonzero(sample.background[ladder.row])
        ranking = rank(score[background], weights[background])
        kept = min(int(ranking.fitting(np.array([REACH * target_hz]))[0]) + 1, len(ranking.ends))
        self.reaches_all = kept == len(ranking.ends)
        rows = background[ranking.rows[: ranking.ends[kept - 1]]] if kept else background[:0]
        self.ends = ranking.ends[:kept] - 1
        self.weights, background_groups = weights[rows], sample.groups[ladder.row[rows]]
        at = self.ends[min(int(ranking.fitting(np.array([target_hz]))[0]), kept - 1)] + 1 if kept else 0
        self.background_events = (
            effective_events(cluster_sums(background_groups[:at], self.weights[:at])) if at else 0.0
        )
        signal = np.flatnonzero(sample.signal[ladder.row] == process)
        order = signal[np.argsort(-score[signal], kind="stable")]
        self.signal_weights = weights[order]
        self.groups = background_groups, sample.groups[ladder.row[order]]
        ascending = score[order][::-1]
        values = ranking.values[:kept]
        self.above = len(order) - np.searchsorted(ascending, values, side="right")
        self.upto = len(order) - np.searchsorted(ascending, values, side="left")

    def passing(self, drawn: Floats) -> float:
        """Weight of the signal that passes when every collision counts ``drawn`` times."""
        signal = self.signal_weights * drawn[self.groups[1]]
        sums = np.cumsum(drawn[self.groups[0]] * self.weights)[self.ends] if len(self.ends) else np.zeros(0)
        at = int(np.searchsorted(sums, self.limit, side="right"))
        if at == len(sums):
            if not self.reaches_all:
                raise DataError("a bootstrap replica has less than a third of the background rate near the threshold")
            return float(signal.sum())
        below = float(sums[at - 1]) if at else 0.0
        fraction = min(max((self.target - below) / (float(sums[at]) - below), 0.0), 1.0)
        return float(signal[: self.above[at]].sum()) + fraction * float(signal[self.above[at] : self.upto[at]].sum())

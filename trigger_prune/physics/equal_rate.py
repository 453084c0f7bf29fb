"""Paired comparison of two networks at exactly equal background rate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.bootstrap import REPLICAS, group_draws, percentile_estimate
from trigger_prune.physics.clusters import weight_per_index
from trigger_prune.physics.equal_efficiency import rank_background, rate_errors
from trigger_prune.physics.intervals import Estimate, effective_events
from trigger_prune.physics.ranking import ROUNDING, rank
from trigger_prune.physics.rates import MINIMUM_EFFECTIVE_EVENTS
from trigger_prune.physics.scored_events import BACKGROUND, ScoredEvents

REACH_IN_ERRORS = 8.0
"""The background is kept so far that a replica holds the target rate even after this many standard errors."""


@dataclass(frozen=True)
class EqualRateDifference:
    """Signal efficiency of a candidate minus that of a reference, both at exactly the same background rate.

    reference, candidate     efficiencies by randomised tie-breaking, in expectation
    difference               candidate - reference, with error and intervals from the bootstrap
    relative_loss            (reference - candidate) / reference, likewise
    relative_loss_limit90    90 % of the replicas lose less than this
    background_events        effective background events at the target rate, the smaller of the two networks'
    warnings                 sentences to print beside the difference
    """

    signal_name: str
    rate_khz: float
    reference: float
    candidate: float
    difference: Estimate
    relative_loss: Estimate
    relative_loss_limit90: float
    background_events: float
    replicas: int
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal difference."""
        return asdict(self) | {"warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> EqualRateDifference:
        """Inverse of ``to_dict``."""
        parts = {key: Estimate.from_dict(raw[key]) for key in ("difference", "relative_loss")}
        return cls(**(raw | parts | {"warnings": tuple(raw["warnings"])}))


def paired_efficiency_difference(
    reference: ScoredEvents,
    candidate: ScoredEvents,
    rate_khz: float,
    signal_name: str,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> EqualRateDifference:
    """Compare two networks on the same events.

    Bootstrap by generated collision, signal and background alike; both thresholds are found anew in every replica,
    so the intervals hold the statistics of the background that sets them. Raises DataError when the events are not the
    same, the signal is unknown, the rate is not positive or the background does not reach it, and when no signal of the
    reference passes.
    """
    process = _check(reference, candidate, rate_khz, signal_name)
    target = 1e3 * rate_khz
    rows = reference.rows(process)
    networks = [_Network(events, process, target) for events in (reference, candidate)]
    groups = np.concatenate([reference.groups[rows], *(network.background_groups for network in networks)])
    distinct, index = np.unique(groups, return_inverse=True)
    ends = np.cumsum([len(rows)] + [len(network.background_groups) for network in networks])
    signal_index = index[: ends[0]]
    background_indices = index[ends[0] : ends[1]], index[ends[1] : ends[2]]
    weights = reference.weights[rows]

    whole = [
        network.efficiency(np.ones(len(rows)), np.ones(len(part)))
        for network, part in zip(networks, background_indices, strict=True)
    ]
    if not whole[0] > 0:
        raise DataError(f"no {signal_name} passes the reference at {rate_khz:g} kHz: there is nothing to lose")
    pairs = np.empty((replicas, 2))
    for replica, counts in enumerate(group_draws(len(distinct), replicas, seed)):
        drawn = counts[signal_index]
        for column, (network, part) in enumerate(zip(networks, background_indices, strict=True)):
            pairs[replica, column] = network.efficiency(drawn, counts[part])
    if not ((pairs[:, 0] > 0) & np.isfinite(pairs[:, 1])).all():
        raise DataError(
            f"a bootstrap replica has no {signal_name} that passes the reference at {rate_khz:g} kHz",
            hint="too few generated collisions for a comparison",
        )
    difference = pairs[:, 1] - pairs[:, 0]
    loss = 1 - pairs[:, 1] / pairs[:, 0]
    n_signal = effective_events(weight_per_index(signal_index, weights))
    n_background = min(network.background_events for network in networks)
    return EqualRateDifference(
        signal_name,
        float(rate_khz),
        whole[0],
        whole[1],
        percentile_estimate(whole[1] - whole[0], difference, n_signal),
        percentile_estimate(1 - whole[1] / whole[0], loss, n_signal),
        float(np.quantile(loss, 0.9)),
        n_background,
        replicas,
        _warnings(n_background),
    )


def _warnings(n_background: float) -> tuple[str, ...]:
    if n_background >= MINIMUM_EFFECTIVE_EVENTS:
        return ()
    return (
        f"{n_background:.3g} effective background events at this rate (below {MINIMUM_EFFECTIVE_EVENTS:g}): "
        "the bootstrap intervals are unreliable",
    )


def _check(reference: ScoredEvents, candidate: ScoredEvents, rate_khz: float, signal_name: str) -> int:
    """Raise DataError unless a comparison makes sense; the index of the signal."""
    if not 0 < rate_khz < np.inf:
        raise DataError(f"a rate of {rate_khz} kHz makes no sense", hint="give a positive rate in kHz")
    if signal_name not in reference.signal_names:
        raise DataError(f"no signal is called {signal_name!r}", hint=f"there are {', '.join(reference.signal_names)}")
    same = reference.signal_names == candidate.signal_names and all(
        np.array_equal(getattr(reference, name), getattr(candidate, name)) for name in ("signal", "weights", "groups")
    )
    if not same:
        raise DataError(
            "the two networks were not scored on the same events",
            hint="a paired difference needs the same rows, weights and collisions in the same order",
        )
    return reference.signal_names.index(signal_name)


class _Network:
    """One network's events in the order of its score, prepared for many replicas."""

    def __init__(self, events: ScoredEvents, process: int, target_hz: float) -> None:
        self.target_hz = target_hz
        background = rank_background(events, 3 * target_hz)
        if background.ranking.total <= target_hz * (1 + ROUNDING):
            raise DataError(
                f"the whole background has {background.ranking.total / 1e3:.4g} kHz: {target_hz / 1e3:g} kHz is no cut"
            )
        counts, errors = rate_errors(background, np.array([target_hz]))
        self.background_events = float(counts[0])
        reach = target_hz + REACH_IN_ERRORS * float(errors[0])
        if reach > 3 * target_hz:
            background = rank_background(events, reach)
        ranking = background.ranking
        last = min(int(ranking.fitting(np.array([reach]))[0]) + 1, len(ranking.ends))
        rows = events.rows(BACKGROUND)[ranking.rows[: ranking.ends[last - 1]]]
        self.background_weights = events.weights[rows]
        self.background_groups = events.groups[rows]
        self.background_ends = ranking.ends[:last]
        signal_scores, signal_weights, _ = events.part(process)
        signal = rank(signal_scores, signal_weights)
        self.signal_rows = signal.rows
        self.signal_weights = signal_weights[signal.rows]
        # rows of signal above and not below every background score
        values = ranking.values[:last]
        ends = np.append(0, signal.ends)
        self.above = ends[signal.values_above(values, inclusive=False)]
        self.upto = ends[signal.values_above(values, inclusive=True)]

    def efficiency(self, drawn: NDArray[np.float64], background_drawn: NDArray[np.float64]) -> float:
        """Efficiency when signal rows count ``drawn`` times and the kept background rows ``background_drawn`` times."""
        sums = np.cumsum(background_drawn * self.background_weights)[self.background_ends - 1]
        at = int(np.searchsorted(sums, self.target_hz * (1 + ROUNDING), side="right"))
        if at == len(sums):
            raise DataError(
                f"a bootstrap replica of the background does not reach {self.target_hz / 1e3:g} kHz",
                hint="the background has too little rate beyond the target for a comparison there",
            )
        below = float(sums[at - 1]) if at else 0.0
        fraction = min(max((self.target_hz - below) / (float(sums[at]) - below), 0.0), 1.0)
        weights = self.signal_weights * drawn[self.signal_rows]
        above, upto = int(self.above[at]), int(self.upto[at])
        total = float(weights.sum())
        passing = float(weights[:above].sum()) + fraction * float(weights[above:upto].sum())
        return passing / total if total > 0 else float("nan")

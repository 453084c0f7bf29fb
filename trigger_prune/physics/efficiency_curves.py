"""Signal efficiency against background rate, and ROC curves, for figures with a logarithmic axis."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trigger_prune.errors import DataError
from trigger_prune.physics.equal_efficiency import RankedBackground, equal_rate_points, rank_background
from trigger_prune.physics.ranking import rank
from trigger_prune.physics.roc import RocCurve, raster_roc
from trigger_prune.physics.scored_events import ScoredEvents

POINTS_PER_DECADE = 10
LOWEST_RATE_HZ = 1e2


@dataclass(frozen=True)
class EfficiencyCurve:
    """Efficiency of one signal process at equal rates (randomised tie-breaking); all tuples have one entry per rate.

    low68, high68       68 % band: signal and background statistics
    background_events   effective background events behind the rate; below 100 the point is not to be trusted
    """

    signal_name: str
    rate_khz: tuple[float, ...]
    efficiency: tuple[float, ...]
    low68: tuple[float, ...]
    high68: tuple[float, ...]
    background_events: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal curve."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> EfficiencyCurve:
        """Inverse of ``to_dict``."""
        return cls(raw["signal_name"], **{key: tuple(raw[key]) for key in raw if key != "signal_name"})


def efficiency_curves(
    events: ScoredEvents,
    rates_khz: tuple[float, ...] | None = None,
    background: RankedBackground | None = None,
) -> tuple[EfficiencyCurve, ...]:
    """One curve per signal process, at increasing rates (default: ten per decade from 0.1 kHz to the total rate).

    ``background`` (``rank_background(events)``) saves a sort when other metrics use it too. Raises DataError unless the
    rates are positive and increase.
    """
    ranked = rank_background(events) if background is None else background
    if rates_khz is None:
        total = ranked.ranking.total
        lowest = min(LOWEST_RATE_HZ, total / 10)
        rates = np.geomspace(lowest, total, math.ceil(math.log10(total / lowest) * POINTS_PER_DECADE) + 1)
    else:
        rates = 1e3 * np.array(rates_khz, np.float64)
    if not (len(rates) and rates[0] > 0 and (np.diff(rates) > 0).all() and np.isfinite(rates).all()):
        raise DataError(f"rates {rates / 1e3} kHz do not increase from a positive one")
    curves = []
    for process, name in enumerate(events.signal_names):
        points = equal_rate_points(events, process, rates, ranked)
        curves.append(
            EfficiencyCurve(
                name,
                tuple(rate / 1e3 for rate in points.rates_hz),
                tuple(estimate.value for estimate in points.efficiencies),
                tuple(estimate.low68 for estimate in points.efficiencies),
                tuple(estimate.high68 for estimate in points.efficiencies),
                points.background_events,
            )
        )
    return tuple(curves)


def roc_curves(
    events: ScoredEvents, cells: int = 120, floor: float = 1e-5, background: RankedBackground | None = None
) -> dict[str, RocCurve]:
    """ROC curve of every signal process against the weighted background, see ``raster_roc``."""
    ranked = rank_background(events) if background is None else background
    curves = {}
    for process, name in enumerate(events.signal_names):
        scores, weights, _ = events.part(process)
        curves[name] = raster_roc(rank(scores, weights), ranked.ranking, ranked.weights, cells, floor)
    return curves

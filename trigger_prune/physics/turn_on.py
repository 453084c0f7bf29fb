"""Turn-on curves: efficiency against an offline variable, and the error function fitted to it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.intervals import Estimate, clustered_fraction_estimate
from trigger_prune.physics.ranking import check_weighted_scores
from trigger_prune.physics.turn_on_fit import TurnOnFit, fit_turn_on

BINS = 25
"""About as many bins as a figure can show."""

EVENTS_PER_BIN = 25
"""Neighbouring bins are joined until each holds this many rows."""

ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class TurnOnBin:
    """Efficiency of events with ``low <= variable < high`` (in the unit of the variable)."""

    low: float
    high: float
    events: int
    efficiency: Estimate


@dataclass(frozen=True)
class TurnOn:
    """Efficiency against one offline variable.

    bins        bins with events, in increasing order; events outside them count in the fit only
    fit         None when no error function describes the events
    note        why there is no fit, or what to know about it; empty when all is well
    """

    variable: str
    signal_name: str
    bins: tuple[TurnOnBin, ...]
    fit: TurnOnFit | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal turn-on."""
        return asdict(self) | {"bins": [asdict(part) for part in self.bins]}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> TurnOn:
        """Inverse of ``to_dict``."""
        bins = tuple(
            TurnOnBin(**(part | {"efficiency": Estimate.from_dict(part["efficiency"])})) for part in raw["bins"]
        )
        fit = None if raw["fit"] is None else TurnOnFit.from_dict(raw["fit"])
        return cls(raw["variable"], raw["signal_name"], bins, fit, raw["note"])


def turn_on(
    values: NDArray[np.floating],
    passes: NDArray[np.bool_],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    variable: str,
    signal_name: str,
    edges: NDArray[np.float64] | None = None,
) -> TurnOn:
    """Binned efficiency with Clopper-Pearson intervals per generated collision, and a fit to the events.

    ``values`` of the offline variable, ``passes``, ``weights`` and ``groups`` have one entry per row of one process;
    ``edges`` (increasing) replace the automatic bins of ``round_edges``. Raises DataError on values that are not
    finite, negative weights, shapes that do not match and edges that do not increase.
    """
    check_weighted_scores(values, weights, variable)
    for name, array in (("passes", passes), ("groups", groups)):
        if array.shape != values.shape:
            raise DataError(f"{name} has shape {array.shape} for {len(values)} values of {variable}")
    used = weights > 0
    if not used.any():
        raise DataError(f"no event of {signal_name} has weight: there is no efficiency against {variable}")
    if edges is None:
        edges = round_edges(values[used])
    elif len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise DataError(f"bin edges of {variable} do not increase: {np.asarray(edges).tolist()}")
    position = np.where(used, np.searchsorted(edges, values, side="right") - 1, -1)
    order = np.argsort(position, kind="stable")
    limits = np.searchsorted(position[order], np.arange(len(edges)))
    bins = []
    for number, (start, stop) in enumerate(pairwise(limits)):
        rows = order[start:stop]
        if len(rows):
            efficiency = clustered_fraction_estimate(passes[rows], weights[rows], groups[rows])
            bins.append(TurnOnBin(float(edges[number]), float(edges[number + 1]), len(rows), efficiency))
    fit, note = fit_turn_on(values[used], passes[used], weights[used], groups[used])
    return TurnOn(variable, signal_name, tuple(bins), fit, note)


def round_edges(values: NDArray[np.floating], bins: int = BINS) -> NDArray[np.float64]:
    """Bin edges at round numbers over the central 99 % of the values, joined where fewer than 25 rows lie between."""
    low, high = (float(x) for x in np.quantile(values, [0.005, 0.995]))
    if not high > low:
        return np.array([low, low + max(1.0, abs(low))])
    raw = (high - low) / bins
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in ROUND_STEPS if factor * power >= raw * (1 - 1e-9))
    edges = step * np.arange(math.floor(low / step), math.floor(high / step) + 2)
    counts, _ = np.histogram(values, edges)
    kept, waiting = [float(edges[0])], 0
    for count, upper in zip(counts, edges[1:], strict=True):
        waiting += int(count)
        if waiting >= EVENTS_PER_BIN:
            kept.append(float(upper))
            waiting = 0
    if len(kept) == 1:
        kept.append(float(edges[-1]))
    kept[-1] = float(edges[-1])
    return np.array(kept)

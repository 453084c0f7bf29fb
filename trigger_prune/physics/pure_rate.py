"""Rates of several seeds that run together: of their OR, of each, and what only one of them takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.physics.ranking import check_weighted_scores
from trigger_prune.physics.rates import RateEstimate, sum_rate


@dataclass(frozen=True)
class SeedRate:
    """One seed: its rate, and its pure rate (events that no other seed takes)."""

    name: str
    rate: RateEstimate
    pure: RateEstimate


@dataclass(frozen=True)
class MenuRates:
    """Rates of a menu. ``overlap_hz[i][j]`` is the rate of events that both seed i and seed j take."""

    total: RateEstimate
    seeds: tuple[SeedRate, ...]
    overlap_hz: tuple[tuple[float, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores equal rates."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> MenuRates:
        """Inverse of ``to_dict``."""
        seeds = tuple(
            SeedRate(seed["name"], RateEstimate.from_dict(seed["rate"]), RateEstimate.from_dict(seed["pure"]))
            for seed in raw["seeds"]
        )
        return cls(RateEstimate.from_dict(raw["total"]), seeds, tuple(tuple(row) for row in raw["overlap_hz"]))


@dataclass(frozen=True)
class RateBeside:
    """A network beside a menu: its own rate, its pure rate, and the total with and without it."""

    rate: RateEstimate
    pure: RateEstimate
    menu: RateEstimate
    together: RateEstimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores equal rates."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> RateBeside:
        """Inverse of ``to_dict``."""
        return cls(**{key: RateEstimate.from_dict(value) for key, value in raw.items()})


def menu_rates(
    passes: NDArray[np.bool_],
    weights_hz: NDArray[np.float64],
    names: tuple[str, ...],
    groups: NDArray[np.int64] | None = None,
) -> MenuRates:
    """Rates of seeds ``passes`` (bool ``(seeds, rows)``) on background events with weights in Hz ``(rows,)``.

    ``groups`` are the generated collisions, for the errors. Raises DataError on shapes that do not match, repeated
    names, and weights that are not finite or negative (naming the row).
    """
    _check(passes, weights_hz, groups)
    if len(names) != len(passes) or len(set(names)) < len(names):
        raise DataError(f"{len(passes)} seeds need as many different names, not {', '.join(names) or 'none'}")
    rows = np.flatnonzero(passes.any(axis=0))
    taken, weights = passes[:, rows], weights_hz[rows]
    group = None if groups is None else groups[rows]
    times = np.count_nonzero(taken, axis=0)

    def rate(which: NDArray[np.bool_]) -> RateEstimate:
        return sum_rate(weights[which], None if group is None else group[which])

    seeds = tuple(
        SeedRate(name, rate(seed), rate(seed & (times == 1))) for name, seed in zip(names, taken, strict=True)
    )
    overlap = tuple(tuple(float(weights[first & second].sum()) for second in taken) for first in taken)
    return MenuRates(sum_rate(weights, group), seeds, overlap)


def rate_beside(
    network: NDArray[np.bool_],
    menu: NDArray[np.bool_],
    weights_hz: NDArray[np.float64],
    groups: NDArray[np.int64] | None = None,
) -> RateBeside:
    """What a network (bool ``(rows,)``) adds to the seeds of a menu (bool ``(seeds, rows)``, any number of them).

    Raises DataError as ``menu_rates`` does.
    """
    _check(menu, weights_hz, groups)
    if network.shape != weights_hz.shape or network.dtype != np.bool_:
        raise DataError(
            f"decisions of the network have type {network.dtype} and shape {network.shape}, not one per row"
        )
    taken: NDArray[np.bool_] = np.any(menu, axis=0)

    def rate(which: NDArray[np.bool_]) -> RateEstimate:
        return sum_rate(weights_hz[which], None if groups is None else groups[which])

    return RateBeside(
        rate(network), rate(np.logical_and(network, ~taken)), rate(taken), rate(np.logical_or(network, taken))
    )


def _check(passes: NDArray[np.bool_], weights_hz: NDArray[np.float64], groups: NDArray[np.int64] | None) -> None:
    if passes.ndim != 2 or passes.shape[1:] != weights_hz.shape or passes.dtype != np.bool_:
        raise DataError(
            f"decisions of type {passes.dtype} and shape {passes.shape} are not bool (seeds, {len(weights_hz)})"
        )
    if groups is not None and groups.shape != weights_hz.shape:
        raise DataError(f"groups have shape {groups.shape} for {len(weights_hz)} weights")
    check_weighted_scores(weights_hz, weights_hz, "weight")

"""Cut seeds and menus at the rates of a network, and the rates of both side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.physics.intervals import Estimate, clustered_fraction_estimate
from trigger_prune.physics.menu import DEFAULT_SEEDS, FittedSeed, Menu, fit_menu, fit_seeds
from trigger_prune.physics.pure_rate import MenuRates, RateBeside, menu_rates, rate_beside
from trigger_prune.physics.rates import RateEstimate, sum_rate
from trigger_prune.physics.scored_events import BACKGROUND, ScoredEvents
from trigger_prune.physics.working_points import rate_change

MENU_OBSERVABLES = frozenset(
    name for seed in DEFAULT_SEEDS for name in (seed.observable, *(cut.observable for cut in seed.fixed))
)
"""What the events must carry for a menu."""

Decision = NDArray[np.bool_]
Observables = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class CutPoint:
    """One seed, or the OR of several, fitted to one target rate on validation and measured on test.

    thresholds_gev   seed -> threshold; None: the seed is off
    shares           seed -> its share of the bandwidth; of a menu only
    The rest is as in ``WorkingPoint``.
    """

    target_khz: float
    thresholds_gev: dict[str, float | None]
    shares: dict[str, float]
    validation_rate: RateEstimate
    test_rate: RateEstimate
    moved: float | None
    moved_error: float | None
    efficiency: dict[str, Estimate]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal point."""
        return asdict(self) | {"warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> CutPoint:
        """Inverse of ``to_dict``."""
        parts = {
            "validation_rate": RateEstimate.from_dict(raw["validation_rate"]),
            "test_rate": RateEstimate.from_dict(raw["test_rate"]),
            "efficiency": {name: Estimate.from_dict(value) for name, value in raw["efficiency"].items()},
            "warnings": tuple(raw["warnings"]),
        }
        return cls(**(raw | parts))


@dataclass(frozen=True)
class PureRates:
    """A menu of equal shares on test, and what every network adds to it at the same target rate.

    beside        network -> its rate, its pure rate, and the rate of both together
    efficiency    signal -> efficiency of the menu; together: network -> signal -> efficiency of menu or network
    """

    target_khz: float
    menu: MenuRates
    beside: dict[str, RateBeside]
    efficiency: dict[str, Estimate]
    together: dict[str, dict[str, Estimate]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores equal rates."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> PureRates:
        """Inverse of ``to_dict``."""
        return cls(
            raw["target_khz"],
            MenuRates.from_dict(raw["menu"]),
            {name: RateBeside.from_dict(value) for name, value in raw["beside"].items()},
            _estimates(raw["efficiency"]),
            {name: _estimates(value) for name, value in raw["together"].items()},
        )


@dataclass(frozen=True)
class MenuPart:
    """One part of the sample: its events per signal selection (the scores are not looked at) and what menus cut on."""

    events: tuple[ScoredEvents, ...]
    observables: Observables

    @property
    def background(self) -> Decision:
        """Which rows are background."""
        background: Decision = self.events[0].signal == BACKGROUND
        return background

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights of all rows; Hz for background."""
        return self.events[0].weights

    def background_observables(self) -> Observables:
        """The observables of the background rows."""
        background = self.background
        return {name: self.observables[name][background] for name in MENU_OBSERVABLES}


def seed_points(
    validation: MenuPart, test: MenuPart, targets_khz: tuple[float, ...]
) -> dict[str, tuple[CutPoint, ...]]:
    """Every seed alone: seed -> one point per target."""
    observables, background = validation.background_observables(), validation.background
    found: dict[str, list[CutPoint]] = {seed.name: [] for seed in DEFAULT_SEEDS}
    for target in targets_khz:
        for fitted in fit_seeds(observables, validation.weights[background], 1e3 * target):
            before, after = fitted.passes(validation.observables), fitted.passes(test.observables)
            found[fitted.seed.name].append(_point(target, (fitted,), {}, validation, test, before, after))
    return {name: tuple(points) for name, points in found.items()}


def menu_points(validation: MenuPart, test: MenuPart, menus: tuple[Menu, ...]) -> tuple[CutPoint, ...]:
    """The OR of all seeds of each menu."""
    points = []
    for menu in menus:
        shares = {fitted.seed.name: share for fitted, share in zip(menu.seeds, menu.shares, strict=True)}
        before, after = menu.accepts(validation.observables), menu.accepts(test.observables)
        points.append(_point(menu.target_hz / 1e3, menu.seeds, shares, validation, test, before, after))
    return tuple(points)


def fit_menus(validation: MenuPart, targets_khz: tuple[float, ...]) -> tuple[tuple[Menu, ...], tuple[Menu, ...]]:
    """Menus at every target: with equal shares, and with the shares that are best for all signals together."""
    background = validation.background
    equal, optimised = [], []
    for target in targets_khz:
        arguments = validation.observables, background, validation.weights, 1e3 * target
        equal.append(fit_menu(*arguments, shares="equal"))
        optimised.append(fit_menu(*arguments, shares="optimised"))
    return tuple(equal), tuple(optimised)


def pure_rates(menu: Menu, networks: Mapping[str, Decision], test: MenuPart) -> PureRates:
    """What ``menu`` and each network's decisions ``(rows,)`` take of the test events, alone and together."""
    background = test.background
    groups, weights = test.events[0].groups[background], test.weights[background]
    seeds = menu.decisions(test.observables)
    accepted: Decision = np.logical_or.reduce(seeds, axis=0)
    names = tuple(fitted.seed.name for fitted in menu.seeds)
    return PureRates(
        menu.target_hz / 1e3,
        menu_rates(seeds[:, background], weights, names, groups),
        {
            name: rate_beside(passes[background], seeds[:, background], weights, groups)
            for name, passes in networks.items()
        },
        efficiencies(accepted, test.events),
        {name: efficiencies(accepted | passes, test.events) for name, passes in networks.items()},
    )


def efficiencies(passes: Decision, selections: tuple[ScoredEvents, ...]) -> dict[str, Estimate]:
    """Signal -> efficiency of decisions ``(rows,)``, for the signals of all selections."""
    found = {}
    for events in selections:
        for process, name in enumerate(events.signal_names):
            rows = events.rows(process)
            found[name] = clustered_fraction_estimate(passes[rows], events.weights[rows], events.groups[rows])
    return found


def _point(
    target_khz: float,
    seeds: tuple[FittedSeed, ...],
    shares: dict[str, float],
    validation: MenuPart,
    test: MenuPart,
    validation_passes: Decision,
    test_passes: Decision,
) -> CutPoint:
    before, after = _rate(validation, validation_passes), _rate(test, test_passes)
    moved, moved_error = rate_change(before, after)
    thresholds = {
        fitted.seed.name: None if math.isinf(fitted.threshold_gev) else fitted.threshold_gev for fitted in seeds
    }
    warnings = tuple(
        f"{where}: {rate.warning}" for where, rate in (("validation", before), ("test", after)) if rate.warning
    )
    efficiency = efficiencies(test_passes, test.events)
    return CutPoint(target_khz, thresholds, shares, before, after, moved, moved_error, efficiency, warnings)


def _rate(part: MenuPart, passes: Decision) -> RateEstimate:
    rows = np.flatnonzero(part.background & passes)
    return sum_rate(part.weights[rows], part.events[0].groups[rows])


def _estimates(raw: dict[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate.from_dict(value) for name, value in raw.items()}

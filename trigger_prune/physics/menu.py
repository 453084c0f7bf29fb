"""A cut-based trigger menu: what would run without a network, and what a network's pure rate is counted against.

Every seed cuts on trigger objects with one free threshold on the grid of the hardware (0.5 GeV). Alone, a seed takes
the lowest threshold whose rate is at most the target. In a menu the seeds are filled one after the other: with shares
s_1, s_2, ... of the bandwidth, seed i takes the lowest threshold for which seeds 1 .. i *together* stay within
(s_1 + .. + s_i) of the target. So s_i is the rate a seed adds to those before it, what the grid leaves of a share goes
to the next seed, and the total never exceeds the target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError

THRESHOLD_STEP_GEV = 0.5
"""Grid of the thresholds: the least significant bit of the energies."""

RATE_TOLERANCE = 1e-9
"""A rate above the target by this relative amount is rounding."""

SHARE_STEPS = (0.2, 0.1, 0.05, 0.02, 0.01)
"""Shares that the optimisation moves from one seed to another, coarse ones first."""

Observables = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Cut:
    """``observable >= at_least_gev``, a fixed part of a seed."""

    observable: str
    at_least_gev: float


@dataclass(frozen=True)
class Seed:
    """Passes where ``observable`` reaches the seed's threshold and every fixed cut holds."""

    name: str
    observable: str
    fixed: tuple[Cut, ...] = ()

    def steps(self, observables: Observables) -> NDArray[np.int64]:
        """Highest threshold each event passes, in whole steps of the grid, int64 ``(n,)``; -1 if a fixed cut fails.

        Raises DataError for an observable that is missing, negative or not finite.
        """
        steps = np.floor(_column(observables, self.observable, self.name) / THRESHOLD_STEP_GEV).astype(np.int64)
        for cut in self.fixed:
            steps[_column(observables, cut.observable, self.name) < cut.at_least_gev] = -1
        return steps


DEFAULT_SEEDS = (
    Seed("ht", "ht_gev"),
    Seed("single_jet", "central_jet1_pt_gev"),
    Seed("double_jet", "central_jet2_pt_gev"),
    Seed("quad_jet", "central_jet4_pt_gev"),
    Seed(
        "ht_quad_jet",
        "ht_gev",
        tuple(Cut(f"central_jet{k + 1}_pt_gev", pt) for k, pt in enumerate((50.0, 40.0, 30.0, 20.0))),
    ),
    Seed("met", "met_gev"),
    Seed("single_muon", "mu1_pt_gev"),
    Seed("double_muon", "mu2_pt_gev"),
    Seed("single_eg", "eg1_pt_gev"),
)
"""HT, leading jets, missing energy, muons, e/gamma, and HT with four jets.

The cross seed's jets are softer than the 70, 55, 40, 35 GeV of Run 3 menus: those leave the toy detector 12 kHz at
pile-up 50 whatever HT is, so that the HT threshold would not matter at 100 kHz.
"""


@dataclass(frozen=True)
class FittedSeed:
    """A seed with its threshold; infinite when the seed is switched off."""

    seed: Seed
    threshold_gev: float

    def passes(self, observables: Observables) -> NDArray[np.bool_]:
        """Which events pass, bool ``(n,)``."""
        steps = self.seed.steps(observables)
        if math.isinf(self.threshold_gev):
            return np.zeros(len(steps), dtype=np.bool_)
        decision: NDArray[np.bool_] = steps >= round(self.threshold_gev / THRESHOLD_STEP_GEV)
        return decision


@dataclass(frozen=True)
class Menu:
    """Seeds whose OR stays within a rate.

    ``shares`` of the bandwidth add up to 1, one per seed; ``rate_hz`` is the rate of the OR where it was fitted.
    """

    seeds: tuple[FittedSeed, ...]
    shares: tuple[float, ...]
    target_hz: float
    rate_hz: float

    def decisions(self, observables: Observables) -> NDArray[np.bool_]:
        """Which events each seed passes, bool ``(seeds, n)``; the menu accepts where any does."""
        return np.stack([fitted.passes(observables) for fitted in self.seeds])

    def accepts(self, observables: Observables) -> NDArray[np.bool_]:
        """Which events the OR of all seeds accepts, bool ``(n,)``."""
        accepted: NDArray[np.bool_] = np.logical_or.reduce(self.decisions(observables), axis=0)
        return accepted

    def to_dict(self) -> dict[str, Any]:
        """Plain values; a seed that is off has the threshold None. ``from_dict`` restores an equal menu."""
        raw = asdict(self)
        for seed in raw["seeds"]:
            seed["threshold_gev"] = None if math.isinf(seed["threshold_gev"]) else seed["threshold_gev"]
        return raw

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Menu:
        """Inverse of ``to_dict``."""
        seeds = []
        for fitted in raw["seeds"]:
            seed = fitted["seed"]
            cuts = tuple(Cut(**cut) for cut in seed["fixed"])
            threshold = math.inf if fitted["threshold_gev"] is None else fitted["threshold_gev"]
            seeds.append(FittedSeed(Seed(seed["name"], seed["observable"], cuts), threshold))
        return cls(tuple(seeds), tuple(raw["shares"]), raw["target_hz"], raw["rate_hz"])


def fit_seeds(
    observables: Observables,
    weights_hz: NDArray[np.float64],
    target_hz: float,
    seeds: Sequence[Seed] = DEFAULT_SEEDS,
) -> tuple[FittedSeed, ...]:
    """Every seed alone: its lowest threshold (steps of 0.5 GeV) whose rate on these background rows fits the target.

    Raises DataError for a target that is not positive, weights that are no rates, and missing observables.
    """
    _check(weights_hz, target_hz)
    found = []
    for seed in seeds:
        steps = _matching_steps(seed, observables, len(weights_hz))
        found.append(FittedSeed(seed, _lowest_step(steps, weights_hz, target_hz) * THRESHOLD_STEP_GEV))
    return tuple(found)


def fit_menu(
    observables: Observables,
    background: NDArray[np.bool_],
    weights: NDArray[np.float64],
    target_hz: float,
    *,
    shares: Literal["equal", "optimised"] = "equal",
    seeds: Sequence[Seed] = DEFAULT_SEEDS,
) -> Menu:
    """The OR of all seeds at a total rate, from validation events ``(n,)`` of both kinds.

    ``weights`` are Hz where ``background``; elsewhere they weigh signal events against each other. ``equal`` gives each
    seed the same share. ``optimised`` starts there and from the best single seed, and moves shares between
    pairs of seeds, always the pair that gains most signal efficiency, in ever smaller amounts, until none gains. A seed
    without share is off.

    Raises DataError as ``fit_seeds``, and when shares are to be optimised without signal.
    """
    rates = weights[background]
    _check(rates, target_hz)
    steps = np.stack([_matching_steps(seed, observables, len(weights)) for seed in seeds])
    problem = _Problem.of(steps[:, background], rates, steps[:, ~background], weights[~background], target_hz)
    chosen = np.full(len(seeds), 1 / len(seeds))
    if shares == "optimised":
        if not float(problem.signal_weights.sum()) > 0:
            raise DataError("the shares of a menu cannot be optimised without signal events")
        alone = np.eye(len(seeds))
        best_alone = alone[np.argmax([problem.efficiency(corner) for corner in alone])]
        chosen = max((_climb(problem, start) for start in (chosen, best_alone)), key=problem.efficiency)
    thresholds = problem.thresholds(chosen)
    fitted = tuple(
        FittedSeed(seed, math.inf if step is None else step * THRESHOLD_STEP_GEV)
        for seed, step in zip(seeds, thresholds, strict=True)
    )
    accepted = _accepted(steps[:, background], thresholds)
    return Menu(fitted, tuple(float(share) for share in chosen), target_hz, float(rates[accepted].sum()))


@dataclass(frozen=True)
class _Problem:
    """Background rows that some seed could accept, signal rows, and the lowest threshold each seed can have."""

    steps: NDArray[np.int64]
    rates: NDArray[np.float64]
    signal_steps: NDArray[np.int64]
    signal_weights: NDArray[np.float64]
    lowest: tuple[int, ...]
    target_hz: float

    @classmethod
    def of(
        cls,
        steps: NDArray[np.int64],
        rates: NDArray[np.float64],
        signal_steps: NDArray[np.int64],
        signal_weights: NDArray[np.float64],
        target_hz: float,
    ) -> _Problem:
        # no seed of a menu can have a lower threshold than alone, so rows below all of those never matter
        lowest = tuple(_lowest_step(row, rates, target_hz) for row in steps)
        used = (steps >= np.array(lowest)[:, np.newaxis]).any(axis=0)
        return cls(steps[:, used], rates[used], signal_steps, signal_weights, lowest, target_hz)

    def thresholds(self, shares: NDArray[np.float64]) -> tuple[int | None, ...]:
        found: list[int | None] = []
        accepted = np.zeros(len(self.rates), dtype=np.bool_)
        spent, allowed = 0.0, 0.0
        for steps, share, lowest in zip(self.steps, shares, self.lowest, strict=True):
            if share <= 0:
                found.append(None)
                continue
            allowed += share * self.target_hz
            left = ~accepted
            step = max(lowest, _lowest_step(steps[left], self.rates[left], allowed - spent))
            found.append(step)
            accepted |= steps >= step
            spent = float(self.rates[accepted].sum())
        return tuple(found)

    def efficiency(self, shares: NDArray[np.float64]) -> float:
        accepted = _accepted(self.signal_steps, self.thresholds(shares))
        return float(self.signal_weights[accepted].sum() / self.signal_weights.sum())


def _climb(problem: _Problem, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    best = problem.efficiency(shares)
    for amount in SHARE_STEPS:
        improved = True
        while improved:
            improved = False
            trials = list(_transfers(shares, amount))
            values = [problem.efficiency(trial) for trial in trials]
            if values and max(values) > best + 1e-12:
                place = int(np.argmax(values))
                shares, best, improved = trials[place], values[place], True
    return shares


def _transfers(shares: NDArray[np.float64], amount: float) -> list[NDArray[np.float64]]:
    found = []
    for giver in np.flatnonzero(shares > 0):
        for taker in range(len(shares)):
            if taker != giver:
                trial = shares.copy()
                # a remainder below the smallest amount would keep a seed on for nothing
                moved = shares[giver] if shares[giver] < amount + 1e-9 else amount
                trial[giver] = 0.0 if moved == shares[giver] else shares[giver] - moved
                trial[taker] += moved
                found.append(trial)
    return found


def _lowest_step(steps: NDArray[np.int64], rates: NDArray[np.float64], allowed_hz: float) -> int:
    """Lowest threshold >= 0 at which the passing rows' rate is at most ``allowed_hz``."""
    sums = np.bincount(steps[steps >= 0], rates[steps >= 0], minlength=1)
    above = np.append(np.cumsum(sums[::-1])[::-1], 0.0)
    return int(np.argmax(above <= max(allowed_hz, 0.0) * (1 + RATE_TOLERANCE)))


def _accepted(steps: NDArray[np.int64], thresholds: Sequence[int | None]) -> NDArray[np.bool_]:
    accepted = np.zeros(steps.shape[1], dtype=np.bool_)
    for row, threshold in zip(steps, thresholds, strict=True):
        if threshold is not None:
            accepted |= row >= threshold
    return accepted


def _matching_steps(seed: Seed, observables: Observables, n: int) -> NDArray[np.int64]:
    steps = seed.steps(observables)
    if len(steps) != n:
        raise DataError(f"menu seed {seed.name}: {len(steps)} values of its observables for {n} weights")
    return steps


def _column(observables: Observables, name: str, seed: str) -> NDArray[np.float64]:
    if name not in observables:
        raise DataError(
            f"menu seed {seed}: there is no observable {name!r}", hint=f"the events have {', '.join(observables)}"
        )
    values = observables[name]
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"menu seed {seed}: observable {name!r} of row {row} is {values[row]}, not a number >= 0")
    return values


def _check(rates: NDArray[np.float64], target_hz: float) -> None:
    if not (target_hz > 0 and math.isfinite(target_hz)):
        raise DataError(f"a target rate of {target_hz} Hz makes no sense", hint="give a positive rate in Hz")
    if not (np.isfinite(rates).all() and (rates >= 0).all() and rates.sum() > 0):
        raise DataError("the weights of the background are no rates: they must be numbers >= 0, some of them above 0")

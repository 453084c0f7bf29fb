"""Thresholds and menus against a scan of every threshold on small events."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from trigger_prune.errors import DataError
from trigger_prune.physics.menu import DEFAULT_SEEDS, Cut, FittedSeed, Menu, Seed, fit_menu, fit_seeds

SEEDS = (Seed("a", "a_gev"), Seed("b", "b_gev"), Seed("ab", "a_gev", (Cut("b_gev", 10.0),)))
GRID = np.arange(0, 200) * 0.5


def events(seed: int, n: int = 400) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Observables on the grid, with many ties; half background with uneven rates; signal harder."""
    rng = np.random.default_rng(seed)
    background = np.arange(n) % 2 == 0
    scale = np.where(background, 6.0, 11.0)
    values = {name: np.minimum(np.round(2 * rng.exponential(scale)) / 2, 90.0) for name in ("a_gev", "b_gev")}
    weights = np.where(background, rng.choice([1.0, 5.0, 30.0], size=n), rng.choice([0.5, 2.0], size=n))
    return values, background, weights


def passes(values: dict[str, np.ndarray], seed: Seed, threshold: float) -> np.ndarray:
    """What the words of the definition say."""
    accepted = values[seed.observable] >= threshold
    for cut in seed.fixed:
        accepted &= values[cut.observable] >= cut.at_least_gev
    return accepted


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("target", [1e-3, 40.0, 300.0, 1e9])
def test_single_seeds_take_the_lowest_threshold_that_fits(seed: int, target: float) -> None:
    values, background, weights = events(seed)
    rates = {name: column[background] for name, column in values.items()}
    for fitted in fit_seeds(rates, weights[background], target, SEEDS):
        expected = next(step for step in GRID if weights[background][passes(rates, fitted.seed, step)].sum() <= target)
        assert fitted.threshold_gev == expected
        assert np.array_equal(fitted.passes(values), passes(values, fitted.seed, expected))


@pytest.mark.parametrize("seed", range(6))
def test_equal_shares_fill_one_seed_after_the_other(seed: int) -> None:
    values, background, weights = events(seed)
    rates, target = weights[background], 250.0
    menu = fit_menu(values, background, weights, target, seeds=SEEDS)
    accepted = np.zeros(len(weights), dtype=bool)
    for place, (fitted, share) in enumerate(zip(menu.seeds, menu.shares, strict=True)):
        assert share == pytest.approx(1 / 3)
        allowed = target * (place + 1) / 3 * (1 + 1e-12)
        expected = next(
            step
            for step in GRID
            if weights[background & (accepted | passes(values, fitted.seed, step))].sum() <= allowed
        )
        assert fitted.threshold_gev == expected
        accepted |= passes(values, fitted.seed, expected)
    assert np.array_equal(menu.accepts(values), accepted)
    assert np.array_equal(menu.decisions(values), [passes(values, f.seed, f.threshold_gev) for f in menu.seeds])
    assert menu.rate_hz == pytest.approx(rates[accepted[background]].sum()) and menu.rate_hz <= target


@pytest.mark.parametrize("seed", range(6))
def test_optimised_shares_come_close_to_the_best_pair_of_thresholds(seed: int) -> None:
    values, background, weights = events(seed, 4000)
    target, pair = 800.0, SEEDS[:2]
    signal = weights[~background]

    def efficiency(accepted: np.ndarray) -> float:
        return float(signal[accepted[~background]].sum() / signal.sum())

    best = 0.0
    for one, two in itertools.product(GRID, GRID):
        accepted = passes(values, pair[0], one) | passes(values, pair[1], two)
        if weights[background & accepted].sum() <= target:
            best = max(best, efficiency(accepted))
    equal = fit_menu(values, background, weights, target, seeds=pair)
    menu = fit_menu(values, background, weights, target, shares="optimised", seeds=pair)
    assert weights[background & menu.accepts(values)].sum() <= target
    assert sum(menu.shares) == pytest.approx(1) and min(menu.shares) >= 0
    assert efficiency(equal.accepts(values)) <= efficiency(menu.accepts(values)) <= best + 1e-12
    assert efficiency(menu.accepts(values)) >= 0.97 * best


def test_useless_seeds_lose_their_share() -> None:
    values, background, weights = events(1, 4000)
    values["noise_gev"] = np.round(np.random.default_rng(8).exponential(10, size=4000))
    seeds = (Seed("noise", "noise_gev"), Seed("a", "a_gev"))
    menu = fit_menu(values, background, weights, 500.0, shares="optimised", seeds=seeds)
    assert menu.shares[0] < 0.15
    alone = fit_seeds({k: v[background] for k, v in values.items()}, weights[background], 500.0, seeds)[1]
    signal = weights * ~background
    assert signal[menu.accepts(values)].sum() >= signal[alone.passes(values)].sum()


def test_values_between_two_steps_pass_the_lower_one() -> None:
    values = {"a_gev": np.array([7.49, 7.5, 7.51, 0.0])}
    seed = FittedSeed(Seed("a", "a_gev"), 7.5)
    assert seed.passes(values).tolist() == [False, True, True, False]
    assert not FittedSeed(Seed("a", "a_gev"), math.inf).passes(values).any()
    # threshold 0 accepts everything without fixed cuts, and only what passes those with them
    assert FittedSeed(Seed("a", "a_gev"), 0.0).passes(values).all()
    assert FittedSeed(Seed("a", "a_gev", (Cut("a_gev", 7.5),)), 0.0).passes(values).tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_a_menu_survives_json() -> None:
    values, background, weights = events(2)
    menu = fit_menu(values, background, weights, 100.0, shares="optimised", seeds=SEEDS)
    off = Menu((*menu.seeds, FittedSeed(SEEDS[0], math.inf)), (*menu.shares, 0.0), 100.0, menu.rate_hz)
    for one in (menu, off):
        assert Menu.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False))) == one


def test_what_cannot_be_fitted() -> None:
    values, background, weights = events(3)
    with pytest.raises(DataError, match="seed ht: there is no observable 'ht_gev'"):
        fit_menu(values, background, weights, 10.0, seeds=DEFAULT_SEEDS)
    for target in (0.0, -5.0, math.nan, math.inf):
        with pytest.raises(DataError, match="target rate"):
            fit_seeds(values, weights, target, SEEDS)
    for wrong in (np.zeros(400), np.full(400, -1.0), np.full(400, math.nan)):
        with pytest.raises(DataError, match="no rates"):
            fit_seeds(values, wrong, 10.0, SEEDS)
    with pytest.raises(DataError, match="400 values of its observables for 399 weights"):
        fit_seeds(values, weights[1:], 10.0, SEEDS)
    with pytest.raises(DataError, match="without signal"):
        fit_menu(values, np.ones(400, dtype=bool), weights, 10.0, shares="optimised", seeds=SEEDS)
    values["b_gev"][17] = math.nan
    with pytest.raises(DataError, match="'b_gev' of row 17 is nan"):
        fit_seeds(values, weights, 10.0, SEEDS)

"""Turn-ons against known truth: bias, pulls, bins and the reasons for having no fit."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import erf
from scipy.stats import binomtest

from trigger_prune.errors import DataError
from trigger_prune.physics.intervals import LEVEL_68
from trigger_prune.physics.turn_on import TurnOn, round_edges, turn_on

X50, SIGMA = 80.0, 12.0


def truth(x, plateau):
    return plateau / 2 * (1 + erf((x - X50) / (np.sqrt(2) * SIGMA)))


def toy(seed, n=2000, plateau=0.93, reuse=1, weighted=False):
    """An exponential spectrum; all rows of one collision agree."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n), reuse)
    x = (20 + generator.exponential(60, n))[groups]
    passes = generator.random(n)[groups] < truth(x, plateau)
    # heavy below the turn-on, as in a sample made in slices of the variable
    weights = np.where(x < 60, 5.0, 1.0) * generator.exponential(size=n)[groups] if weighted else np.ones(len(groups))
    return x, passes, weights, groups


def fit(*sample):
    return turn_on(*sample, "ht_gev", "HH4b")


@pytest.mark.parametrize("weighted", [False, True])
def test_parameters_are_those_of_the_likelihood(weighted):
    """Every event enters (below 2000 of them): an independent minimiser on the plain formula finds the same maximum."""
    x, passes, weights, groups = toy(1, 1500, weighted=weighted)

    def negative_log_likelihood(parameters):
        plateau, x50, sigma = parameters
        efficiency = np.clip(plateau / 2 * (1 + erf((x - x50) / (np.sqrt(2) * sigma))), 1e-12, 1 - 1e-12)
        return -np.sum(weights * np.where(passes, np.log(efficiency), np.log(1 - efficiency)))

    expected = minimize(
        negative_log_likelihood, [0.9, 75.0, 10.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}
    ).x
    found = fit(x, passes, weights, groups).fit
    assert (found.plateau, found.x50, found.sigma) == pytest.approx(expected, rel=1e-4)
    assert found.x95 == pytest.approx(found.x50 + 1.6448536 * found.sigma)
    assert found.efficiency(np.array([found.x50, found.x95])) == pytest.approx(found.plateau * np.array([0.5, 0.95]))
    assert found.efficiency(np.array([70.0])) == pytest.approx(
        found.plateau / 2 * (1 + erf((70.0 - found.x50) / (np.sqrt(2) * found.sigma)))
    )


@pytest.mark.parametrize(
    ("plateau", "reuse", "weighted"), [(0.93, 1, False), (0.93, 4, False), (1.0, 1, False), (0.93, 1, True)]
)
def test_no_bias_and_pulls_of_unit_width(plateau, reuse, weighted):
    pulls = []
    for seed in range(100):
        n = 8000 if weighted else 2000
        found = fit(*toy(seed, n, plateau, reuse, weighted)).fit
        pulls.append(
            [
                (found.x50 - X50) / found.x50_error,
                (found.sigma - SIGMA) / found.sigma_error,
                (found.x95 - X50 - 1.6448536 * SIGMA) / found.x95_error,
            ]
            + ([(found.plateau - plateau) / found.plateau_error] if plateau < 1 else [])
        )
    assert np.mean(pulls, axis=0) == pytest.approx(np.zeros(len(pulls[0])), abs=0.3)
    assert np.std(pulls, axis=0) == pytest.approx(np.ones(len(pulls[0])), abs=0.2)


def test_a_perfect_plateau_may_be_reached():
    found = fit(*toy(3, plateau=1.0)).fit
    assert found.plateau == 1.0
    assert found.plateau_error == 0.0


def test_joining_many_events_into_cells_does_not_move_the_result():
    found = fit(*toy(4, 200_000)).fit
    for value, error, true in (
        (found.x50, found.x50_error, X50),
        (found.sigma, found.sigma_error, SIGMA),
        (found.plateau, found.plateau_error, 0.93),
    ):
        assert abs(value - true) < 3 * error < 0.03 * true


def test_an_event_far_on_the_wrong_side_does_not_break_the_fit():
    x, passes, weights, groups = toy(5)
    passes = passes.copy()
    passes[np.argmin(x)] = True
    passes[np.argmax(x)] = False
    found = fit(x, passes, weights, groups).fit
    assert found.x50 == pytest.approx(X50, abs=4)


def test_bins_hold_exact_binomial_intervals():
    x, passes, weights, groups = toy(6)
    edges = np.array([40.0, 70.0, 85.0, 1000.0])
    found = turn_on(x, passes, weights, groups, "ht", "HH4b", edges)
    assert [(part.low, part.high) for part in found.bins] == [(40.0, 70.0), (70.0, 85.0), (85.0, 1000.0)]
    for part in found.bins:
        inside = (x >= part.low) & (x < part.high)
        expected = binomtest(int(passes[inside].sum()), int(inside.sum())).proportion_ci(LEVEL_68, method="exact")
        assert part.events == inside.sum()
        assert (part.efficiency.low68, part.efficiency.high68) == pytest.approx((expected.low, expected.high))


def test_events_without_weight_are_not_there():
    x, passes, weights, groups = toy(6)
    more = np.append(x, [500.0] * 9), np.append(passes, [False] * 9), np.append(weights, [0.0] * 9)
    assert fit(*more, np.append(groups, range(9))) == fit(x, passes, weights, groups)


def test_automatic_edges_are_round_and_populated():
    values = np.random.default_rng(1).exponential(60, 5000) + 20
    edges = round_edges(values)
    step = np.gcd.reduce(np.round(edges * 10).astype(int)) / 10
    assert step in (10.0, 20.0, 25.0)
    counts, _ = np.histogram(values, edges)
    assert counts.min() >= 25
    assert counts.sum() >= 0.985 * 5000
    assert 8 <= len(counts) <= 26
    assert round_edges(np.full(10, 3.0)).tolist() == [3.0, 6.0]
    small = round_edges(1e-3 * values)
    assert small == pytest.approx(1e-3 * edges)


def test_reasons_for_no_fit():
    x, passes, weights, groups = toy(7)
    assert "every event passes" in fit(x, np.ones_like(passes), weights, groups).note
    assert "no event passes" in fit(x, np.zeros_like(passes), weights, groups).note
    flat = fit(x, np.random.default_rng(1).random(len(x)) < 0.4, weights, groups)
    assert (flat.fit, "does not rise significantly" in flat.note) == (None, True)
    falling = fit(-x, passes, weights, groups)
    assert (falling.fit, "no turn-on" in falling.note) == (None, True)
    single = fit(np.full(len(x), 5.0), passes, weights, groups)
    assert (single.fit, "single value" in single.note) == (None, True)
    assert single.bins[0].events == len(x)


def test_a_range_that_ends_before_the_plateau_is_said():
    x, passes, weights, groups = toy(8, 20_000)
    cut = x < 85
    found = fit(x[cut], passes[cut], weights[cut], groups[cut])
    assert found.note
    assert found.fit is None or found.fit.x95 > 85


def test_restored_from_json():
    for sample in (toy(1), (*toy(1)[:1], np.ones(2000, bool), *toy(1)[2:])):
        found = fit(*sample)
        assert TurnOn.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_bad_input_is_named():
    x, passes, weights, groups = toy(1, 10)
    with pytest.raises(DataError, match="ht of row 3 is nan"):
        turn_on(np.where(np.arange(10) == 3, np.nan, x), passes, weights, groups, "ht", "s")
    with pytest.raises(DataError, match=r"weight of row 3 is -1"):
        turn_on(x, passes, np.where(np.arange(10) == 3, -1.0, weights), groups, "ht", "s")
    with pytest.raises(DataError, match=r"passes has shape \(4,\)"):
        turn_on(x, passes[:4], weights, groups, "ht", "s")
    with pytest.raises(DataError, match="no event of s has weight"):
        turn_on(x, passes, 0 * weights, groups, "ht", "s")
    with pytest.raises(DataError, match="edges of ht do not increase"):
        turn_on(x, passes, weights, groups, "ht", "s", np.array([1.0, 1.0]))

"""Rates of menus against sets of events."""

import json

import numpy as np
import pytest

from trigger_prune.errors import DataError
from trigger_prune.physics.pure_rate import MenuRates, RateBeside, menu_rates, rate_beside

NAMES = ("ht", "jet", "muon")


def sample(seed=1, n=500):
    generator = np.random.default_rng(seed)
    weights = generator.exponential(size=n) * (generator.random(n) < 0.9)
    return generator.random((3, n)) < [[0.1], [0.2], [0.05]], weights, generator.integers(0, n // 3, n)


def brute_force(which, weights, groups):
    sums = {}
    for row in which:
        sums[groups[row]] = sums.get(groups[row], 0.0) + weights[row]
    return sum(sums.values()), np.sqrt(sum(value**2 for value in sums.values()))


@pytest.mark.parametrize("grouped", [True, False])
def test_rates_are_those_of_sets_of_events(grouped):
    passes, weights, numbers = sample()
    groups = numbers if grouped else np.arange(len(weights))
    sets = [set(np.flatnonzero(row).tolist()) for row in passes]
    menu = menu_rates(passes, weights, NAMES, numbers if grouped else None)

    def check(estimate, which):
        assert (estimate.rate_hz, estimate.error_hz) == pytest.approx(brute_force(which, weights, groups))
        assert estimate.events == sum(weights[row] > 0 for row in which)

    check(menu.total, set.union(*sets))
    for number, seed in enumerate(menu.seeds):
        assert seed.name == NAMES[number]
        check(seed.rate, sets[number])
        check(seed.pure, sets[number] - set.union(*(other for at, other in enumerate(sets) if at != number)))
        for other in range(3):
            assert menu.overlap_hz[number][other] == pytest.approx(weights[list(sets[number] & sets[other])].sum())


def test_a_network_beside_the_menu():
    passes, weights, groups = sample()
    beside = rate_beside(passes[0], passes[1:], weights, groups)
    whole = menu_rates(passes, weights, NAMES, groups)
    assert beside.rate == whole.seeds[0].rate
    assert beside.pure == whole.seeds[0].pure
    assert (beside.together.rate_hz, beside.together.events) == (
        pytest.approx(whole.total.rate_hz),
        whole.total.events,
    )
    assert beside.menu.rate_hz + beside.pure.rate_hz == pytest.approx(beside.together.rate_hz)
    alone = rate_beside(passes[0], np.zeros((0, len(weights)), bool), weights)
    assert alone.pure == alone.rate == alone.together


def test_a_seed_that_repeats_another_has_no_pure_rate():
    passes, weights, _ = sample()
    menu = menu_rates(np.stack([passes[0], passes[0]]), weights, ("a", "b"))
    assert [seed.pure.rate_hz for seed in menu.seeds] == [0.0, 0.0]
    assert menu.total == menu.seeds[0].rate


def test_restored_from_json():
    passes, weights, _ = sample()
    menu, beside = menu_rates(passes, weights, NAMES), rate_beside(passes[0], passes[1:], weights)
    assert MenuRates.from_dict(json.loads(json.dumps(menu.to_dict()))) == menu
    assert RateBeside.from_dict(json.loads(json.dumps(beside.to_dict()))) == beside


def test_bad_input_is_named():
    passes, weights, groups = sample()
    with pytest.raises(DataError, match="as many different names"):
        menu_rates(passes, weights, ("a", "b", "a"))
    with pytest.raises(DataError, match=r"not bool \(seeds, 500\)"):
        menu_rates(passes.astype(int), weights, NAMES)
    with pytest.raises(DataError, match=r"groups have shape \(3,\)"):
        menu_rates(passes, weights, NAMES, groups[:3])
    with pytest.raises(DataError, match=r"weight of row 4 is -1\.0"):
        menu_rates(passes, np.where(np.arange(500) == 4, -1.0, weights), NAMES)
    with pytest.raises(DataError, match="weight of row 4 is nan"):
        rate_beside(passes[0], passes, np.where(np.arange(500) == 4, np.nan, weights))
    with pytest.raises(DataError, match="not one per row"):
        rate_beside(passes[0][:4], passes, weights)

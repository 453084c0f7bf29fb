"""Which outputs change in a round: the least loss that saves enough, against all choices there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from trigger_prune.errors import BudgetError
from trigger_prune.prune.refine import saving
from trigger_prune.prune.refine.proposals import Proposal
from trigger_prune.prune.refine.saving import choose


def proposal(row, loss, cost):
    return Proposal("dense", row, ((0, 1),), loss, cost)


def random_menus(seed):
    draws = np.random.default_rng(seed)
    return [
        [
            proposal(row, float(draws.exponential(1e-4)), -float(draws.uniform(0.3, 30)))
            for _ in range(draws.integers(1, 4))
        ]
        for row in range(draws.integers(1, 7))
    ]


def every_choice(menus):
    for picked in itertools.product(*((None, *menu) for menu in menus)):
        taken = [each for each in picked if each is not None]
        yield sum(each.loss for each in taken), -sum(each.cost for each in taken)


@pytest.mark.parametrize("seed", range(60))
def test_no_other_choice_saves_as_much_at_less_loss(seed):
    menus = random_menus(seed)
    available = sum(max(-each.cost for each in menu) for menu in menus)
    wanted = float(np.random.default_rng(1000 + seed).uniform(0.05, 0.95)) * available
    chosen = choose(menus, wanted)
    rows = [each.row for each in chosen]
    assert len(set(rows)) == len(rows)
    saved = -sum(each.cost for each in chosen)
    assert saved >= wanted * (1 - 2e-5)
    least = min(loss for loss, saving in every_choice(menus) if saving >= wanted)
    assert sum(each.loss for each in chosen) <= least * 1.001


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_outputs_stay_at_the_lower_bound_that_any_price_proves(seed, share):
    """Least loss - price x saving, over all menus, plus price x wanted: no choice that saves enough loses less."""
    menus = [each for part in range(700) for each in random_menus(10_000 * seed + part)]
    wanted = share * sum(max(-each.cost for each in menu) for menu in menus)
    chosen = choose(menus, wanted)
    wanted *= 1 - 2e-5  # the solver counts in whole units
    assert -sum(each.cost for each in chosen) >= wanted
    assert len({id(each) for each in chosen}) == len(chosen) <= len(menus)
    loss = sum(each.loss for each in chosen)
    prices = np.geomspace(1e-8, 1e-1, 2000)
    bound = max(
        price * wanted + sum(min(0.0, *(each.loss + price * each.cost for each in menu)) for menu in menus)
        for price in prices[:: len(prices) // 400]
    )
    assert bound <= loss * (1 + 1e-9) and loss <= bound * 1.01


def test_the_menus_that_are_not_in_doubt_are_settled_as_the_exact_choice_settles_them(monkeypatch):
    for seed in range(40):
        menus = [menu for part in range(6) for menu in random_menus(500 + 10 * seed + part)]
        wanted = 0.4 * sum(max(-each.cost for each in menu) for menu in menus)
        monkeypatch.setattr(saving, "_CORE", 1000)
        exact = sum(each.loss for each in choose(menus, wanted))
        monkeypatch.setattr(saving, "_CORE", 8)
        assert exact * 0.999 <= sum(each.loss for each in choose(menus, wanted)) <= exact * 1.02


def test_a_search_that_ends_without_a_plan_is_not_taken_for_a_saving_that_cannot_be_reached(monkeypatch):
    """On a slow machine what the price chooses saves enough; callers read a BudgetError as the end of all savings."""

    def none_in_time(*_arguments, **_options):
        raise BudgetError("no plan within the limits was found in 10 s, nor a proof that there is none")

    monkeypatch.setattr(saving, "solve", none_in_time)
    for seed in range(30):
        menus = [menu for part in range(4) for menu in random_menus(900 + 10 * seed + part)]
        wanted = 0.4 * sum(max(-each.cost for each in menu) for menu in menus)
        chosen = choose(menus, wanted)
        assert -sum(each.cost for each in chosen) >= wanted
        assert len({id(each) for each in chosen}) == len(chosen)
        assert all(sum(each is other for menu in menus for other in menu) == 1 for each in chosen)


def test_the_best_loss_per_saved_cost_is_not_taken_where_another_one_is_enough():
    """To take what pays best until enough is saved would change the first and the last output for 12 units."""
    menus = [[proposal(0, 1.0, -10.0)], [proposal(1, 5.0, -20.0)], [proposal(2, 2.0, -12.0)]]
    assert [each.row for each in choose(menus, 22.0)] == [0, 2]
    assert [each.row for each in choose(menus, 20.5)] == [0, 2]
    assert [each.row for each in choose(menus, 13.0)] == [0, 2]
    assert [each.row for each in choose(menus, 12.0)] == [2]


def test_of_one_output_the_change_that_is_needed():
    menus = [[proposal(0, 1.0, -1.0), proposal(0, 6.0, -9.0)], [proposal(1, 2.0, -8.0)]]
    assert [(each.row, each.cost) for each in choose(menus, 0.5)] == [(0, -1.0)]
    assert [(each.row, each.cost) for each in choose(menus, 8.5)] == [(0, -1.0), (1, -8.0)]
    assert [(each.row, each.cost) for each in choose(menus, 9.5)] == [(0, -9.0), (1, -8.0)]


def test_more_than_there_is_takes_all_and_nothing_wanted_takes_nothing():
    menus = [[proposal(0, 1.0, -1.0), proposal(0, 6.0, -9.0)], [proposal(1, 2.0, -8.0)]]
    for wanted in (17.0, 100.0):
        assert sorted(each.cost for each in choose(menus, wanted)) == [-9.0, -8.0]
    assert choose(menus, 0.0) == [] and choose([], 3.0) == []

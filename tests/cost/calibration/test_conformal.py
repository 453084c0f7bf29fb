"""Intervals against drawn errors: how often they hold the truth of a project that was not seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trigger_prune.cost.calibration.conformal import interval, ratio, spread_of
from trigger_prune.cost.calibration.predictions import Prediction


def prediction(
    predicted: float, true: float, project: str = "p", network: str = "n", quantity: str = "lut"
) -> Prediction:
    return Prediction("network", quantity, "x", project, network, "tool", "f", predicted, true)


def drawn(
    rng: np.random.Generator, projects: int, networks: int, of_project: float, of_network: float
) -> list[Prediction]:
    """Errors that designs of a network share, and networks of a project; four designs each."""
    found = []
    for p in range(projects):
        bias = rng.normal(0, of_project)
        for n in range(networks):
            shift = bias + rng.normal(0, of_network)
            for _ in range(4):
                true = 1000 * math.exp(shift + rng.normal(0, 0.03))
                found.append(prediction(1000, true, f"p{p}", f"p{p}/n{n}"))
    return found


@pytest.mark.parametrize(
    ("projects", "networks", "least", "most"), [(2, 4, 0.85, 0.99), (5, 2, 0.85, 0.98), (40, 1, 0.86, 0.95)]
)
def test_coverage_of_projects_not_seen(projects: int, networks: int, least: float, most: float) -> None:
    held: list[bool] = []
    for seed in range(250):
        rng = np.random.default_rng([projects, seed])
        low, high = interval(drawn(rng, projects, networks, 0.1, 0.1))
        held += [low <= ratio(new) <= high for new in drawn(rng, 3, 1, 0.1, 0.1)]
    assert least <= np.mean(held) <= most


def test_designs_of_one_network_count_once() -> None:
    """A hundred designs that err by a factor of two, all of one network, weigh no more than one of another."""
    many = [prediction(1000, 2000, "a", "a/1") for _ in range(100)]
    others = [prediction(1000, 1000 + i, f"p{i}", f"p{i}/1") for i in range(60)]
    assert interval([*many, *others])[1] < 1.1
    assert interval([*many[:1], *others]) == interval([*many, *others])


def test_interval_always_holds_the_estimate() -> None:
    low, high = interval([prediction(1000, 1500, f"p{i}", f"p{i}/n") for i in range(30)])
    assert low == 1.0
    assert high == pytest.approx(1.5)


def test_a_rule_that_never_failed_is_exact_and_little_evidence_is_not() -> None:
    exact = [prediction(20, 20, f"p{i}", f"p{i}/n", "dsp") for i in range(7)]
    assert spread_of(exact)["dsp"] == (1.0, 1.0)
    once = [prediction(20, 20, "p", "p/n", "lut")]
    assert spread_of(once)["lut"] == pytest.approx((1 / 1.5, 1.5))


def test_zeros() -> None:
    assert ratio(prediction(0, 0)) == 1.0
    assert ratio(prediction(0, 9)) == 10.0
    assert ratio(prediction(100, 50)) == 0.5


def test_the_many_layers_of_two_sites_do_not_pass_for_many_sites() -> None:
    """A sweep of a hundred layers with small errors beside three of another site that are off by half."""
    sweep = [prediction(1000, 1000 + i, "sweep", f"sweep/{i}") for i in range(100)]
    other = [prediction(1000, 1500, "other", f"other/{i}") for i in range(3)]
    assert interval([*sweep, *other])[1] > 2
    third = [prediction(1000, 1000 + i, "third", f"third/{i}") for i in range(100)]
    assert interval([*sweep, *other, *third])[1] < 1.5

from __future__ import annotations

import math

import numpy as np
import pytest

from trigger_prune.cost.calibration.metrics import errors, r2_log, relative_error, smape


def test_smape_by_hand() -> None:
    assert smape([0, 100, 300, 0, 5], [0, 100, 100, 7, 0]).tolist() == [0, 0, 100, 200, 200]


def test_relative_error_of_nothing_is_exact_or_total() -> None:
    assert relative_error([0.4, 1, 150], [0, 0, 100]).tolist() == [0, 100, 50]


def test_r2_of_the_logarithm_against_numpy() -> None:
    rng = np.random.default_rng(0)
    true = np.exp(rng.uniform(0, 10, 200))
    predicted = true * np.exp(rng.normal(0, 0.3, 200))
    # The squared residual over the variance, in numpy's own words.
    left = np.mean((np.log1p(true) - np.log1p(predicted)) ** 2) / np.var(np.log1p(true))
    assert r2_log(predicted, true) == pytest.approx(1 - left)
    assert math.isnan(r2_log([1, 2], [3, 3]))


def test_all_measures_of_one_set() -> None:
    e = errors([110, 90, 10.4, 0], [100, 100, 10, 0], [(95, 120), (80, 99.2), None, (0.0, 0.0)])
    assert e.count == 4
    assert e.exact == 0.5
    assert e.median_relative == pytest.approx(7.0)
    assert e.bias == pytest.approx(4.0)
    # 99.2 rounds outwards to 100; a sample without interval is not counted.
    assert e.coverage == 1.0
    assert errors([110], [100], [(101, 120)]).coverage == 0.0


def test_nothing_to_compare() -> None:
    e = errors([], [])
    assert e.count == 0
    assert e.to_dict()["smape"] is None


@pytest.mark.parametrize(
    ("inside", "total", "verdict"),
    [
        (34, 34, "perhaps"),  # 0.897 .. 1
        (900, 1000, "yes"),
        (1000, 1000, "too wide"),
        (72, 72, "too wide"),  # 0.9501 .. 1: the first at which 100 % is too much
        (71, 71, "perhaps"),
        (500, 1000, "too narrow"),
        (1, 2, "perhaps"),
    ],
)
def test_coverage_has_the_interval_of_a_binomial_fraction(inside: int, total: int, verdict: str) -> None:
    from scipy.stats import binomtest

    found = errors([1.0] * total, [1.0] * total, [(0.0, 2.0)] * inside + [(5.0, 6.0)] * (total - inside))
    expected = binomtest(inside, total).proportion_ci(0.95, "exact")
    assert (found.coverage_low, found.coverage_high) == pytest.approx((expected.low, expected.high))
    assert found.coverage_verdict == verdict


def test_without_intervals_there_is_no_coverage_to_judge() -> None:
    found = errors([1.0], [1.0])
    assert found.coverage_verdict == "" and found.to_dict()["coverage_low"] is None

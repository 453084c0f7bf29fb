"""The bootstrap against closed forms: variances of sums and means of collisions."""

import math

import numpy as np
import pytest

from trigger_prune.errors import DataError
from trigger_prune.physics.bootstrap import bootstrap, group_draws, percentile_estimate


def test_draws_are_poisson_and_reproducible():
    draws = np.array(list(group_draws(500, 400, 3)))
    assert (draws == np.array(list(group_draws(500, 400, 3)))).all()
    assert (draws != np.array(list(group_draws(500, 400, 4)))).any()
    assert draws.mean() == pytest.approx(1, abs=0.01)
    assert draws.var() == pytest.approx(1, abs=0.02)


def test_rows_of_a_collision_are_drawn_together():
    groups = np.array([7, 3, 7, 7, 3, -2])
    seen = []
    bootstrap(lambda times: seen.append(times) or 0.0, groups, 50)
    for times in seen:
        assert len(set(times[groups == 7])) == len(set(times[groups == 3])) == 1
    assert any(times[0] != times[1] for times in seen)


def test_the_spread_of_a_sum_is_that_of_the_collisions():
    generator = np.random.default_rng(1)
    groups, weights = generator.integers(0, 400, 2000), generator.exponential(size=2000)
    replicas = bootstrap(lambda times: float(times @ weights), groups, 3000, seed=2)
    expected = math.sqrt(np.square(np.bincount(groups, weights)).sum())
    assert np.std(replicas) == pytest.approx(expected, rel=4 / math.sqrt(2 * 3000))


def test_percentiles_of_a_mean_are_the_gaussian_interval():
    generator = np.random.default_rng(5)
    x = generator.normal(size=1000)
    replicas = bootstrap(lambda times: float(times @ x / times.sum()), np.arange(1000), 4000)
    estimate = percentile_estimate(float(x.mean()), replicas, 1000.0)
    error = x.std() / math.sqrt(1000)
    assert estimate.error == pytest.approx(error, rel=0.05)
    assert (estimate.low68, estimate.high68) == pytest.approx((x.mean() - error, x.mean() + error), abs=0.1 * error)
    assert estimate.high95 - estimate.low95 == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_a_replica_without_value_is_named():
    with pytest.raises(DataError, match="bootstrap replica 0 is nan"):
        bootstrap(lambda times: math.nan, np.arange(5), 10)
    with pytest.raises(DataError, match="no spread"):
        bootstrap(lambda times: 1.0, np.arange(5), 1)

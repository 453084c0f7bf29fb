"""Sums per collision against loops over collisions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trigger_prune.physics.clusters import cluster_index, cluster_sums, running_squares


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), min_size=1, max_size=40), st.sampled_from([1, 10**12])
)
@settings(max_examples=60, deadline=None)
def test_sums_per_collision_whatever_the_numbers(rows, spread):
    groups = np.array([group for group, _ in rows]) * spread
    values = np.array([value for _, value in rows], float)
    index = cluster_index(groups)
    assert index.min() >= 0
    assert index.max() < 8 * len(rows) + 1024
    for group in set(groups.tolist()):
        assert len(set(index[groups == group].tolist())) == 1
        assert values[groups == group].sum() in cluster_sums(groups, values)
    assert len(set(index.tolist())) == len(set(groups.tolist()))
    assert cluster_sums(groups, values).sum() == values.sum()


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_running_squares_are_those_of_every_prefix(rows, ends):
    index = np.array([group for group, _ in rows])
    weights = np.array([value for _, value in rows], float)
    ends = np.sort(np.minimum(ends, len(rows)))
    expected = [np.square(np.bincount(index[:end], weights[:end])).sum() if end else 0.0 for end in ends]
    np.testing.assert_allclose(running_squares(index, weights, ends), expected, rtol=1e-12)

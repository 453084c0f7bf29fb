"""Rankings against counting at every threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trigger_prune.physics.ranking import rank

ROWS = st.lists(
    st.tuples(st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 1.0, 3.0]), st.sampled_from([0.0, 0.5, 1.0, 4.0])),
    min_size=1,
    max_size=60,
)


@given(ROWS, st.sampled_from([np.float32, np.float64]))
@settings(max_examples=100, deadline=None)
def test_every_value_has_the_weight_that_passes_it(rows, dtype):
    scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    ranking = rank(scores.astype(dtype), weights)
    assert ranking.values.dtype == dtype
    assert ranking.values.tolist() == sorted(set(scores[weights > 0].tolist()), reverse=True)
    assert ranking.total == weights.sum()
    for value, end, total in zip(ranking.values, ranking.ends, ranking.sums, strict=True):
        assert total == weights[scores >= value].sum()
        assert sorted(ranking.rows[:end]) == np.flatnonzero((scores >= value) & (weights > 0)).tolist()
    assert not any(np.signbit(value) and value == 0 for value in ranking.values)


@given(ROWS, st.sampled_from([-2.0, -1.0, 0.0, 0.3, 5.0]))
@settings(max_examples=60, deadline=None)
def test_weight_above_any_threshold(rows, threshold):
    scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    ranking = rank(scores, weights)
    if len(ranking.values) == 0:
        assert weights.sum() == 0
        return
    at = np.array([threshold])
    assert ranking.sum_of(ranking.values_above(at, inclusive=True))[0] == weights[scores >= threshold].sum()
    assert ranking.sum_of(ranking.values_above(at, inclusive=False))[0] == weights[scores > threshold].sum()


@pytest.mark.parametrize("step", [0.0, 0.5])
@pytest.mark.parametrize("slope", [0.0, -2.0, 2.0])
@pytest.mark.parametrize("share", [1e-4, 0.01, 0.4, 0.99999])
def test_a_truncated_ranking_is_the_top_of_the_whole(step, slope, share):
    generator = np.random.default_rng(5)
    scores = generator.normal(size=200_000)
    if step:
        scores = np.round(scores / step) * step
    weights = np.exp(slope * scores) * (generator.random(200_000) < 0.9)
    whole, top = rank(scores, weights), rank(scores, weights, up_to=share * weights.sum())
    count = len(top.values)
    assert top.total == whole.total
    assert top.sums[-1] > share * whole.total
    assert top.values.tolist() == whole.values[:count].tolist()
    assert top.ends.tolist() == whole.ends[:count].tolist()
    np.testing.assert_allclose(top.sums, whole.sums[:count], rtol=1e-12)
    if share < 0.001 and slope == 0 and not step:
        assert len(top.rows) < 10_000

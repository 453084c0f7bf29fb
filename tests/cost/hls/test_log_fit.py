"""The robust fit of non-negative terms."""

from __future__ import annotations

import numpy as np
import pytest

from trigger_prune.cost.hls.log_fit import fit_positive
from trigger_prune.errors import CostError


def test_recovers_coefficients_in_the_presence_of_wild_reports():
    rng = np.random.default_rng(0)
    terms = np.exp(rng.uniform(0, 8, (60, 3)))
    truth = terms @ np.array([3.0, 20.0, 0.5]) * np.exp(rng.normal(0, 0.02, 60))
    truth[:5] *= 40
    found = fit_positive(terms, truth, [1.0, 1.0, 1.0], ["a"] * 60)
    assert found == pytest.approx([3.0, 20.0, 0.5], rel=0.15)


def test_a_term_that_never_occurs_keeps_its_start():
    terms = np.array([[1.0, 0.0], [2.0, 0.0]])
    found = fit_positive(terms, np.array([5.0, 10.0]), [1.0, 7.0], ["a", "a"])
    assert found == pytest.approx([5.0, 7.0], rel=0.01)


def test_a_large_project_does_not_outvote_a_small_one():
    terms = np.ones((110, 1))
    truth = np.array([100.0] * 100 + [110.0] * 10)
    together = fit_positive(terms, truth, [1.0], ["large"] * 100 + ["small"] * 10)
    assert together[0] == pytest.approx(np.sqrt(100 * 110), rel=0.01)


def test_without_samples_there_is_nothing_to_fit():
    with pytest.raises(CostError, match="no sample"):
        fit_positive(np.ones((2, 1)), np.zeros(2), [1.0], ["a", "b"])

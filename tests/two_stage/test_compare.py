"""Paired comparison at equal total rate against the one for single networks, and in its limits."""

import math

import numpy as np
import pytest
from two_stage_toys import brute_probability, toy_sample

from trigger_prune.errors import DataError
from trigger_prune.physics.equal_rate import paired_efficiency_difference
from trigger_prune.physics.scored_events import ScoredEvents
from trigger_prune.two_stage.compare import paired_loss, single_ladder, two_stage_ladder
from trigger_prune.two_stage.decision import Thresholds, solve_split, split_by_light


def test_single_models_compare_as_networks_do():
    """Same efficiencies, and the same spread within what 200 replicas know, as the comparison of two networks."""
    sample = toy_sample(1, rows=8000, reuse=2, step=0.1)
    light, full = (
        ScoredEvents(scores, sample.signal, sample.weights, sample.groups, sample.signal_names)
        for scores in (sample.light, sample.full)
    )
    wanted = paired_efficiency_difference(full, light, 1000.0, "HH4b")
    found = paired_loss(
        sample, single_ladder(sample, sample.full), single_ladder(sample, sample.light), 1e6, "HH4b", seed=3
    )
    assert found.reference == pytest.approx(wanted.reference, abs=1e-12)
    assert found.candidate == pytest.approx(wanted.candidate, abs=1e-12)
    assert found.background_events == pytest.approx(wanted.background_events)
    assert found.relative_loss.error == pytest.approx(wanted.relative_loss.error, rel=0.2)
    assert found.relative_loss_limit90 == pytest.approx(
        wanted.relative_loss_limit90, abs=0.5 * wanted.relative_loss.error
    )


def test_without_rejection_and_loss_two_stages_are_the_full_model():
    """Zero loss in every replica, so a limit of zero."""
    sample = toy_sample(2)
    everything = Thresholds(-math.inf, math.inf, 0.0, math.inf)
    ladder = two_stage_ladder(sample, everything, np.array([0.0, 1.0]))
    found = paired_loss(sample, single_ladder(sample, sample.full), ladder, 1e6, "ttbar", replicas=20)
    assert found.relative_loss.value == found.relative_loss_limit90 == found.relative_loss.error == 0


@pytest.mark.parametrize("objects", [1, 3])
def test_equal_rate_lies_between_two_comparators(objects):
    """The expected efficiency at exactly the target interpolates between two neighbouring values of t_full."""
    sample = toy_sample(3, rows=800, objects=objects)
    rooms, target = np.array([0.05, 0.15, 0.8]), 2e6
    split = split_by_light(sample, 0.3, 0.2, target, "HH4b")
    decision = solve_split(split, rooms, target)
    thresholds = decision.thresholds
    ladder = two_stage_ladder(sample, thresholds, rooms)
    found = paired_loss(sample, single_ladder(sample, sample.full), ladder, target, "HH4b", replicas=20)
    background, signal = sample.signal == -1, sample.signal == 0
    points = []
    for t_full in (thresholds.t_full, thresholds.t_full - 0.25):
        passing = brute_probability(
            sample, Thresholds(thresholds.t_reject, thresholds.t_accept, t_full, thresholds.t_overflow), rooms
        )
        points.append((sample.weights[background] @ passing[background], passing[signal].mean()))
    (low_rate, low), (high_rate, high) = points
    wanted = low + (target - low_rate) / (high_rate - low_rate) * (high - low)
    assert low_rate <= target < high_rate
    assert found.candidate == pytest.approx(wanted, rel=1e-9)


def test_a_design_that_escalates_too_little_is_taken_as_it_is():
    """Its whole ladder is below the target rate; what it escalates all passes."""
    sample = toy_sample(4)
    split = split_by_light(sample, 0.02, 0.0, 3e6, "HH4b")
    ladder = two_stage_ladder(sample, Thresholds(split.t_reject, math.inf, -math.inf, math.inf), np.array([0.1, 0.9]))
    found = paired_loss(sample, single_ladder(sample, sample.full), ladder, 3e6, "HH4b", replicas=20)
    signal = sample.signal == 0
    assert found.candidate == pytest.approx(0.9 * (sample.light[signal] >= split.t_reject).mean())


def test_few_background_events_are_told():
    """A warning, and errors for what cannot be compared."""
    sample = toy_sample(5)
    full, light = single_ladder(sample, sample.full), single_ladder(sample, sample.light)
    assert "unreliable" in paired_loss(sample, full, light, 1e5, "HH4b", replicas=10).warnings[0]
    with pytest.raises(DataError, match="no signal"):
        paired_loss(sample, full, light, 1e6, "HH5b")
    with pytest.raises(DataError, match="makes no sense"):
        paired_loss(sample, full, light, -1.0, "HH4b")

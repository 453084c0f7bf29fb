"""Paired differences at equal rate: against brute force, and against the truth over many samples."""

import json

import numpy as np
import pytest
from scipy.stats import norm
from scored_toys import toy

from trigger_prune.errors import DataError
from trigger_prune.physics.bootstrap import group_draws
from trigger_prune.physics.equal_rate import EqualRateDifference, paired_efficiency_difference
from trigger_prune.physics.roc import roc_curve, signal_efficiency_at
from trigger_prune.physics.scored_events import ScoredEvents


def changed(events, seed, noise, step=0.0):
    """The same events under a second score: the first with noise."""
    scores = events.scores + noise * np.random.default_rng(seed).normal(size=len(events.scores))
    if step:
        scores = np.round(scores / step) * step
    return ScoredEvents(scores, events.signal, events.weights, events.groups, events.signal_names)


def brute_force(events, times, rate_khz):
    """Efficiency of signal 0 at a rate from the full ROC curve of re-weighted events."""
    weights = events.weights * times
    used = (events.signal <= 0) & (weights > 0)
    curve = roc_curve(events.scores[used], events.signal[used] == 0, weights[used])
    return signal_efficiency_at(curve, 1e3 * rate_khz / weights[events.signal == -1].sum())


@pytest.mark.parametrize("step", [0.0, 0.5])
@pytest.mark.parametrize("reuse", [1, 5])
def test_every_replica_is_what_a_full_curve_gives(step, reuse, monkeypatch):
    """With draws that say which collision they belong to, thresholds and efficiencies are those of brute force."""
    reference = toy(1, 3000, 300, step=step, reuse=reuse)
    candidate = changed(reference, 2, 0.5, step)
    n_groups = int(reference.groups.max()) + 1
    # with all background kept the collisions drawn are those of background and the first signal
    monkeypatch.setattr("trigger_prune.physics.equal_rate.REACH_IN_ERRORS", 1e9)
    used = np.unique(reference.groups[reference.signal <= 0])
    replicas = []

    def draws(clusters, count, seed):
        for drawn in group_draws(clusters, count, seed):
            times = np.zeros(n_groups)
            times[used] = drawn
            replicas.append(times[reference.groups])
            yield drawn

    monkeypatch.setattr("trigger_prune.physics.equal_rate.group_draws", draws)
    rate = 600.0
    found = paired_efficiency_difference(reference, candidate, rate, "HH4b", replicas=40)
    assert found.reference == pytest.approx(brute_force(reference, 1.0, rate), rel=1e-9)
    assert found.candidate == pytest.approx(brute_force(candidate, 1.0, rate), rel=1e-9)
    expected = [(brute_force(reference, times, rate), brute_force(candidate, times, rate)) for times in replicas]
    first, second = np.array(expected).T
    assert found.difference.error == pytest.approx(np.std(second - first, ddof=1), rel=1e-9)
    assert found.relative_loss_limit90 == pytest.approx(np.quantile(1 - second / first, 0.9), rel=1e-9)


def test_a_network_does_not_differ_from_itself():
    events = toy(1, step=0.5)
    found = paired_efficiency_difference(events, events, 50.0, "ttbar", replicas=20)
    assert (found.difference.value, found.difference.error, found.relative_loss_limit90) == (0.0, 0.0, 0.0)


def test_a_monotonic_change_of_score_changes_nothing():
    events = toy(1)
    other = ScoredEvents(np.exp(events.scores), events.signal, events.weights, events.groups, events.signal_names)
    found = paired_efficiency_difference(events, other, 20.0, "HH4b", replicas=20)
    assert found.difference.error == 0.0


def test_the_same_seed_gives_the_same_result():
    events = toy(1)
    other = changed(events, 2, 0.5)
    results = [paired_efficiency_difference(events, other, 50.0, "HH4b", 30, seed) for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize("reuse", [1, 4])
def test_intervals_cover_the_true_difference(reuse):
    """Both efficiencies are known in closed form; the rows of a collision differ by a little noise."""
    share, noise = 0.05, 0.5
    width = np.sqrt(1 + noise**2)
    true = norm.sf(norm.isf(share) - 2 / width) - norm.sf(norm.isf(share) - 2)
    covered68, covered95, pulls, trials = 0, 0, [], 200
    for seed in range(trials):
        events = toy(seed, 3000 * reuse, 400 * reuse, reuse=reuse, weighted=False)
        found = paired_efficiency_difference(
            events, changed(events, 1000 + seed, noise), 1e3 * share, "HH4b", replicas=100, seed=seed
        ).difference
        covered68 += found.low68 <= true <= found.high68
        covered95 += found.low95 <= true <= found.high95
        pulls.append((found.value - true) / found.error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.25)
    assert 0.59 <= covered68 / trials <= 0.76
    assert covered95 / trials >= 0.90


def test_few_background_events_carry_a_warning():
    events = toy(1)
    found = paired_efficiency_difference(events, changed(events, 2, 0.5), 1.0, "HH4b", replicas=20)
    assert "(below 100)" in found.warnings[0]
    assert found.background_events < 20
    assert paired_efficiency_difference(events, changed(events, 2, 0.5), 200.0, "HH4b", 20).warnings == ()


def test_restored_from_json():
    events = toy(1)
    found = paired_efficiency_difference(events, changed(events, 2, 0.5), 1.0, "HH4b", replicas=20)
    assert EqualRateDifference.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_what_cannot_be_compared():
    events, other = toy(1), toy(2)
    with pytest.raises(DataError, match="not scored on the same events"):
        paired_efficiency_difference(events, other, 1.0, "HH4b")
    with pytest.raises(DataError, match="no signal is called 'VBF'"):
        paired_efficiency_difference(events, events, 1.0, "VBF")
    with pytest.raises(DataError, match="rate of -1"):
        paired_efficiency_difference(events, events, -1.0, "HH4b")
    with pytest.raises(DataError, match="whole background has 1000 kHz"):
        paired_efficiency_difference(events, events, 1000.0, "HH4b")
    with pytest.raises(DataError, match="does not reach 999"):
        paired_efficiency_difference(events, events, 999.0, "HH4b")
    hopeless = toy(1, shift=-50.0)
    with pytest.raises(DataError, match="nothing to lose"):
        paired_efficiency_difference(hopeless, hopeless, 1.0, "HH4b")

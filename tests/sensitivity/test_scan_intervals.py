"""Do the intervals cover? Known truths, simulated samples, and the one-by-one bootstrap of physics/."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from trigger_prune.errors import DataError
from trigger_prune.physics.auc import auc_influence, cluster_error, weighted_auc
from trigger_prune.physics.bootstrap import bootstrap
from trigger_prune.physics.intervals import LEVEL_68, LEVEL_95
from trigger_prune.physics.roc import roc_curve, signal_efficiency_at
from trigger_prune.physics.scores import Score
from trigger_prune.sensitivity import efficiency_replicas
from trigger_prune.sensitivity.intervals import make_looks
from trigger_prune.sensitivity.judged import Bench
from trigger_prune.sensitivity.metrics import Columns, Judge, Ranking
from trigger_prune.sensitivity.rank_figures import area, area_influence, efficiency_at, grid_fraction, rank_events
from trigger_prune.sensitivity.resample import Resampler, figures_of
from trigger_prune.train.objective import Objective


def judge_of(n, names, objective="accuracy", rankings=(), fraction=0.05, weights=None):
    ones = np.ones(n)
    chosen = (
        Objective(objective)
        if objective in ("accuracy", "loss")
        else Objective(objective, Score("head"), (1,), fraction)
    )
    used = ones if weights is None else weights
    return Judge("binary", chosen, names, rankings, fraction, used, used)


def columns(loss, right=None, scores=None):
    """From arrays whose last axis are the events."""
    return Columns(*(None if x is None else torch.from_numpy(x.swapaxes(-1, -2)) for x in (loss, right, scores)))


def coverage(figures, truth, low, high):
    return np.mean([getattr(f, low) <= truth <= getattr(f, high) for f in figures])


@pytest.mark.parametrize("level", [LEVEL_68, LEVEL_95])
@pytest.mark.parametrize("p", [0.1, 0.6])
def test_full_intervals_cover_a_known_binomial(p, level):
    rng = np.random.default_rng(3)
    n, simulations = 400, 1500
    right = rng.random((simulations, n)) < p
    base = columns(np.zeros((1, n), np.float32), np.ones((1, n), bool))
    bench = Bench(base, judge_of(n, ("accuracy",)), Resampler(n, None, 400, seed=1), level=level)
    judged = bench.judge_all(lambda rows, which: columns(np.zeros((simulations, n), np.float32), right), simulations)
    figures = [entry.figures["accuracy"] for entry in judged]
    # one interval of so many simulated samples; discrete counts and skewness move the true coverage by a little
    spread = 3 * np.sqrt(level * (1 - level) / simulations) + 0.02
    assert coverage(figures, p, "low", "high") == pytest.approx(level, abs=spread)
    assert coverage(figures, p - 1, "change_low", "change_high") == pytest.approx(level, abs=spread)


def test_rows_of_one_collision_are_no_independent_events():
    rng = np.random.default_rng(4)
    collisions, copies, simulations = 150, 4, 800
    right = np.repeat(rng.random((simulations, collisions)) < 0.5, copies, axis=1)
    n = collisions * copies
    base = columns(np.zeros((1, n), np.float32), np.ones((1, n), bool))
    found = {}
    for name, groups in (("grouped", np.repeat(rng.permutation(collisions) + 7, copies)), ("not", None)):
        bench = Bench(base, judge_of(n, ("accuracy",)), Resampler(n, groups, 300, seed=1))
        judged = bench.judge_all(
            lambda rows, which: columns(np.zeros((simulations, n), np.float32), right), simulations
        )
        found[name] = coverage([entry.figures["accuracy"] for entry in judged], 0.5, "low", "high")
    assert found["grouped"] == pytest.approx(LEVEL_68, abs=0.06)
    assert found["not"] < 0.45  # intervals half as wide as they should be


@pytest.mark.parametrize("weighted", [False, True])
def test_spread_of_means_is_that_of_the_one_by_one_bootstrap(weighted):
    rng = np.random.default_rng(5)
    n = 500
    groups = rng.integers(0, 180, n)
    weights = rng.random(n) + 0.2 if weighted else np.ones(n)
    loss = rng.exponential(1.0, (1, n)) + 0.3 * (groups % 3)
    base = loss + rng.normal(0, 0.1, (1, n))
    judge = judge_of(n, ("loss",), "loss", weights=weights)
    resampler = Resampler(n, groups, 3000, seed=2)
    moving = figures_of(columns(loss), judge, resampler, ("loss",), ())["loss"]
    reference = figures_of(columns(base), judge, resampler, ("loss",), ())["loss"]
    assert moving.values[0] == pytest.approx(np.average(loss[0], weights=weights), rel=1e-12)
    values, changes = moving.resampled(reference, resampler)
    error, change_error = moving.errors(reference, resampler)
    for found, analytic, of in ((values, error, loss[0]), (changes, change_error, loss[0] - base[0])):
        one_by_one = bootstrap(lambda c, of=of: np.average(of, weights=c * weights), groups, 3000, seed=11)
        assert np.std(found) == pytest.approx(np.std(one_by_one), rel=0.07)
        assert analytic[0] == pytest.approx(np.std(one_by_one), rel=0.07)
        assert np.quantile(found, [0.16, 0.5, 0.84]) == pytest.approx(
            np.quantile(one_by_one, [0.16, 0.5, 0.84]), abs=0.15 * np.std(one_by_one)
        )


def scored(n, seed, step):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    scores = rng.normal(size=n) + 1.2 * positive
    return (
        (np.round(scores / step) * step if step else scores),
        positive,
        rng.random(n) + 0.5,
        rng.integers(0, n // 2, n),
    )


@pytest.mark.parametrize("step", [0.0, 1 / 16, 0.5])
def test_auc_and_efficiency_by_counts_equal_those_by_sorting(step):
    for seed in range(20):
        scores, positive, weights, groups = scored(60 + 40 * seed, seed, step)
        fraction = grid_fraction(scores)
        assert (fraction is None) == (step == 0.0) and (step == 0 or 2.0**-fraction >= step)
        ranked = rank_events(scores, positive, weights, fraction)
        value = area(ranked)
        assert value == pytest.approx(weighted_auc(scores, positive, weights), rel=1e-12)
        truth = auc_influence(scores, positive, weights)
        found = cluster_error(area_influence(ranked, value, weights), groups)
        assert found == pytest.approx(cluster_error(truth.influence, groups), rel=0.04)  # up to n / (n - 1)
        curve = roc_curve(scores, positive, weights)
        for target in (0.003, 0.02, 0.3, 0.9):
            assert efficiency_at(ranked, target) == pytest.approx(signal_efficiency_at(curve, target), rel=1e-12)


def test_scores_off_the_expected_grid_are_sorted():
    scores, positive, weights, _ = scored(300, 3, 1 / 16)
    scores[5] += 1 / 64
    expected = weighted_auc(scores, positive, weights)
    for fraction in (4, 40, None):
        assert area(rank_events(scores, positive, weights, fraction)) == pytest.approx(expected, rel=1e-12)
    assert grid_fraction(np.array([0.0, np.nan])) is None


@pytest.mark.parametrize("fraction", [0.02, 0.3])
@pytest.mark.parametrize("step", [0.0, 0.25])
def test_resampled_efficiencies_and_aucs_are_those_of_resampled_events(step, fraction):
    scores, positive, _, groups = scored(900, 8, step)
    n, replicas = len(scores), 60
    judge = judge_of(n, ("auc", "efficiency"), "efficiency_at_fpr", (Ranking(Score("head"), None, positive),), fraction)
    resampler = Resampler(n, groups, replicas, seed=4)
    block = columns(np.zeros((1, n)), scores=scores.reshape(1, 1, n))
    found = figures_of(block, judge, resampler, ("auc", "efficiency"), (grid_fraction(scores),))
    counts = resampler.counts[resampler.cluster]
    expected = []
    areas = []
    for r in range(replicas):
        weights = counts[:, r].astype(np.float64)
        expected.append(signal_efficiency_at(roc_curve(scores, positive, weights), fraction))
        areas.append(weighted_auc(scores, positive, weights))
    # the very same resamples: the threshold moves inside the window only
    assert found["efficiency"].replicas[0] == pytest.approx(expected, abs=1e-5)
    base = figures_of(columns(np.zeros((1, n)), scores=np.zeros((1, 1, n))), judge, resampler, ("auc",), (0,))["auc"]
    linear, _ = found["auc"].resampled(base, resampler)
    assert np.abs(linear[0] - areas).max() < 0.25 * np.std(areas)  # to first order


@pytest.mark.parametrize("n", [40, 700])
@pytest.mark.parametrize("fraction", [0.004, 0.1, 0.95])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("at_once", [1, 5000, 2**24])
def test_resampled_efficiencies_of_several_networks_with_weights(n, fraction, grouped, at_once, monkeypatch):
    """Scores on coarse, fine and no grid and not finite ones side by side; one bin of a fine grid holds no event."""
    monkeypatch.setattr(efficiency_replicas, "_VALUES_AT_ONCE", at_once)
    coarse, positive, weights, groups = scored(n, 2, 0.25)
    fine, free = np.round(np.roll(coarse, 1) * 1000) / 4096 + positive, scored(n, 2, 0.0)[0]
    scores = np.stack([coarse, fine, np.where(np.arange(n) == 3, np.nan, coarse), free])
    judge = judge_of(
        n, ("efficiency",), "efficiency_at_fpr", (Ranking(Score("head"), None, positive),), fraction, weights
    )
    resampler = Resampler(n, groups if grouped else None, 80, seed=5)
    block = columns(np.zeros((4, n)), scores=scores.reshape(1, 4, n))
    found = figures_of(block, judge, resampler, ("efficiency",), (grid_fraction(coarse),))["efficiency"]
    counts = resampler.counts if resampler.cluster is None else resampler.counts[resampler.cluster]
    assert np.isnan(found.values[2]) and np.isnan(found.replicas[2]).all()
    for v in (0, 1, 3):
        curve = roc_curve(scores[v], positive, weights)
        assert found.values[v] == pytest.approx(signal_efficiency_at(curve, fraction), rel=1e-12)
        for r in range(80):
            curve = roc_curve(scores[v], positive, weights * counts[:, r])
            assert found.replicas[v, r] == pytest.approx(signal_efficiency_at(curve, fraction), abs=1e-5)


def sequential(right, level, width, n, first=64, seed=0):
    simulations = len(right)
    base = columns(np.zeros((1, n), np.float32), np.ones((1, n), bool))
    bench = Bench(base, judge_of(n, ("accuracy",)), Resampler(n, None, 2, seed), width, level, first)
    seen = np.zeros(simulations, np.int64)

    def evaluate(rows, which):
        seen[list(which)] += rows.stop - rows.start
        chosen = right[list(which), rows]
        return columns(np.zeros(chosen.shape, np.float32), chosen)

    judged = bench.judge_all(evaluate, simulations)
    assert [entry.events for entry in judged] == seen.tolist()  # nothing is computed after the stop, nothing twice
    return judged


@pytest.mark.parametrize("level", [LEVEL_68, LEVEL_95])
@pytest.mark.parametrize("p", [0.002, 0.02, 0.2, 0.5])
def test_sequential_intervals_cover_at_their_level_or_more_although_the_data_decide_when_to_stop(p, level):
    rng = np.random.default_rng(6)
    n, simulations = 8192, 1200
    judged = sequential(rng.random((simulations, n)) >= p, level, 0.03, n)
    figures = [entry.figures["accuracy"] for entry in judged]
    events = np.array([entry.events for entry in judged])
    assert coverage(figures, -p, "change_low", "change_high") > level - 3 * np.sqrt(level * (1 - level) / simulations)
    widths = np.array([f.change_high - f.change_low for f in figures])
    narrow = widths <= np.maximum(0.03, 0.2 * np.abs([f.change for f in figures])) + 1e-12
    assert (narrow | (events == n)).all()
    assert events.mean() <= n / 2


def test_a_rule_that_takes_the_luckiest_look_still_covers():
    """The claim is about any stopping rule: here the worst one, the look whose interval is farthest off."""
    rng = np.random.default_rng(7)
    p, n, simulations = 0.1, 4096, 1500
    looks = make_looks(n, 128)
    assert looks.events == (128, 256, 512, 1024, 2048, 4096)
    wrong = rng.random((simulations, n)) < p
    missed = np.zeros(simulations, bool)
    plain = np.zeros(simulations, bool)
    for k in looks.events:
        rate = wrong[:, :k].mean(axis=1)
        error = np.sqrt((rate * (1 - rate) + 2 / k) / k)
        missed |= np.abs(rate - p) > looks.sigmas * error
        plain |= np.abs(rate - p) > np.sqrt(rate * (1 - rate) / k)
    assert 1 - missed.mean() > LEVEL_68
    assert 1 - plain.mean() < 0.4  # ordinary intervals at every look do not
    assert looks.sigmas == pytest.approx(norm.isf((1 - LEVEL_68) / 12))


def test_sequential_intervals_of_a_skewed_loss_cover():
    rng = np.random.default_rng(9)
    n, simulations, mean = 8192, 800, 0.05
    # one event in twenty loses an exponential amount, the others nothing
    loss = np.where(rng.random((simulations, n)) < 0.05, rng.exponential(1.0, (simulations, n)), 0.0) + 1.0
    judge = judge_of(n, ("loss",), "loss")
    bench = Bench(columns(np.ones((1, n))), judge, Resampler(n, None, 2), 0.03, LEVEL_68, 128)
    judged = bench.judge_all(lambda rows, which: columns(loss[list(which), rows]), simulations)
    figures = [entry.figures["loss"] for entry in judged]
    assert coverage(figures, mean, "change_low", "change_high") > LEVEL_68 - 0.05
    assert np.mean([entry.events for entry in judged]) < n / 2


def test_agreement_on_the_first_events_is_no_proof_of_agreement():
    n = 4096
    right = np.ones((2, n), bool)
    (entry, _) = sequential(right, LEVEL_68, 1e-6, n)
    figure = entry.figures["accuracy"]
    assert entry.events == n and figure.change == 0 and figure.change_high == -figure.change_low > 1 / n
    # a network wrong in one of a thousand events is seen to agree with probability above 0.3 on 1024 events
    assert binom.pmf(0, 1024, 0.001) > 0.3 and figure.change_high > 0


def test_efficiency_waits_for_background_to_pass():
    n = 20_000
    rng = np.random.default_rng(1)
    positive = rng.random(n) < 0.5
    judge = judge_of(n, ("efficiency",), "efficiency_at_fpr", (Ranking(Score("head"), None, positive),), 0.01)
    scores = (rng.normal(size=n) + 2 * positive).reshape(1, 1, n)
    bench = Bench(columns(np.zeros((1, n)), scores=scores), judge, Resampler(n, None, 50), 0.2)
    assert bench.looks.events[0] == pytest.approx(25 / 0.01 * n / (~positive).sum(), abs=1)


def test_poisson_counts_have_mean_and_variance_one():
    counts = Resampler(20_000, None, 100).counts
    assert counts.mean() == pytest.approx(1, abs=0.003) and counts.var() == pytest.approx(1, abs=0.01)
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.002)
    assert (Resampler(50, None, 7, 1).counts == Resampler(50, None, 7, 1).counts).all()
    with pytest.raises(DataError, match="no spread"):
        Resampler(5, None, 1)
    with pytest.raises(DataError, match="4 collision numbers for 5"):
        Resampler(5, np.arange(4), 10)

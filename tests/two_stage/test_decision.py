"""Thresholds, rates and efficiencies of two stages against the decision written out, and against a FIFO of events."""

import itertools
import math

import numpy as np
import pytest
from two_stage_toys import brute_probability, row_passes, toy_sample

from trigger_prune.errors import DataError
from trigger_prune.physics.scored_events import ScoredEvents
from trigger_prune.two_stage.decision import (
    Thresholds,
    choose_thresholds,
    solve_split,
    split_by_light,
)
from trigger_prune.two_stage.queue import solve_queue
from trigger_prune.two_stage.sample import TwoStageSample
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure, Engine
from trigger_prune.two_stage.working_point import escalated_fraction, passing_probability, quote

TRAIN = BeamStructure("train", np.array([True] * 8 + [False] * 3))
ENGINE = Engine(20, 9, 1)


def train_queue(arrivals):
    return solve_queue(TRAIN, arrivals, ENGINE)


@pytest.mark.parametrize("objects", [1, 4])
def test_probabilities_are_those_of_the_decision_written_out(objects):
    """Every row, for losses large and small, with and without accepting at once."""
    sample = toy_sample(1, rows=300, objects=objects)
    for thresholds in (
        Thresholds(0.5, 3.0, 1.25, 1.5),
        Thresholds(-1.0, math.inf, 2.0, math.inf),
        Thresholds(1.0, 2.0, math.inf, 1.25),
    ):
        for rooms in ([0.3, 0.7], [0.1, 0.2, 0.05, 0.65], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]):
            found = passing_probability(sample, thresholds, np.array(rooms))
            np.testing.assert_allclose(found, brute_probability(sample, thresholds, rooms), atol=1e-14)


@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_no_pair_of_thresholds_does_better(objects, share):
    """Exhaustive search over all values of both scores: the rate is met and nothing beats the efficiency."""
    sample = toy_sample(2, rows=200, objects=objects, step=0.5)
    target, rooms = 4e6, np.array([0.2, 0.3, 0.1, 0.4])
    split = split_by_light(sample, 0.4, share, target, "HH4b")
    found = solve_split(split, rooms, target)
    background, signal = sample.signal == -1, sample.signal == 0

    def figures(thresholds):
        passing = brute_probability(sample, thresholds, rooms)
        return (
            float(sample.weights[background] @ passing[background]),
            float(sample.weights[signal] @ passing[signal] / sample.weights[signal].sum()),
        )

    rate, efficiency = figures(found.thresholds)
    assert rate == pytest.approx(found.rate_hz) and rate <= target * (1 + 1e-9)
    assert efficiency == pytest.approx(found.efficiency)
    lower = np.unique(sample.full[sample.full < found.thresholds.t_full])[-1]
    while (more := figures(Thresholds(split.t_reject, split.t_accept, lower, found.thresholds.t_overflow))[0]) == rate:
        lower = np.unique(sample.full[sample.full < lower])[-1]
    assert more > target and more - rate == pytest.approx(found.rate_step_hz)
    escalated = sample.escalates(split.t_reject, split.t_accept)
    lights, fulls = np.unique(sample.light[escalated]), np.unique(sample.full[escalated])
    for t_overflow, t_full in itertools.product([*lights, math.inf], [*fulls, math.inf]):
        other_rate, other = figures(Thresholds(split.t_reject, split.t_accept, t_full, t_overflow))
        assert other_rate > target or other <= efficiency + 1e-12


@pytest.mark.parametrize("objects", [1, 3])
def test_rates_of_many_targets(objects):
    """The rate is that of the decision written out, and never above the target, also where overflow alone could be."""
    sample = toy_sample(13, rows=160, objects=objects, step=0.1)
    rooms, background = np.array([0.3, 0.3, 0.1, 0.3]), sample.signal == -1
    split = split_by_light(sample, 0.8, 0.0, 1e6, "HH4b")
    for target in np.geomspace(2e5, 2e7, 25):
        found = solve_split(split, rooms, target)
        passing = brute_probability(sample, found.thresholds, rooms)
        assert sample.weights[background] @ passing[background] == pytest.approx(found.rate_hz, abs=1e-3)
        assert found.rate_hz <= target * (1 + 1e-9)
        escalated = sample.escalates(split.t_reject, split.t_accept) & background[sample.row]
        if found.rate_step_hz == 0:
            assert found.thresholds.t_full == sample.full[escalated].min()
        else:
            assert found.rate_hz + found.rate_step_hz > target


def test_thresholds_of_the_light_score():
    """t_accept spends its share, t_reject escalates what was asked for, and one step lower would be too much."""
    sample = toy_sample(3, step=0.05)
    target = 1e6
    split = split_by_light(sample, 0.1, 0.25, target, "ttbar")
    background = sample.signal == -1
    light, weights = sample.light[background], sample.weights[background]

    def rate(low, high=math.inf):
        return weights[(light >= low - 1e-9) & (light < high - 1e-9)].sum()

    assert rate(split.t_accept) <= 0.25 * target < rate(split.t_accept - 0.05)
    assert rate(split.t_reject, split.t_accept) <= 3e6 < rate(split.t_reject - 0.05, split.t_accept)
    wanted = rate(split.t_reject, split.t_accept) / 3e7
    assert split.arrivals.batch_probability == pytest.approx((1 - wanted, wanted))


def test_rates_hold_when_events_go_through_a_fifo():
    """Events drawn into the crossings of a train, object by object through a real FIFO: the rates of both kinds."""
    sample = toy_sample(4, rows=400, objects=4)
    decision = choose_thresholds(sample, 3e6, 0.5, train_queue, "HH4b")
    thresholds = decision.thresholds
    rooms = sample.rooms(train_queue(sample.arrivals(thresholds.t_reject, thresholds.t_accept)))
    assert rooms[0] > 0.02 and rooms[1] > 0.02 and math.isfinite(thresholds.t_overflow)
    passing = passing_probability(sample, thresholds, rooms)
    background = np.flatnonzero(sample.signal == -1)
    expected = float(sample.weights[background] @ passing[background])
    assert expected == pytest.approx(decision.rate_hz)

    generator = np.random.default_rng(5)
    streams, orbits = 40, 60
    probability = sample.weights[background] / sample.weights[background].sum()
    slices = [np.flatnonzero(sample.row == row) for row in range(len(sample.weights))]
    shares = []
    for _ in range(streams):
        draws = iter(generator.choice(background, orbits * TRAIN.n_filled, p=probability))
        engine_free, starts, passed, cycle = 0, [], 0, 0
        for filled in np.tile(TRAIN.filled, orbits):
            if filled:
                objects = slices[next(draws)]
                starts = [start for start in starts if start > cycle]
                room = ENGINE.fifo_depth - len(starts) + (engine_free <= cycle)
                passed += row_passes(sample.light[objects], sample.full[objects], room, thresholds)
                wanted = int(sample.escalates(thresholds.t_reject, thresholds.t_accept)[objects].sum())
                for _ in range(min(wanted, room)):
                    starts.append(max(engine_free, cycle))
                    engine_free = starts[-1] + ENGINE.ii_cycles
            cycle += ENGINE.clock_multiple
        shares.append(passed / (orbits * TRAIN.n_filled))
    error = np.std(shares, ddof=1) / math.sqrt(streams)
    assert abs(np.mean(shares) - expected / 3e7) < 3 * error < 0.1 * expected / 3e7


def test_overflow_is_paid_for():
    """More losses never raise the efficiency, but by the steps of t_full; without losses there is no t_overflow."""
    sample = toy_sample(6, rows=20_000, step=1e-6)
    split = split_by_light(sample, 0.2, 0.0, 1e6, "HH4b")
    losses = (0.0, 1e-6, 1e-3, 0.05, 0.5)
    found = [solve_split(split, np.array([loss, 1 - loss]), 1e6) for loss in losses]
    efficiencies = [one.efficiency for one in found]
    assert (np.diff(efficiencies) < 5e-4).all()
    assert math.isinf(found[0].thresholds.t_overflow)
    assert efficiencies[0] == pytest.approx(efficiencies[1], abs=1e-6) and efficiencies[-1] < 0.97 * efficiencies[0]
    assert all(one.rate_hz <= 1e6 * (1 + 1e-9) for one in found)


def test_all_escalated_without_losses_is_the_full_model():
    """The limit in which nothing is gained and nothing lost."""
    sample = toy_sample(7)
    split = split_by_light(sample, 1.0, 0.0, 1e6, "HH4b")
    found = solve_split(split, np.array([0.0, 1.0]), 1e6)
    background = sample.signal == -1
    order = np.argsort(-sample.full[background])
    values, sums = sample.full[background][order], np.cumsum(sample.weights[background][order])
    steps = [(v, sums[values == v].max()) for v in np.unique(values)]
    assert found.thresholds.t_full == min(v for v, rate in steps if rate <= 1e6)


def test_quote_on_test():
    """Rates, escalated share and efficiencies of the test sample from the decision written out."""
    validation, test = toy_sample(8, rows=600), toy_sample(9, rows=600)
    decision = choose_thresholds(validation, 3e6, 0.3, train_queue, "HH4b")
    point = quote(validation, test, decision, 3e6, train_queue)
    thresholds, background = decision.thresholds, test.signal == -1
    escalates = (test.light >= thresholds.t_reject) & (test.light < thresholds.t_accept)
    share = test.weights[background & escalates].sum() / test.weights[background].sum()
    queue = train_queue(Arrivals.single(share))
    passing = brute_probability(test, thresholds, [queue.overflow_per_object, 1 - queue.overflow_per_object])
    assert point.escalated.value == pytest.approx(share)
    assert point.queue.overflow_per_object == pytest.approx(queue.overflow_per_object)
    assert point.test_rate.rate_hz == pytest.approx(test.weights[background] @ passing[background])
    assert point.validation_rate.rate_hz == pytest.approx(decision.rate_hz) and decision.rate_hz <= 3e6
    for process, name in enumerate(test.signal_names):
        rows = test.signal == process
        assert point.efficiency[name].value == pytest.approx(passing[rows].mean())
        always = brute_probability(test, thresholds, [0.0, 1.0])
        assert point.efficiency_without_overflow[name] == pytest.approx(always[rows].mean())
    assert point.overflow_low < point.queue.overflow_per_object < point.overflow_high
    by_policy = background & escalates & (test.light >= thresholds.t_overflow)
    assert point.overflow_rate_hz == pytest.approx(queue.overflow_per_object * test.weights[by_policy].sum())
    assert "effective background events" in " ".join(point.warnings)


def test_escalated_share_knows_repeated_collisions():
    """Ten copies of every collision make the sample larger, not the error smaller."""
    once = toy_sample(10, rows=500)
    thresholds = Thresholds(1.0, math.inf, 0.0, 0.0)
    rows = np.repeat(np.arange(500), 10)
    tenfold = TwoStageSample(
        once.light[rows],
        once.full[rows],
        np.arange(5000),
        once.signal[rows],
        once.weights[rows] / 10,
        once.groups[rows],
        once.signal_names,
    )
    plain, repeated = escalated_fraction(once, thresholds), escalated_fraction(tenfold, thresholds)
    assert repeated.value == pytest.approx(plain.value)
    assert repeated.error == pytest.approx(plain.error, rel=0.05)


def test_rows_that_are_objects():
    """A jet tagger at 1 % background: ten jets per crossing share the engine, rates count jets."""
    multiplicity = (0.0,) * 10 + (1.0,)
    sample = toy_sample(11, total_hz=1.0, multiplicity=multiplicity, step=0.01)
    decision = choose_thresholds(sample, 0.01, 0.1, train_queue, "HH4b", (0.0,))
    arrivals = sample.arrivals(decision.thresholds.t_reject, math.inf)
    share = escalated_fraction(sample, decision.thresholds).value
    assert arrivals.mean == pytest.approx(10 * share)
    assert arrivals.batch_probability[2] == pytest.approx(45 * share**2 * (1 - share) ** 8)
    queue = train_queue(arrivals)
    assert sample.rooms(queue) == pytest.approx([queue.overflow_per_object, 1 - queue.overflow_per_object])
    point = quote(sample, sample, decision, 0.01, train_queue)
    assert point.test_rate.rate_hz == pytest.approx(decision.rate_hz) and 0.009 < decision.rate_hz <= 0.01
    assert point.overflow_low < queue.overflow_per_object < point.overflow_high


def test_one_object_per_event_from_two_scores():
    """The scores of two networks on the same events; others are refused."""
    generator = np.random.default_rng(0)
    signal, weights, groups = np.array([-1, -1, 0, 0]), np.ones(4), np.arange(4)
    light, full = (ScoredEvents(generator.normal(size=4), signal, weights, groups, ("a",)) for _ in range(2))
    sample = TwoStageSample.from_events(light, full)
    np.testing.assert_array_equal(sample.light, light.scores)
    np.testing.assert_array_equal(sample.full, full.scores)
    other = ScoredEvents(full.scores, signal, 2 * weights, groups, ("a",))
    with pytest.raises(DataError, match="same events"):
        TwoStageSample.from_events(light, other)


def test_thresholds_survive_json():
    """Infinity has no JSON."""
    thresholds = Thresholds(1.0, math.inf, 2.0, math.inf)
    assert thresholds.to_dict() == {"t_reject": 1.0, "t_accept": None, "t_full": 2.0, "t_overflow": None}
    assert Thresholds.from_dict(thresholds.to_dict()) == thresholds


def test_refusals():
    """What cannot be solved is said."""
    sample = toy_sample(12)
    with pytest.raises(DataError, match="highest light score alone"):
        split_by_light(sample, 1e-9, 0.0, 1e6, "HH4b")
    with pytest.raises(DataError, match="no signal is called 'HH'"):
        split_by_light(sample, 0.1, 0.0, 1e6, "HH")
    with pytest.raises(DataError, match="makes no sense"):
        split_by_light(sample, 0.1, 1.0, 1e6, "HH4b")
    split = split_by_light(sample, 0.1, 0.5, 1e6, "HH4b")
    with pytest.raises(DataError, match="lower the accepted share"):
        solve_split(split, np.array([0.0, 1.0]), 1e5)
    with pytest.raises(DataError, match="share 0"):
        choose_thresholds(sample, 1e-3, 0.1, train_queue, "HH4b", (0.1,))
    base = dict(vars(sample))
    for change, message in (
        ({"row": base["row"][::-1]}, "ascend"),
        ({"light": base["light"][:-1]}, "do not match"),
        ({"full": np.where(np.arange(len(base["full"])) == 7, np.nan, base["full"])}, "full score of row 7"),
        ({"row": np.zeros_like(base["row"])}, "has 4000 objects"),
        ({"multiplicity": (0.0, 1.0), "row": np.minimum(base["row"], 3998)}, "every row is one object"),
    ):
        with pytest.raises(DataError, match=message):
            TwoStageSample(**(base | change))

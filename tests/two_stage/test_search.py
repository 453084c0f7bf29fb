"""The search against single calls, and its honesty about what cannot be compared or shared."""

import math

import numpy as np
import pytest
from two_stage_toys import report, toy_sample

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ConfigError, CostError, DataError, StageMismatchError
from trigger_prune.target import Budget
from trigger_prune.two_stage.decision import solve_split, split_by_light
from trigger_prune.two_stage.options import FullOption, LightOption, judging_every_object, used
from trigger_prune.two_stage.pareto import pareto_front
from trigger_prune.two_stage.queue import solve_queue
from trigger_prune.two_stage.search import Requirements, SearchSpace, search, single_stages
from trigger_prune.two_stage.traffic import Arrivals, BeamStructure

TRAIN = BeamStructure("train", np.array([True] * 72 + [False] * 31))
SAMPLE = toy_sample(1, step=0.05)
BETTER = toy_sample(1, step=0.05, noise=0.3)
NEEDS = Requirements(1e6, "HH4b", latency_budget_ns=500.0, control_cycles=3)


def light(name="light", sample=SAMPLE, clock_multiple=9, **cost):
    return LightOption(name, sample, sample, report(name, **({"dsp": 5, "latency": 4} | cost)), clock_multiple)


def full(ii, dsp, latency, clock_multiple=9, **more):
    name = f"full RF {ii}"
    return FullOption(name, "resource", ii, report(name, dsp=dsp, latency=latency, ii=ii, **more), clock_multiple)


SPACE = SearchSpace(
    (light(), light("better", BETTER, dsp=20, latency=6)),
    (full(9, 800, 30), full(18, 400, 50), full(36, 200, 80), full(72, 100, 110)),
    (0.05, 0.1),
    (0, 1, 2, 3, 4),
)


def test_every_design_is_what_single_calls_give():
    """Queue, thresholds, latency and resources of all 80 designs."""
    found = search(SPACE, NEEDS, TRAIN)
    assert len(found.designs) == 80
    judged = [design for design in found.designs if design.decision is not None]
    assert 0 < len(found.front) < len(judged) < 80
    for design in judged[::7]:
        sample = SAMPLE if design.light_name == "light" else BETTER
        splits = [split_by_light(sample, design.escalated, share, 1e6, "HH4b") for share in SPACE.accept_shares]
        split = max(splits, key=lambda one: solve_split(one, np.array([0.0, 1.0]), 1e6).efficiency)
        queue = solve_queue(TRAIN, split.arrivals, design.engine)
        assert design.queue.overflow_per_object == pytest.approx(queue.overflow_per_object)
        assert design.decision == solve_split(split, sample.rooms(queue), 1e6)
        too_lossy = queue.overflow_per_object > NEEDS.max_overflow
        assert bool(design.problems) == too_lossy
    for design in found.designs:
        first, second = (4, 5) if design.light_name == "light" else (6, 20)
        ii = design.engine.ii_cycles
        cycles = first + design.engine.fifo_depth * ii + {9: 30, 18: 50, 36: 80, 72: 110}[ii] + 3
        assert design.latency.total_cycles == cycles
        assert design.resource_used == second + 7200 // ii == design.cost.dsp
        assert (design.decision is None) == (math.ceil(cycles / 9) / 40.079e-3 > 500)


def test_nothing_beats_the_front():
    """Every other solution is matched or beaten by a member; the members are sorted by size."""
    found = search(SPACE, NEEDS, TRAIN)

    def costs(design):
        return np.array([design.resource_used, design.latency.output_bx, -design.decision.efficiency])

    members = [costs(found.designs[i]) for i in found.front]
    assert [m[0] for m in members] == sorted(m[0] for m in members)
    for design in found.designs:
        if not design.problems:
            assert any((m <= costs(design)).all() for m in members)


def test_budget_and_buffer():
    """Limits count both models and the FIFO, whose stage stays its own."""

    def buffer(engine):
        return report("fifo", lut=50 * engine.fifo_depth, dsp=0, latency=None, ii=None, stage=CostStage.ANALYTIC)

    needs = Requirements(1e6, "HH4b", 500.0, 3, resource="lut", budget=Budget(lut=2060))
    found = search(SPACE, needs, TRAIN, buffer)
    for design in found.designs:
        assert design.resource_used == 2000 + 50 * design.engine.fifo_depth
        assert any("2100 LUT, allowed 2060" in p for p in design.problems) == (design.engine.fifo_depth == 2)
        assert design.cost.stage is CostStage.CSYNTH and design.buffer.stage is CostStage.ANALYTIC


def test_a_queue_that_never_settles_is_a_problem_of_its_design_only(monkeypatch):
    """The other designs are found all the same."""

    def settles(beam, arrivals, engine):
        if engine.ii_cycles == 36:
            return solve_queue(BeamStructure("continuous", np.ones(9, bool)), Arrivals((0.0, 1.0)), engine)
        return solve_queue(beam, arrivals, engine)

    monkeypatch.setattr("trigger_prune.two_stage.search.solve_queue", settles)
    space = SearchSpace((light(),), (full(9, 800, 30), full(36, 200, 80)), (0.05,), (2,))
    first, second = search(space, NEEDS, TRAIN).designs
    assert first.problems == () and first.decision is not None
    assert "full for ever" in second.problems[0] and second.decision is None


def test_overload_needs_no_queue():
    """The share that the engine cannot serve in 103 crossings, 72 of them filled with one object each in two."""
    space = SearchSpace((light(),), (full(72, 100, 20),), (0.5,), (1,), (0.0,))
    needs = Requirements(1e6, "HH4b", 1000.0, 3)
    (design,) = search(space, needs, TRAIN).designs
    share = split_by_light(SAMPLE, 0.5, 0.0, 1e6, "HH4b").arrivals.mean
    assert design.queue is None and f"at least {1 - 103 * 9 / (72 * share * 72):.2g}" in design.problems[0]


def test_clocks_do_not_mix():
    """A light model meets the full models of its own clock only."""
    space = SearchSpace((light(),), (full(9, 800, 30), full(9, 700, 30, clock_multiple=6)), (0.1,), (2,))
    assert [design.engine.clock_multiple for design in search(space, NEEDS, TRAIN).designs] == [9]
    with pytest.raises(DataError, match="clock"):
        search(SearchSpace((light(clock_multiple=6),), SPACE.fulls, (0.1,), (2,)), NEEDS, TRAIN)


def test_only_like_is_compared():
    """Stages and unrolled designs."""
    mixed = SearchSpace((light(stage=CostStage.ANALYTIC),), SPACE.fulls, (0.1,), (2,))
    with pytest.raises(StageMismatchError):
        search(mixed, NEEDS, TRAIN)
    with pytest.raises(ConfigError, match="fully unrolled"):
        FullOption("da", "distributed_arithmetic", 4, report(ii=4), 9)
    with pytest.raises(CostError, match="no latency"):
        FullOption("x", "resource", 4, report(ii=None), 9)
    with pytest.raises(CostError, match="does not state dsp"):
        used("dsp", report(dsp=None))
    with pytest.raises(CostError, match="does not state carrots"):
        used("carrots", report())


@pytest.mark.parametrize(
    ("ii", "objects", "copies", "latency"),
    [(1, 1, 1, 10), (9, 1, 1, 10), (10, 1, 2, 10), (1, 9, 1, 18), (1, 10, 2, 14), (4, 10, 5, 14), (36, 10, 40, 10)],
)
def test_copies_keep_up_with_the_beam(ii, objects, copies, latency):
    """So many that all objects of a crossing start before the next crossing's."""
    found = judging_every_object(report(ii=ii, latency=10), 9, objects)
    assert (found.copies, found.latency_cycles) == (copies, latency)
    assert found.cost.dsp == 100 * copies and found.cost.lut == 1000 * copies
    assert copies * 9 >= objects * ii > (copies - 1) * 9


def test_single_stages_are_the_honest_rival():
    """RF = cycles per crossing takes one copy, twice that takes two and gains nothing."""
    found = single_stages(SPACE.fulls, NEEDS)
    assert [stage.every.copies for stage in found] == [1, 2, 4, 8]
    assert {stage.resource_used for stage in found} == {800}
    assert [stage.latency.total_cycles for stage in found] == [33, 53, 83, 113]
    assert not any(stage.problems for stage in found)


def test_pareto_front_by_definition():
    """Against all pairs, with ties."""
    costs = np.random.default_rng(0).integers(0, 6, (300, 3)).astype(float)
    wanted = [not any((o <= c).all() and (o < c).any() for o in costs) for c in costs]
    np.testing.assert_array_equal(pareto_front(costs), wanted)

"""Lines of the comparison against figures counted by hand."""

import math

import numpy as np
import pytest
from study_toys import BEAM, ENGINES, STEP, buffer, engine, light, requirements
from two_stage_toys import brute_probability, report

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import StageMismatchError
from trigger_prune.two_stage.options import FullOption
from trigger_prune.two_stage.queue import solve_queue
from trigger_prune.two_stage.search import SearchSpace, search
from trigger_prune.two_stage.table import (
    AloneModel,
    MenuDecisions,
    TableInputs,
    menu_row,
    single_row,
    smallest_single,
    two_stage_row,
)
from trigger_prune.two_stage.working_point import quote

LIGHT = light("light", 0.5)
NEEDS = requirements()
TABLE = TableInputs(LIGHT.validation, LIGHT.test, NEEDS)


def counted(validation_scores, test_scores, target=1e6):
    """Threshold on validation, efficiency and rate on test, event by event."""
    best = math.inf
    for value in sorted({float(x) for x in validation_scores}, reverse=True):
        rate = sum(
            w
            for w, s, x in zip(LIGHT.validation.weights, LIGHT.validation.signal, validation_scores, strict=True)
            if s == -1 and x >= value
        )
        if rate > target:
            break
        best = value
    test = LIGHT.test
    passes = [x >= best for x in test_scores]
    rate = sum(w for w, s, p in zip(test.weights, test.signal, passes, strict=True) if s == -1 and p)
    signal = [p for s, p in zip(test.signal, passes, strict=True) if s == 0]
    return sum(signal) / len(signal), rate


@pytest.mark.parametrize("which", ["full", "light"])
def test_a_model_alone_is_counted_event_by_event(which):
    """Efficiency and rate of its own threshold; the full model has no loss, the light one a positive one."""
    validation, test = getattr(LIGHT.validation, which), getattr(LIGHT.test, which)
    judged = single_row(AloneModel(which, "x", validation, test, ENGINES), TABLE)
    efficiency, rate = counted(validation, test)
    assert judged.row.efficiency.value == pytest.approx(efficiency, abs=1e-12)
    assert judged.row.rate.rate_hz == pytest.approx(rate, rel=1e-12)
    assert (judged.row.loss is None) == (which == "full")
    assert which == "full" or judged.row.loss.relative_loss.value > 0.1


def test_the_single_stage_is_the_smallest_that_judges_every_object():
    """Cycles per crossing allow RF 9 in one copy; larger ones in copies are no smaller, RF 1 is larger."""
    stage, option = smallest_single(ENGINES, NEEDS)
    assert (stage.reuse_factor, stage.every.copies, stage.resource_used) == (9, 1, 800)
    assert stage.latency.total_cycles == 33 and option is ENGINES[1]
    # RF 9 takes 33 cycles = 4 BX = 100 ns: with 75 ns only RF 1 is left
    assert smallest_single(ENGINES, requirements(latency_budget_ns=75.0))[0].reuse_factor == 1
    late = smallest_single(ENGINES, requirements(latency_budget_ns=25.0))[0]
    assert late.reuse_factor == 9 and "latency" in late.problems[0]


def test_several_objects_need_copies_which_count():
    """Three objects per crossing: 9 cycles are enough for one copy at II 3, not at II 9."""
    options = (engine(3, 2400, 22), engine(9, 900, 30))
    judged = single_row(
        AloneModel("full", "x", TABLE.validation.full, TABLE.test.full, options),
        TableInputs(TABLE.validation, TABLE.test, requirements(objects_per_crossing=3)),
    )
    assert judged.used == 2400 and judged.row.cost.dsp == 2400
    assert judged.row.latency.full_cycles == 22 + 2 * 3
    both = single_row(
        AloneModel("full", "x", TABLE.validation.full, TABLE.test.full, (engine(3, 2800, 22), engine(9, 900, 30))),
        TableInputs(TABLE.validation, TABLE.test, requirements(objects_per_crossing=3)),
    )
    assert both.used == 2700 and "3 copies" in both.row.note and both.row.cost.dsp == 2700


def test_a_menu_is_brought_to_the_rate_by_ties():
    """At the target it passes so much of its own events, or of all others, as the rate allows."""
    test = LIGHT.test
    accepted = test.full > 2.5
    judged = menu_row(MenuDecisions("menu", accepted), TABLE)
    background, signal = test.signal == -1, test.signal == 0
    rate = test.weights[background & accepted].sum()
    own, other = accepted[signal].mean(), 1.0
    assert rate < NEEDS.target_hz < test.weights[background].sum()
    share = (NEEDS.target_hz - rate) / (test.weights[background].sum() - rate)
    assert judged.row.loss.candidate == pytest.approx(own + share * (other - own), rel=1e-9)
    assert judged.row.efficiency.value == pytest.approx(own)
    assert judged.row.rate.rate_hz == pytest.approx(rate)
    assert judged.row.cost is None and judged.row.latency is None and judged.used is None


def test_two_stages_are_the_mixture_over_rooms():
    """Efficiency and rate on test by trying every room of every crossing; all resources, the buffer's too."""
    space = SearchSpace(LIGHT.options, ENGINES, (0.1,), (1,))
    design = next(d for d in search(space, NEEDS, BEAM, buffer).designs if d.engine.ii_cycles == 18)

    def solve(arrivals):
        return solve_queue(BEAM, arrivals, design.engine)

    point = quote(LIGHT.validation, LIGHT.test, design.decision, NEEDS.target_hz, solve)
    judged = two_stage_row(design, LIGHT.options[0].cost, ENGINES[2], LIGHT.test, point, TABLE)
    test = LIGHT.test
    probability = brute_probability(test, point.thresholds, point.queue.room_probability)
    background, signal = test.signal == -1, test.signal == 0
    assert judged.row.rate.rate_hz == pytest.approx(test.weights[background] @ probability[background], rel=1e-9)
    assert judged.row.efficiency.value == pytest.approx(probability[signal].mean(), rel=1e-9)
    assert judged.used == 5 + 400 and judged.row.cost.dsp == 405 and judged.row.buffer.lut == 40
    assert judged.row.latency.total_cycles == 4 + 18 + 50 + 3
    full_alone = counted(LIGHT.validation.full, test.full)[0]
    assert judged.row.loss.reference == pytest.approx(full_alone, abs=0.02)


def test_errors_of_estimates():
    """Half the 90 % interval of the logarithm; nothing for a measurement; unknown for an estimate without interval."""

    def row(**cost):
        option = FullOption("x", "Resource", 9, report(dsp=100, latency=10, ii=9, **cost), 9)
        model = AloneModel("full", "x", TABLE.validation.full, TABLE.test.full, (option,))
        return single_row(model, TableInputs(TABLE.validation, TABLE.test, requirements(objects_per_crossing=2)))

    estimate = {"stage": CostStage.ANALYTIC, "predicts": CostStage.CSYNTH}
    assert row(**estimate, interval_90={"dsp": (50.0, 200.0)}).spread == pytest.approx(math.log(2))
    assert row(**estimate).spread is None
    assert row().spread == 0


def test_stages_do_not_mix():
    """A light model of another stage than the engine's cannot be added."""
    other = light("light", 0.5, stage=CostStage.ANALYTIC)
    with pytest.raises(StageMismatchError):
        search(SearchSpace(other.options, ENGINES, (0.1,), (1,)), NEEDS, BEAM)


def test_scores_lie_on_the_toy_grid():
    """What the other tests take for granted."""
    steps = LIGHT.test.light / STEP
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)

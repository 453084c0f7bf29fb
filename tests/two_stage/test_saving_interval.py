"""What two estimates of the full model have wrong in common, from the report to the saving."""

import math
from dataclasses import replace

import pytest
from study_toys import BEAM, ENGINES, buffer, light, requirements

from trigger_prune.cost.hls.shared_error import SHARED_ERROR
from trigger_prune.cost.report import CostStage
from trigger_prune.two_stage.queue import solve_queue
from trigger_prune.two_stage.search import SearchSpace, search
from trigger_prune.two_stage.table import AloneModel, TableInputs, single_row, two_stage_row
from trigger_prune.two_stage.working_point import quote

LIGHT = light("light", 0.5)
NEEDS = requirements()
TABLE = TableInputs(LIGHT.validation, LIGHT.test, NEEDS)


def estimated(option, half_width, shared):
    dsp = option.cost.dsp
    cost = replace(
        option.cost,
        stage=CostStage.ANALYTIC,
        predicts=CostStage.CSYNTH,
        interval_90={"dsp": (dsp * math.exp(-half_width), dsp * math.exp(half_width))},
    )
    return replace(option, cost=cost.with_details(**{SHARED_ERROR: {"dsp": shared}}))


def test_the_full_model_shares_what_its_report_says_and_no_other_model_does():
    options = (estimated(ENGINES[1], 0.5, 0.4),)
    for kind, shared in (("full", 0.4), ("light", 0.0), ("pruned", 0.0)):
        judged = single_row(AloneModel(kind, "x", TABLE.validation.full, TABLE.test.full, options), TABLE)
        assert (judged.spread, judged.shared) == (pytest.approx(0.5), pytest.approx(shared)), kind
    # never more than the whole error
    options = (estimated(ENGINES[1], 0.5, 0.7),)
    judged = single_row(AloneModel("full", "x", TABLE.validation.full, TABLE.test.full, options), TABLE)
    assert judged.shared == pytest.approx(0.5)


def test_two_stages_share_it_in_proportion_to_the_full_model():
    """400 of 405 DSP are the full model's."""
    space = SearchSpace(LIGHT.options, ENGINES, (0.1,), (1,))
    design = next(d for d in search(space, NEEDS, BEAM, buffer).designs if d.engine.ii_cycles == 18)
    point = quote(
        LIGHT.validation,
        LIGHT.test,
        design.decision,
        NEEDS.target_hz,
        lambda arrivals: solve_queue(BEAM, arrivals, design.engine),
    )
    full = estimated(ENGINES[2], 0.6, 0.4)
    judged = two_stage_row(design, LIGHT.options[0].cost, full, LIGHT.test, point, TABLE)
    assert judged.used == 405
    assert judged.spread == pytest.approx(0.6 * 400 / 405)
    assert judged.shared == pytest.approx(0.4 * 400 / 405)

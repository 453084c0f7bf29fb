"""The whole study on toys: which design is chosen, and what is said when there is none."""

import math
from dataclasses import replace

import numpy as np
import pytest
from study_toys import ENGINES, GRID, STEP, buffer, engine, light, requirements, study_inputs
from two_stage_toys import report

from trigger_prune.errors import DataError, StageMismatchError
from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.scores import Score
from trigger_prune.target import Budget
from trigger_prune.two_stage.compare import paired_loss, single_ladder, two_stage_ladder
from trigger_prune.two_stage.decision import Thresholds
from trigger_prune.two_stage.options import FullOption
from trigger_prune.two_stage.queue import solve_queue
from trigger_prune.two_stage.quoted import integer_thresholds
from trigger_prune.two_stage.search import SearchSpace, search
from trigger_prune.two_stage.study import run_study
from trigger_prune.two_stage.traffic import Arrivals


def test_the_smallest_design_within_the_loss_is_chosen():
    """Of all solutions, none that is smaller has a 90 % limit of its validation loss within the maximum."""
    inputs = study_inputs()
    study = run_study(inputs)
    best, needs = study.findings.best, inputs.requirements
    assert best is not None and study.findings.recommendation.verdict == "two_stage"
    smaller = []
    for candidate in inputs.lights:
        space = SearchSpace(candidate.options, inputs.fulls, inputs.escalated, inputs.fifo_depths)
        for design in search(space, needs, inputs.beam, buffer).designs:
            if design.problems or design.resource_used >= best.point.resource_used:
                continue
            sample = candidate.validation
            ladder = two_stage_ladder(sample, design.decision.thresholds, sample.rooms(design.queue))
            loss = paired_loss(sample, single_ladder(sample, sample.full), ladder, needs.target_hz, "HH4b")
            smaller.append(loss.relative_loss_limit90)
    assert smaller and min(smaller) > inputs.max_loss
    point = best.point
    assert point in study.findings.designs and not point.problems
    assert study.light.name == point.light_name and study.full.reuse_factor == point.reuse_factor
    assert best.thresholds == study.design.decision.thresholds


def test_the_findings_fit_together():
    """Rows in order, one per model; parts add up; the front holds solutions only; overflow falls with depth."""
    inputs = study_inputs()
    found = run_study(inputs).findings
    assert [row.kind for row in found.rows] == ["full", "pruned", "light", "light", "menu", "two_stage"]
    assert len(found.designs) == 2 * len(ENGINES) * 4 * 4 and len(found.singles) == len(ENGINES)
    assert all(not found.designs[i].problems for i in found.front)
    sizes = [found.designs[i].resource_used for i in found.front]
    assert sizes == sorted(sizes)
    best, row = found.best, found.rows[-1]
    assert sum(part.cost.dsp for part in best.parts) == row.cost.dsp == best.point.resource_used
    assert sum(part.cost.lut for part in best.parts) == row.cost.lut + row.buffer.lut
    depths, losses = zip(*best.overflow_by_depth, strict=True)
    assert depths == (0, 1, 2, 3, 4) and list(losses) == sorted(losses, reverse=True)
    exact = solve_queue(
        inputs.beam,
        Arrivals(best.working_point.queue.batch_probability),
        replace(best.point.engine, fifo_depth=3),
    )
    assert losses[3] == pytest.approx(exact.overflow_per_object)
    assert found.filled == tuple(inputs.beam.filled.tolist())
    saving = 1 - best.point.resource_used / 800
    assert found.recommendation.saving == pytest.approx(saving)


def test_loss_curves_are_losses_without_overflow():
    """At a share of 1 the light model rejects nothing; below, the loss is what t_reject takes from the full score."""
    inputs = study_inputs(lights=(light("poor", 1.0),), escalated=(0.05, 1.0), accept_shares=(0.0,))
    (curve,) = run_study(inputs).findings.loss_curves
    assert curve.escalated == (0.05, 1.0) and curve.relative_loss[1] == pytest.approx(0.0, abs=1e-12)
    sample = inputs.lights[0].validation
    background, signal = sample.signal == -1, sample.signal == 0

    def efficiency(kept):
        passing = 0.0
        for value in np.unique(sample.full)[::-1]:
            chosen = kept & (sample.full >= value)
            if sample.weights[background & chosen].sum() > 1e6:
                return passing
            passing = chosen[signal].mean()
        return passing

    total = sample.weights[background].sum()
    t_reject = min(
        v for v in np.unique(sample.light) if sample.weights[background & (sample.light >= v)].sum() <= 0.05 * total
    )
    wanted = 1 - efficiency(sample.light >= t_reject) / efficiency(np.ones(len(signal), bool))
    assert curve.relative_loss[0] == pytest.approx(wanted, abs=1e-12)


def test_a_light_score_without_steps_is_said_not_fatal():
    """A light model with one score for half of the background cannot escalate 2 %."""
    coarse = light("coarse", 0.3)
    option = coarse.options[0]
    samples = {
        name: replace(getattr(option, name), light=np.where(getattr(option, name).light > 0, 1.0, 0.0))
        for name in ("validation", "test")
    }
    coarse = replace(coarse, options=(replace(option, **samples),))
    found = run_study(study_inputs(lights=(light("good", 0.2), coarse))).findings
    assert any("coarse, 2 % escalated" in text and "highest light score" in text for text in found.warnings)
    assert {design.light_name for design in found.designs} == {"good"}
    assert [row.name for row in found.rows if row.kind == "light"] == ["good", "coarse"]


def test_the_most_efficient_design_where_none_is_within_the_loss():
    """It is quoted, and not recommended."""
    inputs = study_inputs(lights=(light("poor", 2.0),), max_loss=1e-4, escalated=(0.02, 0.05))
    found = run_study(inputs).findings
    top = max(found.designs[i].efficiency for i in found.front)
    assert found.best.point.efficiency == top
    assert found.recommendation.verdict == "single_stage"
    assert any("the best design loses" in sentence for sentence in found.recommendation.sentences)


def test_a_budget_without_solution_is_a_finding():
    """No traceback: best is None, the verdict none, and the binding limit is named."""
    inputs = study_inputs(requirements=requirements(budget=Budget(dsp=4)), pruned_dsp=300)
    found = run_study(inputs).findings
    assert found.best is None and found.front == () and found.recommendation.verdict == "none"
    assert any("DSP, allowed 4" in sentence for sentence in found.recommendation.sentences)
    assert [row.kind for row in found.rows] == ["full", "pruned", "light", "light", "menu"]


def test_unrolled_strategies_are_not_searched():
    """The table and the sentence, nothing else."""
    unrolled = (FullOption("full", "distributed_arithmetic", 1, report("da", dsp=0, lut=50_000, ii=1), 9),)
    base = study_inputs()
    full = replace(base.full, options=unrolled)
    found = run_study(replace(base, full=full, fulls=unrolled, strategy="distributed_arithmetic")).findings
    assert found.designs == () and found.best is None and len(found.rows) == 5 and len(found.loss_curves) == 2
    assert any("fully unrolled" in sentence for sentence in found.recommendation.sentences)


def test_objects_thinned_from_a_multiplicity():
    """Rows are objects; shares are per object, not per crossing; copies of the light model count."""
    multiplicity = (0.2, 0.3, 0.3, 0.2)
    candidate = light("good", 0.2, dsp=20, ii=4)
    option = candidate.options[0]
    samples = {name: replace(getattr(option, name), multiplicity=multiplicity) for name in ("validation", "test")}
    candidate = replace(candidate, options=(replace(option, **samples),))
    engines = tuple(engine(rf, 7200 // rf, 20 + rf) for rf in (3, 9, 18))
    base = study_inputs(lights=(candidate,), requirements=requirements(objects_per_crossing=3), menu=False)
    found = run_study(replace(base, full=replace(base.full, options=engines), fulls=engines)).findings
    design = next(d for d in found.designs if d.escalated is not None and d.escalated_wanted == 0.1)
    assert 0.05 < design.escalated <= 0.1
    # three objects of II 4 take 12 of 9 cycles
    assert found.rows[-1].cost.dsp - found.best.parts[1].cost.dsp == 2 * 20
    assert "2 copies" in found.best.parts[0].name


def test_integer_thresholds_decide_as_the_thresholds_do():
    """On every score of both models; nothing passes where the threshold is infinite."""
    found = run_study(study_inputs())
    sample = found.light.test
    for name, scores in (("t_reject", sample.light), ("t_full", sample.full)):
        steps = np.round(scores / STEP).astype(int)
        wanted = scores >= getattr(found.findings.best.thresholds, name)
        np.testing.assert_array_equal(steps >= found.findings.best.integer_thresholds[name], wanted)
    coarse = FirmwareScore(Score("head"), "x", 0.5, 0.5)
    thresholds = Thresholds(1.0, math.inf, 0.25, 1.5)
    fine = FirmwareScore(Score("head"), "x", 0.25, 0.5)
    assert integer_thresholds(thresholds, coarse, fine) == {
        "t_reject": 2,
        "t_accept": None,
        "t_full": 1,
        "t_overflow": 3,
    }
    with pytest.raises(DataError, match="no multiple"):
        integer_thresholds(thresholds, coarse, coarse)


def test_what_cannot_be_studied_is_an_error():
    """Costs of different stages, and a full model that nothing passes."""
    mixed = light("good", 0.2, tool="another")
    with pytest.raises(StageMismatchError):
        run_study(study_inputs(lights=(mixed,)))
    base = study_inputs()
    with pytest.raises(DataError, match="passes the full model alone"):
        run_study(replace(base, requirements=requirements(target_hz=1e-3)))
    assert GRID.step == STEP


@pytest.mark.parametrize(("dsps", "where"), [((0, 0, 0, 0), "any reuse factor"), ((0, 90, 40, 20), "reuse factor 1")])
def test_luts_where_the_full_model_needs_no_dsp(dsps, where):
    """Said, and the search is one of LUTs: sums of light model, engine and buffer."""
    engines = tuple(
        FullOption("full", "Resource", rf, report(f"full {rf}", dsp=dsp, lut=90_000 // rf, latency=20 + rf, ii=rf), 9)
        for rf, dsp in zip((1, 9, 18, 36), dsps, strict=True)
    )
    base = study_inputs(lights=(light("good", 0.2, dsp=0),), pruned_noise=3.0)
    found = run_study(replace(base, full=replace(base.full, options=engines), fulls=engines)).findings
    assert found.resource == "lut" and any(f"needs no DSP at {where}" in text for text in found.warnings)
    point = found.best.point
    assert point.resource_used == 900 + 90_000 // point.reuse_factor + 30 + 10 * point.engine.fifo_depth
    assert found.singles[1].resource_used == 10_000

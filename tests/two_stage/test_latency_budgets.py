"""Several latency budgets from one search: each is what a study of that budget alone finds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from study_toys import buffer, requirements, study_inputs

from trigger_prune.cli.two_stage import _budgets
from trigger_prune.config.two_stage_section import TwoStageConfig
from trigger_prune.errors import ConfigError
from trigger_prune.two_stage import search as search_module
from trigger_prune.two_stage import table
from trigger_prune.two_stage.compare import single_ladder
from trigger_prune.two_stage.figures import findings_from_dict, findings_to_dict
from trigger_prune.two_stage.flat import budget_table
from trigger_prune.two_stage.study import run_study
from trigger_prune.two_stage.study_inputs import SmallerBudget

LARGEST = 500.0
SMALLER = (25.0, 200.0, 300.0)


def cheaper(engine, share):
    """A FIFO whose delay lines are shorter at a smaller budget."""
    cost = buffer(engine)
    return replace(cost, lut=round(share * cost.lut), dsp=round(10 * share))


def buffer_at(budget):
    return lambda engine: cheaper(engine, budget / LARGEST)


def inputs_at(budget, smaller=()):
    return study_inputs(
        requirements=requirements(latency_budget_ns=budget),
        buffer_cost=buffer_at(budget),
        smaller_budgets=tuple(SmallerBudget(each, buffer_at(each)) for each in smaller),
    )


@pytest.fixture(scope="module")
def counted():
    """The study of all budgets, and how often queues were solved and samples split in its search."""
    calls = {"queues": 0, "splits": 0}
    with pytest.MonkeyPatch.context() as patch:
        for name, function in (("queues", "solve_queue"), ("splits", "_best_split")):
            original = getattr(search_module, function)

            def counting(*arguments, name=name, original=original):
                calls[name] += 1
                return original(*arguments)

            patch.setattr(search_module, function, counting)
        found = run_study(inputs_at(LARGEST, SMALLER)).findings
        many = dict(calls)
        calls.update(queues=0, splits=0)
        run_study(inputs_at(LARGEST))
    return found, many, dict(calls)


def plain(findings):
    return findings_to_dict(findings)


def test_every_budget_is_as_if_it_were_the_only_one(counted):
    """Design, line and advice, to the last digit; also the one at which nothing is a solution."""
    found, *_ = counted
    assert [budget.latency_budget_ns for budget in found.budgets] == [*SMALLER, LARGEST]
    stored = plain(found)["budgets"]
    for budget, raw in zip(found.budgets, stored, strict=True):
        alone = plain(run_study(inputs_at(budget.latency_budget_ns)).findings)
        assert raw["recommendation"] == alone["recommendation"]
        assert raw["design"] == (None if alone["best"] is None else alone["best"]["point"])
        assert raw["row"] == (None if alone["best"] is None else alone["rows"][-1])
    # the budgets differ in what they find, or nothing would have been compared
    assert found.budgets[0].design is None and "too slow" in " ".join(found.budgets[0].recommendation.sentences)
    used = [budget.design.resource_used for budget in found.budgets[1:]]
    assert len(set(used)) == 3 and used[0] > used[2]
    for budget in found.budgets[1:]:
        assert budget.design.latency.output_ns <= budget.latency_budget_ns


def test_all_else_is_of_the_largest_budget(counted):
    found, *_ = counted
    alone = run_study(inputs_at(LARGEST)).findings
    several, one = plain(found), plain(alone)
    assert one.pop("budgets") == [] and len(several.pop("budgets")) == 4
    warnings = several.pop("warnings")
    assert warnings[: len(one["warnings"])] == one.pop("warnings") and several == one


def test_the_search_is_done_once(counted):
    """No queue and no threshold is solved again for a smaller budget."""
    _, many, once = counted
    assert many == once and once["queues"] > 20


def test_comparisons_are_made_once(monkeypatch):
    """The bootstrap is the slow part of a line; lights alone do not depend on the budget."""
    calls = []
    original = table.paired_loss

    def counting(*arguments, **more):
        calls.append(arguments)
        return original(*arguments, **more)

    monkeypatch.setattr(table, "paired_loss", counting)
    run_study(inputs_at(LARGEST, (LARGEST - 1,)))
    with_smaller = len(calls)
    calls.clear()
    run_study(inputs_at(LARGEST))
    assert with_smaller == len(calls) > 5


def test_a_comparison_is_remembered_for_its_sample():
    """The same ladder on validation and on test is two comparisons."""
    first = study_inputs().lights[0]
    inputs = table.TableInputs(first.validation, first.test, requirements())
    ladder = single_ladder(first.validation, first.validation.full)
    losses = [inputs.loss(ladder, sample) for sample in (first.validation, first.test)]
    assert losses[0].relative_loss.value == 0 and abs(losses[1].relative_loss.value) > 0.01
    assert inputs.loss(ladder, first.validation) is losses[0] and inputs.loss(ladder) is losses[1]


def test_findings_with_budgets_are_stored(counted):
    found, *_ = counted
    raw = json.loads(json.dumps(plain(found), allow_nan=False))
    assert plain(findings_from_dict(raw)) == raw
    old = {name: value for name, value in raw.items() if name != "budgets"}
    assert findings_from_dict(old).budgets == ()
    lines = budget_table(found)
    assert [line["latency_budget_ns"] for line in lines] == [*SMALLER, LARGEST]
    assert lines[0]["light"] is None and lines[0]["verdict"] == found.budgets[0].recommendation.verdict
    row = found.budgets[-1].row
    assert lines[-1]["dsp"] == row.cost.dsp and lines[-1]["buffer_dsp"] == row.buffer.dsp
    assert lines[-1]["dsp_used"] == row.cost.dsp + row.buffer.dsp == found.best.point.resource_used
    assert budget_table(replace(found, budgets=())) == []


def test_what_the_option_sets():
    """One value as ever; the largest of several, the others below it, each once."""
    assert _budgets("750") == ["two_stage.latency_budget_ns=750.0", "two_stage.smaller_budgets_ns=[]"]
    several = ["two_stage.latency_budget_ns=1000.0", "two_stage.smaller_budgets_ns=[500.0, 750.0]"]
    assert _budgets("500,1000,750") == _budgets("1000,500,750,500") == several
    with pytest.raises(ConfigError, match="--latency-ns 500;750: not numbers"):
        _budgets("500;750")
    for text in ("500,inf", "nan", "500,"):
        with pytest.raises(ConfigError, match="--latency-ns"):
            _budgets(text)
    with pytest.raises(ValueError, match="1000 is not below latency_budget_ns 1000"):
        TwoStageConfig(smaller_budgets_ns=[500, 1000])

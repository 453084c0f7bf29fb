"""Many budgets in one go, against the loop run alone for each."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from test_solver_loop import BiasedCost, inputs_for, trained  # noqa: F401
from torch import fx

from trigger_prune.config.refine_section import RefineConfig
from trigger_prune.prune.budget import front as front_module
from trigger_prune.prune.budget.front import budget_front
from trigger_prune.prune.budget.loop import learned_scale
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.state import load_network_state
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.target import Budget


def test_every_budget_gets_the_best_measured_network_within_it(trained: fx.GraphModule) -> None:  # noqa: F811
    cost = BiasedCost(lut=1.3)
    budgets = [Budget(lut=800), Budget(lut=2500), Budget(lut=1500), Budget(lut=3)]
    front = budget_front(trained, inputs_for(cost, Budget()), budgets)
    assert [point.budget for point in front.points] == budgets
    trials = [entry.trial for entry in front.trials]
    assert len(cost.calls) == len(trials) and [trial.round for trial in trials] == list(range(1, len(trials) + 1))
    for point in front.points[:3]:
        within = [trial for trial in trials if trial.cost.lut <= point.budget.lut]
        assert trials[point.trial].validation_merit == max(trial.validation_merit for trial in within)
    assert front.points[3].trial is None and "no plan comes near the budget" in front.points[3].error
    # the widest budget comes first and is the only one that needs a search round
    phases = [trial.phase for trial in trials]
    assert phases.count("ramp") == 1 and phases[0] == "ramp"


def test_a_network_that_uses_up_a_tighter_budget_too_is_not_trained_again(trained: fx.GraphModule) -> None:  # noqa: F811
    cost = BiasedCost()
    loop = inputs_for(cost, Budget())
    one = budget_front(trained, loop, [Budget(lut=1500, latency_cycles=40)])
    measured = len(cost.calls)
    cycles = one.trials[one.points[0].trial].trial.cost.latency_cycles
    both = budget_front(trained, loop, [Budget(lut=1500, latency_cycles=40), Budget(lut=1500, latency_cycles=cycles)])
    assert len(cost.calls) == 2 * measured
    assert both.points[0].trial == both.points[1].trial


def test_limits_that_do_not_bind_train_nothing(
    trained: fx.GraphModule,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However much of the budget the best network for a wider one leaves unused."""
    monkeypatch.setattr(front_module, "FAR_BELOW", 1.01)
    cost = BiasedCost()
    loop = inputs_for(cost, Budget())
    budgets = [Budget(lut=1500, latency_cycles=cycles) for cycles in (40, 30, 20)]
    front = budget_front(trained, loop, budgets)
    assert len({point.trial for point in front.points}) == 1
    measured = len(cost.calls)
    alone = budget_front(trained, loop, budgets[:1])
    assert len(cost.calls) - measured == measured and len(alone.trials) == len(front.trials)
    # a limit that the best network for the wider budget exceeds is another question
    cycles = front.trials[front.points[0].trial].trial.cost.latency_cycles
    measured = len(cost.calls)
    budget_front(trained, loop, [budgets[0], Budget(lut=1500, latency_cycles=cycles - 1)])
    assert len(cost.calls) - measured > len(alone.trials)


def test_a_killed_front_goes_on_where_it_was(trained: fx.GraphModule, tmp_path: Path) -> None:  # noqa: F811
    budgets = [Budget(lut=2500), Budget(lut=1200)]
    whole = budget_front(trained, inputs_for(BiasedCost(lut=1.2), Budget()), budgets)
    seen: list[PruneTrial] = []

    def kill(trial: PruneTrial) -> None:
        seen.append(trial)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        budget_front(trained, inputs_for(BiasedCost(lut=1.2), Budget()), budgets, scratch=tmp_path, on_trial=kill)
    cost = BiasedCost(lut=1.2)
    resumed = budget_front(trained, inputs_for(cost, Budget()), budgets, scratch=tmp_path)
    assert len(cost.calls) == len(whole.trials) - 2
    assert [entry.trial for entry in resumed.trials] == [entry.trial for entry in whole.trials]


def test_every_budget_is_refined_into(trained: fx.GraphModule) -> None:  # noqa: F811
    """More weights of fewer digits: the solver prunes to more than the budget, and no trial of it is within."""
    budgets = [Budget(lut=900), Budget(lut=2000)]
    refine = RefineConfig(enabled=True, headroom=1.5, rounds=20, fine_tune_epochs=1, saving_per_round=0.08)
    told: list[PruneTrial] = []
    cost = BiasedCost(lut=1.2)
    front = budget_front(trained, inputs_for(cost, Budget()), budgets, refine=refine, on_trial=told.append)
    trials = [entry.trial for entry in front.trials]
    assert len(cost.calls) == len(told) == len(trials)
    assert [(a.cost, a.meets_budget) for a in told] == [(b.cost, b.meets_budget) for b in trials]
    for point, above in zip(front.points, (1350, 3000), strict=True):
        best = trials[point.trial]
        assert best.phase == "refine" and best.chosen and 0.85 * point.budget.lut < best.cost.lut <= point.budget.lut
        assert any(trial.phase == "final" and point.budget.lut < trial.cost.lut <= above for trial in trials)
    carrier = copy.deepcopy(front.network)
    for entry in front.trials:
        load_network_state(carrier, entry.state)
        built = describe_network(shrink_network(carrier).network)
        assert entry.trial.cost.content_hash == built.content_hash()


def test_a_budget_that_refinement_does_not_reach_keeps_its_trials_and_says_so(trained: fx.GraphModule) -> None:  # noqa: F811
    refine = RefineConfig(enabled=True, headroom=3.0, rounds=1, fine_tune_epochs=0, saving_per_round=0.01)
    front = budget_front(trained, inputs_for(BiasedCost(), Budget()), [Budget(lut=700)], refine=refine)
    (point,) = front.points
    assert point.trial is None and "lut" in point.error
    assert front.trials and not any(entry.trial.meets_budget for entry in front.trials)


def test_what_was_learned_is_the_product_of_all_corrections() -> None:
    from trigger_prune.cost.report import CostStage, HardwareReport

    report = HardwareReport(
        stage=CostStage.RTL_SYNTH, tool="t", tool_version="1", part="p", clock_period_ns=5.0, lut=120, ff=1, dsp=0,
        bram18=0, latency_cycles=3, ii=1, content_hash="",
    )  # fmt: skip
    first = PruneTrial(1, "ramp", 0.5, 1, {}, 1.0, None, 1.0, report, True, predicted={"lut": 100.0})
    second = replace(first, predicted={"lut": 150.0})
    assert learned_scale([first, second], {"lut": 2.0})["lut"] == pytest.approx(2.0 * 1.2 * 0.8)

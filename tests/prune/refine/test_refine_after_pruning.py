"""Refinement as the last trial of a pruning loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trigger_prune.config.project import LearnConfig, PruneConfig
from trigger_prune.config.refine_section import RefineConfig
from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import BudgetError, ConfigError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.learned.loop import learn_to_budget
from trigger_prune.prune.measured import LoopInputs, PruneResult
from trigger_prune.prune.refine.after_pruning import refine_result
from trigger_prune.prune.refine.to_budget import refine_to_budget, widened
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.quantize.convert import input_shape_of, input_type_of, quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.state import load_network_state
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.synthesis.rtl.trace import trace_network
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings, fit

REFINE = RefineConfig(enabled=True, rounds=4, fine_tune_epochs=3, saving_per_round=0.08, largest_merit_loss=0.05)


@dataclass
class Cost:
    """The formula, and from ``dear`` measurements on ``factor`` times as much."""

    dear: int = 1000
    factor: float = 10.0
    calls: int = 0
    name = "formula"
    stage = CostStage.ANALYTIC

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        self.calls += 1
        report = AnalyticCost().measure(network, target)
        assert report.lut is not None
        return replace(report, lut=round(report.lut * (self.factor if self.calls >= self.dear else 1)))


def events(n: int, seed: int) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=generator).mul(64).round().div(64).clamp(-7, 7)
    return Batches(x, (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long(), torch.ones(n))


@pytest.fixture(scope="module")
def inputs() -> LoopInputs:
    settings = FitSettings("prune", 1, 100, 1e-3, seed=1)
    return LoopInputs(
        events(1500, 2),
        events(500, 3),
        settings,
        PruneConfig(scope="learned"),
        Budget(lut=2500),
        Target(),
        Cost(),
        AnalyticCost().estimate,
    )


@pytest.fixture(scope="module")
def pruned(inputs: LoopInputs) -> PruneResult:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3))
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    network = quantize_model(model, events(500, 1).features, FixedPoint(10, 4), bits)
    fit(network, inputs.train, inputs.validation, FitSettings("qat", 12, 100, 5e-3, seed=1))
    return learn_to_budget(network, inputs, LearnConfig(epochs=12, anneal_epochs=6, tolerance=0.9))


def adder_bits(network: torch.fx.GraphModule) -> float:
    comb = trace_network(freeze(network, double=True), input_type_of(network), input_shape_of(network))
    return float(comb.cost)


def test_the_refined_network_is_the_last_trial_and_cheaper(inputs: LoopInputs, pruned: PruneResult) -> None:
    before = adder_bits(pruned.network)
    result = refine_result(pruned, inputs, REFINE)
    chosen = result.chosen
    assert chosen.phase == "refine" and chosen.round == max(trial.round for trial in pruned.trials) + 1
    assert len(result.trials) == len(result.networks) == len(result.histories) == len(pruned.trials) + 1
    assert adder_bits(result.network) < 0.85 * before
    assert adder_bits(pruned.network) == before
    built = describe_network(shrink_network(result.network).network)
    assert chosen.cost.content_hash == built.content_hash()
    assert chosen.validation_merit >= pruned.chosen.validation_merit - REFINE.largest_merit_loss
    judged = evaluate(result.network, inputs.validation, "classify")
    assert judged.loss == pytest.approx(chosen.validation_loss, rel=1e-6)
    load_network_state(pruned.network, result.networks[-1])
    assert describe_network(pruned.network).content_hash() == describe_network(result.network).content_hash()
    load_network_state(pruned.network, pruned.networks[[t.chosen for t in pruned.trials].index(True)])


def test_a_refinement_above_the_budget_is_kept_as_a_trial_only(inputs: LoopInputs, pruned: PruneResult) -> None:
    result = refine_result(pruned, replace(inputs, cost_model=Cost(dear=1)), REFINE)
    assert result.trials[-1].phase == "refine" and not result.trials[-1].meets_budget
    assert result.chosen == pruned.chosen and result.network is pruned.network


TO_BUDGET = RefineConfig(enabled=True, headroom=1.5, rounds=20, fine_tune_epochs=2, saving_per_round=0.08)


def test_a_wider_budget_has_more_adders_and_nothing_else() -> None:
    assert widened(Budget(lut=999, dsp=3, latency_cycles=7), 1.5) == Budget(lut=1499, dsp=3, latency_cycles=7)
    assert widened(Budget(lut=100, ff=50), 1.1) == Budget(lut=111, ff=56)
    with pytest.raises(ConfigError, match="neither is limited"):
        widened(Budget(dsp=3), 1.5)


@pytest.mark.parametrize("factor", [1.0, 1.15])
def test_the_refinement_lands_in_the_budget(inputs: LoopInputs, pruned: PruneResult, factor: float) -> None:
    """Also where what is refined costs more than the estimate says, which only the reports know."""
    start = pruned.chosen.cost.lut
    assert start is not None
    budget = Budget(lut=round(start / 1.4), latency_cycles=50)
    measured: list[PruneTrial] = []
    narrow = replace(inputs, budget=budget, cost_model=Cost(dear=1, factor=factor))
    result = refine_to_budget(pruned, narrow, TO_BUDGET, on_trial=measured.append)
    assert 2 <= len(measured) <= 4 and {trial.phase for trial in measured} == {"refine"}
    assert 0.9 * budget.lut < result.chosen.cost.lut <= budget.lut
    assert len(result.trials) == len(result.networks) == len(result.histories) == len(pruned.trials) + len(measured)
    assert [trial.meets_budget for trial in result.trials] == [t.cost.lut <= budget.lut for t in result.trials]
    assert sum(trial.chosen for trial in result.trials) == 1
    built = describe_network(shrink_network(result.network).network)
    assert result.chosen.cost.content_hash == built.content_hash()
    assert result.chosen.validation_loss < pruned.chosen.validation_loss + 0.1


def test_a_network_that_fits_already_is_not_refined(inputs: LoopInputs, pruned: PruneResult) -> None:
    result = refine_to_budget(pruned, inputs, TO_BUDGET)
    assert [trial.phase for trial in result.trials] == [trial.phase for trial in pruned.trials]
    assert result.chosen == pruned.chosen
    assert describe_network(result.network).content_hash() == describe_network(pruned.network).content_hash()


def test_a_budget_that_rounds_do_not_reach_is_an_error(inputs: LoopInputs, pruned: PruneResult) -> None:
    few = TO_BUDGET.model_copy(update={"rounds": 1})
    with pytest.raises(BudgetError, match="lut"):
        refine_to_budget(pruned, replace(inputs, budget=Budget(lut=300)), few)

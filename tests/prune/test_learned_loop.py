"""The closed loop with learned bit widths, against cost models whose truth the loop does not know."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import fx, nn

from trigger_prune.config.project import LearnConfig, ProjectConfig, PruneConfig
from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import BudgetError, ToolError, UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.learned.loop import learn_to_budget
from trigger_prune.prune.learned.shave import shave
from trigger_prune.prune.measured import LoopInputs
from trigger_prune.prune.refine import part
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings, fit

LEARN = LearnConfig(epochs=60, anneal_epochs=20, learning_rate=8e-3)


def events(n: int, seed: int) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=generator).mul(64).round().div(64).clamp(-7, 7)
    return Batches(x, (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long(), torch.ones(n))


@pytest.fixture(scope="module")
def trained() -> fx.GraphModule:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3))
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    network = quantize_model(model, events(500, 1).features, FixedPoint(10, 4), bits)
    fit(network, events(1500, 2), events(500, 3), FitSettings("qat", 12, 100, 5e-3, seed=1))
    return network


@dataclass
class BiasedCost:
    """Measured = a factor, unknown to the loop, times the formula, at call n ``jumps[n]`` times as much; stops like a
    killed run at call ``dies``."""

    lut: float = 1.0
    jumps: dict[int, float] = field(default_factory=dict)
    fails: tuple[int, ...] = ()
    dies: int = 0
    calls: list[Target] = field(default_factory=list)
    name = "biased"
    stage = CostStage.ANALYTIC

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        self.calls.append(target)
        if len(self.calls) == self.dies:
            raise KeyboardInterrupt
        if len(self.calls) in self.fails:
            raise ToolError(f"call {len(self.calls)} found no report")
        report = AnalyticCost().measure(network, target)
        assert report.lut is not None
        return replace(report, lut=round(self.lut * self.jumps.get(len(self.calls), 1.0) * report.lut))


def inputs_for(cost: BiasedCost, budget: Budget) -> LoopInputs:
    settings = FitSettings("prune", 1, 100, 1e-3, seed=1)
    config = PruneConfig(scope="learned")
    return LoopInputs(
        events(1500, 2), events(500, 3), settings, config, budget, Target(), cost, AnalyticCost().estimate
    )


@pytest.mark.slow
@pytest.mark.parametrize("bias", [0.7, 1.4])
def test_lands_within_five_per_cent_with_at_most_five_measurements(trained: fx.GraphModule, bias: float) -> None:
    cost = BiasedCost(bias)
    result = learn_to_budget(trained, inputs_for(cost, Budget(lut=900)), LEARN)
    chosen = result.chosen
    within = [trial for trial in result.trials if trial.meets_budget]
    assert max(trial.cost.lut for trial in within) >= 0.95 * 900
    assert chosen.validation_merit == max(trial.validation_merit for trial in within)
    assert len(cost.calls) <= 5
    built = describe_network(shrink_network(result.network).network)
    assert chosen.cost.content_hash == built.content_hash()
    assert chosen.cost.lut == round(bias * AnalyticCost().estimate(built, Target()).lut)
    measured = evaluate(result.network, events(500, 3), "classify")
    assert measured.loss == pytest.approx(chosen.validation_loss, rel=1e-6)
    assert chosen.validation_accuracy > 0.7
    # the front met on the way: costs fall towards the budget
    ramp = [trial.cost.lut for trial in result.trials if trial.phase == "ramp"]
    assert len(ramp) == 2 and ramp == sorted(ramp, reverse=True)


def test_goes_on_where_it_was_killed(trained: fx.GraphModule, tmp_path: Path) -> None:
    quick = LEARN.model_copy(update={"epochs": 12, "anneal_epochs": 5, "tolerance": 0.9})
    whole = learn_to_budget(trained, inputs_for(BiasedCost(), Budget(lut=2000)), quick)
    with pytest.raises(KeyboardInterrupt):
        learn_to_budget(trained, inputs_for(BiasedCost(dies=3), Budget(lut=2000)), quick, scratch=tmp_path)
    epochs: list[str] = []
    again = learn_to_budget(
        trained,
        inputs_for(cost := BiasedCost(), Budget(lut=2000)),
        quick,
        scratch=tmp_path,
        on_epoch=lambda record, total: epochs.append(record.phase),
    )
    assert len(cost.calls) == len(whole.trials) - 2
    assert not any(phase.startswith(("ramp 1", "ramp 2")) for phase in epochs)
    assert again.chosen.cost.content_hash == whole.chosen.cost.content_hash
    assert [trial.cost.lut for trial in again.trials] == [trial.cost.lut for trial in whole.trials]


def test_a_network_a_little_above_loses_digits_and_is_not_trained_again(trained: fx.GraphModule) -> None:
    quick = LEARN.model_copy(update={"epochs": 30, "anneal_epochs": 10, "tolerance": 0.15})
    calm = learn_to_budget(trained, inputs_for(BiasedCost(), Budget(lut=1500)), quick)
    finished = next(trial for trial in calm.trials if trial.phase == "final")
    assert 0.85 * 1500 <= finished.cost.lut <= 1500
    jump = 1.04 * 1500 / finished.cost.lut
    epochs: list[str] = []
    cost = BiasedCost(jumps={3: jump, 4: 1.04})
    result = learn_to_budget(
        trained, inputs_for(cost, Budget(lut=1500)), quick, on_epoch=lambda record, total: epochs.append(record.phase)
    )
    above, shaved = result.trials[2:]
    assert (above.phase, above.cost.lut) == ("final", 1560)
    assert shaved.phase == "refine" and shaved.chosen
    assert shaved.cost.lut / 1.04 <= 0.975 / 1.04 * finished.cost.lut * 1.001
    assert 0.85 * 1500 <= shaved.cost.lut <= 1500
    assert not any(phase.startswith("trim") for phase in epochs)
    assert shaved.validation_loss < 1.05 * above.validation_loss


def test_shaving_saves_what_is_asked_for_or_leaves_the_network_alone(trained: fx.GraphModule) -> None:
    inputs, network = inputs_for(BiasedCost(), Budget(lut=900)), copy.deepcopy(trained)

    def lut(one: fx.GraphModule) -> float:
        return float(AnalyticCost().estimate(describe_network(one), Target()).lut or 0)

    before, loss = describe_network(network).content_hash(), evaluate(network, inputs.train, "classify").loss
    assert not shave(network, inputs, 1e-4, lut)
    assert describe_network(network).content_hash() == before
    assert shave(network, inputs, 0.95, lut)
    assert 0.92 * lut(trained) < lut(network) <= 0.95 * lut(trained)
    assert evaluate(network, inputs.train, "classify").loss < 1.01 * loss


def test_what_alkaid_cannot_express_is_not_shaved(trained: fx.GraphModule, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(network: fx.GraphModule) -> None:
        raise UnsupportedLayerError("no adders for this one")

    monkeypatch.setattr(part, "alkaid_cost", unknown)
    inputs, network = inputs_for(BiasedCost(), Budget(lut=900)), copy.deepcopy(trained)
    assert not shave(network, inputs, 0.95, lambda one: 1.0)
    assert describe_network(network).content_hash() == describe_network(trained).content_hash()


def test_an_interval_within_its_limit_does_not_lead_the_training(trained: fx.GraphModule) -> None:
    quick = LEARN.model_copy(update={"epochs": 12, "anneal_epochs": 5, "tolerance": 0.9})
    alone, both = (
        learn_to_budget(trained, inputs_for(BiasedCost(), budget), quick)
        for budget in (Budget(lut=2000), Budget(lut=2000, ii=1))
    )
    assert all(trial.cost.ii == 1 for trial in both.trials)
    assert [trial.cost.lut for trial in both.trials] == [trial.cost.lut for trial in alone.trials]


def test_a_failed_measurement_is_kept_and_survived(trained: fx.GraphModule) -> None:
    quick = LEARN.model_copy(update={"epochs": 12, "anneal_epochs": 5, "tolerance": 0.9})
    result = learn_to_budget(trained, inputs_for(BiasedCost(fails=(2,)), Budget(lut=2500)), quick)
    assert [failure.error for failure in result.failures] == ["call 2 found no report"]
    assert result.chosen.cost.lut <= 2500


def test_no_budget_is_an_error(trained: fx.GraphModule) -> None:
    with pytest.raises(BudgetError, match="none is set"):
        learn_to_budget(trained, inputs_for(BiasedCost(), Budget()), LEARN)


def test_types_per_channel_need_a_backend_that_builds_them() -> None:
    with pytest.raises(ValueError, match="channel cannot be built"):
        ProjectConfig.model_validate(
            {
                "project": "p",
                "prune": {"scope": "learned"},
                "learn": {"activations": "channel"},
                "cost": {"backend": "csynth"},
            }
        )
    assert not LearnConfig().per_channel("csynth") and LearnConfig().per_channel("rtl")

"""The closed loop with the solver, against cost models whose truth the loop does not know."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import fx, nn

from trigger_prune.config.project import PruneConfig
from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import BudgetError, ToolError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.budget.bits import choose_bits
from trigger_prune.prune.budget.estimators import HlsEstimator, RtlEstimator
from trigger_prune.prune.budget.loop import SolverInputs, solve_to_budget
from trigger_prune.prune.budget.plan import InfeasibleBudgetError
from trigger_prune.prune.laid_out import shrink_laid_out
from trigger_prune.prune.measured import LoopInputs, PruneResult
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure import structure_by_name
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.target import Budget, LayerLayout, Target
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings, fit


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
    """Measured = a factor per resource, unknown to the loop, times the formula."""

    lut: float = 1.0
    latency: float = 1.0
    least_lut: int = 0
    fails: tuple[int, ...] = ()
    calls: list[Target] = field(default_factory=list)
    name = "biased"
    stage = CostStage.ANALYTIC

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        self.calls.append(target)
        if len(self.calls) in self.fails:
            raise ToolError(f"call {len(self.calls)} found no report")
        report = AnalyticCost().measure(network, target)
        cycles = round(self.latency * report.latency_cycles)
        return replace(report, lut=max(self.least_lut, round(self.lut * report.lut)), latency_cycles=cycles)


def inputs_for(cost: object, budget: Budget, **config: object) -> SolverInputs:
    chosen = PruneConfig(
        scope="solver", **{"epochs_per_round": 4, "final_epochs": 8, "learning_rate": 5e-3, "max_rounds": 6, **config}
    )
    settings = FitSettings("prune", 1, 100, 1e-3, seed=1)
    loop = LoopInputs(
        events(1500, 2), events(500, 3), settings, chosen, budget, Target(), cost, AnalyticCost().estimate
    )
    return SolverInputs(loop, RtlEstimator(AnalyticCost()), (("Latency", 1),))


@pytest.mark.parametrize("bias", [0.7, 1.0, 1.4])
def test_lands_inside_the_measured_budget_whatever_the_estimate_is_worth(trained: fx.GraphModule, bias: float) -> None:
    before = copy.deepcopy(trained.state_dict())
    cost = BiasedCost(lut=bias)
    result = solve_to_budget(trained, inputs_for(cost, Budget(lut=1500)))
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in before.items())
    chosen = result.chosen
    built = describe_network(shrink_network(result.network).network)
    assert chosen.cost.lut == round(bias * AnalyticCost().estimate(built, Target()).lut) <= 1500
    assert chosen.cost.content_hash == built.content_hash()
    assert len(result.trials) <= 4
    # the first plan did not know the bias, the later ones did
    first, later = result.trials[0], result.trials[1]
    assert abs(first.cost.lut / first.predicted["lut"] / bias - 1) < 0.35
    assert abs(later.cost.lut / later.predicted["lut"] - 1) < 0.2
    within = [trial for trial in result.trials if trial.meets_budget]
    assert chosen.validation_merit == max(trial.validation_merit for trial in within)
    assert evaluate(result.network, events(500, 3), "classify").loss == pytest.approx(chosen.validation_loss, rel=1e-6)


def test_the_ramp_is_as_long_as_the_project_says(trained: fx.GraphModule) -> None:
    def at_first_epoch(**config: object) -> float:
        result = solve_to_budget(trained, inputs_for(BiasedCost(), Budget(lut=1500), final_epochs=0, **config))
        return result.histories[0].epochs[0].sparsity / result.trials[0].sparsity

    assert at_first_epoch() < 0.8, "the ramp fills half of the epochs"
    assert at_first_epoch(ramp_fraction=0.0) > 0.9


def test_several_limits_hold_at_once(trained: fx.GraphModule) -> None:
    cost = BiasedCost(lut=1.2)
    free = solve_to_budget(trained, inputs_for(cost, Budget(lut=2500))).chosen.cost
    cycles = free.latency_cycles - 1
    result = solve_to_budget(trained, inputs_for(cost, Budget(lut=2500, latency_cycles=cycles)))
    assert result.chosen.cost.lut <= 2500 and result.chosen.cost.latency_cycles <= cycles


def test_neurons_go_whole(trained: fx.GraphModule) -> None:
    groups = structure_by_name("neuron").groups(trained)
    inputs = inputs_for(BiasedCost(lut=0.8), Budget(lut=2500))
    result = solve_to_budget(trained, replace(inputs, loop=replace(inputs.loop, groups=groups)))
    assert result.chosen.cost.lut <= 2500
    for name, layer in list(prunable_layers(result.network).items())[:-1]:
        rows = layer.weight_mask.flatten(1)
        assert set(rows.mean(dim=1).tolist()) == {0.0, 1.0}, name


def test_failed_measurements_are_kept_and_survived(trained: fx.GraphModule) -> None:
    failures: list[FailedTrial] = []
    cost = BiasedCost(lut=1.3, fails=(1, 3))
    result = solve_to_budget(trained, inputs_for(cost, Budget(lut=1500)), on_failure=failures.append)
    assert result.chosen.cost.lut <= 1500
    assert [failure.error for failure in result.failures] == ["call 1 found no report", "call 3 found no report"]
    assert tuple(failures) == result.failures
    rounds = [trial.round for trial in result.trials] + [failure.round for failure in result.failures]
    assert sorted(rounds) == list(range(1, len(cost.calls) + 1))


def test_three_failures_in_a_row_end_it(trained: fx.GraphModule) -> None:
    with pytest.raises(ToolError, match="call 3 found no report"):
        solve_to_budget(trained, inputs_for(BiasedCost(fails=(1, 2, 3)), Budget(lut=1500)))


def test_an_impossible_budget_names_the_limit_and_the_nearest_value(trained: fx.GraphModule) -> None:
    cost = BiasedCost()
    with pytest.raises(InfeasibleBudgetError, match=r"needs [\d.]+ lut, the budget is 5") as caught:
        solve_to_budget(trained, inputs_for(cost, Budget(lut=5, latency_cycles=50)))
    assert caught.value.binding == ("lut",) and not cost.calls
    assert "budget.lut: " in str(caught.value)
    with pytest.raises(InfeasibleBudgetError, match="latency"):
        solve_to_budget(trained, inputs_for(cost, Budget(lut=50_000, latency_cycles=1)))


def test_a_budget_that_measuring_refuses_ends_with_the_nearest_cost(trained: fx.GraphModule) -> None:
    """The formula finds it possible, the measured cost does not."""
    with pytest.raises(BudgetError, match=r"after 3 rounds the nearest network .* still needs \d+ lut") as caught:
        solve_to_budget(trained, inputs_for(BiasedCost(least_lut=1200), Budget(lut=1000), max_rounds=3))
    assert "allow budget.lut" in str(caught.value)


def test_a_network_that_fits_is_not_pruned(trained: fx.GraphModule) -> None:
    result = solve_to_budget(trained, inputs_for(BiasedCost(), Budget(lut=100_000)))
    assert [trial.phase for trial in result.trials] == ["dense"]
    assert all(bool(layer.weight_mask.all()) for layer in prunable_layers(result.network).values())


def state_of(result: PruneResult) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in result.network.state_dict().items()}


def test_a_killed_loop_goes_on_where_it_was(trained: fx.GraphModule, tmp_path: Path) -> None:
    whole = solve_to_budget(trained, inputs_for(BiasedCost(lut=1.4), Budget(lut=1500)))

    def kill(_trial: PruneTrial) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inputs = inputs_for(BiasedCost(lut=1.4), Budget(lut=1500))
        solve_to_budget(trained, inputs, scratch=tmp_path / "s", on_trial=kill)
    cost = BiasedCost(lut=1.4)
    resumed = solve_to_budget(trained, inputs_for(cost, Budget(lut=1500)), scratch=tmp_path / "s")
    assert len(cost.calls) == len(whole.trials) - 1
    assert state_of(resumed) == state_of(whole)
    assert [trial.to_dict() for trial in resumed.trials] == [trial.to_dict() for trial in whole.trials]


@dataclass
class HlsTruth:
    """The csynth formulas with a bias, for networks laid out layer by layer."""

    calls: list[Target] = field(default_factory=list)
    name = "hls"
    stage = CostStage.ANALYTIC

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        self.calls.append(target)
        report = HlsAnalyticCost().measure(network, target)
        return replace(report, lut=round(1.15 * report.lut), dsp=round(0.9 * report.dsp))


def test_reuse_factors_are_chosen_layer_by_layer(trained: fx.GraphModule) -> None:
    """Multipliers are scarce and the II allows sharing: some layers take a reuse factor, and it is what is measured."""
    target = Target(clock_period_ns=5.0, strategy="Resource", reuse_factor=1)
    cost = HlsTruth()
    budget = Budget(lut=9_000, dsp=40, ii=12)
    inputs = inputs_for(cost, budget, final_epochs=4)
    estimate: Callable[..., HardwareReport] = HlsAnalyticCost().estimate
    loop = replace(inputs.loop, target=target, estimate=estimate)
    layouts = tuple(("Resource", factor) for factor in (1, 4, 8, 12))
    result = solve_to_budget(trained, SolverInputs(loop, HlsEstimator(HlsAnalyticCost()), layouts))
    chosen = result.chosen
    assert chosen.meets_budget and chosen.layouts
    assert cost.calls[-1].layers or cost.calls[0].layers
    built, laid_out = shrink_laid_out(result.network, replace(target, layers=chosen.layouts))
    assert laid_out.layers == chosen.layouts
    again = HlsAnalyticCost().measure(built.network, laid_out)
    assert chosen.cost.dsp == round(0.9 * again.dsp) <= 40


@pytest.mark.parametrize(
    ("factor", "neurons", "found"),
    [
        (12, 24, 12),  # 12 does not divide 23 x 16, but 24 x 16: the neuron stays
        (23, 23, 23),  # divides 23 x 16 alone
        (7, 23, 23),  # divides neither: of 1, 23, 46, ... the nearest by ratio
    ],
)
def test_a_reuse_factor_divides_what_is_left(trained: fx.GraphModule, factor: int, neurons: int, found: int) -> None:
    network = copy.deepcopy(trained)
    with torch.no_grad():
        first = weight_layers(network)["0"]
        first.weight_mask[5] = 0
        first.bias[5] = 0
    target = Target(strategy="Latency", layers=(LayerLayout("2", "Resource", factor),))
    shrunk, laid_out = shrink_laid_out(network, target)
    assert laid_out.layers == (LayerLayout("2", "Resource", found),)
    assert weight_layers(shrunk.network)["2"].weight.shape == (16, neurons)
    x = events(200, 9).features
    with torch.no_grad():
        assert torch.equal(shrunk.network.eval()(x[:, list(shrunk.kept_inputs)]), network.eval()(x))


def test_the_width_with_the_best_short_ramp_is_taken(trained: fx.GraphModule) -> None:
    merits = {}

    def tune(network: fx.GraphModule) -> float:
        (bits,) = {layer.weight_type.width for layer in prunable_layers(network).values()}
        merits[bits] = -abs(bits - 5)
        return merits[bits]

    network, found = choose_bits(trained, [8, 4, 6], tune)
    assert found == {4: -1, 6: -1, 8: -3} == merits
    assert {layer.weight_type.width for layer in prunable_layers(network).values()} == {4}
    # the best binary point of the new width: rounding moves no weight further than half a step, but for saturation
    layer = next(iter(prunable_layers(network).values()))
    moved = (layer.quantized_weight() - layer.weight).detach().abs()
    assert float(moved.median()) <= layer.weight_type.lsb / 2
    result = solve_to_budget(trained, inputs_for(BiasedCost(), Budget(lut=1500), weight_bits=[2, 6], final_epochs=0))
    (width,) = {layer.weight_type.width for layer in prunable_layers(result.network).values()}
    assert width in (2, 6) and result.chosen.cost.lut <= 1500

"""Budgets of time on a processor: what may be pruned for them, and that the loops land inside."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch
from torch import fx, nn

from trigger_prune.config.project import BudgetConfig, PruneConfig
from trigger_prune.cost.report import CostStage, HardwareReport, RuntimeCost
from trigger_prune.errors import BudgetError, ConfigError, UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.encoder import Encoder
from trigger_prune.prune.budget.estimators import RuntimeEstimator
from trigger_prune.prune.budget.loop import SolverInputs, solve_to_budget
from trigger_prune.prune.loop import LoopInputs, prune_to_budget
from trigger_prune.prune.processor_rules import require_backend, require_cut_out_units
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.quantize.weights_only import quantize_weights
from trigger_prune.structure import structure_by_name
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.synthesis.runtime.cost import ProcessorCost
from trigger_prune.synthesis.runtime.timing import Plan
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings

OVERHEAD_US = 3.0
PER_PRODUCT_US = 0.01


@dataclass
class Processor:
    """Time of a call plus that of every product of a dense layer; zeros are multiplied like all others."""

    calls: list[float] = field(default_factory=list)
    name = "processor"
    stage = CostStage.RUNTIME

    def time_us(self, network: nn.Module) -> float:
        products = sum(layer.weight.numel() for layer in weight_layers(network).values())
        return OVERHEAD_US + PER_PRODUCT_US * products

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        time = self.time_us(network)
        self.calls.append(time)
        runtime = RuntimeCost("Testron", "CPUExecutionProvider", 1, (1,), (time,), (time,), (1e6 / time,))
        return HardwareReport(
            self.stage, "fake", "1", "Testron", None, None, None, None, None, None, None, "x", runtime=runtime
        )


def events(n: int, seed: int) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=generator).mul(64).round().div(64).clamp(-7, 7)
    return Batches(x, (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long(), torch.ones(n))


def dense_network(hidden: tuple[int, int] = (32, 24)) -> fx.GraphModule:
    torch.manual_seed(1)
    first, second = hidden
    model = nn.Sequential(
        nn.Linear(8, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 3)
    )  # fmt: skip
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    return quantize_model(model, events(500, 1).features, FixedPoint(10, 4), bits)


def particles(n: int, seed: int) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, 6, generator=generator).mul(64).round().div(64).clamp(-7, 7)
    return Batches(x, (x[:, 0].amax(dim=1) > x[:, 1].amax(dim=1)).long(), torch.ones(n))


def encoder_network() -> nn.Module:
    torch.manual_seed(1)
    model = Encoder((3, 6), 2, width=16, n_heads=8, n_layers=2, hidden=16)
    return quantize_weights(model, 8, input_type=FixedPoint(10, 4), input_shape=(3, 6))


def loop_inputs(network: nn.Module, structure: str, processor: object, budget: Budget, **more: object) -> LoopInputs:
    config = PruneConfig(
        **{"structure": structure, "epochs_per_round": 3, "final_epochs": 4, "learning_rate": 5e-3, **more}
    )
    make = events if isinstance(network, fx.GraphModule) else particles
    return LoopInputs(
        make(800, 2),
        make(300, 3),
        FitSettings("prune", 1, 100, 1e-3, seed=1),
        config,
        budget,
        Target(),
        processor,
        estimate=lambda _spec, target: processor.measure(network, target),
        groups=structure_by_name(structure).groups(network),
    )


def check_inside(processor: Processor, network: nn.Module, stated_us: float, limit_us: float) -> None:
    """The time of what would be exported, counted here, is what the loop says, and inside the budget."""
    smaller = shrink_network(network).network
    assert processor.time_us(smaller) == pytest.approx(stated_us)
    assert 0.6 * limit_us < stated_us <= limit_us


@pytest.mark.parametrize("limit_us", [7.0, 9.0])
def test_neurons_go_until_the_time_is_inside_the_budget(limit_us: float) -> None:
    network, processor = dense_network(), Processor()
    assert processor.time_us(network) > 12.0
    result = prune_to_budget(
        network, loop_inputs(network, "neuron", processor, Budget(latency_p99_us=limit_us), max_rounds=12)
    )
    assert result.chosen.cost.latency_p99_us <= limit_us
    check_inside(processor, result.network, result.chosen.cost.latency_p99_us, limit_us)


def test_heads_go_until_the_time_is_inside_the_budget() -> None:
    network, processor = encoder_network(), Processor()
    limit_us = OVERHEAD_US + 0.75 * (processor.time_us(network) - OVERHEAD_US)
    result = prune_to_budget(network, loop_inputs(network, "head", processor, Budget(latency_p99_us=limit_us)))
    check_inside(processor, result.network, result.chosen.cost.latency_p99_us, limit_us)
    smaller = shrink_network(result.network).network
    heads = [layer.attention.n_heads for layer in smaller.layers]
    assert sum(heads) < 16 and min(heads) >= 1
    assert [layer.attention.query.out_features for layer in smaller.layers] == [2 * n for n in heads]
    again = prune_to_budget(network, loop_inputs(network, "head", Processor(), Budget(latency_p99_us=limit_us)))
    assert [trial.cost.latency_p99_us for trial in again.trials] == [
        trial.cost.latency_p99_us for trial in result.trials
    ]  # fmt: skip


@pytest.mark.parametrize("limit_us", [7.0, 9.0])
def test_the_solver_lands_inside_although_its_estimate_knows_no_overhead(limit_us: float) -> None:
    network, processor = dense_network(), Processor()
    inputs = loop_inputs(
        network, "neuron", processor, Budget(latency_p99_us=limit_us), scope="solver", max_rounds=8
    )  # fmt: skip
    products = sum(layer.weight.numel() for layer in weight_layers(network).values())
    estimator = RuntimeEstimator(processor.measure(network, Target()), products)
    result = solve_to_budget(network, SolverInputs(inputs, estimator, (("Latency", 1),)))
    check_inside(processor, result.network, result.chosen.cost.latency_p99_us, limit_us)


def test_a_time_below_the_overhead_is_an_error_that_names_the_limit() -> None:
    network, processor = dense_network(), Processor()
    inputs = loop_inputs(network, "neuron", processor, Budget(latency_p99_us=2.5), max_rounds=4)
    with pytest.raises(BudgetError, match=r"latency p99 us, the budget is 2\.5") as caught:
        prune_to_budget(network, inputs)
    assert "budget.latency_p99_us" in str(caught.value.hint)


@pytest.mark.parametrize("structure", ["weight", "block", "n_m", "dsp", "bram"])
@pytest.mark.parametrize("limit", ["latency_p99_us", "event_time_us"])
def test_zeros_are_refused_for_a_time_on_a_processor(structure: str, limit: str) -> None:
    prune, budget = PruneConfig(structure=structure), BudgetConfig(**{limit: 5.0})
    with pytest.raises(ConfigError, match=rf"prune\.structure {structure} cannot meet budget\.{limit}") as caught:
        require_cut_out_units(prune, "runtime", budget)
    assert all(name in str(caught.value.hint) for name in ("neuron", "filter", "head", "input", "layer"))
    require_cut_out_units(prune, "rtl", budget)
    require_cut_out_units(prune, "runtime", BudgetConfig(lut=5))
    for allowed in ("neuron", "filter", "head", "input", "layer"):
        require_cut_out_units(PruneConfig(structure=allowed), "runtime", budget)


def test_float_activations_are_refused_as_firmware_and_by_the_solver() -> None:
    network = encoder_network()
    require_backend(network, "runtime", PruneConfig())
    require_backend(dense_network(), "rtl", PruneConfig(scope="solver"))
    with pytest.raises(UnsupportedLayerError, match=r"cost\.backend rtl") as caught:
        require_backend(network, "rtl", PruneConfig())
    assert "--set cost.backend=runtime" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="scope solver"):
        require_backend(network, "runtime", PruneConfig(scope="solver"))


@dataclass
class Undisturbed:
    """Real times, of the round that other programs disturbed least: p99 itself is theirs on a busy machine."""

    real: ProcessorCost
    name = "processor"
    stage = CostStage.RUNTIME

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        report = self.real.measure(network, target)
        assert report.runtime is not None
        least = min(low for low, _ in report.details["p50_over_rounds_us"])
        return replace(report, runtime=replace(report.runtime, latency_p99_us=(least,)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the machine was busy")
def test_a_real_processor_is_made_fast_enough_by_removing_neurons() -> None:
    """A wide network that may take half of its time: the loop ends with a measurement that says so."""
    network = dense_network((512, 512))
    plan = Plan(rounds=5, seconds=0.5, least_calls=10, warm_up_s=0.02)
    processor = Undisturbed(ProcessorCost(batch_sizes=(64,), plan=plan))
    whole = processor.measure(network, Target()).latency_p99_us
    inputs = loop_inputs(
        network, "neuron", processor, Budget(latency_p99_us=0.5 * whole), epochs_per_round=2, final_epochs=0
    )  # fmt: skip
    result = prune_to_budget(network, inputs)
    assert result.chosen.cost.latency_p99_us <= 0.5 * whole
    layers = weight_layers(shrink_network(result.network).network)
    assert layers["2"].weight.numel() < 0.8 * 512 * 512

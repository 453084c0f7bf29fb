import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from plain_loop import CONSTANT_LUT, N_WEIGHTS, FakeCost, built, events, loop_inputs, start, state_of
from torch import nn

from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport, RuntimeCost
from trigger_prune.errors import BudgetError, CostError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.fine_tune import RampPlan, ramp
from trigger_prune.prune.loop import describe_cost, prune_to_budget
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.masks import masked_fraction
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches, evaluate


def test_meets_the_budget_with_the_most_accurate_trial_within_it() -> None:
    network, cost = start(), FakeCost()
    before = copy.deepcopy(network.state_dict())
    seen: list[PruneTrial] = []
    inputs = loop_inputs(cost, Budget(lut=1500))
    result = prune_to_budget(network, inputs, on_trial=seen.append)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert [trial.phase for trial in result.trials][-1] == "final"
    assert len(seen) == len(result.trials) == len(result.histories) == len(cost.calls)
    (chosen,) = [trial for trial in result.trials if trial.chosen]
    within = [trial for trial in result.trials if trial.cost.lut <= 1500]
    assert chosen.meets_budget and chosen.validation_accuracy == max(trial.validation_accuracy for trial in within)
    # what is said about the chosen trial is true of the network that came back
    spec = built(result.network)
    assert spec.nonzeros == chosen.nonzeros and CONSTANT_LUT + 10 * spec.nonzeros == chosen.cost.lut <= 1500
    assert spec.content_hash() == chosen.cost.content_hash
    again = evaluate(result.network, inputs.validation, "classify")
    assert again.loss == pytest.approx(chosen.validation_loss, rel=1e-6)
    assert again.accuracy == chosen.validation_accuracy
    assert chosen.sparsity == pytest.approx(masked_fraction(result.network), abs=1e-12)
    assert chosen.layer_sparsity == {
        layer.name: pytest.approx(float((layer.weight == 0).mean()))
        for layer in describe_network(result.network).layers
    }
    assert chosen.cost.lut > 0.7 * 1500  # not pruned far below what was asked for
    assert describe_cost(chosen.cost) == f"{chosen.cost.lut} LUT, {chosen.cost.lut // 2} FF, " + (
        f"{chosen.cost.latency_cycles} cycles"
    )


def test_the_final_long_ramp_is_better_than_the_round_before() -> None:
    result = prune_to_budget(start(), loop_inputs(FakeCost(), Budget(lut=2000), final_epochs=20))
    before, final = result.trials[-2:]
    assert (before.phase, final.phase) == ("ramp", "final")
    assert final.validation_loss < before.validation_loss
    assert final.sparsity == before.sparsity
    names = [history.epochs[0].phase for history in result.histories]
    assert names == [f"{trial.phase} {trial.round}" for trial in result.trials]
    assert [len(history.epochs) for history in result.histories[-2:]] == [4, 20]


def test_the_final_ramp_starts_from_the_unpruned_network() -> None:
    """Its weights are those of one ramp from the start, whatever the search rounds did before."""
    inputs = loop_inputs(FakeCost(), Budget(lut=2000), final_epochs=8)
    result = prune_to_budget(start(), inputs)
    last = result.trials[-1]
    assert last.phase == "final" and len(result.trials) > 2
    alone = start()
    settings = replace(inputs.settings, epochs=8, learning_rate=5e-3, seed=inputs.settings.seed + 1000 * last.round)
    ramp(
        alone,
        inputs.train,
        inputs.validation,
        settings,
        RampPlan(last.sparsity),
    )
    assert built(alone).content_hash() == last.cost.content_hash


def test_the_last_round_allowed_is_still_followed_by_the_final_ramp() -> None:
    free = prune_to_budget(start(), loop_inputs(FakeCost(), Budget(lut=1500)))
    ramps = sum(trial.phase == "ramp" for trial in free.trials)
    assert ramps > 1
    result = prune_to_budget(start(), loop_inputs(FakeCost(), Budget(lut=1500), max_rounds=ramps))
    assert state_of(result) == state_of(free)
    assert result.trials[-1].phase == "final"


def test_a_final_ramp_that_never_fits_ends_with_the_network_before_it() -> None:
    rounds: list[PruneTrial] = []

    def misfit(call: int, lut: float) -> float:
        return lut if not rounds or not any(trial.meets_budget for trial in rounds) else 9999.0

    inputs = loop_inputs(FakeCost(misfit), Budget(lut=2500), max_rounds=5)
    result = prune_to_budget(start(), inputs, on_trial=rounds.append)
    assert len(result.trials) == 5
    (chosen,) = [trial for trial in result.trials if trial.chosen]
    assert chosen.phase == "ramp" and built(result.network).content_hash() == chosen.cost.content_hash


def test_a_final_network_without_logic_does_not_end_the_run() -> None:
    rounds: list[PruneTrial] = []

    def collapses(_call: int, lut: float) -> float:
        if any(trial.meets_budget for trial in rounds):
            raise CostError("no logic to build")
        return lut

    with pytest.warns(UserWarning, match=r"round \d+ \(final\) cannot be measured and is left out: no logic to build"):
        result = prune_to_budget(start(), loop_inputs(FakeCost(collapses), Budget(lut=2000)), on_trial=rounds.append)
    assert result.trials[-1].phase == "ramp" and result.trials[-1].chosen
    assert built(result.network).content_hash() == result.trials[-1].cost.content_hash

    def nothing(_call: int, _lut: float) -> float:
        raise CostError("no logic to build")

    with pytest.raises(CostError, match="no logic to build"):
        prune_to_budget(start(), loop_inputs(FakeCost(nothing), Budget(lut=2000)))


def test_without_final_epochs_the_first_network_within_the_budget_is_the_result() -> None:
    result = prune_to_budget(start(), loop_inputs(FakeCost(), Budget(lut=2000), final_epochs=0))
    assert {trial.phase for trial in result.trials} == {"ramp"}
    assert [trial.meets_budget for trial in result.trials] == [False] * (len(result.trials) - 1) + [True]
    assert result.trials[-1].chosen


def test_a_budget_that_cannot_be_met_names_limit_and_nearest_cost() -> None:
    with pytest.raises(BudgetError) as caught:
        prune_to_budget(start(), loop_inputs(FakeCost(), Budget(lut=30, ff=1000), max_rounds=3))
    cost = FakeCost()
    with pytest.raises(BudgetError):
        prune_to_budget(start(), loop_inputs(cost, Budget(lut=30), max_rounds=3))
    assert len(cost.calls) == 3
    nearest = min(cost.calls)
    assert "after 3 rounds the nearest network" in caught.value.message
    assert f"{nearest} lut, the budget is 30" in caught.value.message
    assert f"allow budget.lut: {nearest}," in str(caught.value.hint)


def test_a_latency_that_cannot_be_met_is_named_by_the_key_of_the_project_file() -> None:
    with pytest.raises(BudgetError, match=r"latency cycles, the budget is 3") as caught:
        prune_to_budget(start(), loop_inputs(FakeCost(), Budget(latency_cycles=3), max_rounds=2))
    cycles = int(caught.value.message.split("still needs ")[1].split(" ")[0])
    assert f"budget.latency_ns: {cycles * 5}" in str(caught.value.hint)


class SharedMultipliers(FakeCost):
    """As a layer with a reuse factor: fewer weights, fewer multipliers, more cycles between events."""

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        report = super().measure(network, target)
        return replace(report, ii=2 + (N_WEIGHTS - describe_network(network).nonzeros) // 20)


def test_an_interval_that_pruning_raises_is_explained() -> None:
    with pytest.raises(BudgetError, match="ii, the budget is 1") as caught:
        prune_to_budget(start(), loop_inputs(SharedMultipliers(), Budget(ii=1), max_rounds=3))
    assert "lower target.reuse_factor: pruning raised it" in str(caught.value.hint)


def test_a_limit_that_the_cost_model_says_nothing_about_is_an_error() -> None:
    with pytest.raises(BudgetError, match="limits bram18, which the cost model 'fake' does not state"):
        prune_to_budget(start(), loop_inputs(FakeCost(), Budget(lut=5000, bram18=0)))


def test_without_limits_the_final_ramp_goes_to_the_first_sparsity() -> None:
    result = prune_to_budget(start(), loop_inputs(FakeCost(), Budget(), first_sparsity=0.4))
    assert [trial.phase for trial in result.trials] == ["ramp", "final"]
    assert [trial.sparsity for trial in result.trials] == [pytest.approx(0.4, abs=1 / N_WEIGHTS)] * 2
    assert all(trial.meets_budget for trial in result.trials)


def test_a_network_that_is_sparser_than_the_first_round_keeps_its_mask() -> None:
    network = start()
    network.get_submodule("2").weight_mask[:10] = 0
    sparse = masked_fraction(network)
    result = prune_to_budget(network, loop_inputs(FakeCost(), Budget(), first_sparsity=0.1))
    assert result.trials[0].sparsity == pytest.approx(sparse, abs=1e-12)


def test_small_networks_lose_at_least_one_weight_per_round() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 3, bias=False))
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    network = quantize_model(model, events(100, 1).features, FixedPoint(10, 4), bits)
    budget = Budget(lut=CONSTANT_LUT + 60)
    result = prune_to_budget(network, loop_inputs(FakeCost(), budget, max_rounds=12, density_step=0.95))
    kept = [round((1 - trial.sparsity) * 24) for trial in result.trials if trial.phase == "ramp"]
    assert all(later < earlier for earlier, later in pairwise(kept))


def test_an_autoencoder_is_chosen_by_its_loss() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    network = quantize_model(model, events(300, 1).features, FixedPoint(10, 4), bits)
    inputs = loop_inputs(FakeCost(), Budget(lut=600))
    x = inputs.train.features
    batches = Batches(x, x, torch.ones(len(x)))
    settings = replace(inputs.settings, task="autoencoder")
    result = prune_to_budget(network, replace(inputs, train=batches, validation=batches, settings=settings))
    within = [trial for trial in result.trials if trial.meets_budget]
    assert all(trial.validation_accuracy is None for trial in result.trials)
    assert next(t for t in result.trials if t.chosen).validation_loss == min(t.validation_loss for t in within)


def estimated(factor: float) -> Callable[[NetworkSpec, Target], HardwareReport]:
    """An estimate that is wrong by ``factor``."""

    def estimate(spec: NetworkSpec, target: Target) -> HardwareReport:
        lut = round(factor * (CONSTANT_LUT + 10 * spec.nonzeros))
        return HardwareReport(CostStage.ANALYTIC, "f", "1", target.part, 5.0, lut, None, None, None, None, None, "")

    return estimate


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_network_within_the_budget_is_not_pruned(factor: float) -> None:
    network, cost = start(), FakeCost()
    lut = CONSTANT_LUT + 10 * describe_network(network).nonzeros
    result = prune_to_budget(network, replace(loop_inputs(cost, Budget(lut=lut)), estimate=estimated(factor)))
    (trial,) = result.trials
    assert trial.phase == "dense" and trial.chosen and trial.nonzeros == describe_network(network).nonzeros
    assert state_of(result) == {name: value.numpy().tobytes() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_the_first_cut_is_no_larger_than_the_estimate_asks_for(factor: float) -> None:
    """A budget 10 % below the dense cost must not cost half of the weights."""
    network, cost = start(), FakeCost()
    lut = CONSTANT_LUT + 10 * describe_network(network).nonzeros
    inputs = loop_inputs(cost, Budget(lut=round(0.9 * lut)), first_sparsity=0.75)
    result = prune_to_budget(network, replace(inputs, estimate=estimated(factor)))
    assert max(trial.sparsity for trial in result.trials) < 0.25
    far = replace(loop_inputs(FakeCost(), Budget(lut=lut // 20)), estimate=estimated(factor))
    first = prune_to_budget(network, far).trials[0]
    assert first.phase == "ramp" and first.sparsity == pytest.approx(far.config.first_sparsity, abs=0.01)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(after: int, tmp_path: Path) -> None:
    budget = Budget(lut=1500)
    whole = prune_to_budget(start(), loop_inputs(FakeCost(), budget))
    assert len(whole.trials) > 3

    def kill(trial: PruneTrial) -> None:
        if trial.round == after:
            raise KilledError

    first, second = FakeCost(), FakeCost()
    with pytest.raises(KilledError):
        prune_to_budget(start(), loop_inputs(first, budget), scratch=tmp_path / "new", on_trial=kill)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rounds.pt"]
    seen: list[PruneTrial] = []
    resumed = prune_to_budget(start(), loop_inputs(second, budget), scratch=tmp_path / "new", on_trial=seen.append)
    assert [trial.round for trial in seen] == list(range(after + 1, len(whole.trials) + 1))
    assert len(first.calls) + len(second.calls) == len(whole.trials)
    assert state_of(resumed) == state_of(whole)
    assert resumed.trials == whole.trials
    # a run that finished is not repeated at all
    third = FakeCost()
    finished = prune_to_budget(start(), loop_inputs(third, budget), scratch=tmp_path / "new")
    assert state_of(finished) == state_of(whole) and not third.calls


def test_more_rounds_can_be_allowed_after_a_budget_error(tmp_path: Path) -> None:
    budget, cost = Budget(lut=1500), FakeCost()
    with pytest.raises(BudgetError):
        prune_to_budget(start(), loop_inputs(cost, budget, max_rounds=2), scratch=tmp_path)
    result = prune_to_budget(start(), loop_inputs(cost, budget, max_rounds=8), scratch=tmp_path)
    assert len(cost.calls) == len(result.trials) > 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_rounds_that_cannot_be_read_are_done_again(damage: str, tmp_path: Path) -> None:
    budget = Budget(lut=2000)
    whole = prune_to_budget(start(), loop_inputs(FakeCost(), budget), scratch=tmp_path)
    path = tmp_path / "rounds.pt"
    content = path.read_bytes()
    if damage == "foreign":
        torch.save([1, 2], path)
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    cost = FakeCost()
    with pytest.warns(UserWarning, match="pruning starts again"):
        again = prune_to_budget(start(), loop_inputs(cost, budget), scratch=tmp_path)
    assert len(cost.calls) == len(whole.trials) and state_of(again) == state_of(whole)


def test_rounds_of_another_network_are_not_used(tmp_path: Path) -> None:
    budget = Budget(lut=2000)
    prune_to_budget(start(), loop_inputs(FakeCost(), budget), scratch=tmp_path)
    other = start()
    with torch.no_grad():
        other.get_submodule("0").weight.mul_(-1.0)
    cost = FakeCost()
    with pytest.warns(UserWarning, match="started from another network"):
        result = prune_to_budget(other, loop_inputs(cost, budget), scratch=tmp_path)
    assert len(cost.calls) == len(result.trials)


def test_a_trial_survives_json() -> None:
    result = prune_to_budget(start(), loop_inputs(FakeCost(), Budget(), epochs_per_round=1, final_epochs=0))
    (trial,) = result.trials
    assert PruneTrial.from_dict(trial.to_dict()) == trial
    assert not math.isnan(trial.validation_loss)


def timed(p99_us: float, event_us: float) -> HardwareReport:
    runtime = RuntimeCost(
        "Testron", "CPUExecutionProvider", 1, (1, 64), (1.0, 9.0), (p99_us, 12.0), (1.0, 1e6 / event_us)
    )
    return HardwareReport(
        CostStage.RUNTIME, "onnxruntime", "1", "Testron", None, None, None, None, None, None, None, "x", runtime=runtime
    )


def test_costs_in_words_say_what_is_stated() -> None:
    fpga = HardwareReport(CostStage.CSYNTH, "t", "1", "p", 5.0, 12, None, 0, 0, 3, 1, "x")
    assert describe_cost(fpga) == "12 LUT, 3 cycles"
    assert describe_cost(replace(fpga, lut=None)) == "3 cycles"
    assert describe_cost(timed(8.126, 0.04219)) == "p99 8.13 us, 0.0422 us per event"
    assert describe_cost(replace(fpga, lut=None, latency_cycles=None)) == "nothing stated"


@dataclass
class FakeProcessor:
    """Time that falls with the weights down to a floor, or not at all."""

    floor_us: float
    name: str = "fake processor"
    stage: CostStage = CostStage.RUNTIME

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        return timed(max(describe_network(network).nonzeros / 100, self.floor_us), 0.5)


def test_the_same_loop_prunes_to_a_run_time() -> None:
    inputs = loop_inputs(FakeProcessor(0.1), Budget(latency_p99_us=2.0, event_time_us=1.0))
    result = prune_to_budget(start(), inputs)
    (chosen,) = [trial for trial in result.trials if trial.chosen]
    assert 1.0 < chosen.cost.latency_p99_us <= 2.0 and len(result.trials) > 1


def test_a_run_time_that_does_not_fall_is_explained() -> None:
    inputs = loop_inputs(FakeProcessor(8.0), Budget(latency_p99_us=2.5), max_rounds=2)
    with pytest.raises(BudgetError, match=r"still needs 8 latency p99 us, the budget is 2\.5") as caught:
        prune_to_budget(start(), inputs)
    assert "zero weights make a processor no faster" in str(caught.value.hint)
    assert "allow budget.latency_p99_us: 8," in str(caught.value.hint)


def test_a_budget_in_luts_is_no_budget_of_a_processor() -> None:
    with pytest.raises(BudgetError, match=r"limits lut, which the cost model 'fake processor' does not state"):
        prune_to_budget(start(), loop_inputs(FakeProcessor(0.1), Budget(lut=5)))

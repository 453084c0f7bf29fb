"""The loops with an HLS compiler's report as their cost: a stand-in whose figures are off by factors they do not know.

The stand-in reads the generated C++, not our networks; its version in every report says that it is no compiler.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hls_loop import expected, jet_network, loop_inputs, solver_inputs

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import BudgetError, ToolError
from trigger_prune.prune.budget import loop as solver_loop
from trigger_prune.prune.budget.loop import solve_to_budget
from trigger_prune.prune.loop import prune_to_budget
from trigger_prune.prune.measured import PruneResult
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.synthesis.hls.cost import CsynthCost
from trigger_prune.synthesis.store.cost import StoredCost
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Budget

pytestmark = pytest.mark.slow

VERSION = "2024.1.stand_in_not_a_compiler"


def check(result: PruneResult, budget: Budget, factors: dict[str, float]) -> None:
    """The chosen network is within the budget by the measured figure, which is the estimate times the unknown bias."""
    chosen = result.chosen
    assert chosen.meets_budget and not chosen.cost.unstated(budget)
    assert all(ratio <= 1.0 for ratio in chosen.cost.excess(budget).values())
    assert (chosen.cost.stage, chosen.cost.tool_version) == (CostStage.CSYNTH, VERSION)
    formula = expected(result.network)
    for name in ("lut", "ff", "dsp"):
        assert getattr(chosen.cost, name) == round(getattr(formula, name) * factors.get(name, 1.0)), name
    assert chosen.cost.latency_cycles == round(formula.latency_cycles * factors.get("latency", 1.0))


@pytest.mark.parametrize(
    ("bits", "factors", "share"),
    [
        (6, {"lut": 1.4}, {"lut": 0.5}),
        (6, {"lut": 0.7, "ff": 1.4}, {"lut": 0.35}),
        (6, {"lut": 1.0}, {"lut": 0.5}),
        (12, {"lut": 0.7, "dsp": 1.4}, {"lut": 0.5, "dsp": 0.5}),
        (12, {"lut": 1.4, "dsp": 0.7, "latency": 1.4}, {"lut": 0.5, "dsp": 0.6, "latency_cycles": 2.0}),
    ],
)
def test_an_unknown_bias_is_learnt_from_the_first_report(
    bits: int, factors: dict[str, float], share: dict[str, float], stand_in: Any
) -> None:
    stand_in.behave(bias=",".join(f"{name}={value}" for name, value in factors.items()))
    network = jet_network(bits)
    dense = expected(network)
    budget = Budget(**{name: int(getattr(dense, name) * part) for name, part in share.items()})
    result = solve_to_budget(network, solver_inputs(CsynthCost(), budget))
    check(result, budget, factors)
    assert len(result.trials) == stand_in.calls <= 4
    first = result.trials[0]
    for name in share:
        # The first plan knows nothing: what it expects is off by about the bias.
        if name != "latency_cycles":
            ratio = getattr(first.cost, name) / first.predicted[name]
            assert ratio == pytest.approx(factors.get(name, 1.0), rel=0.35), name
    later = result.trials[1:]
    binding = max(result.chosen.cost.excess(budget), key=lambda name: result.chosen.cost.excess(budget)[name])
    assert 0.6 < result.chosen.cost.excess(budget)[binding] <= 1.0, "room was left that the budget had"
    assert any(abs(trial.predicted["lut"] / trial.cost.lut - 1.0) < 0.12 for trial in later)


def test_without_correction_the_same_plan_misses_the_budget(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bias matters: the loop that does not learn from reports ends above the budget, again and again."""
    stand_in.behave(bias="lut=1.4")
    network = jet_network()
    budget = Budget(lut=expected(network).lut // 2)
    monkeypatch.setattr(solver_loop, "_learn", lambda *_: None)
    seen: list[PruneTrial] = []
    with pytest.raises(BudgetError, match="lut, the budget is"):
        solve_to_budget(network, solver_inputs(CsynthCost(), budget, max_rounds=3), on_trial=seen.append)
    assert len(seen) == 3 and all(trial.cost.lut > budget.lut for trial in seen)


@pytest.mark.parametrize("loop", ["solver", "ranking"])
def test_a_failed_run_and_a_missing_report_are_survived(loop: str, stand_in: Any, tmp_path: Path) -> None:
    stand_in.behave(seed="5", fail="2", silent="3")
    network = jet_network()
    budget = Budget(lut=expected(network).lut // 2)
    failures: list[FailedTrial] = []
    if loop == "solver":
        inputs = solver_inputs(CsynthCost(), budget)
        result = solve_to_budget(network, inputs, scratch=tmp_path / "scratch", on_failure=failures.append)
    else:
        ranked = loop_inputs(CsynthCost(), budget)
        result = prune_to_budget(network, ranked, scratch=tmp_path / "scratch", on_failure=failures.append)
    assert result.chosen.cost.lut <= budget.lut
    assert list(result.failures) == failures and [failure.round for failure in failures] == [2, 3]
    crashed, silent = failures
    assert "vitis-run on network failed with exit status 1 in step csynth" in crashed.error
    assert "Encountered problem during source synthesis" in crashed.error
    assert "ended without error, but it wrote no network_csynth.xml" in silent.error
    assert sorted([*(trial.round for trial in result.trials), 2, 3]) == list(range(1, stand_in.calls + 1))
    # What failed is not tried again as it was: each further design is smaller.
    assert failures[0].nonzeros > failures[1].nonzeros
    after = next(trial for trial in result.trials if trial.round == 4)
    assert failures[1].nonzeros > after.nonzeros


def test_a_tool_that_always_fails_ends_the_loop_with_its_error(stand_in: Any) -> None:
    stand_in.behave(fail="1,2,3,4")
    network = jet_network()
    with pytest.raises(ToolError, match="Encountered problem during source synthesis"):
        prune_to_budget(network, loop_inputs(CsynthCost(), Budget(lut=expected(network).lut // 2)))
    assert stand_in.calls == 3


def test_a_missing_tool_is_said_before_anything_is_trained(stand_in: Any) -> None:
    stand_in.remove()
    epochs: list[object] = []

    def trained(record: object, total: int) -> None:
        epochs.append(record)

    network = jet_network()
    budget = Budget(lut=expected(network).lut // 2)
    with pytest.raises(ToolError, match="no HLS compiler"):
        solve_to_budget(network, solver_inputs(CsynthCost(), budget), on_epoch=trained)
    with pytest.raises(ToolError, match="no HLS compiler"):
        prune_to_budget(network, loop_inputs(CsynthCost(), budget), on_epoch=trained)
    assert not epochs


class KilledError(Exception):
    pass


def test_a_run_killed_during_a_synthesis_trains_nothing_again(stand_in: Any, tmp_path: Path) -> None:
    stand_in.behave(seed="3", fail="1")
    network = jet_network()
    budget = Budget(lut=expected(network).lut // 2)
    store = ReportStore(tmp_path / "store")

    class Killing(CsynthCost):
        """The process ends while the tool runs."""

        def measure(self, network: Any, target: Any) -> Any:
            if stand_in.calls == 2:
                raise KilledError
            return super().measure(network, target)

    whole = solve_to_budget(network, solver_inputs(CsynthCost(), budget))
    stand_in.counter.unlink()
    trained: list[str] = []
    with pytest.raises(KilledError):
        solve_to_budget(network, solver_inputs(Killing(), budget), scratch=tmp_path / "scratch")
    resumed = solve_to_budget(
        network,
        solver_inputs(StoredCost(CsynthCost(), store), budget),
        scratch=tmp_path / "scratch",
        on_epoch=lambda record, _: trained.append(record.phase),
    )
    assert "final 3" not in trained and "ramp 1" not in trained
    assert [failure.round for failure in resumed.failures] == [1]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    assert [trial.predicted for trial in resumed.trials] == [trial.predicted for trial in whole.trials]

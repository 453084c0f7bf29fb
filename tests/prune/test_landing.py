"""Where the closed loop of the plain rankings ends: near the budget, whatever the cost does on the way."""

from plain_loop import N_WEIGHTS, FakeCost, loop_inputs, start

from trigger_prune.prune.loop import prune_to_budget
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.target import Budget


def test_weights_cut_in_vain_come_back_in_the_final_ramp() -> None:
    """A cost that falls like the fourth power of the density makes the search overshoot; the result must not."""

    def steep(_call: int, lut: float) -> float:
        return lut**4 / 2e9

    budget = 6000
    result = prune_to_budget(start(), loop_inputs(FakeCost(steep), Budget(lut=budget), density_step=0.3))
    search = [trial for trial in result.trials if trial.phase == "ramp"]
    final = [trial for trial in result.trials if trial.phase == "final"]
    assert search[-1].cost.lut < 0.8 * budget, "the search was to overshoot"
    assert final[-1].sparsity < search[-1].sparsity
    assert 0.7 * budget < result.trials[-1].cost.lut <= budget


def test_a_final_network_that_leaves_the_budget_is_trimmed() -> None:
    rounds: list[PruneTrial] = []

    def grows(call: int, lut: float) -> float:
        return lut * (1.15 if call and rounds[-1].phase == "ramp" and rounds[-1].meets_budget else 1.0)

    result = prune_to_budget(start(), loop_inputs(FakeCost(grows), Budget(lut=2000)), on_trial=rounds.append)
    phases = [(trial.phase, trial.meets_budget) for trial in result.trials]
    assert phases[2:5] == [("ramp", True), ("final", False), ("trim", True)]
    final, cut = result.trials[3:5]
    assert 1.0 - cut.sparsity <= 0.97 * (1.0 - final.sparsity) + 1 / N_WEIGHTS
    assert sum(trial.chosen for trial in result.trials) == 1
    assert next(trial for trial in result.trials if trial.chosen).meets_budget


def test_a_cut_that_took_too_much_is_taken_back_and_made_smaller() -> None:
    """A cliff in the cost behind the final network: the first cut ends at a third of the budget."""
    rounds: list[PruneTrial] = []
    costs = {"final": 1.12, "trim": 0.3}

    def cliff(call: int, lut: float) -> float:
        after_final = [trial for trial in rounds if trial.phase in ("final", "trim")]
        found = bool(rounds) and any(trial.meets_budget for trial in rounds)
        return lut * (1.0 if not found or len(after_final) > 1 else costs["trim" if after_final else "final"])

    result = prune_to_budget(start(), loop_inputs(FakeCost(cliff), Budget(lut=2000)), on_trial=rounds.append)
    final, cut, again = result.trials[-3:]
    assert [final.phase, cut.phase, again.phase] == ["final", "trim", "trim"]
    assert final.cost.lut > 2000 and cut.cost.lut < 0.4 * 2000
    assert final.sparsity < again.sparsity < cut.sparsity
    assert 0.88 * 2000 < again.cost.lut <= 2000
    names = prunable_layers(start())
    for name in names:
        whole, less = (result.networks[k][f"{name}.weight_mask"] for k in (-3, -1))
        assert bool((less <= whole).all()), "the smaller cut starts from the network that was cut too far"
    assert any(
        bool((result.networks[-1][f"{name}.weight_mask"] > result.networks[-2][f"{name}.weight_mask"]).any())
        for name in names
    )


def test_cuts_that_always_take_too_much_come_to_an_end() -> None:
    rounds: list[PruneTrial] = []

    def cliff(_call: int, lut: float) -> float:
        found = any(trial.meets_budget for trial in rounds)
        return lut * (1.0 if not found else 0.3 if rounds[-1].phase in ("final", "trim") else 1.12)

    result = prune_to_budget(start(), loop_inputs(FakeCost(cliff), Budget(lut=2000)), on_trial=rounds.append)
    ends = [trial for trial in result.trials if trial.phase in ("final", "trim")]
    assert [trial.phase for trial in ends] == ["final", *["trim"] * (len(ends) - 1)] and len(ends) <= 5
    kept = [round((1 - trial.sparsity) * N_WEIGHTS) for trial in ends[1:]]
    assert kept == sorted(set(kept)), "every cut is smaller than the one before it"


def test_a_final_network_far_above_the_budget_is_trained_again() -> None:
    rounds: list[PruneTrial] = []

    def heavy(_call: int, lut: float) -> float:
        found = any(trial.meets_budget for trial in rounds)
        return lut * (1.4 if found else 1.0)

    result = prune_to_budget(start(), loop_inputs(FakeCost(heavy), Budget(lut=2000)), on_trial=rounds.append)
    phases = [trial.phase for trial in result.trials]
    assert phases.count("final") == 2
    first, second = (trial for trial in result.trials if trial.phase == "final")
    assert first.cost.lut > 1.25 * 2000 and second.sparsity > first.sparsity

"""The closed loop: prune, fine-tune, measure, until the measured cost meets the budget."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

from torch import fx

from trigger_prune.prune.fine_tune import polish, ramp
from trigger_prune.prune.measured import (
    LoopInputs,
    OnEpoch,
    PruneResult,
    describe_cost,
    estimated_excess,
    round_settings,
    worst_excess,
)
from trigger_prune.prune.plan_of import ramp_plan
from trigger_prune.prune.rounds import Candidate, Rounds, load_rounds, save_rounds, start_key, state_of
from trigger_prune.prune.schedule import density_between, next_density
from trigger_prune.prune.steps import (
    TIGHTER,
    Listeners,
    NextStep,
    aim_factors,
    failed_in_a_row,
    run_steps,
)
from trigger_prune.prune.trial import FailedTrial, Phase, PruneTrial
from trigger_prune.quantize.state import load_network_state
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.train.history import FitHistory

__all__ = ["LoopInputs", "PruneResult", "describe_cost", "prune_to_budget"]

WORTH_MEASURING = 1.25
"""Estimated use / limit up to which the unpruned network is measured: the estimate may be that far off."""

FAR_BELOW = 0.88
"""Use / limit below which weights were removed that the budget had room for."""

_FAR_ABOVE = 1.25
"""Use / limit above which a long ramp is worth repeating: a short cut of so much costs more accuracy."""

_SMALLER_CUTS = 3
"""Cuts behind the long ramp that may end far below the budget and are taken back."""


def prune_to_budget(
    network: fx.GraphModule,
    inputs: LoopInputs,
    *,
    scratch: Path | None = None,
    on_epoch: OnEpoch = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
    on_failure: Callable[[FailedTrial], None] | None = None,
) -> PruneResult:
    """A sparser copy of ``network`` that meets the budget, fine-tuned; ``network`` itself is left as it was.

    A network whose estimated cost is near the budget is measured as it is (``dense``), and is the result when it
    fits: nothing is pruned that need not be.

    Otherwise short rounds (``ramp``) look for the sparsity that the budget allows: the first prunes as far as the
    estimate asks for, at most to ``first_sparsity``; further ones raise the sparsity as far as the measured cost
    asks for (see ``next_density``), fine-tune and measure. Then training starts again from the unpruned network on
    one long ramp (``final``), which keeps more accuracy than the search rounds' repeated cuts, to the sparsity
    between the last networks above and below the budget; it is repeated once if it ends far below or far above. Its
    weights and so its cost are others than the search's; if it no longer fits it is cut further, at least by 3 %, and
    fine-tuned (``trim``). A cut that ends far below the budget is taken back and made smaller, a few times.

    Rounds of every kind count towards ``max_rounds``, but the final ramp always happens. The result is the trial
    within the budget with the best merit on validation (settings.objective). A budget without limits is
    met by the first round.

    With ``config.candidates`` above 1 every step but ``dense`` trains so many networks, for densities around the one,
    and goes on from the measured one nearest to the budget; a step counts as one round.

    A measurement that fails (a tool, or its report) is kept as a failure, and the next step prunes a little more.
    scratch    folder for resuming; rounds found there are not repeated, and what was trained but not measured is
               measured
    Raises BudgetError naming the binding limit and the nearest cost reached when ``max_rounds`` are not enough, or
    naming a limit that the cost model's report says nothing about. The error of the third failed measurement in a row
    ends the run only while no network within the budget is known; later it is a warning.
    """
    network = copy.deepcopy(network)
    key = start_key(network)
    rounds = Rounds() if scratch is None else load_rounds(scratch, key)

    def save() -> None:
        if scratch is not None:
            save_rounds(scratch, key, rounds)

    def next_step(trials: list[PruneTrial]) -> NextStep | None:
        step = _next_step(network, rounds, trials, inputs)
        if step is None:
            return None
        phase, sparsity, base = step

        def train() -> list[Candidate]:
            if base is not None:
                load_network_state(network, rounds.network_of(base))
            return _train(network, inputs, rounds, phase, sparsity, on_epoch)

        return NextStep(phase == "final", train)

    return run_steps(network, rounds, inputs, Listeners(save, on_trial, on_failure), next_step)


def _next_step(
    network: fx.GraphModule, rounds: Rounds, trials: list[PruneTrial], inputs: LoopInputs
) -> tuple[Phase, float, PruneTrial | None] | None:
    """What the next step does (phase, sparsity, and the trial that it starts from where that is not the last one, or
    the unpruned network for ``final``), or None at the end; ``trials`` are the decisive ones so far."""
    done = len(rounds.steps)
    base = None
    step: tuple[Phase, float] | None
    if trials and trials[-1].meets_budget:
        step = _final_step(rounds, trials, inputs, inputs.removed(network))
        if step is None:
            base, step = _smaller_cut(network, rounds, trials, inputs)
    elif done and done >= inputs.config.max_rounds:
        return None
    else:
        step = _repeated_final(trials, inputs) or _search_step(network, trials, inputs, first=not done)
    failed = failed_in_a_row(rounds)
    return None if step is None else (step[0], 1.0 - (1.0 - step[1]) * TIGHTER**failed, base)


def _repeated_final(trials: list[PruneTrial], inputs: LoopInputs) -> tuple[Phase, float] | None:
    """The long ramp once more, to fewer weights, when the first one ended far above the budget."""
    if not trials or trials[-1].phase != "final" or sum(trial.phase == "final" for trial in trials) > 1:
        return None
    above = (1.0 - trials[-1].sparsity, worst_excess(trials[-1], inputs.budget))
    within = [trial for trial in trials if trial.meets_budget]
    if not _FAR_ABOVE < above[1] < math.inf or not within:
        return None
    below = max((1.0 - trial.sparsity, worst_excess(trial, inputs.budget)) for trial in within)
    if below[0] < above[0]:
        return "final", 1.0 - density_between(above, below)
    return "final", 1.0 - next_density(*above, None, inputs.config.density_step)


def _smaller_cut(
    network: fx.GraphModule, rounds: Rounds, trials: list[PruneTrial], inputs: LoopInputs
) -> tuple[PruneTrial | None, tuple[Phase, float] | None]:
    """A cut behind the long ramp that took too much is made again from the same network, to between the two costs."""
    cuts = [trial for trial in trials if trial.phase == "trim" and trial.meets_budget]
    above = [trial for trial in trials if trial.phase in ("final", "trim") and not trial.meets_budget]
    if not cuts or not above or len(cuts) > _SMALLER_CUTS or len(rounds.steps) >= inputs.config.max_rounds:
        return None, None
    base = min(above, key=lambda trial: worst_excess(trial, inputs.budget))
    cut = min(cuts, key=lambda trial: trial.sparsity)
    costs = [worst_excess(trial, inputs.budget) for trial in (base, cut)]
    least = _smallest_step(network, inputs)
    if costs[1] >= FAR_BELOW or cut.sparsity - base.sparsity < 2 * least:
        return None, None
    density = density_between((1.0 - base.sparsity, costs[0]), (1.0 - cut.sparsity, costs[1]))
    sparsity = min(max(1.0 - density, base.sparsity + least), cut.sparsity - least)
    return base, ("trim", sparsity)


def _search_step(
    network: fx.GraphModule, trials: list[PruneTrial], inputs: LoopInputs, *, first: bool
) -> tuple[Phase, float]:
    """The next cut on the way to the budget."""
    config = inputs.config
    masked = inputs.removed(network)
    first_step = min(1.0, (1.0 - config.first_sparsity) / (1.0 - masked)) if masked < 1.0 else 1.0
    if not trials:
        estimate = estimated_excess(network, inputs)
        if estimate is None:
            return "ramp", max(config.first_sparsity, masked)
        if estimate <= WORTH_MEASURING and first:
            return "dense", masked
        return "ramp", 1.0 - next_density(1.0 - masked, estimate, None, first_step)
    last = trials[-1]
    previous = None
    if len(trials) > 1:
        previous = (1.0 - trials[-2].sparsity, worst_excess(trials[-2], inputs.budget))
    step = first_step if last.phase == "dense" else config.density_step
    density = next_density(1.0 - last.sparsity, worst_excess(last, inputs.budget), previous, step)
    # of a few weights 3 % is none at all
    sparsity = min(1.0, max(1.0 - density, masked + _smallest_step(network, inputs)))
    return ("trim" if last.phase in ("final", "trim") else "ramp"), sparsity


def _smallest_step(network: fx.GraphModule, inputs: LoopInputs) -> float:
    """Fraction of the network that a single group, or weight, is."""
    return inputs.smallest_step or 1.0 / sum(layer.weight_mask.numel() for layer in prunable_layers(network).values())


def _final_step(
    rounds: Rounds, trials: list[PruneTrial], inputs: LoopInputs, masked: float
) -> tuple[Phase, float] | None:
    """The long ramp, once the last network is within the budget; None when there is nothing left to gain.

    Its sparsity lies between those of the networks just above and below the budget, since a cut cannot be undone in the
    search but the final ramp starts afresh. One that ends far below the budget is repeated once with more weights.
    """
    last, budget = trials[-1], inputs.budget
    finals = sum(trial.phase == "final" for trial in trials)
    ratio = worst_excess(last, budget)
    again = last.phase == "final" and finals == 1 and ratio < FAR_BELOW and len(rounds.steps) < inputs.config.max_rounds
    if inputs.config.final_epochs == 0 or not (last.phase == "ramp" or again):
        return None
    above = [(1.0 - trial.sparsity, worst_excess(trial, budget)) for trial in rounds.trials if not trial.meets_budget]
    if not above or ratio > FAR_BELOW:
        return ("final", masked) if last.phase == "ramp" else None
    return "final", 1.0 - density_between(min(above), (1.0 - last.sparsity, ratio))


def _train(
    network: fx.GraphModule, inputs: LoopInputs, rounds: Rounds, phase: Phase, sparsity: float, on_epoch: OnEpoch
) -> list[Candidate]:
    """The networks of the next step, all trained from ``network`` as it is now; equal sparsities once."""
    start, masked = state_of(network), inputs.removed(network)
    least = masked + (0.0 if phase in ("dense", "final") else _smallest_step(network, inputs))
    factors = (1.0,) if phase == "dense" else aim_factors(inputs.config.candidates, rounds)
    wanted = [max(1.0 - (1.0 - sparsity) * factor, min(least, sparsity)) for factor in factors]
    found: list[Candidate] = []
    for each in dict.fromkeys(wanted):
        number = rounds.next_round + len(found)
        load_network_state(network, start)
        history = _tune(network, inputs, phase, each, number, on_epoch)
        found.append(Candidate(number, phase, history, state_of(network.cpu())))
    return found


def _tune(
    network: fx.GraphModule, inputs: LoopInputs, phase: Phase, sparsity: float, number: int, on_epoch: OnEpoch
) -> FitHistory:
    if phase == "dense":
        return FitHistory((), 0)
    settings = round_settings(inputs, phase, number)
    if phase == "final" and sparsity <= inputs.removed(network):
        return polish(network, inputs.train, inputs.validation, settings, on_epoch)
    # what is cut once more after the search is a few weights: no schedule is needed, and no layer has a sparsity set
    plan = ramp_plan(inputs.config, inputs.groups, sparsity, last_cut=phase == "trim")
    return ramp(network, inputs.train, inputs.validation, settings, plan, on_epoch)

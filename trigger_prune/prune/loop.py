"""The closed loop: prune, fine-tune, measure, until the measured cost meets the budget."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

from torch import fx

from trigger_prune.errors import CostError
from trigger_prune.prune.fine_tune import polish, ramp
from trigger_prune.prune.measured import (
    LoopInputs,
    OnEpoch,
    Phase,
    PruneResult,
    choose,
    describe_cost,
    estimated_excess,
    measure,
    round_settings,
    worst_excess,
)
from trigger_prune.prune.plan_of import ramp_plan
from trigger_prune.prune.rounds import Rounds, load_rounds, save_rounds, start_key
from trigger_prune.prune.schedule import density_between, next_density
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.train.history import FitHistory

__all__ = ["LoopInputs", "PruneResult", "describe_cost", "prune_to_budget"]

WORTH_MEASURING = 1.25
"""Estimated use / limit up to which the unpruned network is measured: the estimate may be that far off."""

FAR_BELOW = 0.88
"""Use / limit below which weights were removed that the budget had room for."""


def prune_to_budget(
    network: fx.GraphModule,
    inputs: LoopInputs,
    *,
    scratch: Path | None = None,
    on_epoch: OnEpoch = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
) -> PruneResult:
    """A sparser copy of ``network`` that meets the budget, fine-tuned; ``network`` itself is left as it was.

    A network whose estimated cost is near the budget is measured as it is (``dense``), and is the result when it
    fits: nothing is pruned that need not be.

    Otherwise short rounds (``ramp``) look for the sparsity that the budget allows: the first prunes as far as the
    estimate asks for, at most to ``first_sparsity``; further ones raise the sparsity as far as the measured cost
    asks for (see ``next_density``), fine-tune and measure. Then training starts again from the unpruned network on
    one long ramp (``final``), which keeps more accuracy than the search rounds' repeated cuts, to the sparsity
    between the last networks above and below the budget; it is repeated once if it ends far below. Its weights and
    so its cost are others than the search's; if it no longer fits it is cut further, at least by 3 %, and
    fine-tuned (``trim``).

    Rounds of every kind count towards ``max_rounds``, but the final ramp always happens. The result is the trial
    within the budget with the best merit on validation (settings.objective). A budget without limits is
    met by the first round.

    scratch    folder for resuming; rounds found there are not repeated
    Raises BudgetError naming the binding limit and the nearest cost reached when ``max_rounds`` are not enough, or
    naming a limit that the cost model's report says nothing about. A CostError ends the run only while no network
    within the budget is known; later it is a warning.
    """
    network = copy.deepcopy(network)
    unpruned = copy.deepcopy(network.state_dict())
    key = start_key(network)
    rounds = Rounds() if scratch is None else load_rounds(scratch, key)
    if rounds.networks:
        network.load_state_dict(rounds.networks[-1])
    while (step := _next_step(network, rounds.trials, inputs)) is not None:
        number = len(rounds.trials) + 1
        if step[0] == "final":
            network.load_state_dict(unpruned)
        history = _tune(network, inputs, *step, number, on_epoch)
        try:
            trial = measure(network, inputs, step[0], number)
        except CostError as error:
            # No logic is left (the training collapsed, say): a network that fits was found before, and it stands.
            if not any(earlier.meets_budget for earlier in rounds.trials):
                raise
            warnings.warn(f"round {number} ({step[0]}) cannot be measured and is left out: {error}", stacklevel=2)
            break
        rounds.add(trial, history, network)
        if scratch is not None:
            save_rounds(scratch, key, rounds)
        if on_trial is not None:
            on_trial(trial)
    return choose(network, rounds, inputs.budget)


def _next_step(network: fx.GraphModule, trials: list[PruneTrial], inputs: LoopInputs) -> tuple[Phase, float] | None:
    """What the next round does (phase and sparsity), or None at the end."""
    config = inputs.config
    masked = inputs.removed(network)
    first_step = min(1.0, (1.0 - config.first_sparsity) / (1.0 - masked)) if masked < 1.0 else 1.0
    if not trials:
        estimate = estimated_excess(network, inputs)
        if estimate is None:
            return "ramp", max(config.first_sparsity, masked)
        if estimate <= WORTH_MEASURING:
            return "dense", masked
        return "ramp", 1.0 - next_density(1.0 - masked, estimate, None, first_step)
    last = trials[-1]
    if last.meets_budget:
        return _final_step(trials, inputs, masked)
    if len(trials) >= config.max_rounds:
        return None
    previous = None
    if len(trials) > 1:
        previous = (1.0 - trials[-2].sparsity, worst_excess(trials[-2], inputs.budget))
    step = first_step if last.phase == "dense" else config.density_step
    density = next_density(1.0 - last.sparsity, worst_excess(last, inputs.budget), previous, step)
    # of a few weights 3 % is none at all
    n_weights = sum(layer.weight_mask.numel() for layer in prunable_layers(network).values())
    sparsity = min(1.0, max(1.0 - density, masked + (inputs.smallest_step or 1.0 / n_weights)))
    return ("trim" if last.phase in ("final", "trim") else "ramp"), sparsity


def _final_step(trials: list[PruneTrial], inputs: LoopInputs, masked: float) -> tuple[Phase, float] | None:
    """The long ramp, once the last network is within the budget; None when there is nothing left to gain.

    Its sparsity lies between those of the networks just above and below the budget, since a cut cannot be undone in the
    search but the final ramp starts afresh. One that ends far below the budget is repeated once with more weights.
    """
    last, budget = trials[-1], inputs.budget
    finals = sum(trial.phase == "final" for trial in trials)
    ratio = worst_excess(last, budget)
    again = last.phase == "final" and finals == 1 and ratio < FAR_BELOW and len(trials) < inputs.config.max_rounds
    if inputs.config.final_epochs == 0 or not (last.phase == "ramp" or again):
        return None
    above = [(1.0 - trial.sparsity, worst_excess(trial, budget)) for trial in trials if not trial.meets_budget]
    if not above or ratio > FAR_BELOW:
        return ("final", masked) if last.phase == "ramp" else None
    return "final", 1.0 - density_between(min(above), (1.0 - last.sparsity, ratio))


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

"""Goal ``tolerance``: the sparsest network that keeps the objective, whatever it then costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import fx

from trigger_prune.errors import BudgetError
from trigger_prune.prune.measured import LoopInputs, OnEpoch, PruneResult, measure, round_settings
from trigger_prune.prune.plan_of import ramp_plan
from trigger_prune.prune.search import search_sparsity
from trigger_prune.prune.trial import Phase, PruneTrial
from trigger_prune.quantize.state import network_state


def prune_within_tolerance(
    network: fx.GraphModule,
    inputs: LoopInputs,
    *,
    on_epoch: OnEpoch = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
) -> PruneResult:
    """The sparsest copy of ``network`` whose merit on validation drops by at most ``config.tolerance``, and its cost.

    Sparsities are tried by bisection, each by a ramp of ``final_epochs`` (``epochs_per_round`` where that is 0) from
    ``network``, which is left as it was; see ``search_sparsity``. Only the chosen network and those accepted before it
    are measured.
    Raises ModelError when no sparsity is within the tolerance, BudgetError when the chosen one exceeds a budget that is
    set, and what measuring raises.
    """
    config = inputs.config
    phase: Phase = "final" if config.final_epochs else "ramp"
    found = search_sparsity(
        network,
        inputs.train,
        inputs.validation,
        round_settings(inputs, phase, 1),
        ramp_plan(config, inputs.groups, 0.0),
        config.tolerance,
        progress=on_epoch,
    )
    trials, histories, networks = [], [], []
    for number, tried in enumerate((each for each in found.trials if each.accepted), start=1):
        trial = measure(tried.state.network, inputs, phase, number)
        trials.append(replace(trial, chosen=tried is found.best))
        histories.append(tried.state.history)
        networks.append(network_state(tried.state.network))
        if on_trial is not None:
            on_trial(trials[-1])
    chosen = next(trial for trial in trials if trial.chosen)
    if not chosen.meets_budget:
        over = {name: ratio for name, ratio in chosen.cost.excess(inputs.budget).items() if ratio > 1}
        binding = max(over, key=lambda name: over[name])
        raise BudgetError(
            f"the sparsest network within the tolerance (sparsity {chosen.sparsity:.3f}) needs {over[binding]:.3g} "
            f"times the budget of {binding.replace('_', ' ')}",
            hint="allow a larger prune.tolerance or a larger budget, or prune to the budget: prune.goal: budget",
        )
    return PruneResult(found.best.state.network, tuple(trials), tuple(histories), tuple(networks))

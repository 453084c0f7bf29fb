"""Pruning to more than the budget, and the rest of the way by refinement: fewer digits, more weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

from torch import fx

from trigger_prune.config.refine_section import RefineConfig
from trigger_prune.errors import ConfigError
from trigger_prune.prune.measured import LoopInputs, PruneResult, estimated_fill, fill, measure, unmet
from trigger_prune.prune.refine.after_pruning import (
    point_history,
    refine_result,
    refine_settings,
    require_fixed_point,
)
from trigger_prune.prune.refine.measure import alkaid_cost
from trigger_prune.prune.refine.part import refine_to_part
from trigger_prune.prune.refine.steps import FrontPoint
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.quantize.state import load_network_state, network_state
from trigger_prune.target import Budget

_LANDED = 0.975
"""Part of the budget that a refinement is led to, by the estimate and the last report."""

_FAR, _FIRST = 1.15, 1.07
"""From further above the budget a refinement first goes to this multiple of it: what fewer digits save in reports is
some per cent off the estimate, and what is gone does not come back."""

_LITTLE = 1.03
"""Up to so far above the budget codes move without training."""

_TRIES = 5


def widened(budget: Budget, headroom: float) -> Budget:
    """The budget with its LUTs and FFs ``headroom`` times as many. Raises ConfigError where neither is limited."""
    if budget.lut is None and budget.ff is None:
        raise ConfigError(
            "refine.headroom widens the LUTs and FFs of the budget, and neither is limited", hint="set budget.lut"
        )
    wide = {name: math.ceil(headroom * value) for name in ("lut", "ff") if (value := getattr(budget, name)) is not None}
    return replace(budget, **wide)


def pruning_budget(budget: Budget, config: RefineConfig) -> Budget:
    """The budget of the pruning in front of a refinement. Raises ConfigError as ``widened``."""
    return widened(budget, config.headroom) if config.enabled and config.headroom > 1 else budget


def refine_behind(
    result: PruneResult,
    inputs: LoopInputs,
    config: RefineConfig,
    *,
    on_point: Callable[[FrontPoint], None] | None = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
) -> PruneResult:
    """``result``, pruned to ``pruning_budget``, after the refinement that ``config`` asks for.

    Raises what ``refine_result`` and ``refine_to_budget`` raise.
    """
    if not config.enabled:
        return result
    refine = refine_to_budget if config.headroom > 1 else refine_result
    return refine(result, inputs, config, on_point=on_point, on_trial=on_trial)


def refine_to_budget(
    result: PruneResult,
    inputs: LoopInputs,
    config: RefineConfig,
    *,
    on_point: Callable[[FrontPoint], None] | None = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
) -> PruneResult:
    """``result``, found for a ``widened`` budget, with the chosen network refined until it fits ``inputs.budget``.

    Every measured network becomes a trial of phase ``refine``. The estimate of the cost leads a refinement, its report
    corrects the next one. The chosen network is then the one within the budget with the best merit on validation.
    Raises BudgetError when five refinements do not lead into the budget, ModelError for a network of float activations.
    """
    require_fixed_point(result.network)
    budget = inputs.budget
    adders = Budget(lut=budget.lut, ff=budget.ff)
    narrowed = replace(inputs, budget=adders)
    network, layouts = copy.deepcopy(result.network).cpu(), result.chosen.layouts
    trials = [replace(trial, meets_budget=trial.cost.meets(budget)) for trial in result.trials]
    histories, networks = list(result.histories), list(result.networks)
    last = result.chosen

    def estimate(candidate: fx.GraphModule) -> float:
        found = estimated_fill(candidate, narrowed)
        return alkaid_cost(candidate).total if found is None else max(found, 1e-3)

    for _ in range(_TRIES):
        above = fill(last.cost, adders)
        if above <= 1:
            break
        settings = refine_settings(config, inputs)
        if above <= _LITTLE:
            settings = replace(settings, fine_tune_epochs=0, saving_per_round=min(0.01, settings.saving_per_round))
        wanted = _FIRST if above > _FAR else _LANDED
        refined = refine_to_part(network, inputs, wanted / above, estimate, settings, on_point)
        if refined is None:
            break
        number = max(trial.round for trial in trials) + 1
        last = measure(network, inputs, "refine", number, replace(inputs.target, layers=layouts))
        if on_trial is not None:
            on_trial(last)
        trials.append(last)
        histories.append(point_history(refined, config, last))
        networks.append(network_state(network))
    within = [index for index, trial in enumerate(trials) if trial.meets_budget]
    if not within:
        raise unmet(trials, budget)
    best = max(within, key=lambda index: trials[index].validation_merit)
    load_network_state(network, networks[best])
    return replace(
        result,
        network=network,
        trials=tuple(replace(trial, chosen=index == best) for index, trial in enumerate(trials)),
        histories=tuple(histories),
        networks=tuple(networks),
    )

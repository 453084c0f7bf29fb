"""Refinement of the network that a pruning loop chose, as one more trial of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from trigger_prune.config.refine_section import RefineConfig
from trigger_prune.errors import ModelError
from trigger_prune.prune.measured import LoopInputs, PruneResult, measure
from trigger_prune.prune.refine.refine import RefineResult, refine_network
from trigger_prune.prune.refine.settings import RefineSettings
from trigger_prune.prune.refine.steps import FrontPoint
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.quantize.state import network_state
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.train.history import EpochRecord, FitHistory


def refine_result(
    result: PruneResult,
    inputs: LoopInputs,
    config: RefineConfig,
    *,
    on_point: Callable[[FrontPoint], None] | None = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
) -> PruneResult:
    """``result`` with a further trial, phase ``refine``: the chosen network after ``refine_network``, measured.

    It is the chosen one from then on if it is within the budget. The network is refined in its full shape; the trial
    is measured without what has no effect, as all trials are. Raises ModelError for a network of float activations.
    """
    require_fixed_point(result.network)
    network = copy.deepcopy(result.network).cpu()
    settings = refine_settings(config, inputs)
    refined = refine_network(
        network,
        inputs.train,
        inputs.validation,
        settings,
        task=inputs.settings.task,
        objective=inputs.settings.objective,
        progress=on_point,
    )
    before = result.chosen
    number = max(trial.round for trial in result.trials) + 1
    trial = measure(network, inputs, "refine", number, replace(inputs.target, layers=before.layouts))
    if on_trial is not None:
        on_trial(trial)
    kept = trial.meets_budget or not before.meets_budget
    trials = tuple(replace(each, chosen=each.chosen and not kept) for each in result.trials)
    return replace(
        result,
        network=network if kept else result.network,
        trials=(*trials, replace(trial, chosen=kept)),
        histories=(*result.histories, point_history(refined, config, trial)),
        networks=(*result.networks, network_state(network)),
    )


def require_fixed_point(network: nn.Module) -> None:
    """Raise ModelError for a network of float activations."""
    if is_weights_only(network):
        raise ModelError(
            f"{type(network).__name__} has float activations: there are no adders to save",
            hint="set refine.enabled: false",
        )


def refine_settings(config: RefineConfig, inputs: LoopInputs) -> RefineSettings:
    """Settings of a refinement from its section and the loop's training."""
    return RefineSettings(
        **config.model_dump(exclude={"enabled", "headroom"}),
        batch_size=inputs.settings.batch_size,
        weight_decay=inputs.settings.weight_decay,
        seed=inputs.settings.seed,
    )


def point_history(refined: RefineResult, config: RefineConfig, trial: PruneTrial) -> FitHistory:
    """The measured points of a refinement, one per round, in the form of a training's epochs."""
    records = tuple(
        EpochRecord(
            phase=f"refine {trial.round}",
            epoch=point.round,
            train_loss=point.train_loss,
            validation_loss=point.validation_loss,
            validation_accuracy=trial.validation_accuracy if point is refined.chosen else None,
            learning_rate=config.learning_rate,
            sparsity=trial.sparsity,
            seconds=0.0,
            validation_merit=point.validation_merit,
        )
        for point in refined.points
    )
    return FitHistory(records, next(i for i, point in enumerate(refined.points) if point is refined.chosen))

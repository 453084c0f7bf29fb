"""Which loop a project's section ``prune`` asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import fx

from trigger_prune.config.project import LearnConfig, PruneConfig
from trigger_prune.prune.budget.estimators import LayerEstimator
from trigger_prune.prune.budget.loop import SolverInputs, solve_to_budget
from trigger_prune.prune.learned.loop import learn_to_budget
from trigger_prune.prune.loop import prune_to_budget
from trigger_prune.prune.measured import LoopInputs, OnEpoch, PruneResult
from trigger_prune.prune.tolerance import prune_within_tolerance
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.target import Target


def prune(
    network: fx.GraphModule,
    inputs: LoopInputs,
    estimator: Callable[[], LayerEstimator],
    *,
    learn: LearnConfig | None = None,
    scratch: Path | None = None,
    on_epoch: OnEpoch = None,
    on_trial: Callable[[PruneTrial], None] | None = None,
    on_failure: Callable[[FailedTrial], None] | None = None,
) -> PruneResult:
    """A pruned copy of ``network``: to the budget by one ranking, the solver or learned widths, or within a tolerance.

    estimator   makes what predicts a layer's cost, for the solver
    learn       how widths are trained (default: ``LearnConfig()``)
    """
    config = inputs.config
    if config.goal == "tolerance":
        return prune_within_tolerance(network, inputs, on_epoch=on_epoch, on_trial=on_trial)
    if config.scope == "learned":
        return learn_to_budget(
            network,
            inputs,
            learn or LearnConfig(),
            scratch=scratch,
            on_epoch=on_epoch,
            on_trial=on_trial,
            on_failure=on_failure,
        )
    if config.scope != "solver":
        return prune_to_budget(
            network, inputs, scratch=scratch, on_epoch=on_epoch, on_trial=on_trial, on_failure=on_failure
        )
    solver = SolverInputs(inputs, estimator(), layouts_of(config, inputs.target))
    return solve_to_budget(
        network, solver, scratch=scratch, on_epoch=on_epoch, on_trial=on_trial, on_failure=on_failure
    )


def layouts_of(config: PruneConfig, target: Target) -> tuple[tuple[str, int], ...]:
    """(strategy, reuse factor) that the solver may give a layer."""
    strategies: list[str] = [*config.strategies] or [target.strategy]
    return tuple((name, factor) for name in strategies for factor in config.reuse_factors or [target.reuse_factor])

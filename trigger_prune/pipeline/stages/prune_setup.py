"""What the loops of stages ``prune`` and ``front`` work with, made from a project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import fx

from trigger_prune.config.project import CostConfig, make_budget, make_target
from trigger_prune.cost._base import CostModel
from trigger_prune.cost.hls.products import moved_to_lut
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ConfigError, CostError
from trigger_prune.physics.rates import MINIMUM_EFFECTIVE_EVENTS
from trigger_prune.pipeline.stage import StageContext
from trigger_prune.pipeline.stages.goal import goal_of, make_batches
from trigger_prune.pipeline.stages.objective import effective_background
from trigger_prune.pipeline.stages.training import fit_settings, trained_float_model
from trigger_prune.pipeline.stages.trigger import network_scores
from trigger_prune.prune.budget.estimators import HlsEstimator, LayerEstimator, RtlEstimator, RuntimeEstimator
from trigger_prune.prune.inputs import DroppedInput, drop_redundant
from trigger_prune.prune.measured import LoopInputs, describe_cost
from trigger_prune.prune.plan_of import groups_of
from trigger_prune.prune.processor_rules import require_backend, require_cut_out_units
from trigger_prune.prune.trial import FailedTrial, PruneTrial
from trigger_prune.quantize.describe import describe_network
from trigger_prune.synthesis.backends import analytic_cost, csynth_estimate, make_cost_model
from trigger_prune.target import Target


@dataclass(frozen=True)
class PruneSetup:
    """The quantised network to start from, without redundant inputs, and the inputs of a loop.

    kept, dropped   inputs of stage ``load`` that the network reads, and those it no longer does
    estimator       makes what predicts a layer's cost, for the solver
    report, failed  progress lines for a trial and for a measurement that failed
    """

    network: fx.GraphModule
    inputs: LoopInputs
    kept: tuple[int, ...]
    dropped: tuple[DroppedInput, ...]
    estimator: Callable[[], LayerEstimator]
    report: Callable[[PruneTrial], None]
    failed: Callable[[FailedTrial], None]


def prune_setup(context: StageContext) -> PruneSetup:
    """See ``PruneSetup``. Raises ConfigError or ModelError where the structure or the cost model is impossible."""
    config, events, goal = context.config, context.result("load"), goal_of(context)
    names = events.train.feature_names
    network = context.result("quantize").network(trained_float_model(context, events))
    require_backend(network, config.cost.backend, config.prune)
    require_cut_out_units(config.prune, config.cost.backend, config.budget)
    kept: tuple[int, ...] = tuple(range(len(names)))
    dropped: tuple[DroppedInput, ...] = ()
    if config.prune.drop_redundant_inputs:
        kept, dropped = drop_redundant(network, context.result("sensitivity").inputs, names)
        for item in dropped:
            context.progress.note(f"input {item.name} dropped: {item.reason}")
    _warn_of_few_events(context, network, kept)
    target = make_target(config.target)
    cost_model = make_cost_model(config.cost, context.project_dir)
    estimate = _estimate_for(config.cost, context.project_dir, cost_model, network)
    inputs = LoopInputs(
        train=make_batches(events, "train", goal, kept),
        validation=make_batches(events, "validation", goal, kept),
        settings=fit_settings(context, events, goal, "prune", 1, config.prune.learning_rate),
        config=config.prune,
        budget=make_budget(config.budget, config.target),
        target=target,
        cost_model=cost_model,
        estimate=estimate,
        groups=groups_of(config.prune, network, target),
    )
    last: list[HardwareReport] = []

    def report(trial: PruneTrial) -> None:
        merit = f"validation {goal.objective.label} {abs(trial.validation_merit):.4f}"
        context.progress.note(
            f"round {trial.round} ({trial.phase}): {trial.nonzeros} weights, {describe_cost(trial.cost)}, {merit}"
            f"{', within the budget' if trial.meets_budget else ''}"
        )
        for moved in moved_to_lut(last[-1], trial.cost) if last else ():
            context.progress.note(moved)
        last.append(trial.cost)

    def failed(failure: FailedTrial) -> None:
        context.progress.warn(f"round {failure.round} ({failure.phase}) has no measured cost: {failure.error}")

    def estimator() -> LayerEstimator:
        return _layer_estimator(config.cost, context.project_dir, network, target, estimate)

    return PruneSetup(network, inputs, kept, dropped, estimator, report, failed)


def _layer_estimator(
    config: CostConfig,
    project_dir: Path,
    network: fx.GraphModule,
    target: Target,
    estimate: Callable[[NetworkSpec, Target], HardwareReport],
) -> LayerEstimator:
    """What predicts the cost of single layers for the backend."""
    if config.backend == "runtime":
        spec = describe_network(network)
        products = sum(layer.n_weights * layer.positions for layer in spec.layers)
        return RuntimeEstimator(estimate(spec, target), products)
    if config.backend in ("rtl", "analytic"):
        return RtlEstimator(analytic_cost(config))
    predicts = CostStage.VSYNTH if config.backend in ("vsynth", "pnr") else CostStage.CSYNTH
    return HlsEstimator(csynth_estimate(config, project_dir, predicts))


def _warn_of_few_events(context: StageContext, network: fx.GraphModule, kept: tuple[int, ...]) -> None:
    """Every line of the loop shows the objective: said once, before the first, when few events are behind it."""
    objective, sample = goal_of(context).objective, context.result("load").validation
    if objective.score is None or objective.background_fraction is None:
        return
    scores = network_scores(network, sample, objective.score, kept)
    behind = effective_background(scores, sample, goal_of(context), objective.background_fraction)
    if behind < MINIMUM_EFFECTIVE_EVENTS:
        context.progress.warn(
            f"{objective.label}: {behind:.0f} effective background events on validation, below "
            f"{MINIMUM_EFFECTIVE_EVENTS:g}; networks are chosen by an uncertain figure"
        )


def _estimate_for(
    config: CostConfig, project_dir: Path, cost_model: CostModel, network: fx.GraphModule
) -> Callable[[NetworkSpec, Target], HardwareReport]:
    """What sets the size of the loop's first cut: a formula for what the backend measures."""
    adders = analytic_cost(config)
    if cost_model.stage is CostStage.RUNTIME:
        # No formula: the unpruned network itself is timed, which takes seconds.
        return lambda _spec, target: cost_model.measure(network, target)
    if config.backend in ("rtl", "analytic"):
        return adders.estimate
    predicts = CostStage.VSYNTH if config.backend in ("vsynth", "pnr") else CostStage.CSYNTH
    compiler = csynth_estimate(config, project_dir, predicts)

    def estimate(spec: NetworkSpec, target: Target) -> HardwareReport:
        try:
            return compiler.estimate(spec, target)
        except (ConfigError, CostError):  # what has no formula; only the first cut depends on it
            return adders.estimate(spec, target)

    return estimate

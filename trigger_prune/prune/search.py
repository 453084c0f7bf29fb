"""The largest sparsity within a tolerance, by bisection."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from torch import fx

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.prune.fine_tune import RampPlan, ramp
from trigger_prune.prune.schedules._base import Progress
from trigger_prune.prune.schedules._masking import Masking
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.history import FitHistory

State = TypeVar("State")


@dataclass(frozen=True)
class SparsityTrial(Generic[State]):
    """One sparsity that was tried: its merit, whether that is within the tolerance, and what came of it."""

    sparsity: float
    merit: float
    accepted: bool
    state: State


@dataclass(frozen=True)
class Bisection(Generic[State]):
    """All trials in order, and the accepted one of largest sparsity; None when none was accepted."""

    trials: tuple[SparsityTrial[State], ...]
    best: SparsityTrial[State] | None


@dataclass(frozen=True)
class Pruned:
    """A pruned copy of the network and its training."""

    network: fx.GraphModule
    history: FitHistory


@dataclass(frozen=True)
class SearchResult:
    """The trial that was chosen, all trials in order, and the merit they are compared with."""

    best: SparsityTrial[Pruned]
    trials: tuple[SparsityTrial[Pruned], ...]
    baseline: float


def largest_sparsity(
    evaluate: Callable[[float], tuple[float, State]],
    tolerance: float,
    baseline: float,
    resolution: float,
    *,
    lowest: float = 0.0,
    highest: float = 1.0,
) -> Bisection[State]:
    """The largest sparsity whose merit is at least ``baseline - tolerance``, to ``resolution``.

    evaluate   (merit, state) of a sparsity; larger merits are better, NaN is never accepted
    ``highest`` is tried first. If it fails, the interval from ``lowest``, taken to be within the tolerance, is halved
    until it is no longer than the resolution; ``lowest`` itself is tried only when nothing else was accepted.
    Assumes that the merit falls with the sparsity: the result is then within ``resolution`` of the largest sparsity.
    Where it does not, the result is still accepted and something at most ``resolution`` above it is not, but
    there may be accepted sparsities beyond.
    Raises ConfigError for a tolerance below 0, a resolution not above 0 or bounds that are not 0 <= lowest <= highest
    <= 1.
    """
    if not tolerance >= 0 or not resolution > 0 or not 0.0 <= lowest <= highest <= 1.0:
        raise ConfigError(
            f"search for the sparsity: tolerance {tolerance}, resolution {resolution}, sparsities {lowest}..{highest}",
            hint="tolerance >= 0, resolution > 0, 0 <= lowest <= highest <= 1",
        )
    trials: list[SparsityTrial[State]] = []

    def accepted(sparsity: float) -> bool:
        merit, state = evaluate(sparsity)
        trials.append(SparsityTrial(sparsity, merit, baseline - merit <= tolerance, state))
        return trials[-1].accepted

    if not accepted(highest):
        inside, outside = lowest, highest
        while outside - inside > resolution:
            middle = (inside + outside) / 2
            if not inside < middle < outside:
                # a resolution below that of the numbers
                break
            if accepted(middle):
                inside = middle
            else:
                outside = middle
        if inside == lowest < highest:
            accepted(lowest)
    best = max((trial for trial in trials if trial.accepted), key=lambda trial: trial.sparsity, default=None)
    return Bisection(tuple(trials), best)


def search_sparsity(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: FitSettings,
    plan: RampPlan,
    tolerance: float,
    *,
    baseline: float | None = None,
    resolution: float = 0.01,
    highest: float = 0.99,
    progress: Progress | None = None,
) -> SearchResult:
    """The sparsest copy of ``network``, pruned as planned and fine-tuned, whose merit drops by at most ``tolerance``.

    plan         its ``sparsity`` is what is searched for, from that of the network to ``highest``; sparsities that it
                 names for single layers stay
    baseline     merit on validation to compare with; None: that of the network as it is
    Every trial starts from ``network``, which is left as it was, and is kept with its network. About
    log2(1 / resolution) + 1 trainings; see ``largest_sparsity`` for what is assumed.
    Raises ConfigError for bounds without meaning, ModelError when not even the lowest sparsity is within the tolerance.
    """
    start = Masking(network, train, settings.task, settings.seed, plan).shared_start
    if start is None:
        raise ConfigError("layer_sparsity names every layer: no sparsity is left to search for")
    lowest = min(start, highest)
    if baseline is None:
        events = validation.to(next(network.parameters()).device)
        baseline = evaluate(network, events, settings.task, settings.objective).merit

    def trial(sparsity: float) -> tuple[float, Pruned]:
        pruned = copy.deepcopy(network)
        history = ramp(pruned, train, validation, settings, replace(plan, sparsity=sparsity), progress)
        return history.best.validation_merit, Pruned(pruned, history)

    result = largest_sparsity(trial, tolerance, baseline, resolution, lowest=lowest, highest=highest)
    if result.best is None:
        nearest = max(result.trials, key=lambda each: each.merit)
        raise ModelError(
            f"no sparsity from {lowest:.3g} to {highest:.3g} keeps the merit {baseline:.5g} to {tolerance:g}: "
            f"the best is {nearest.merit:.5g} at {nearest.sparsity:.3g}",
            hint="allow a larger tolerance, or train longer",
        )
    return SearchResult(result.best, result.trials, baseline)

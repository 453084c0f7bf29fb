"""The project's objective of finished networks, and how many background events are behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trigger_prune.data.sample import EventSample
from trigger_prune.physics.equal_efficiency import rank_background, rate_errors
from trigger_prune.physics.scored_events import BACKGROUND, ScoredEvents
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.pipeline.stages.goal import Goal, is_signal, make_batches
from trigger_prune.pipeline.stages.trigger import network_scores
from trigger_prune.report.inputs import ObjectiveResult
from trigger_prune.train.evaluate import evaluate


def objective_result(
    networks: Mapping[str, tuple[nn.Module, tuple[int, ...] | None]], events: Events, goal: Goal
) -> ObjectiveResult:
    """The objective of every network (with the inputs it reads, None for all) on validation and test."""
    merits: dict[str, dict[str, float]] = {"validation": {}, "test": {}}
    behind: dict[str, list[float]] = {"validation": [], "test": []}
    for part, found in merits.items():
        sample: EventSample = getattr(events, part)
        for name, (network, kept) in networks.items():
            if not goal.objective.uses_outputs or goal.objective.score is None:
                batches = make_batches(events, part, goal, kept, plain_weights=goal.task == "classify")
                found[name] = evaluate(network, batches, goal.task, goal.objective).merit
                continue
            scores = network_scores(network, sample, goal.objective.score, kept)
            found[name] = goal.objective.merit(scores, sample.labels, sample.weights)
            if goal.objective.background_fraction is not None:
                behind[part].append(effective_background(scores, sample, goal, goal.objective.background_fraction))
    fewest = {part: min(counts) for part, counts in behind.items() if counts}
    return ObjectiveResult(goal.objective.name, goal.objective.label or goal.objective.name, merits, fewest or None)


def effective_background(scores: NDArray[np.float64], sample: EventSample, goal: Goal, fraction: float) -> float:
    """Effective background events (per generated collision) that pass at a background efficiency."""
    signal = np.where(is_signal(sample, goal), 0, BACKGROUND)
    ranked = rank_background(ScoredEvents(scores, signal, sample.weights, sample.groups, ("signal",)))
    counts, _ = rate_errors(ranked, np.array([fraction * ranked.ranking.total]))
    return float(counts[0])

"""What is gathered of every event and every variant: loss, right decision, scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trigger_prune.errors import DataError, ModelError
from trigger_prune.physics.scores import Score
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import Task, event_losses, right_decisions
from trigger_prune.train.objective import Objective, check_physical

FIGURES = ("loss", "accuracy", "auc", "efficiency")
"""Every figure of a point. Efficiency is that of the signal at a fixed background efficiency (a fixed rate)."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """One ranking of events: by ``score``, or by one class against the rest. ``positive`` bool ``(n,)``: the signal."""

    score: Score | None
    class_index: int | None
    positive: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Judge:
    """How events are judged.

    names                 figures that task and events allow, of ``FIGURES``
    rankings              AUC and efficiency are means over these
    background_fraction   background efficiency of the efficiency
    physical              float64 ``(n,)``: weights of AUC and efficiency
    """

    task: Task
    objective: Objective
    names: tuple[str, ...]
    rankings: tuple[Ranking, ...]
    background_fraction: float
    weights: NDArray[np.float64]
    physical: NDArray[np.float64]

    @property
    def objective_figure(self) -> str:
        """The figure that the objective is of; of a loss the merit is its negative."""
        return "efficiency" if self.objective.name.startswith("efficiency") else self.objective.name


DEFAULT_FRACTION = 0.01
"""Background efficiency at which the signal efficiency is quoted where the project has no rate."""


def make_judge(
    batches: Batches,
    task: Task,
    objective: Objective,
    n_outputs: int,
    *,
    score: Score | None = None,
    signal_classes: Sequence[int] = (),
    background_fraction: float | None = None,
    figures: Sequence[str] | None = None,
) -> Judge:
    """All figures that task and events allow, or the ``figures`` asked for beside that of the objective.

    score, signal_classes   the trigger's score, where the objective has none. Without any a binary task is ranked by
                            its output, and several classes each against the rest
    background_fraction     of the efficiency; default that of the objective, else ``DEFAULT_FRACTION``

    Raises DataError for a figure asked for that events or task do not allow, or an objective of that kind; ModelError
    for events without weight.
    """
    check_physical(batches.classes, batches.physical, objective)
    weights = batches.weights.double().cpu().numpy()
    if not weights.sum() > 0:
        raise ModelError("the events to evaluate have no weight above zero")
    physical = weights if batches.physical is None else batches.physical.double().cpu().numpy()
    with_classes = task in ("classify", "binary")
    if objective.name == "accuracy" and not with_classes:
        raise ModelError(f"objective accuracy: the task {task} has no classes", hint="use objective: loss")
    if objective.score is not None:
        score, signal_classes = objective.score, objective.signal_classes
    rankings = _rankings(batches, task, n_outputs, score, signal_classes, physical)
    allowed = ["loss", *(["accuracy"] if with_classes else []), *(["auc", "efficiency"] if rankings else [])]
    needed = {"efficiency" if objective.name.startswith("efficiency") else objective.name}
    wanted = set(allowed if figures is None else figures) | needed
    for name in sorted(wanted - set(allowed)):
        raise DataError(
            f"figure {name!r} cannot be had of these events for task {task}",
            hint=f"possible: {', '.join(allowed)}; AUC and efficiency need signal and background events with weight",
        )
    fraction = objective.background_fraction or background_fraction or DEFAULT_FRACTION
    names = tuple(name for name in FIGURES if name in wanted)
    return Judge(task, objective, names, rankings, fraction, weights, physical)


def _rankings(
    batches: Batches,
    task: Task,
    n_outputs: int,
    score: Score | None,
    signal_classes: Sequence[int],
    physical: NDArray[np.float64],
) -> tuple[Ranking, ...]:
    classes = None if batches.classes is None else batches.classes.cpu().numpy()
    found: list[Ranking] = []
    if score is not None and classes is not None and signal_classes:
        found = [Ranking(score, None, np.isin(classes, list(signal_classes)))]
    elif task == "binary":
        found = [Ranking(Score("head"), None, batches.targets.cpu().numpy() > 0.5)]
    elif task == "classify":
        labels = batches.targets.cpu().numpy()
        found = [Ranking(None, c, labels == c) for c in range(n_outputs)]
    if all(physical[r.positive].sum() > 0 and physical[~r.positive].sum() > 0 for r in found):
        return tuple(found)
    return ()


@dataclass(frozen=True, eq=False)
class Columns:
    """Per event and variant ``(n, V)``: losses, right decisions (None without classes), and scores ``(K, n, V)``."""

    loss: Tensor
    right: Tensor | None
    scores: Tensor | None

    def rows(self, keep: Sequence[int]) -> Columns:
        """The variants ``keep``."""
        index = list(keep)
        return Columns(
            self.loss[:, index],
            None if self.right is None else self.right[:, index],
            None if self.scores is None else self.scores[:, :, index],
        )

    def first(self, n: int) -> Columns:
        """The first ``n`` events."""
        return Columns(
            self.loss[:n],
            None if self.right is None else self.right[:n],
            None if self.scores is None else self.scores[:, :n],
        )

    @staticmethod
    def join(parts: Sequence[Columns]) -> Columns:
        """Columns of consecutive events."""
        rights = [part.right for part in parts if part.right is not None]
        scores = [part.scores for part in parts if part.scores is not None]
        return Columns(
            torch.cat([part.loss for part in parts]),
            torch.cat(rights) if rights else None,
            torch.cat(scores, dim=1) if scores else None,
        )


def columns_of(outputs: Tensor, part: Batches, judge: Judge) -> Columns:
    """Columns of the outputs ``(n, V, ...)`` of the events ``part``, on the CPU."""
    n_events, n_variants = outputs.shape[:2]
    ranked = judge.rankings if "auc" in judge.names or "efficiency" in judge.names else ()
    right: Tensor | None
    if judge.task == "classify" and outputs.ndim == 3:
        planes = outputs.permute(2, 0, 1).contiguous()
        loss, right = _classified(planes, part.targets)
    else:
        flat = outputs.flatten(0, 1)
        targets = part.targets.repeat_interleave(n_variants, dim=0)
        loss = event_losses(flat, targets, judge.task).reshape(n_events, n_variants)
        decisions = right_decisions(flat, targets, judge.task)
        right = None if decisions is None else decisions.reshape(n_events, n_variants)
        planes = outputs.permute(2, 0, 1) if outputs.ndim == 3 else outputs
    scores: Tensor | None = None
    if ranked and ranked[0].class_index is not None:
        scores = _one_against_rest(planes)
    elif ranked:
        scores = torch.stack([_scores(ranking.score, outputs, part) for ranking in ranked if ranking.score])
    return Columns(loss.cpu(), None if right is None else right.cpu(), None if scores is None else scores.cpu())


def _classified(planes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and right decisions ``(n, V)`` of logits ``(K, n, V)``; of equal logits the first is decided."""
    where = targets.reshape(1, -1, 1).expand(1, *planes.shape[1:])
    true = planes.gather(0, where).squeeze(0)
    before = [torch.full_like(true, -torch.inf)]
    for plane in planes.unbind(0):
        before.append(torch.maximum(before[-1], plane))
    top = before.pop()
    # a comparison of maxima: argmax over an axis that is not the last takes a hundred times as long
    right = (true == top) & (torch.stack(before).gather(0, where).squeeze(0) < top)
    loss = (planes - top).exp_().sum(dim=0).log_().add_(top).sub_(true)
    return loss, right


def _one_against_rest(planes: Tensor) -> Tensor:
    """``z_c - max(z of the others)`` of logits ``(K, n, V)``, same shape. Differences of grid values are exact."""
    lowest = torch.full_like(planes[0], -torch.inf)
    before, after = [lowest], [lowest]
    for plane in planes.unbind(0)[:-1]:
        before.append(torch.maximum(before[-1], plane))
    for plane in reversed(planes.unbind(0)[1:]):
        after.append(torch.maximum(after[-1], plane))
    others = zip(before, reversed(after), strict=True)
    return torch.stack([z - torch.maximum(*pair) for z, pair in zip(planes.unbind(0), others, strict=True)])


def _scores(score: Score, outputs: Tensor, part: Batches) -> Tensor:
    n_events, n_variants = outputs.shape[:2]
    flat = outputs.flatten(0, 1).double()
    inputs = None
    if score.kind == "reconstruction":
        inputs = part.targets.double().repeat_interleave(n_variants, dim=0)
    return score.tensor(flat, inputs).reshape(n_events, n_variants)

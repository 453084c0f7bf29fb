"""The scan of a network that is no fixed-point graph: one evaluation per layer and sparsity, nothing cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from numpy.typing import ArrayLike
from torch import nn

from trigger_prune.importance._base import Criterion, CriterionData
from trigger_prune.sensitivity.findings import LayerPoint, SensitivityScan
from trigger_prune.sensitivity.inputs import find_redundant_inputs, scan_inputs
from trigger_prune.structure.masks import lowest_scores_mask, prunable_layers, restored
from trigger_prune.train.evaluate import LOSS, Batches, evaluate
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective
from trigger_prune.train.threads import suitable_threads


def scan_weights_only(
    network: nn.Module,
    train_features: ArrayLike,
    validation: Batches,
    feature_names: Sequence[str],
    sparsities: Sequence[float],
    criterion: Criterion,
    task: Task,
    *,
    objective: Objective = LOSS,
    criterion_data: CriterionData | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> SensitivityScan:
    """Layer curves of single weights and input findings of a weights-only network, which is left as it was.

    Arguments and errors as those of ``sensitivity.scan.scan``. There are no intervals, no other structures and no bits:
    those need the graph of a fixed-point network.
    """
    layers = prunable_layers(network)
    points: list[LayerPoint] = []
    with suitable_threads(network):
        baseline = evaluate(network, validation, task, objective)
        scores = criterion.score(network, list(layers), criterion_data)
        for name, layer in layers.items():
            for sparsity in sparsities:
                with restored(network):
                    layer.weight_mask.copy_(lowest_scores_mask(scores[name], layer.weight_mask, sparsity))
                    found = evaluate(network, validation, task, objective)
                figures = (found.loss, found.accuracy, None, None, found.merit)
                points.append(LayerPoint(name, criterion.name, sparsity, *figures))
                if progress is not None:
                    progress("layers", len(points), len(layers) * len(sparsities))
        inputs = scan_inputs(
            network,
            validation,
            feature_names,
            find_redundant_inputs(train_features),
            task,
            objective=objective,
            seed=seed,
            progress=None if progress is None else lambda done, total: progress("inputs", done, total),
        )
    return SensitivityScan(
        baseline_loss=baseline.loss,
        baseline_accuracy=baseline.accuracy,
        baseline_merit=baseline.merit,
        objective=objective.label or objective.name,
        events=len(validation),
        layers=tuple(points),
        inputs=tuple(inputs),
    )

"""What pruning single weights of one layer alone costs: the curves of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import fx

from trigger_prune.importance._base import Criterion, CriterionData
from trigger_prune.physics.intervals import LEVEL_68, clopper_pearson, effective_events
from trigger_prune.sensitivity.findings import LayerPoint, ScanPoint
from trigger_prune.sensitivity.points import scan_points
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.train.evaluate import LOSS, Batches
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective


def scan_layers(
    network: fx.GraphModule,
    batches: Batches,
    sparsities: Sequence[float],
    criterion: Criterion,
    task: Task,
    *,
    objective: Objective = LOSS,
    criterion_data: CriterionData | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[LayerPoint]:
    """Loss, accuracy and merit with each prunable layer masked alone to each sparsity, the others untouched.

    sparsities   fractions of masked weights of a layer, masks so far included; one that a layer already exceeds gives
                 no point for that layer
    progress     called with (networks done, networks)

    The rest, and what is raised, as in ``scan_points``.
    """
    names = ("loss", "accuracy") if task in ("classify", "binary") else ("loss",)
    settings = ScanSettings(sparsities=tuple(sparsities), figures=names)
    found = scan_points(
        network,
        batches,
        [criterion],
        task,
        objective=objective,
        settings=settings,
        criterion_data=criterion_data,
        progress=progress,
    )
    return layer_points(found.points, batches)


def layer_points(points: Sequence[ScanPoint], batches: Batches) -> list[LayerPoint]:
    """Points of the first criterion and structure at the network's own precision, with Clopper-Pearson intervals."""
    pruned = [point for point in points if point.weight_bits is None and point.criterion is not None]
    n_effective = effective_events(batches.weights.double().cpu().numpy())
    found = []
    for point in pruned:
        if (point.criterion, point.structure) != (pruned[0].criterion, pruned[0].structure):
            continue
        accuracy = point.figures["accuracy"].value if "accuracy" in point.figures else None
        low, high = None, None
        if accuracy is not None:
            # effective counts; the product is rounded and must not leave the range of counts
            seen = n_effective * point.events / len(batches)
            low, high = clopper_pearson(min(max(accuracy, 0.0) * seen, seen), seen, LEVEL_68)
        found.append(
            LayerPoint(
                layer=point.layer,
                criterion=str(point.criterion),
                sparsity=point.sparsity,
                loss=point.figures["loss"].value,
                accuracy=accuracy,
                accuracy_low=low,
                accuracy_high=high,
                merit=point.merit,
            )
        )
    return found

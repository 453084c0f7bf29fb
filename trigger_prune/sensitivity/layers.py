"""What pruning one layer alone costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from trigger_prune.errors import ModelError
from trigger_prune.importance._base import Criterion, CriterionData
from trigger_prune.physics.intervals import LEVEL_68, clopper_pearson, effective_events
from trigger_prune.sensitivity.findings import LayerPoint
from trigger_prune.structure.masks import lowest_scores_mask, prunable_layers, restored
from trigger_prune.train.evaluate import LOSS, Batches, Evaluation, EventSums
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective, check_physical


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
    batch_size: int = 8192,
) -> list[LayerPoint]:
    """Loss, accuracy and merit with each prunable layer masked alone to each sparsity, the others untouched.

    Nothing is fine-tuned.

    network      quantised graph; its weight layers are call_module nodes. Frozen layers are skipped
    batches      events on the network's device
    sparsities   fractions of masked weights of a layer, masks so far included; one that a layer already exceeds gives
                 no point for that layer
    criterion_data   training events for a criterion that looks at events; ``batches`` only judge
    progress     called with (events done, events)

    For every batch the whole network runs once; a variant then recomputes only what depends on its layer. Weights,
    masks and training modes come back bit for bit, also after an exception.
    Raises ModelError for a sparsity outside 0..1 and for a network without prunable layer.
    """
    for sparsity in sparsities:
        if not 0.0 <= sparsity <= 1.0:
            raise ModelError(f"sparsity {sparsity} of a sensitivity scan is outside 0..1")
    check_physical(batches.classes, batches.physical, objective)
    layers = prunable_layers(network)
    if not layers:
        raise ModelError("the network has no weight layer to prune")
    scores = criterion.score(network, list(layers), criterion_data)
    masks: dict[tuple[str, float], Tensor] = {}
    for name, layer in layers.items():
        already = int((layer.weight_mask == 0).sum())
        for sparsity in sparsities:
            if round(sparsity * layer.weight.numel()) >= already:
                masks[name, sparsity] = lowest_scores_mask(scores[name], layer.weight_mask, sparsity)
    sums = {key: EventSums.zero(batches.features.device, objective) for key in masks}
    dependents = {name: _dependents(network, name) for name in layers}
    with restored(network), torch.no_grad():
        network.eval()
        for start in range(0, len(batches), batch_size):
            part = batches.take(slice(start, start + batch_size))
            values = _all_values(network, part.features)
            for name, layer in layers.items():
                fixed = {node: value for node, value in values.items() if node not in dependents[name]}
                before = layer.weight_mask.clone()
                for sparsity in sparsities:
                    if (name, sparsity) in masks:
                        layer.weight_mask.copy_(masks[name, sparsity])
                        sums[name, sparsity].add(_resume(network, fixed), part, task)
                layer.weight_mask.copy_(before)
            if progress is not None:
                progress(min(start + batch_size, len(batches)), len(batches))
    n_effective = effective_events(batches.weights.double().cpu().numpy())
    return [
        _point(name, criterion.name, sparsity, sums[name, sparsity].result(task, batches), n_effective)
        for name, sparsity in masks
    ]


def _point(layer: str, criterion: str, sparsity: float, result: Evaluation, n_effective: float) -> LayerPoint:
    low, high = None, None
    if result.accuracy is not None:
        # effective counts; the product is rounded and must not leave the range of counts
        low, high = clopper_pearson(min(result.accuracy * n_effective, n_effective), n_effective, LEVEL_68)
    return LayerPoint(
        layer=layer,
        criterion=criterion,
        sparsity=sparsity,
        loss=result.loss,
        accuracy=result.accuracy,
        accuracy_low=low,
        accuracy_high=high,
        merit=result.merit,
    )


def _dependents(network: fx.GraphModule, layer: str) -> set[fx.Node]:
    """Nodes to recompute when the weight of ``layer`` changes: its calls and all that use their results."""
    found: set[fx.Node] = set()
    for node in network.graph.nodes:
        own = node.op == "call_module" and node.target == layer
        if own or any(source in found for source in node.all_input_nodes):
            found.add(node)
    if not found:
        raise ModelError(f"layer {layer!r} is never called by the network's graph")
    return found


def _all_values(network: fx.GraphModule, features: Tensor) -> dict[fx.Node, Any]:
    interpreter = fx.Interpreter(network, garbage_collect_values=False)
    interpreter.run(features)
    return interpreter.env


def _resume(network: fx.GraphModule, fixed: dict[fx.Node, Any]) -> Tensor:
    """Network output with the values ``fixed`` given and all others computed."""
    result: Tensor = fx.Interpreter(network, garbage_collect_values=False).run(initial_env=dict(fixed))
    return result

"""The sensitivity scan: layers and inputs together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from numpy.typing import ArrayLike
from torch import fx

from trigger_prune.importance._base import Criterion, CriterionData
from trigger_prune.sensitivity.findings import SensitivityScan
from trigger_prune.sensitivity.inputs import find_redundant_inputs, scan_inputs
from trigger_prune.sensitivity.layers import scan_layers
from trigger_prune.train.evaluate import LOSS, Batches, evaluate
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective
from trigger_prune.train.threads import suitable_threads


def scan(
    network: fx.GraphModule,
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
    """Baseline, layer curves and input findings of a quantised network, which is left as it was.

    train_features   all training events on the hardware grid ``(n, F, ...)``: redundant inputs are judged on these
    validation       events for every loss, accuracy and merit of the ``objective``, on the network's device
    criterion_data   training events for a criterion that looks at events
    progress         called with ("layers" or "inputs", done, total)

    Raises what ``scan_layers``, ``find_redundant_inputs`` and ``scan_inputs`` raise.
    """

    def part(name: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(name, done, total)

    redundant = find_redundant_inputs(train_features)
    with suitable_threads(network):
        baseline = evaluate(network, validation, task, objective)
        layers = scan_layers(
            network,
            validation,
            sparsities,
            criterion,
            task,
            objective=objective,
            criterion_data=criterion_data,
            progress=part("layers"),
        )
        inputs = scan_inputs(
            network, validation, feature_names, redundant, task, objective=objective, seed=seed, progress=part("inputs")
        )
    return SensitivityScan(
        baseline_loss=baseline.loss,
        baseline_accuracy=baseline.accuracy,
        baseline_merit=baseline.merit,
        objective=objective.label or objective.name,
        events=len(validation),
        layers=tuple(layers),
        inputs=tuple(inputs),
    )

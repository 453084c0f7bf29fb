"""The sensitivity scan: layers and inputs together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import fx

from trigger_prune.importance._base import Criterion, CriterionData
from trigger_prune.sensitivity.findings import SensitivityScan
from trigger_prune.sensitivity.inputs import find_redundant_inputs, scan_inputs
from trigger_prune.sensitivity.layers import layer_points
from trigger_prune.sensitivity.points import scan_points
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.train.evaluate import LOSS, Batches
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective
from trigger_prune.train.threads import suitable_threads


def scan(
    network: fx.GraphModule,
    train_features: ArrayLike,
    validation: Batches,
    feature_names: Sequence[str],
    sparsities: Sequence[float],
    criterion: Criterion | Sequence[Criterion],
    task: Task,
    *,
    objective: Objective = LOSS,
    criterion_data: CriterionData | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    settings: ScanSettings | None = None,
    groups: NDArray[np.int64] | None = None,
) -> SensitivityScan:
    """Baseline, layer curves and input findings of a quantised network, which is left as it was, bit for bit.

    train_features   all training events on the hardware grid ``(n, F, ...)``: redundant inputs are judged on these
    validation       events for every figure, on the network's device
    criterion        one or several; the layer curves of the report are of the first
    criterion_data   training events for a criterion that looks at events
    progress         called with ("layers" or "inputs", done, total): networks, inputs
    settings         what else is scanned, and how; its sparsities and seed are those given here
    groups           collision numbers of the validation events: rows of one collision are resampled together

    Raises what ``scan_points``, ``find_redundant_inputs`` and ``scan_inputs`` raise.
    """

    def part(name: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(name, done, total)

    criteria = list(criterion) if isinstance(criterion, Sequence) else [criterion]
    plain = settings or ScanSettings()
    chosen = ScanSettings(**{**vars(plain), "sparsities": tuple(sparsities), "seed": seed})
    redundant = find_redundant_inputs(train_features)
    with suitable_threads(network):
        found = scan_points(
            network,
            validation,
            criteria,
            task,
            objective=objective,
            settings=chosen,
            groups=groups,
            criterion_data=criterion_data,
            progress=part("layers"),
        )
        inputs = scan_inputs(
            network,
            validation,
            feature_names,
            redundant,
            task,
            objective=objective,
            seed=seed,
            progress=part("inputs"),
            settings=chosen,
            groups=groups,
        )
    accuracy = found.baseline.get("accuracy")
    return SensitivityScan(
        baseline_loss=found.baseline["loss"].value,
        baseline_accuracy=None if accuracy is None else accuracy.value,
        baseline_merit=found.baseline_merit,
        objective=objective.label or objective.name,
        events=len(validation),
        layers=tuple(layer_points(found.points, validation)),
        inputs=tuple(inputs),
        points=found.points,
        baseline=found.baseline,
        intervals=chosen.intervals,
    )

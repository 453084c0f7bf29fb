"""The scan: layers x criteria x structures x bits x sparsities, every network judged on the same events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx

from trigger_prune.importance._base import Criterion, CriterionData
from trigger_prune.sensitivity.costs import AnalyticScan
from trigger_prune.sensitivity.findings import Figure, ScanPoint
from trigger_prune.sensitivity.precision import activation_variants, weight_variants
from trigger_prune.sensitivity.pruned import Candidate, PointKey, pruned_candidates
from trigger_prune.sensitivity.scanner import Scanner
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.train.evaluate import LOSS, Batches
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective


@dataclass(frozen=True)
class PointScan:
    """Figures of the unpruned network, its merit, and the points in the order of the scan."""

    baseline: dict[str, Figure]
    baseline_merit: float
    points: tuple[ScanPoint, ...]


def scan_points(
    network: fx.GraphModule,
    batches: Batches,
    criteria: Sequence[Criterion],
    task: Task,
    *,
    objective: Objective = LOSS,
    settings: ScanSettings | None = None,
    groups: NDArray[np.int64] | None = None,
    criterion_data: CriterionData | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PointScan:
    """Judge every layer pruned alone, and every layer and activation with other bits, without fine-tuning.

    network          quantised graph; frozen layers are skipped
    batches          events on the network's device
    groups           collision numbers of the events, see Scanner
    criterion_data   training events for criteria that look at events, and for the ranges of activations (default: the
                     first of ``batches``)
    progress         called with (networks done, networks)

    The network comes back bit for bit, also after an exception: masks are drawn on a copy, and a copy runs.
    Raises ModelError for a sparsity outside 0..1, a network without prunable layer or events without weight, DataError
    for a figure that the events do not allow, and what criteria and structures raise.
    """
    settings = settings or ScanSettings()
    candidates = pruned_candidates(
        network, criteria, settings.structures, settings.sparsities, settings.bits, criterion_data
    )
    calibration = (criterion_data.batches if criterion_data is not None else batches).features.to(batches.features)
    candidates += _precision_candidates(network, settings, calibration)
    scanner = Scanner(network, batches, task, objective, settings, groups)
    judged = scanner.judge_candidates(candidates, progress)
    costs = None if settings.target is None else AnalyticScan(network, settings.target)
    points = []
    for candidate, entry in zip(candidates, judged, strict=True):
        cost = None if costs is None else costs.of(candidate.variant)
        points.append(
            ScanPoint(
                **vars(candidate.key),
                events=entry.events,
                merit=scanner.merit(entry.figures),
                figures=entry.figures,
                lut=None if cost is None else cost.lut,
                latency_ns=None if cost is None else cost.latency_ns,
            )
        )
    base_lut = None if costs is None or costs.baseline is None else costs.baseline.lut
    unpruned = {
        name: float((layer.weight_mask == 0).double().mean()) for name, layer in prunable_layers(network).items()
    }
    return PointScan(
        scanner.baseline.figures, scanner.merit(scanner.baseline.figures), _with_slopes(points, base_lut, unpruned)
    )


def _precision_candidates(network: fx.GraphModule, settings: ScanSettings, calibration: Tensor) -> list[Candidate]:
    layers = prunable_layers(network)

    def key(name: str, weight_bits: int | None, activation_bits: int | None) -> PointKey:
        masked = float((layers[name].weight_mask == 0).double().mean()) if name in layers else 0.0
        return PointKey(name, None, None, masked, masked, weight_bits, activation_bits)

    found = [
        Candidate(key(name, width, None), variant) for name, width, variant in weight_variants(network, settings.bits)
    ]
    if settings.activation_bits:
        activations = activation_variants(network, settings.activation_bits, calibration)
        found += [Candidate(key(name, None, width), variant) for name, width, variant in activations]
    return found


def _with_slopes(
    points: Sequence[ScanPoint], base_lut: int | None, unpruned: dict[str, float]
) -> tuple[ScanPoint, ...]:
    """Fill ``lut_per_percent``."""
    curves: dict[object, list[int]] = {}
    for number, point in enumerate(points):
        if point.lut is not None and point.criterion is not None and base_lut is not None:
            curves.setdefault(point.curve, []).append(number)
    slopes: dict[int, float] = {}
    for numbers in curves.values():
        first = points[numbers[0]]
        # with other bits the curve does not start at the unpruned network
        before = None if first.weight_bits is not None else (unpruned.get(first.layer, 0.0), base_lut)
        for number in sorted(numbers, key=lambda i: points[i].sparsity):
            here = (points[number].sparsity, points[number].lut)
            if before is not None and here[0] > before[0] and here[1] is not None and before[1] is not None:
                slopes[number] = (before[1] - here[1]) / (100 * (here[0] - before[0]))
            before = here
    return tuple(replace(point, lut_per_percent=slopes.get(number)) for number, point in enumerate(points))

"""The scan: layers x criteria x structures x bits x sparsities, every network judged on the same events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from trigger_prune.errors import DataError, ModelError
from trigger_prune.importance._base import Criterion, CriterionData
from trigger_prune.physics.intervals import LEVEL_68
from trigger_prune.physics.scores import Score
from trigger_prune.sensitivity.costs import AnalyticScan
from trigger_prune.sensitivity.findings import Figure, ScanPoint
from trigger_prune.sensitivity.judged import FIRST_LOOK, Bench, Judged
from trigger_prune.sensitivity.metrics import Columns, Judge, columns_of, make_judge
from trigger_prune.sensitivity.precision import activation_variants, weight_variants
from trigger_prune.sensitivity.batch import Batch, input_outputs
from trigger_prune.sensitivity.program import Program
from trigger_prune.sensitivity.pruned import SINGLE_WEIGHTS, Candidate, PointKey, pruned_candidates
from trigger_prune.sensitivity.resample import REPLICAS, Resampler
from trigger_prune.sensitivity.variants import Variant
from trigger_prune.structure._base import Structure
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.target import Target
from trigger_prune.train.evaluate import LOSS, Batches
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective

_COLUMN_VALUES = 8 * 1024 * 1024
"""Values held per figure: so many variants times events are judged at a time."""

_PLAIN_EVENTS = 2048


@dataclass(frozen=True)
class ScanSettings:
    """What is scanned and how.

    structures        names or structures; ``weight`` are single weights
    sparsities        fractions of a layer's groups that are removed
    bits              weight bits tried beside those of the layer, with every mask and without
    activation_bits   bits tried of every activation
    interval_width    None: every network is judged on all events. Else the statistical mode: a network is done when
                      the interval of the change of the objective (of a loss: in nats) is no wider than this or than a
                      fifth of the change; events come in random order, their number doubles from look to look
    level             of all intervals
    figures           of loss, accuracy, auc, efficiency; None: all that task and events allow
    score, signal_classes, background_fraction   the trigger's score where the objective has none, see make_judge
    target            FPGA of the cost columns; None leaves them empty
    """

    structures: tuple[str | Structure, ...] = (SINGLE_WEIGHTS,)
    sparsities: tuple[float, ...] = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95)
    bits: tuple[int, ...] = ()
    activation_bits: tuple[int, ...] = ()
    interval_width: float | None = None
    level: float = LEVEL_68
    replicas: int = REPLICAS
    first_look: int = FIRST_LOOK
    seed: int = 0
    figures: tuple[str, ...] | None = None
    score: Score | None = None
    signal_classes: tuple[int, ...] = ()
    background_fraction: float | None = None
    target: Target | None = None

    def __post_init__(self) -> None:
        if self.interval_width is not None and not self.interval_width > 0:
            raise DataError(f"an interval of width {self.interval_width:g} is never reached", hint="give a width above 0")
        if not 0 < self.level < 1:
            raise DataError(f"a confidence level of {self.level:g} is not inside 0..1")

    @property
    def intervals(self) -> str:
        """How the intervals are made, in words."""
        if self.interval_width is None:
            return (
                f"{100 * self.level:.0f} % percentiles of {self.replicas} Poisson resamples of the generated collisions, "
                "AUC by its influences; changes are paired"
            )
        return (
            f"{100 * self.level:.0f} % simultaneous over all looks (Bonferroni), normal with the error of "
            f"{self.replicas} Poisson resamples and two events added; a network is done when the change of the objective "
            f"is known to {self.interval_width:g} or to a fifth"
        )


@dataclass(frozen=True)
class PointScan:
    """Figures of the unpruned network, its merit, and the points in the order of the scan."""

    baseline: dict[str, Figure]
    baseline_merit: float
    points: tuple[ScanPoint, ...]


class Scanner:
    """A network with its events, ready to judge variants of it. The network is left alone: a private copy runs.

    groups   int64 ``(n,)``: numbers of the generated collisions, which are resampled as a whole; None: every event is
             one
    """

    def __init__(
        self,
        network: fx.GraphModule,
        batches: Batches,
        task: Task,
        objective: Objective = LOSS,
        settings: ScanSettings | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        self.settings = settings or ScanSettings()
        if len(batches) == 0:
            raise ModelError("there are no events to evaluate")
        order = _random_order(len(batches), groups, self.settings.seed) if self.settings.interval_width else None
        if order is not None:
            batches = batches.take(torch.from_numpy(order).to(batches.features.device))
            groups = None if groups is None else groups[order]
        self.batches, self.order = batches, order
        self.program = Program(network)
        first = self.program.plain(batches.features[:1])
        self.judge: Judge = make_judge(
            batches,
            task,
            objective,
            int(first.shape[1]),
            score=self.settings.score,
            signal_classes=self.settings.signal_classes,
            background_fraction=self.settings.background_fraction,
            figures=self.settings.figures,
        )
        parts = [
            columns_of(self.program.plain(part.features).unsqueeze(1), part, self.judge)
            for part in _chunks(batches, _PLAIN_EVENTS)
        ]
        self.bench = Bench(
            Columns.join(parts),
            self.judge,
            Resampler(len(batches), groups, self.settings.replicas, self.settings.seed),
            self.settings.interval_width,
            self.settings.level,
            self.settings.first_look,
        )
        self.baseline = self.bench.baseline()

    def judge_candidates(
        self, candidates: Sequence[Candidate], progress: Callable[[int, int], None] | None = None
    ) -> list[Judged]:
        """Judge networks in any order; equal ones are computed once, and one equal to the unpruned costs nothing.

        progress   called with (networks done, networks)
        """
        own = {name: state.content() for name, state in self.program.states.items()}
        same_as_base = self._unchanged()
        together: dict[frozenset[str], dict[tuple[object, ...], list[int]]] = {}
        found: dict[int, Judged] = {}
        for number, candidate in enumerate(candidates):
            variant = candidate.variant
            layers = {name: state for name, state in variant.layers.items() if state.content() != own.get(name)}
            variant = replace(variant, layers=layers)
            if not variant.changed:
                found[number] = same_as_base
                continue
            together.setdefault(variant.changed, {}).setdefault(variant.content(), []).append(number)
        done = len(found)
        most = max(1, _COLUMN_VALUES // len(self.batches))
        for changed, numbers in together.items():
            distinct = list(numbers.values())
            for start in range(0, len(distinct), most):
                block = distinct[start : start + most]
                variants = [candidates[same[0]].variant for same in block]
                variants = [
                    replace(variant, layers={name: state for name, state in variant.layers.items() if name in changed})
                    for variant in variants
                ]
                for same, judged in zip(block, self._judge(variants), strict=True):
                    found |= dict.fromkeys(same, judged)
                    done += len(same)
                if progress is not None:
                    progress(done, len(candidates))
        return [found[number] for number in range(len(candidates))]

    def judge_inputs(self, replaced: Tensor) -> list[Judged]:
        """Judge the unchanged network with one feature at a time taken from ``replaced``, which is like the features."""
        parts = []
        for start in range(0, len(self.batches), _PLAIN_EVENTS):
            part = self.batches.take(slice(start, start + _PLAIN_EVENTS))
            outputs = input_outputs(self.program, part.features, replaced[start : start + _PLAIN_EVENTS])
            parts.append(columns_of(outputs, part, self.judge))
        columns = Columns.join(parts)
        return self.bench.judge_all(lambda _rows, _numbers: columns, len(columns.loss))

    def merit(self, figures: dict[str, Figure]) -> float:
        """The objective's figure of merit, larger is better."""
        name = self.judge.objective_figure
        return -figures[name].value if name == "loss" else figures[name].value

    def _unchanged(self) -> Judged:
        figures = {
            name: replace(figure, change=0.0, change_low=0.0, change_high=0.0)
            for name, figure in self.baseline.figures.items()
        }
        return Judged(figures, self.baseline.events)

    def _judge(self, variants: Sequence[Variant]) -> list[Judged]:
        whole = Batch(self.program, variants, self.batches.features[:3])

        def evaluate(rows: slice, numbers: Sequence[int]) -> Columns:
            batch = whole
            if len(numbers) < len(variants):
                some = [variants[number] for number in numbers]
                batch = Batch(self.program, some, self.batches.features[:3], whole.shareable)
            parts = _chunks(self.batches.take(rows), _PLAIN_EVENTS)
            return Columns.join([columns_of(batch.run(part.features), part, self.judge) for part in parts])

        return self.bench.judge_all(evaluate, len(variants))


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
    unpruned = {name: float((layer.weight_mask == 0).double().mean()) for name, layer in prunable_layers(network).items()}
    return PointScan(
        scanner.baseline.figures, scanner.merit(scanner.baseline.figures), _with_slopes(points, base_lut, unpruned)
    )


def _precision_candidates(
    network: fx.GraphModule, settings: ScanSettings, calibration: Tensor
) -> list[Candidate]:
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


def _random_order(n_events: int, groups: NDArray[np.int64] | None, seed: int) -> NDArray[np.int64]:
    """Collisions in random order, the rows of one together."""
    generator = np.random.default_rng(seed)
    if groups is None:
        return generator.permutation(n_events)
    _, cluster = np.unique(groups, return_inverse=True)
    place = generator.permutation(int(cluster.max()) + 1)
    order: NDArray[np.int64] = np.argsort(place[cluster], kind="stable")
    return order


def _chunks(batches: Batches, size: int) -> list[Batches]:
    return [batches.take(slice(start, start + size)) for start in range(0, len(batches), size)]

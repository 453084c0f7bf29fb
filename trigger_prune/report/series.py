"""The numbers behind the plots, without any drawing."""

from __future__ import annotations

from dataclasses import dataclass

from trigger_prune.physics.roc import RocCurve, decimate, roc_curve
from trigger_prune.physics.scores import class_score
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.report.inputs import ReportInputs
from trigger_prune.sensitivity.findings import InputFinding, SensitivityScan
from trigger_prune.target import Budget
from trigger_prune.train.history import FitHistory

FEW_BACKGROUND_EVENTS = 100
"""A background efficiency measured with fewer effective events is marked in the ROC plot."""


@dataclass(frozen=True)
class RocSeries:
    """One class of one network (``float`` or ``deployed``), thinned out for drawing."""

    class_name: str
    network: str
    curve: RocCurve


@dataclass(frozen=True)
class TrialSeries:
    """Trials in order of the loop. ``quality`` is validation accuracy, or loss for a task without classes.

    ``cost`` is the ``quantity`` of every trial's report: ``lut``, or what the loop worked on where there are no LUTs.
    """

    quantity: str
    cost: tuple[float, ...]
    quality: tuple[float, ...]
    quality_name: str
    phases: tuple[str, ...]
    sparsity: tuple[float, ...]
    meets_budget: tuple[bool, ...]
    chosen: int | None


@dataclass(frozen=True)
class SensitivitySeries:
    """One layer pruned alone; starts with the baseline at sparsity 0. ``low``/``high``: 68 %, None for losses."""

    name: str
    sparsity: tuple[float, ...]
    quality: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None


@dataclass(frozen=True)
class TrainingSeries:
    """One phase, epochs counted through; ``restarts`` are the counts at which a new round begins."""

    phase: str
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    accuracy: tuple[float, ...] | None
    sparsity: tuple[float, ...] | None
    best: int
    restarts: tuple[int, ...]


def roc_series(inputs: ReportInputs) -> tuple[RocSeries, ...]:
    """Float and deployed curve of every class; empty for a task without classes."""
    result = []
    for c, name in enumerate(inputs.sample.class_names):
        for network in ("float", "deployed"):
            logits = inputs.networks[network].logits
            if logits is not None:
                curve = roc_curve(class_score(logits, c), inputs.test_labels == c, inputs.test_weights)
                result.append(RocSeries(name, network, decimate(curve)))
    return tuple(result)


def poorly_known_below(series: tuple[RocSeries, ...]) -> float:
    """Largest background efficiency any curve measures with fewer than 100 effective events; 0 when none does."""
    few = [s.curve.background_efficiency[s.curve.background_events < FEW_BACKGROUND_EVENTS] for s in series]
    return max((float(values.max()) for values in few if len(values)), default=0.0)


_INSTEAD_OF_LUT = ("event_time_us", "latency_p99_us", "latency_cycles")


def trial_quantity(trials: tuple[PruneTrial, ...], budget: Budget) -> str | None:
    """What the trajectory shows: LUTs if every trial states them, else a quantity all state, a limited one first."""
    limited = [name for name in _INSTEAD_OF_LUT if getattr(budget, name) is not None]
    for name in ("lut", *limited, *_INSTEAD_OF_LUT):
        if all(getattr(trial.cost, name) is not None for trial in trials):
            return name
    return None


def trial_series(trials: tuple[PruneTrial, ...], quantity: str = "lut") -> TrialSeries:
    """The trajectory of the pruning loop; accuracy only when every trial has one."""
    accuracies = [trial.validation_accuracy for trial in trials if trial.validation_accuracy is not None]
    with_accuracy = len(accuracies) == len(trials) > 0
    return TrialSeries(
        quantity=quantity,
        cost=tuple(getattr(trial.cost, quantity) for trial in trials),
        quality=tuple(accuracies) if with_accuracy else tuple(trial.validation_loss for trial in trials),
        quality_name="validation accuracy" if with_accuracy else "validation loss",
        phases=tuple(trial.phase for trial in trials),
        sparsity=tuple(trial.sparsity for trial in trials),
        meets_budget=tuple(trial.meets_budget for trial in trials),
        chosen=next((index for index, trial in enumerate(trials) if trial.chosen), None),
    )


def sensitivity_series(scan: SensitivityScan) -> tuple[SensitivitySeries, ...]:
    """One curve per layer and criterion, in the order of the scan; accuracy when the scan has it, loss otherwise."""
    curves: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    with_accuracy = scan.baseline_accuracy is not None
    for point in scan.layers:
        if with_accuracy and point.accuracy is not None:
            low = point.accuracy if point.accuracy_low is None else point.accuracy_low
            high = point.accuracy if point.accuracy_high is None else point.accuracy_high
            values = (point.sparsity, point.accuracy, low, high)
        else:
            values = (point.sparsity, point.loss, point.loss, point.loss)
        curves.setdefault((point.layer, point.criterion), []).append(values)
    several = len({criterion for _, criterion in curves}) > 1
    start = scan.baseline_accuracy if scan.baseline_accuracy is not None else scan.baseline_loss
    result = []
    for (layer, criterion), points in curves.items():
        known = sorted(points)
        if known[0][0] > 0:
            known.insert(0, (0.0, start, start, start))
        sparsity, quality, low_band, high_band = zip(*known, strict=True)
        result.append(
            SensitivitySeries(
                f"{layer} ({criterion})" if several else layer,
                sparsity,
                quality,
                low_band if with_accuracy else None,
                high_band if with_accuracy else None,
            )
        )
    return tuple(result)


def training_series(phase: str, history: FitHistory) -> TrainingSeries:
    """One phase of training; sparsity only when it ever differs from zero."""
    epochs = history.epochs
    accuracies = [record.validation_accuracy for record in epochs if record.validation_accuracy is not None]
    restarts = tuple(
        index
        for index in range(1, len(epochs))
        if epochs[index].phase != epochs[index - 1].phase or epochs[index].epoch <= epochs[index - 1].epoch
    )
    return TrainingSeries(
        phase=phase,
        train_loss=tuple(record.train_loss for record in epochs),
        validation_loss=tuple(record.validation_loss for record in epochs),
        accuracy=tuple(accuracies) if len(accuracies) == len(epochs) > 0 else None,
        sparsity=tuple(record.sparsity for record in epochs) if any(record.sparsity for record in epochs) else None,
        best=history.best_index,
        restarts=restarts,
    )


def rank_inputs(scan: SensitivityScan) -> tuple[InputFinding, ...]:
    """Duplicates and constants first, then by falling importance (accuracy drop, or loss increase without classes)."""

    def importance(finding: InputFinding) -> float:
        return finding.loss_increase if finding.accuracy_drop is None else finding.accuracy_drop

    return tuple(sorted(scan.inputs, key=lambda x: (x.kind == "informative", -importance(x), x.index)))

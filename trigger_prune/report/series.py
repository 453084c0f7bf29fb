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
    """Trials in order of the loop. ``quality`` is the objective on validation events; a loss is itself.

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
    """One layer pruned alone; starts with the baseline at sparsity 0. ``low``/``high``: 68 %, of accuracy only."""

    name: str
    sparsity: tuple[float, ...]
    quality: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None


@dataclass(frozen=True)
class TrainingSeries:
    """One phase, epochs counted through; ``restarts`` are the counts at which a new round begins.

    ``merit`` is the objective ``merit_name`` on validation events, None where loss or accuracy say it already.
    """

    phase: str
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    accuracy: tuple[float, ...] | None
    merit: tuple[float, ...] | None
    merit_name: str
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


def trial_series(trials: tuple[PruneTrial, ...], quantity: str = "lut", objective: str | None = None) -> TrialSeries:
    """The trajectory of the pruning loop, with the ``objective`` (its label) as quality.

    None stands for accuracy when every trial has one, else for the loss.
    """
    accuracies = [trial.validation_accuracy for trial in trials if trial.validation_accuracy is not None]
    with_accuracy = len(accuracies) == len(trials) > 0
    if objective is None or (objective == "accuracy" and not with_accuracy):
        objective = "accuracy" if with_accuracy else "loss"
    quality = {"accuracy": accuracies, "loss": [trial.validation_loss for trial in trials]}
    return TrialSeries(
        quantity=quantity,
        cost=tuple(getattr(trial.cost, quantity) for trial in trials),
        quality=tuple(quality.get(objective, [trial.validation_merit for trial in trials])),
        quality_name=f"validation {objective}",
        phases=tuple(trial.phase for trial in trials),
        sparsity=tuple(trial.sparsity for trial in trials),
        meets_budget=tuple(trial.meets_budget for trial in trials),
        chosen=next((index for index, trial in enumerate(trials) if trial.chosen), None),
    )


def sensitivity_series(scan: SensitivityScan) -> tuple[SensitivitySeries, ...]:
    """One curve per layer and criterion, in the order of the scan, of the scan's objective."""
    curves: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    with_accuracy = scan.objective == "accuracy"
    for point in scan.layers:
        quality = _scanned(scan.objective, point.loss, point.accuracy, point.merit)
        low, high = quality, quality
        if with_accuracy:
            low = quality if point.accuracy_low is None else point.accuracy_low
            high = quality if point.accuracy_high is None else point.accuracy_high
        curves.setdefault((point.layer, point.criterion), []).append((point.sparsity, quality, low, high))
    several = len({criterion for _, criterion in curves}) > 1
    start = scan_baseline(scan)
    result = []
    for (layer, criterion), points in curves.items():
        known = sorted(points)
        if known[0][0] > 0:
            known.insert(0, (0.0, start, start, start))
        sparsity, quality_line, low_band, high_band = zip(*known, strict=True)
        result.append(
            SensitivitySeries(
                f"{layer} ({criterion})" if several else layer,
                sparsity,
                quality_line,
                low_band if with_accuracy else None,
                high_band if with_accuracy else None,
            )
        )
    return tuple(result)


def scan_baseline(scan: SensitivityScan) -> float:
    """The objective of the unpruned network; a loss is itself."""
    return _scanned(scan.objective, scan.baseline_loss, scan.baseline_accuracy, scan.baseline_merit)


def _scanned(objective: str, loss: float, accuracy: float | None, merit: float) -> float:
    if objective == "loss":
        return loss
    return accuracy if objective == "accuracy" and accuracy is not None else merit


def has_own_figure(objective: str | None) -> bool:
    """Whether the objective is another figure than accuracy and loss, which are shown in any case."""
    return objective not in (None, "loss", "accuracy")


def importance(scan: SensitivityScan, finding: InputFinding) -> float:
    """What the objective loses when the feature is shuffled."""
    return _scanned(scan.objective, finding.loss_increase, finding.accuracy_drop, finding.merit_drop)


def training_series(phase: str, history: FitHistory, objective: str | None = None) -> TrainingSeries:
    """One phase of training; sparsity only where it differs from zero, the objective only as a figure of its own."""
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
        merit=tuple(record.validation_merit for record in epochs) if has_own_figure(objective) else None,
        merit_name=objective or "",
        sparsity=tuple(record.sparsity for record in epochs) if any(record.sparsity for record in epochs) else None,
        best=history.best_index,
        restarts=restarts,
    )


def rank_inputs(scan: SensitivityScan) -> tuple[InputFinding, ...]:
    """Duplicates and constants first, then by what the objective loses without them."""
    return tuple(sorted(scan.inputs, key=lambda x: (x.kind == "informative", -importance(scan, x), x.index)))

"""``ReportInputs``: everything ``summary.json`` and ``report.html`` are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import HardwareReport
from trigger_prune.data.sample import EventSample
from trigger_prune.physics.classification import ClassificationMetrics
from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.trigger_study import TriggerStudy
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.sensitivity.findings import SensitivityScan
from trigger_prune.target import Budget, Target
from trigger_prune.train.history import FitHistory
from trigger_prune.verify.verdict import Verdict


@dataclass(frozen=True)
class SampleSummary:
    """The events in numbers. ``class_events`` counts all parts together, in the order of ``class_names``."""

    source: str
    part_events: dict[str, int]
    class_names: tuple[str, ...]
    class_events: tuple[int, ...]
    feature_names: tuple[str, ...]
    event_shape: tuple[int, ...]


@dataclass(frozen=True)
class NetworkResult:
    """One network on the test part.

    loss       mean test loss per unit of event weight
    metrics    ``evaluate_classifier`` of the logits; None for a task without classes
    logits     ``(test events, classes)``, in the order of ``ReportInputs.test_labels``; None without classes
    """

    loss: float
    metrics: ClassificationMetrics | None = None
    logits: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class ObjectiveResult:
    """What the project is optimised for.

    merits               part (``validation``, ``test``) -> network -> figure of merit, larger is better
    background_events    part -> effective background events behind an efficiency, the fewest of the networks; None for
                         other objectives
    """

    name: str
    label: str
    merits: dict[str, dict[str, float]]
    background_events: dict[str, float] | None = None


@dataclass(frozen=True)
class LayerSummary:
    """One weight layer of the deployed network; types are written as ``fixed<width,integer,...>``."""

    name: str
    kind: str
    weights: int
    nonzeros: int
    weight_type: str
    input_type: str


@dataclass(frozen=True)
class ReportInputs:
    """What the page shows, in the order of the work.

    config                the validated project.yaml as plain values
    versions              package or tool -> version, ``python`` included
    test_labels/weights/groups   of the test part, ``(test events,)``
    dense_bits            bits of weights and activations of the dense baseline
    dense_cost, deployed_cost    of one stage and tool; ``build_summary`` refuses to compare anything else
    inputs_used           names of the features the deployed network reads
    inputs_dropped        feature -> why it is not needed
    histories             phase (``float``, ``qat``, ``dense``, ``prune``, ...) -> its epochs, in order of execution
    trials                every measured network of the pruning loop
    analytic_dense, analytic_deployed   a second opinion by formula, or None
    hls_dense, hls_deployed      csynth's report predicted by formula, or None; then hls_note says in one line why
    csynth                the HLS compiler's own report of the deployed network, or None; then
    csynth_note           says in one line why there is none
    export_note           why there is neither QONNX nor Verilog nor an hls4ml project; None where there are
    timings_s             stage -> wall time in seconds
    reproduce             the command (lines) that gives these numbers again
    data_card             plain text about the origin and limits of the events
    objective             merits on ``validation`` and ``test`` of the three networks
    trigger, firmware_score      rates and efficiencies, and the score they are of; None where no class is signal
    luminosity            the collisions that rates are for, in words
    """

    project: str
    description: str
    task: str
    config: dict[str, Any]
    seed: int
    versions: dict[str, str]
    sample: SampleSummary
    test_labels: NDArray[np.int64]
    test_weights: NDArray[np.float64]
    test_groups: NDArray[np.int64]
    target: Target
    budget: Budget
    float_network: NetworkResult
    dense_network: NetworkResult
    dense_bits: int
    dense_cost: HardwareReport
    deployed_network: NetworkResult
    deployed_cost: HardwareReport
    deployed_layers: tuple[LayerSummary, ...]
    inputs_used: tuple[str, ...]
    inputs_dropped: dict[str, str]
    verdict: Verdict
    timings_s: dict[str, float]
    reproduce: str
    histories: dict[str, FitHistory] = field(default_factory=dict)
    scan: SensitivityScan | None = None
    trials: tuple[PruneTrial, ...] = ()
    analytic_dense: HardwareReport | None = None
    analytic_deployed: HardwareReport | None = None
    hls_dense: HardwareReport | None = None
    hls_deployed: HardwareReport | None = None
    hls_note: str | None = None
    csynth: HardwareReport | None = None
    csynth_note: str | None = None
    data_card: str | None = None
    objective: ObjectiveResult | None = None
    trigger: TriggerStudy | None = None
    firmware_score: FirmwareScore | None = None
    luminosity: str | None = None
    export_note: str | None = None

    @property
    def networks(self) -> dict[str, NetworkResult]:
        """The three networks every table compares, by the name used in summary.json."""
        return {"float": self.float_network, "dense": self.dense_network, "deployed": self.deployed_network}


def summarise_sample(parts: Mapping[str, EventSample]) -> SampleSummary:
    """Numbers of the parts of one split, ``{"train": ..., "validation": ..., "test": ...}``; at least one part."""
    first = next(iter(parts.values()))
    counts = sum(np.bincount(part.labels, minlength=first.n_classes) for part in parts.values())
    return SampleSummary(
        source=first.source,
        part_events={name: part.n_events for name, part in parts.items()},
        class_names=first.class_names,
        class_events=tuple(int(count) for count in np.atleast_1d(counts)),
        feature_names=first.feature_names,
        event_shape=first.event_shape,
    )


def summarise_layers(spec: NetworkSpec) -> tuple[LayerSummary, ...]:
    """The weight layers of a network, in order of computation."""
    return tuple(
        LayerSummary(
            layer.name, layer.kind, layer.n_weights, layer.nonzeros, str(layer.weight_type), str(layer.input_type)
        )
        for layer in spec.layers
    )

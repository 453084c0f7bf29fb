"""``summary.json``: every number of a run, under documented keys.

``SUMMARY_KEYS`` is the interface. A dotted key is a path of nested JSON objects (``float.accuracy`` is
``{"float": {"accuracy": ...}}``); every key is always present, null where a run has no such number (the accuracy
of an autoencoder, say). Keys whose meaning starts with ``object:`` hold an object with names of the user's own as
keys. Fractions are not in percent.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from trigger_prune.cost.report import HardwareReport
from trigger_prune.physics.classification import paired_accuracy_difference
from trigger_prune.physics.roc import roc_curve, signal_efficiency_at
from trigger_prune.physics.scores import class_score
from trigger_prune.report.files import write_text
from trigger_prune.report.inputs import NetworkResult, ObjectiveResult, ReportInputs
from trigger_prune.report.trigger import TRIGGER_KEYS, trigger_figures

QUOTED_BACKGROUND_EFFICIENCY = 0.01
"""Background efficiency at which signal efficiencies are quoted."""

_NETWORK_KEYS = {
    "accuracy": "weighted fraction of test events put in their class",
    "auc": "mean over classes of the one-versus-rest AUC of the score z_c - max(other z)",
    "auc_per_class": "object: class -> one-versus-rest AUC",
    "signal_efficiency_bkg_1pct": "object: class -> signal efficiency at 1 % background efficiency",
    "loss": "mean test loss per unit of event weight",
}
_COST_KEYS = {
    "lut": "look-up tables",
    "ff": "flip-flops",
    "dsp": "DSP blocks",
    "bram18": "block RAMs of 18 Kbit",
    "uram": "UltraRAMs",
    "latency_cycles": "clock cycles from first input to last output",
    "latency_ns": "the same in ns at the target clock",
    "ii": "initiation interval in clock cycles",
    "estimated_clock_ns": "clock period as the tool estimates it before place and route",
    "clock_uncertainty_ns": "margin that the tool keeps: the target is met when estimate and margin fit into it",
    "achieved_clock_ns": "shortest clock period that static timing analysis allows",
    "wns_ns": "worst slack of setup; negative = timing not met",
    "timing_met": "whether the target clock is reached, by the best evidence in the tool's report",
    "latency_p99_us": "99th percentile of the time of one call on a processor, smallest batch, in us",
    "event_time_us": "processor time per event at the batch size of the highest throughput, in us",
    "runtime": "object: device, provider, threads, and per batch size latency_p50_us, latency_p99_us, throughput_hz",
    "interval_90": "object: quantity -> low and high end of the 90 % prediction interval; of estimates only",
    "cost_stage": "how the cost was obtained: analytic, rtl_synth, csynth, cosim, vsynth, pnr or runtime",
    "cost_label": "the same in words",
    "cost_tool": "tool and version that gave the cost",
}

SUMMARY_KEYS = MappingProxyType(
    {
        "project": "name of the project",
        "description": "one sentence by the user",
        "task": "classify, binary, autoencoder or distil",
        "seed": "seed of every random choice",
        "versions": "object: package or tool -> version",
        "config": "object: project.yaml with every default filled in",
        "reproduce": "command that gives these numbers again",
        "data.source": "where the events came from",
        "data.events": "object: part of the split -> events",
        "data.class_events": "object: class -> events in all parts",
        "data.features": "list of feature names",
        **{f"float.{key}": f"float network: {meaning}" for key, meaning in _NETWORK_KEYS.items()},
        "dense.bits": "bits of weights and activations of the dense baseline",
        **{f"dense.{key}": f"dense baseline: {meaning}" for key, meaning in (_NETWORK_KEYS | _COST_KEYS).items()},
        **{f"deployed.{key}": f"deployed network: {meaning}" for key, meaning in (_NETWORK_KEYS | _COST_KEYS).items()},
        "deployed.nonzeros": "integer weights that are not zero",
        "deployed.weights": "all weights, zeros included",
        "deployed.layer_sparsity": "object: layer -> fraction of zero weights",
        "deployed.inputs_used": "list of the features the deployed network reads",
        "deployed.inputs_dropped": "object: feature -> why it is not needed",
        "lut_ratio": "dense LUT divided by deployed LUT, of one stage and tool; null where they state no LUTs",
        "event_time_ratio": "dense time per event on a processor divided by that of the deployed network",
        "accuracy_drop.value": "float minus deployed accuracy on the same test events",
        "accuracy_drop.error": "its standard error, paired by event",
        "objective.name": "what decides between networks: loss, accuracy, auc, efficiency_at_rate or efficiency_at_fpr",
        "objective.label": "the same in words",
        "objective.validation": "object: float, dense, deployed -> the objective on validation events, larger is "
        "better: a loss counts as its negative, an efficiency is at exactly the wanted rate (randomised tie-breaking)",
        "objective.test": "object: the same on test events",
        "objective.background_events": "object: validation, test -> effective background events behind an efficiency, "
        "the fewest of the networks; below 100 the efficiency is not to be trusted; null for other objectives",
        **{f"trigger.{key}": meaning for key, meaning in TRIGGER_KEYS.items()},
        "intervals": "object: network -> accuracy, auc, auc_per_class -> value, error, low68, high68, low95, high95, "
        "n_effective, method",
        "verify.events": "test events compared bit by bit",
        "verify.mismatches": "object: representation -> events that differ from the fixed-point torch network; null "
        "when it did not run",
        "verify.ok": "true when every representation ran and agreed",
        "verify.tolerance": "null: compared bit by bit. Else activations are float, nothing is bit-exact, and an event "
        "mismatches when an output differs by more than this fraction of the largest output",
        "verify.accumulator_bits": "computed bound on the accumulators; null of a network with float activations",
        "verify.float_type": "floating-point type that carries them exactly",
        "export_note": "why there is neither QONNX nor Verilog nor an hls4ml project; null where there are",
        "budget": "object: lut, ff, dsp, bram18, uram, latency_cycles, ii, latency_p99_us, event_time_us -> upper "
        "limit, null = not limited",
        "budget_use": "object: limited quantity -> use divided by limit",
        "budget_met": "true when no known quantity exceeds its limit",
        "target": "object: part, clock_period_ns, strategy, reuse_factor, io_type",
        "trials": "networks measured in the pruning loop",
        "analytic.dense": "object: the cost keys, estimated by formula; null when not computed",
        "analytic.deployed": "object: the same of the deployed network",
        "hls_estimate.dense": "object: the cost keys, csynth's report predicted by formula; null when not computed",
        "hls_estimate.deployed": "object: the same of the deployed network",
        "hls_estimate_note": "why there is no such estimate",
        "csynth": "object: the cost keys of the HLS compiler's report; null when there is none",
        "csynth_note": "why there is no HLS compiler report",
        "timings_s": "object: stage -> wall time in s, and their sum under total",
    }
)
"""Dotted key -> meaning and unit."""


def build_summary(inputs: ReportInputs) -> dict[str, Any]:
    """All numbers of a run as plain JSON values, nested by ``SUMMARY_KEYS``.

    Raises StageMismatchError when dense and deployed cost were not obtained the same way.
    """
    drop = _accuracy_drop(inputs)
    trigger = trigger_figures(inputs.trigger, inputs.firmware_score, inputs.luminosity)
    flat: dict[str, Any] = {
        "project": inputs.project,
        "description": inputs.description,
        "task": inputs.task,
        "seed": inputs.seed,
        "versions": inputs.versions,
        "config": inputs.config,
        "reproduce": inputs.reproduce,
        "data.source": inputs.sample.source,
        "data.events": inputs.sample.part_events,
        "data.class_events": dict(zip(inputs.sample.class_names, inputs.sample.class_events, strict=True)),
        "data.features": inputs.sample.feature_names,
        "dense.bits": inputs.dense_bits,
        "deployed.nonzeros": sum(layer.nonzeros for layer in inputs.deployed_layers),
        "deployed.weights": sum(layer.weights for layer in inputs.deployed_layers),
        "deployed.layer_sparsity": {x.name: 1 - x.nonzeros / x.weights for x in inputs.deployed_layers if x.weights},
        "deployed.inputs_used": inputs.inputs_used,
        "deployed.inputs_dropped": inputs.inputs_dropped,
        "lut_ratio": _lut_ratio(inputs.dense_cost, inputs.deployed_cost),
        "event_time_ratio": _ratio(inputs.dense_cost.event_time_us, inputs.deployed_cost.event_time_us),
        "accuracy_drop.value": drop[0],
        "accuracy_drop.error": drop[1],
        "intervals": {name: _intervals(network) for name, network in inputs.networks.items()},
        **{f"objective.{key}": value for key, value in _objective(inputs.objective).items()},
        **{f"trigger.{key}": value for key, value in trigger.items()},
        "verify.events": inputs.verdict.events,
        "verify.mismatches": {pair.name: pair.mismatches for pair in inputs.verdict.pairs},
        "verify.ok": inputs.verdict.ok,
        "verify.tolerance": inputs.verdict.tolerance,
        "verify.accumulator_bits": inputs.verdict.accumulator_bits if inputs.verdict.tolerance is None else None,
        "verify.float_type": inputs.verdict.float_type,
        "export_note": inputs.export_note,
        "budget": asdict(inputs.budget),
        "budget_use": inputs.deployed_cost.excess(inputs.budget),
        "budget_met": inputs.deployed_cost.meets(inputs.budget),
        "target": asdict(inputs.target),
        "trials": len(inputs.trials),
        "analytic.dense": _cost(inputs.analytic_dense),
        "analytic.deployed": _cost(inputs.analytic_deployed),
        "hls_estimate.dense": _cost(inputs.hls_dense),
        "hls_estimate.deployed": _cost(inputs.hls_deployed),
        "hls_estimate_note": inputs.hls_note,
        "csynth": _cost(inputs.csynth),
        "csynth_note": inputs.csynth_note,
        "timings_s": {**inputs.timings_s, "total": sum(inputs.timings_s.values())},
    }
    for name, network in inputs.networks.items():
        flat.update({f"{name}.{key}": value for key, value in _network(network, inputs).items()})
    for name, cost in (("dense", inputs.dense_cost), ("deployed", inputs.deployed_cost)):
        flat.update({f"{name}.{key}": value for key, value in (_cost(cost) or {}).items()})
    return _nested({key: _plain(flat[key]) for key in SUMMARY_KEYS})


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """Write ``summary.json``: sorted keys, to a temporary name first, then renamed."""
    write_text(json.dumps(summary, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n", path)


def _lut_ratio(dense: HardwareReport, deployed: HardwareReport) -> float | None:
    dense.require_same_stage(deployed)
    return None if dense.lut is None or deployed.lut is None else dense.lut_ratio(deployed)


def _ratio(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first / second


def _accuracy_drop(inputs: ReportInputs) -> tuple[float | None, float | None]:
    first, second = inputs.float_network.logits, inputs.deployed_network.logits
    if first is None or second is None:
        return None, None
    pair = paired_accuracy_difference(first, second, inputs.test_labels, inputs.test_weights, inputs.test_groups)
    return pair.difference, pair.error


def _objective(objective: ObjectiveResult | None) -> dict[str, Any]:
    if objective is None:
        return dict.fromkeys(("name", "label", "validation", "test", "background_events"))
    return {
        "name": objective.name,
        "label": objective.label,
        **objective.merits,
        "background_events": objective.background_events,
    }


def _network(network: NetworkResult, inputs: ReportInputs) -> dict[str, Any]:
    metrics = network.metrics
    values: dict[str, Any] = dict.fromkeys(_NETWORK_KEYS) | {"loss": network.loss}
    if metrics is not None:
        values["accuracy"], values["auc"] = metrics.accuracy.value, metrics.auc.value
        names = metrics.class_names
        values["auc_per_class"] = {name: part.value for name, part in zip(names, metrics.auc_per_class, strict=True)}
    if metrics is not None and network.logits is not None:
        values["signal_efficiency_bkg_1pct"] = {
            name: signal_efficiency_at(
                roc_curve(class_score(network.logits, c), inputs.test_labels == c, inputs.test_weights),
                QUOTED_BACKGROUND_EFFICIENCY,
            )
            for c, name in enumerate(metrics.class_names)
        }
    return values


def _intervals(network: NetworkResult) -> dict[str, Any] | None:
    metrics = network.metrics
    if metrics is None:
        return None
    per_class = zip(metrics.class_names, metrics.auc_per_class, strict=True)
    return {
        "accuracy": metrics.accuracy.to_dict(),
        "auc": metrics.auc.to_dict(),
        "auc_per_class": {name: estimate.to_dict() for name, estimate in per_class},
    }


def is_stand_in(report: HardwareReport) -> bool:
    """Whether the tool that made a report says that it is none: figures to test with, of no synthesis."""
    return "stand_in" in report.tool_version


def _cost(report: HardwareReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    values = {key: getattr(report, key) for key in _COST_KEYS if not key.startswith("cost_")}
    return {
        **values,
        "interval_90": dict(report.interval_90),
        "runtime": None if report.runtime is None else asdict(report.runtime),
        "cost_stage": report.stage.value,
        "cost_label": f"{report.stage.label}, of a stand-in" if is_stand_in(report) else report.stage.label,
        "cost_tool": f"{report.tool} {report.tool_version}".strip(),
    }


def _plain(value: Any) -> Any:
    """JSON values only: numpy scalars and arrays become Python's, tuples lists, numbers that are not finite null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return result

"""Stage ``report``: test figures of the three networks, ``summary.json`` and ``report.html``."""

from __future__ import annotations

import platform
import shlex
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trigger_prune.config.keys import yaml_text
from trigger_prune.config.load import load_project
from trigger_prune.config.project import make_budget, make_target
from trigger_prune.data.builtin_events import data_card
from trigger_prune.errors import ConfigError
from trigger_prune.physics.classification import evaluate_classifier
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.deployment import deployed_network
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.pipeline.stages.goal import Goal, goal_of, make_batches
from trigger_prune.pipeline.stages.objective import objective_result
from trigger_prune.pipeline.stages.pruning import Pruned
from trigger_prune.pipeline.stages.rtl_project import RtlFiles
from trigger_prune.pipeline.stages.training import model_files, trained_float_model
from trigger_prune.pipeline.stages.two_stage_report import publish_report
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import QuantConv1d, QuantConv2d, QuantLinear, weight_layers
from trigger_prune.quantize.weights_only import is_weights_only, weight_counts
from trigger_prune.report.files import write_text
from trigger_prune.report.headline import headline
from trigger_prune.report.inputs import (
    LayerSummary,
    NetworkResult,
    ReportInputs,
    summarise_layers,
    summarise_sample,
)
from trigger_prune.report.page import render_report
from trigger_prune.report.summary import build_summary, write_summary
from trigger_prune.train.evaluate import evaluate, predict
from trigger_prune.train.history import EpochRecord, FitHistory
from trigger_prune.verify.verdict import PairVerdict, Verdict

_SECTIONS = (
    "project",
    "description",
    "task",
    "objective",
    "seed",
    "data",
    "luminosity",
    "physics",
    "split",
    "input",
    "model",
    "teacher",
    "train",
    "quantize",
    "baseline",
    "sensitivity",
    "prune",
    "budget",
    "target",
    "cost",
    "verify",
)
_UPSTREAM = (
    "load",
    "teacher",
    "train",
    "quantize",
    "baseline",
    "sensitivity",
    "prune",
    "trigger",
    "export",
    "verify",
    "rtl",
    "cost",
)
_PACKAGES = (
    "trigger_prune",
    "torch",
    "numpy",
    "scipy",
    "onnx",
    "onnxruntime",
    "qonnx",
    "hls4ml",
    "alkaid",
    "pyosys",
)

_KINDS: dict[type[nn.Module], str] = {QuantLinear: "dense", QuantConv1d: "conv1d", QuantConv2d: "conv2d"}


@dataclass(frozen=True)
class WrittenReport:
    """The two files of a finished run."""

    path: Path
    summary_path: Path


def versions() -> dict[str, str]:
    """Python and every package that shapes a result; ``not installed`` where an extra is absent."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _compute(context: StageContext) -> tuple[str, dict[str, Any]]:
    inputs = _collect(context)
    summary = build_summary(inputs)
    for line in headline(summary):
        context.progress.note(line)
    return render_report(inputs, summary), summary


def _with_verilog(verdict: Verdict, rtl: RtlFiles) -> Verdict:
    """The verdict with the simulated Verilog as one more representation, where it was simulated."""
    if not rtl.events:
        return verdict
    return replace(verdict, pairs=(*verdict.pairs, PairVerdict("verilog", rtl.events, rtl.differ)))


def _collect(context: StageContext) -> ReportInputs:
    config, events = context.config, context.result("load")
    values = {key: _plain(getattr(config, key)) for key in _SECTIONS}
    pruned, costs = context.result("prune"), context.result("cost")
    deployed, goal = deployed_network(context), goal_of(context)
    names = events.train.feature_names
    model = trained_float_model(context, events)
    dense, trigger = context.result("baseline").network(model), context.result("trigger")
    networks = {"float": (model, None), "dense": (dense, None), "deployed": (deployed, pruned.kept_inputs)}
    objective = objective_result(networks, events, goal)
    return ReportInputs(
        project=config.project,
        description=config.description,
        task=config.task,
        config=values,
        seed=config.seed,
        versions=versions(),
        sample=summarise_sample(events.parts),
        test_labels=events.test.labels,
        test_weights=events.test.weights,
        test_groups=events.test.groups,
        target=make_target(config.target),
        budget=make_budget(config.budget, config.target),
        float_network=_evaluate(model, events, goal),
        dense_network=_evaluate(dense, events, goal),
        dense_bits=config.baseline.bits,
        dense_cost=costs.dense,
        deployed_network=_evaluate(deployed, events, goal, pruned.kept_inputs),
        deployed_cost=costs.deployed,
        deployed_layers=_layers(deployed),
        inputs_used=tuple(names[index] for index in pruned.kept_inputs),
        inputs_dropped={item.name: item.reason for item in pruned.dropped_inputs},
        verdict=_with_verilog(context.result("verify"), context.result("rtl")),
        export_note=getattr(context.result("export"), "note", None),
        timings_s={name: context.seconds(name) for name in _UPSTREAM},
        reproduce=_command(context.project_dir, values),
        histories=_histories(context),
        scan=context.result("sensitivity"),
        trials=pruned.trials,
        analytic_dense=costs.analytic_dense,
        analytic_deployed=costs.analytic_deployed,
        hls_dense=costs.hls_dense,
        hls_deployed=costs.hls_deployed,
        hls_note=costs.hls_note,
        csynth=costs.csynth,
        csynth_note=costs.csynth_note,
        data_card=data_card(config.data.path),
        objective=objective,
        trigger=trigger.study,
        firmware_score=trigger.firmware,
        luminosity=trigger.luminosity,
    )


def _layers(deployed: nn.Module) -> tuple[LayerSummary, ...]:
    if is_weights_only(deployed):
        layers, counts = weight_layers(deployed), weight_counts(deployed)
        return tuple(
            LayerSummary(name, _KINDS[type(layer)], count.weights, count.nonzeros, str(layer.weight_type), "float32")
            for (name, layer), count in zip(layers.items(), counts.values(), strict=True)
        )
    return summarise_layers(describe_network(deployed))


def _evaluate(network: nn.Module, events: Events, goal: Goal, kept: tuple[int, ...] | None = None) -> NetworkResult:
    test = make_batches(events, "test", goal, kept, plain_weights=goal.task == "classify")
    loss = evaluate(network, test, goal.task).loss
    if goal.task != "classify":
        return NetworkResult(loss)
    logits: NDArray[np.float64] = predict(network, test.features)
    sample = events.test
    metrics = evaluate_classifier(logits, sample.labels, sample.weights, sample.groups, sample.class_names)
    return NetworkResult(loss, metrics, logits)


def _histories(context: StageContext) -> dict[str, FitHistory]:
    found = {
        "float": context.result("train").history,
        "qat": context.result("quantize").history,
        "dense": context.result("baseline").history,
    }
    pruning = joined(context.result("prune"))
    return found | ({"prune": pruning} if pruning.epochs else {})


def joined(pruned: Pruned) -> FitHistory:
    """All rounds of the pruning loop as one history; its best epoch is that of the chosen round, or the last one before
    it where that round trained nothing."""
    epochs: list[EpochRecord] = []
    best = 0
    for trial, history in zip(pruned.trials, pruned.histories, strict=True):
        if trial.chosen:
            best = len(epochs) + history.best_index if history.epochs else max(0, len(epochs) - 1)
        epochs += history.epochs
    return FitHistory(tuple(epochs), best)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _save(result: tuple[str, dict[str, Any]], folder: Path) -> None:
    page, summary = result
    write_text(page, folder / "report.html")
    write_summary(summary, folder / "summary.json")


def _load(folder: Path) -> WrittenReport:
    return WrittenReport(folder / "report.html", folder / "summary.json")


def _command(project_dir: Path, values: dict[str, Any]) -> str:
    """The command that gives this run again: every key that differs from project.yaml becomes a ``--set``."""
    words = ["trigger-prune", "run", project_dir.name]
    try:
        written = load_project(project_dir).config.model_dump(mode="json")
    except ConfigError:
        return shlex.join([*words, "--seed", str(values["seed"])])
    for key, value in _differences(written, values):
        words += ["--seed", str(value)] if key == "seed" else ["--set", f"{key}={yaml_text(value)}"]
    return shlex.join(words)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict) and set(before) <= set(value):
            found += _differences(before, value, f"{prefix}{key}.")
        elif value != before:
            found.append((prefix + key, value))
    return found


REPORT: Stage[Any] = Stage(
    name="report",
    title="write the report and the summary",
    inputs=_UPSTREAM,
    config_keys=_SECTIONS,
    compute=_compute,
    save=_save,
    load=_load,
    publish=lambda folder, out: [
        publish_report(folder, out),
        copy_atomically(folder / "summary.json", out / "summary.json"),
    ],
    files=model_files,
    tools=("matplotlib",),
    version=4,
)

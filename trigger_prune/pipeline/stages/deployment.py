"""Stages ``export``, ``verify`` and ``cost``."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import fx

from trigger_prune.config.load import LoadedProject
from trigger_prune.config.project import CostConfig, make_target
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import (
    AwaitingReportsError,
    ConfigError,
    CostError,
    ModelError,
    ToolError,
    VerificationError,
)
from trigger_prune.export.hls4ml_project import project_identifier, write_hls4ml_project
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.float_export import FloatExport, FloatModel, float_model, load_float_export
from trigger_prune.pipeline.stages.training import COST_KEYS, COST_LIMITS, MODEL_KEYS, model_files, trained_float_model
from trigger_prune.prune.steps import join_waiting
from trigger_prune.quantize.layers import has_channel_types
from trigger_prune.quantize.weights_only import is_weights_only
from trigger_prune.report.files import write_text
from trigger_prune.synthesis.backends import analytic_cost, csynth_estimate, make_cost_model, with_store
from trigger_prune.synthesis.hls.cost import CsynthCost
from trigger_prune.synthesis.hls.tools import find_hls_tool
from trigger_prune.target import Target
from trigger_prune.verify.float_tolerance import verify_float_model
from trigger_prune.verify.representations import Exported, verify_network, write_lowered
from trigger_prune.verify.verdict import Verdict

_QONNX, _LOWERED, _TRANSFORM, _PROJECT = "model.onnx", "model_lowered.onnx", "input_transform.json", "hls4ml_project"


_CHANNELS = (
    "neurons have types of their own, hls4ml knows one per tensor; learn.activations: tensor gives a network for it"
)


@dataclass(frozen=True)
class MeasuredCosts:
    """Dense and deployed network at one stage; for an FPGA also second opinions, each a report or a note why not.

    analytic_*   formulas for the ``rtl`` flow
    hls_*        formulas for what csynth would report
    csynth       the HLS compiler's report of the deployed network
    """

    dense: HardwareReport
    deployed: HardwareReport
    analytic_dense: HardwareReport | None = None
    analytic_deployed: HardwareReport | None = None
    hls_dense: HardwareReport | None = None
    hls_deployed: HardwareReport | None = None
    hls_note: str | None = None
    csynth: HardwareReport | None = None
    csynth_note: str | None = None


def deployed_network(context: StageContext) -> fx.GraphModule:
    """The network that stage ``prune`` chose."""
    network: fx.GraphModule = context.result("prune").network(trained_float_model(context, context.result("load")))
    return network


def deployed_target(context: StageContext) -> Target:
    """The target, with the layouts of single layers that the solver chose."""
    return replace(make_target(context.config.target), layers=context.result("prune").layouts)


def _compute_export(context: StageContext) -> Any:
    network = deployed_network(context)
    transform = context.result("load").transform.select(context.result("prune").kept_inputs)
    if is_weights_only(network):
        written = float_model(network, trained_float_model(context, context.result("load")))
        context.progress.note(written.note)
        return written, None, transform, None
    qonnx_model = to_qonnx(network)
    lowered = write_lowered(qonnx_model, network)
    if has_channel_types(network):
        context.progress.note(f"no hls4ml project: {_CHANNELS}")
        return qonnx_model, lowered, transform, None
    folder = context.scratch / _PROJECT
    shutil.rmtree(folder, ignore_errors=True)
    write_hls4ml_project(network, folder, deployed_target(context), project_identifier(context.config.project))
    return qonnx_model, lowered, transform, folder


def _save_export(result: Any, folder: Path) -> None:
    qonnx_model, lowered, transform, project = result
    (folder / _TRANSFORM).write_text(json.dumps(transform.to_dict(), indent=2))
    if isinstance(qonnx_model, FloatModel):
        qonnx_model.save(folder, _QONNX)
        return
    onnx.save(qonnx_model, str(folder / _QONNX))
    onnx.save(lowered, str(folder / _LOWERED))
    if project is not None:
        shutil.copytree(project, folder / _PROJECT)


def _load_export(folder: Path) -> Exported | FloatExport:
    project = folder / _PROJECT if (folder / _PROJECT).exists() else None
    return load_float_export(folder, _QONNX) or Exported(folder / _QONNX, folder / _LOWERED, project)


def _publish_export(folder: Path, out: Path) -> list[Path]:
    names = [name for name in (_QONNX, _LOWERED, _TRANSFORM, _PROJECT) if (folder / name).exists()]
    # left by an earlier run of the same project, they would belong to another network
    if _LOWERED not in names:
        (out / _LOWERED).unlink(missing_ok=True)
    if _PROJECT not in names:
        shutil.rmtree(out / _PROJECT, ignore_errors=True)
    return [copy_atomically(folder / name, out / name) for name in names]


def _compute_verify(context: StageContext) -> Verdict:
    config, events = context.config, context.result("load")
    network = deployed_network(context)
    kept = list(context.result("prune").kept_inputs)
    features = np.ascontiguousarray(events.test.features[:, kept])
    exported = context.result("export")
    with context.progress.track(None, "representations") as tracker:
        if isinstance(exported, FloatExport):
            verdict = verify_float_model(network, exported.model, features)
        else:
            verdict = verify_network(
                network,
                exported,
                features,
                qonnx_events=config.verify.qonnx_events,
                progress=lambda name: tracker.advance(1, running=name),
            )
    for pair in verdict.pairs:
        state = pair.failure or f"{pair.mismatches} of {pair.events} events differ"
        if verdict.tolerance is not None:
            state += f" by more than {verdict.tolerance:g} of the largest output; floats are not bit-exact"
        kind = "fixed point" if verdict.tolerance is None else "float"
        context.progress.note(f"torch {kind} = {pair.name}: {state}")
    if not verdict.ok and config.verify.fail_on_mismatch:
        path = context.scratch / "verify.json"
        write_text(json.dumps(verdict.to_dict(), indent=2), path)
        raise VerificationError(
            _explain(verdict), hint=f"details: {path}; verify.fail_on_mismatch: false goes on anyway"
        )
    return verdict


def _explain(verdict: Verdict) -> str:
    lines = []
    for pair in verdict.pairs:
        if pair.failure is not None:
            lines.append(f"{pair.name} did not run: {pair.failure}")
        elif pair.mismatches and pair.first_difference is not None:
            first = pair.first_difference
            lines.append(
                f"{pair.name}: {pair.mismatches} of {pair.events} events differ from the torch network; first in event "
                f"{first.event}, layer {first.layer!r}, element {first.element}: {first.got!r} instead of "
                f"{first.expected!r}"
            )
    return "the representations of the network do not agree:\n" + "\n".join(lines)


def _save_verdict(verdict: Verdict, folder: Path) -> None:
    (folder / "verify.json").write_text(json.dumps(verdict.to_dict(), indent=2))


def _load_verdict(folder: Path) -> Verdict:
    return Verdict.from_dict(json.loads((folder / "verify.json").read_text()))


def _compute_cost(context: StageContext) -> MeasuredCosts:
    config, events = context.config, context.result("load")
    target = make_target(config.target)
    deployed, laid_out = deployed_network(context), deployed_target(context)
    dense = context.result("baseline").network(trained_float_model(context, events))
    model = make_cost_model(config.cost, context.project_dir)
    # An rtl measurement waits for a process of its own, so two threads use two cores. The other backends export the
    # network by torch, which does one at a time; the deployed one's synthesis is in the store already.
    workers = 2 if model.stage is CostStage.RTL_SYNTH else 1
    with context.progress.track(None, f"{model.name}: dense and deployed"), ThreadPoolExecutor(workers) as pool:
        pairs = ((dense, target), (deployed, laid_out))
        dense_report, deployed_report = _measured([pool.submit(model.measure, *pair) for pair in pairs])
    if model.stage is CostStage.RUNTIME:
        return MeasuredCosts(
            dense_report,
            deployed_report,
            hls_note="the target is a processor",
            csynth_note="the target is a processor",
        )
    analytic = analytic_cost(config.cost)
    hls_dense, hls_deployed, hls_note = _predict_csynth(config.cost, context.project_dir, pairs)
    csynth, csynth_note = _csynth(context, deployed, deployed_report, laid_out)
    return MeasuredCosts(
        dense_report,
        deployed_report,
        analytic.measure(dense, target),
        analytic.measure(deployed, laid_out),
        hls_dense,
        hls_deployed,
        hls_note,
        csynth,
        csynth_note,
    )


def _measured(started: list[Future[HardwareReport]]) -> list[HardwareReport]:
    """The reports; all designs that wait for theirs in one error, so that one trip to the tools is enough."""
    waiting = [error for each in started if isinstance(error := each.exception(), AwaitingReportsError)]
    for each in started:
        error = each.exception()
        if error is not None and not isinstance(error, AwaitingReportsError):
            raise error
    if waiting:
        raise join_waiting(waiting)
    return [each.result() for each in started]


def _predict_csynth(
    config: CostConfig, project_dir: Path, pairs: tuple[tuple[fx.GraphModule, Target], ...]
) -> tuple[HardwareReport | None, HardwareReport | None, str | None]:
    """csynth's reports of both networks by formula, or why there are none."""
    if any(has_channel_types(network) for network, _ in pairs):
        return None, None, _CHANNELS
    try:
        model = csynth_estimate(config, project_dir)
        dense, deployed = (model.measure(network, target) for network, target in pairs)
    except (ConfigError, CostError, ModelError) as error:
        return None, None, error.message
    return dense, deployed, None


def _csynth(
    context: StageContext, deployed: fx.GraphModule, measured: HardwareReport, target: Target
) -> tuple[HardwareReport | None, str | None]:
    """The HLS compiler's report where one is installed, or why there is none."""
    config = context.config.cost
    if has_channel_types(deployed):
        return None, _CHANNELS
    if measured.stage is CostStage.CSYNTH:
        return measured, None
    if find_hls_tool(config.tool_version) is None:
        return None, "neither vitis-run nor vitis_hls nor vivado_hls was found"
    model = CsynthCost(
        timeout_s=config.timeout_s,
        memory_limit_mib=config.memory_limit_mib,
        tool_version=config.tool_version,
        licences=config.licences,
    )
    try:
        return with_store(model, config, context.project_dir).measure(deployed, target), None
    except (ToolError, CostError) as error:
        note = f"the HLS compiler failed: {error}"
        context.progress.warn(note)
        return None, note


_REPORTS = ("dense", "deployed", "analytic_dense", "analytic_deployed", "hls_dense", "hls_deployed", "csynth")
_NOTES = ("hls_note", "csynth_note")


def _save_cost(costs: MeasuredCosts, folder: Path) -> None:
    for name in _REPORTS:
        report: HardwareReport | None = getattr(costs, name)
        if report is not None:
            (folder / f"{name}.json").write_text(report.to_json())
    (folder / "note.json").write_text(json.dumps({name: getattr(costs, name) for name in _NOTES}))


def _load_cost(folder: Path) -> MeasuredCosts:
    reports: dict[str, Any] = {
        name: HardwareReport.from_json((folder / f"{name}.json").read_text())
        if (folder / f"{name}.json").exists()
        else None
        for name in _REPORTS
    }
    return MeasuredCosts(**reports, **json.loads((folder / "note.json").read_text()))


def _hls_tool_files(project: LoadedProject) -> list[Path]:
    tool = find_hls_tool()
    return [*model_files(project), *([Path(tool.path)] if tool else [])]


EXPORT: Stage[Any] = Stage(
    name="export",
    title="write QONNX, lowered ONNX and the hls4ml project",
    inputs=("load", "train", "prune"),
    config_keys=(*MODEL_KEYS, "project", "target"),
    compute=_compute_export,
    save=_save_export,
    load=_load_export,
    publish=_publish_export,
    files=model_files,
    tools=("torch", "onnx", "qonnx", "hls4ml"),
)

VERIFY: Stage[Verdict] = Stage(
    name="verify",
    title="compare every representation bit by bit",
    inputs=("load", "train", "prune", "export"),
    config_keys=(*MODEL_KEYS, "verify.qonnx_events", "verify.fail_on_mismatch"),
    compute=_compute_verify,
    save=_save_verdict,
    load=_load_verdict,
    publish=lambda folder, out: [copy_atomically(folder / "verify.json", out / "verify.json")],
    files=model_files,
    tools=("torch", "onnxruntime", "qonnx", "hls4ml", "alkaid"),
)

COST: Stage[MeasuredCosts] = Stage(
    name="cost",
    title="measure the dense and the deployed network",
    inputs=("load", "train", "baseline", "prune"),
    config_keys=(*MODEL_KEYS, "target", *COST_KEYS),
    limit_keys=COST_LIMITS,
    compute=_compute_cost,
    save=_save_cost,
    load=_load_cost,
    files=_hls_tool_files,
    tools=("alkaid", "pyosys", "onnxruntime"),
    version=3,
)

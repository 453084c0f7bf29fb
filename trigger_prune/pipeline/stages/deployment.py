"""Stages ``export``, ``verify`` and ``cost``."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import fx

from trigger_prune.config.load import LoadedProject
from trigger_prune.config.project import make_target
from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import ToolError, VerificationError
from trigger_prune.export.hls4ml_project import project_identifier, write_hls4ml_project
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.training import COST_KEYS, COST_LIMITS, MODEL_KEYS, model_files, trained_float_model
from trigger_prune.report.files import write_text
from trigger_prune.synthesis.backends import make_cost_model
from trigger_prune.synthesis.hls.cost import CsynthCost
from trigger_prune.synthesis.hls.tools import find_hls_tool
from trigger_prune.verify.representations import Exported, verify_network, write_lowered
from trigger_prune.verify.verdict import Verdict

_QONNX, _LOWERED, _TRANSFORM, _PROJECT = "model.onnx", "model_lowered.onnx", "input_transform.json", "hls4ml_project"


@dataclass(frozen=True)
class MeasuredCosts:
    """Dense and deployed network at one stage, the formula's opinion on both, and csynth where there is one."""

    dense: HardwareReport
    deployed: HardwareReport
    analytic_dense: HardwareReport
    analytic_deployed: HardwareReport
    csynth: HardwareReport | None
    csynth_note: str | None


def deployed_network(context: StageContext) -> fx.GraphModule:
    """The network that stage ``prune`` chose."""
    network: fx.GraphModule = context.result("prune").network(trained_float_model(context, context.result("load")))
    return network


def _compute_export(context: StageContext) -> Any:
    network = deployed_network(context)
    qonnx_model = to_qonnx(network)
    lowered = write_lowered(qonnx_model, network)
    transform = context.result("load").transform.select(context.result("prune").kept_inputs)
    folder = context.scratch / _PROJECT
    shutil.rmtree(folder, ignore_errors=True)
    write_hls4ml_project(
        network, folder, make_target(context.config.target), project_identifier(context.config.project)
    )
    return qonnx_model, lowered, transform, folder


def _save_export(result: Any, folder: Path) -> None:
    qonnx_model, lowered, transform, project = result
    onnx.save(qonnx_model, str(folder / _QONNX))
    onnx.save(lowered, str(folder / _LOWERED))
    (folder / _TRANSFORM).write_text(json.dumps(transform.to_dict(), indent=2))
    shutil.copytree(project, folder / _PROJECT)


def _load_export(folder: Path) -> Exported:
    return Exported(folder / _QONNX, folder / _LOWERED, folder / _PROJECT)


def _publish_export(folder: Path, out: Path) -> list[Path]:
    return [copy_atomically(folder / name, out / name) for name in (_QONNX, _LOWERED, _TRANSFORM, _PROJECT)]


def _compute_verify(context: StageContext) -> Verdict:
    config, events = context.config, context.result("load")
    network = deployed_network(context)
    kept = list(context.result("prune").kept_inputs)
    features = np.ascontiguousarray(events.test.features[:, kept])
    with context.progress.track(None, "representations") as tracker:
        verdict = verify_network(
            network,
            context.result("export"),
            features,
            qonnx_events=config.verify.qonnx_events,
            progress=lambda name: tracker.advance(1, running=name),
        )
    for pair in verdict.pairs:
        state = pair.failure or f"{pair.mismatches} of {pair.events} events differ"
        context.progress.note(f"torch fixed point = {pair.name}: {state}")
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
    deployed = deployed_network(context)
    dense = context.result("baseline").network(trained_float_model(context, events))
    model = make_cost_model(config.cost)
    # Each measurement waits for a process of its own, so two threads use two cores.
    with context.progress.track(None, f"{model.name}: dense and deployed"), ThreadPoolExecutor(2) as pool:
        dense_report, deployed_report = pool.map(lambda network: model.measure(network, target), (dense, deployed))
    analytic = AnalyticCost(adders_per_stage=config.cost.adders_per_stage)
    csynth, note = None, None
    if config.cost.backend == "csynth":
        csynth = deployed_report
    elif find_hls_tool() is None:
        note = "neither vitis-run nor vivado_hls is on PATH"
    else:
        try:
            csynth = CsynthCost(config.cost.timeout_s, config.cost.memory_limit_mib).measure(deployed, target)
        except ToolError as error:
            note = f"the HLS compiler failed: {error}"
            context.progress.warn(note)
    return MeasuredCosts(
        dense_report, deployed_report, analytic.measure(dense, target), analytic.measure(deployed, target), csynth, note
    )


_REPORTS = ("dense", "deployed", "analytic_dense", "analytic_deployed", "csynth")


def _save_cost(costs: MeasuredCosts, folder: Path) -> None:
    for name in _REPORTS:
        report: HardwareReport | None = getattr(costs, name)
        if report is not None:
            (folder / f"{name}.json").write_text(report.to_json())
    (folder / "note.json").write_text(json.dumps({"csynth_note": costs.csynth_note}))


def _load_cost(folder: Path) -> MeasuredCosts:
    reports: dict[str, Any] = {
        name: HardwareReport.from_json((folder / f"{name}.json").read_text())
        if (folder / f"{name}.json").exists()
        else None
        for name in _REPORTS
    }
    return MeasuredCosts(**reports, csynth_note=json.loads((folder / "note.json").read_text())["csynth_note"])


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
    config_keys=(*MODEL_KEYS, "verify"),
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
    tools=("alkaid", "pyosys"),
)

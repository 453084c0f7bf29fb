"""Stage ``rtl``: the deployed network as Verilog and VHDL, simulated, with scripts for Vivado."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trigger_prune.config.project import make_target
from trigger_prune.errors import CostError, ToolError, UnsupportedLayerError, VerificationError
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.deployment import deployed_network
from trigger_prune.pipeline.stages.training import MODEL_KEYS, PIPELINE_KEYS, model_files
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.synthesis.backends import rtl_pipeline
from trigger_prune.synthesis.rtl.simulate import rtl_outputs
from trigger_prune.synthesis.rtl.trace import check_trace, trace_network
from trigger_prune.synthesis.vivado.scripts import vivado_project_of_rtl

_PROJECT, _FACTS = "rtl_project", "rtl.json"


@dataclass(frozen=True)
class RtlFiles:
    """What the stage found.

    note             why there is no Verilog, or no simulation; None when there are both
    latency_cycles   clock edges from input port to output port; ``stages`` of logic between registers
    events           simulated test events, and how many of them ``differ`` from the torch network (unless
                     verify.fail_on_mismatch is off, a difference ends the run); ``simulator`` that ran them
    """

    note: str | None = None
    latency_cycles: int | None = None
    stages: int | None = None
    events: int = 0
    differ: int = 0
    simulator: str | None = None


def _compute(context: StageContext) -> tuple[RtlFiles, Path | None]:
    config = context.config
    if config.cost.backend == "runtime":
        return RtlFiles(note="the target is a processor"), None
    folder = context.scratch / _PROJECT
    shutil.rmtree(folder, ignore_errors=True)
    network = deployed_network(context)
    spec, target = describe_network(network), make_target(config.target)
    model = rtl_pipeline(config.cost)
    try:
        frozen = freeze(network)
        comb = trace_network(frozen, spec.input_type, spec.input_shape)
        check_trace(comb, frozen, spec.input_type, spec.input_shape)
        verilog = model.write(comb, folder / "verilog", target)
        model.write(comb, folder / "vhdl", target, language="vhdl")
    except (ToolError, CostError, UnsupportedLayerError) as error:
        context.progress.warn(f"no Verilog: {error}")
        return RtlFiles(note=error.message), None
    vivado_project_of_rtl(verilog, folder / "vivado", target)
    facts = RtlFiles(latency_cycles=verilog.latency_cycles, stages=verilog.stages)
    kept = list(context.result("prune").kept_inputs)
    events = context.result("load").test.features[: config.verify.rtl_events][:, kept]
    if not len(events):
        return facts, folder
    try:
        found = rtl_outputs(verilog, events)
    except ToolError as error:
        context.progress.warn(f"the Verilog was not simulated: {error}")
        return replace(facts, note=error.message), folder
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(np.asarray(events, np.float64))).numpy()
    differ = int((found.outputs != expected.reshape(len(events), -1)).any(axis=1).sum())
    context.progress.note(f"torch fixed point = Verilog ({found.simulator}): {differ} of {len(events)} events differ")
    if differ and config.verify.fail_on_mismatch:
        raise VerificationError(
            f"the simulated Verilog differs from the network on {differ} of {len(events)} test events",
            hint=f"the project is in {folder}; trust neither it nor its cost",
        )
    return replace(facts, events=len(events), differ=differ, simulator=found.simulator), folder


def _save(result: tuple[RtlFiles, Path | None], folder: Path) -> None:
    facts, project = result
    (folder / _FACTS).write_text(json.dumps(asdict(facts), indent=2))
    if project is not None:
        shutil.copytree(project, folder / _PROJECT)


def _load(folder: Path) -> RtlFiles:
    values: dict[str, Any] = json.loads((folder / _FACTS).read_text())
    return RtlFiles(**values)


def _publish(folder: Path, out: Path) -> list[Path]:
    return [copy_atomically(folder / _PROJECT, out / _PROJECT)] if (folder / _PROJECT).is_dir() else []


RTL: Stage[Any] = Stage(
    name="rtl",
    title="write Verilog, VHDL and Vivado scripts, and simulate the Verilog",
    inputs=("load", "train", "prune"),
    config_keys=(
        *MODEL_KEYS,
        "target",
        "cost.backend",
        *PIPELINE_KEYS,
        "verify.rtl_events",
        "verify.fail_on_mismatch",
    ),
    compute=_compute,
    save=_save,
    load=_load,
    publish=_publish,
    files=model_files,
    tools=("alkaid",),
)

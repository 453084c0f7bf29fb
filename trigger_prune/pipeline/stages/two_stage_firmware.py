"""Stage ``two_stage_firmware`` of ``trigger-prune two-stage --firmware``: the chosen design as HLS C++ and Verilog."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from trigger_prune.config.project import make_target
from trigger_prune.errors import ConfigError, ToolError, UnsupportedLayerError
from trigger_prune.export.hls4ml_project import project_identifier
from trigger_prune.pipeline.artefacts import copy_atomically
from trigger_prune.pipeline.stage import Stage, StageContext
from trigger_prune.pipeline.stages.goal import goal_of
from trigger_prune.pipeline.stages.training import MODEL_KEYS, TRAIN_KEYS
from trigger_prune.pipeline.stages.two_stage import TWO_STAGE_STAGES, two_stage_stage_files
from trigger_prune.pipeline.stages.two_stage_costs import firmware_timing
from trigger_prune.pipeline.stages.two_stage_lights import FOLDER
from trigger_prune.pipeline.stages.two_stage_setup import Rows, full_model, multiplicity
from trigger_prune.target import Target
from trigger_prune.two_stage.findings import BestDesign, TwoStageFindings
from trigger_prune.two_stage.firmware.cycle_model import IntegerThresholds
from trigger_prune.two_stage.firmware.design import FirmwareDesign, FirmwareModel
from trigger_prune.two_stage.firmware.hls.project import write_hls_firmware
from trigger_prune.two_stage.firmware.vectors import FirmwareVectors, make_vectors, objects_in_crossings
from trigger_prune.two_stage.firmware.verilog.project import write_verilog_firmware
from trigger_prune.two_stage.hardware import layout_of
from trigger_prune.units import BUNCH_CROSSING_NS

FIRMWARE = "firmware"
"""Below the folder ``two_stage``."""

VECTOR_ORBITS = 3
"""Orbits of golden vectors."""

POOL_EVENTS = 8192
"""Different objects in the golden vectors."""

SIGNAL_SHARE = 0.02
"""Of the objects in the golden vectors, so that decisions are seen too; the rest is background by its weights."""


@dataclass(frozen=True, eq=False)
class FirmwareInputs:
    """All that a generator needs. ``light_target`` and ``full_target`` say how hls4ml lays out each network."""

    design: FirmwareDesign
    vectors: FirmwareVectors
    light_target: Target
    full_target: Target


def write_firmware(inputs: FirmwareInputs, folder: Path, note: Callable[[str], None]) -> None:
    """HLS C++ and Verilog, one folder each below ``folder``; each has golden vectors of its own timing.

    Networks that alkaid cannot replay, and a full network slower in Verilog than the cost model says, have no Verilog:
    that is noted with the reason. Raises what the HLS generator raises.
    """
    write_hls_firmware(folder / "hls", inputs.design, inputs.vectors, inputs.light_target, inputs.full_target)
    note(f"HLS C++ with {inputs.vectors.crossings} crossings of golden vectors in {FOLDER}/{FIRMWARE}/hls")
    try:
        made = write_verilog_firmware(folder / "verilog", inputs.design, inputs.vectors, inputs.full_target)
    except (ConfigError, UnsupportedLayerError, ToolError) as error:
        shutil.rmtree(folder / "verilog", ignore_errors=True)
        note(f"no Verilog of the two-stage design: {error.message}")
        return
    crossings = made.design.timing.output_cycles(made.design.engine) // made.design.engine.clock_multiple
    note(
        f"Verilog in {FOLDER}/{FIRMWARE}/verilog: functional, its decisions leave after {crossings} crossings; "
        "its resources say nothing about the shared full model"
    )


def firmware_inputs(context: StageContext, findings: TwoStageFindings, best: BestDesign) -> FirmwareInputs:
    """Both networks, thresholds, engine and timing of the chosen design, and golden vectors of its beam."""
    config, events = context.config, context.result("load")
    goal, point = goal_of(context), best.point
    assert goal.score is not None
    full = full_model(context, goal.score)
    assert isinstance(full.network, fx.GraphModule)
    light = next(each for each in context.result("lights") if each.name == point.light_name)
    engine, latency, integers = point.engine, point.latency, best.integer_thresholds
    t_reject = integers["t_reject"]
    assert t_reject is not None, "a design that rejects everything has no queue"
    objects = multiplicity(config) or (0.0, 1.0)
    design = FirmwareDesign(
        name=project_identifier(config.project),
        light=FirmwareModel(light.network, light.score, light.kept_inputs),
        full=FirmwareModel(full.network, full.score, full.kept_inputs),
        thresholds=IntegerThresholds(t_reject, integers["t_accept"], integers["t_full"], integers["t_overflow"]),
        engine=engine,
        timing=firmware_timing(latency.light_cycles, latency.full_cycles),
        objects_per_crossing=len(objects) - 1,
        feature_shape=tuple(events.test.event_shape),
    )
    filled = np.asarray(findings.filled, np.bool_)
    counts = objects_in_crossings(filled, VECTOR_ORBITS * len(filled), objects, config.seed)
    target = make_target(config.target)
    clocked = replace(target, clock_period_ns=BUNCH_CROSSING_NS / engine.clock_multiple, layers=())
    return FirmwareInputs(
        design,
        make_vectors(design, counts, _pool(context), config.seed),
        replace(clocked, strategy="Latency", reuse_factor=1),
        layout_of(full.network, target, config.two_stage.strategy, point.reuse_factor, engine.clock_multiple),
    )


def _pool(context: StageContext) -> NDArray[np.int64]:
    """Feature codes of test events: background as often as its weight says, and a little signal."""
    events, generator = context.result("load"), np.random.default_rng(context.config.seed)
    rows = Rows.of(events.test, goal_of(context), one_by_one=False)
    picked = []
    for signal, count in ((False, round(POOL_EVENTS * (1 - SIGNAL_SHARE))), (True, round(POOL_EVENTS * SIGNAL_SHARE))):
        candidates = np.flatnonzero((rows.signal >= 0) == signal)
        weights = rows.weights[candidates]
        picked.append(generator.choice(candidates, count, p=weights / weights.sum()))
    codes = events.transform.fixed.to_code(events.test.features[generator.permutation(np.concatenate(picked))])
    return np.asarray(codes, np.int64)


def _compute(context: StageContext) -> Path | None:
    findings: TwoStageFindings = context.result("two_stage")
    if findings.best is None:
        context.progress.warn("no two-stage design is a solution, so there is no firmware to write")
        return None
    if findings.recommendation.verdict != "two_stage":
        context.progress.warn("the firmware is that of the best two-stage design, which is not recommended")
    folder = context.scratch / FIRMWARE
    shutil.rmtree(folder, ignore_errors=True)
    with context.progress.track(None, "firmware"):
        write_firmware(firmware_inputs(context, findings, findings.best), folder, context.progress.note)
    return folder


def _save(written: Path | None, folder: Path) -> None:
    if written is not None:
        shutil.copytree(written, folder / FIRMWARE)


def _load(folder: Path) -> Path | None:
    return folder / FIRMWARE if (folder / FIRMWARE).is_dir() else None


def _publish(folder: Path, out: Path) -> list[Path]:
    if (folder / FIRMWARE).is_dir():
        return [copy_atomically(folder / FIRMWARE, out / FOLDER / FIRMWARE)]
    # left by an earlier run, it would be of another design
    shutil.rmtree(out / FOLDER / FIRMWARE, ignore_errors=True)
    return []


TWO_STAGE_FIRMWARE: Stage[Any] = Stage(
    name="two_stage_firmware",
    title="firmware of the two-stage design",
    inputs=("load", "teacher", "train", "baseline", "prune", "lights", "two_stage"),
    config_keys=(
        *MODEL_KEYS,
        *TRAIN_KEYS,
        "project",
        "two_stage.full",
        "two_stage.strategy",
        "two_stage.multiplicity",
        "target",
    ),
    compute=_compute,
    save=_save,
    load=_load,
    publish=_publish,
    files=two_stage_stage_files,
    tools=("torch", "hls4ml", "alkaid"),
)

FIRMWARE_STAGES: tuple[Stage[Any], ...] = (*TWO_STAGE_STAGES, TWO_STAGE_FIRMWARE)
"""Stages of ``trigger-prune two-stage --firmware``."""

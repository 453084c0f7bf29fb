"""The generated files of a two-stage firmware, from their templates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trigger_prune.target import Target
from trigger_prune.two_stage.firmware.design import FirmwareDesign
from trigger_prune.two_stage.firmware.hls.sources import Stage
from trigger_prune.two_stage.firmware.templates import template_environment
from trigger_prune.two_stage.firmware.vectors import FirmwareVectors

UNITS = ("two_stage_top", "light_stage", "full_stage", "two_stage_test")
"""Compiled one by one: the two networks must not meet in one unit."""

FLAGS = ("-O2", "-std=c++14", "-w", "-I.", "-Ilight/firmware/ap_types")

_FILES = (
    "two_stage_config.h",
    "two_stage_top.h",
    "two_stage_top.cpp",
    "two_stage_test.cpp",
    "build_csim.sh",
    "build_hls.tcl",
    "README.md",
)
_BACK_COUNTERS = ("crossings", "accepted_crossings", "passed_full")
_OWNER_MARGIN = 2
"""Objects between two blocks: one just taken from the FIFO, one score not read yet."""


def write_sources(
    folder: Path, design: FirmwareDesign, stages: Mapping[str, Stage], full_target: Target, vectors: FirmwareVectors
) -> None:
    """Write everything but the hls4ml projects and the vectors into ``folder``.

    stages    ``light`` and ``full``, as ``stage_of`` describes them; vectors are counted in the README only
    """
    context = _context(design, stages, full_target, vectors)
    environment = template_environment(__package__)
    for name in _FILES:
        (folder / name).write_text(environment.get_template(f"{name}.j2").render(context), encoding="utf-8")
    for role, stage in stages.items():
        for suffix in ("h", "cpp"):
            text = environment.get_template(f"stage.{suffix}.j2").render(context, stage=stage)
            (folder / f"{role}_stage.{suffix}").write_text(text, encoding="utf-8")
    (folder / "build_csim.sh").chmod(0o755)


def _context(
    design: FirmwareDesign, stages: Mapping[str, Stage], full_target: Target, vectors: FirmwareVectors
) -> dict[str, Any]:
    engine, timing, thresholds = design.engine, design.timing, design.thresholds
    in_flight = -(-timing.full_cycles // engine.ii_cycles)
    return {
        "design": design,
        "engine": engine,
        "timing": timing,
        "input_type": design.input_type,
        "output_crossings": timing.output_cycles(engine) // engine.clock_multiple,
        "thresholds": {
            "REJECT": thresholds.t_reject,
            "ACCEPT": thresholds.t_accept,
            "FULL": thresholds.t_full,
            "OVERFLOW": thresholds.t_overflow,
        },
        "owners_depth": engine.fifo_depth + 1 + in_flight + _OWNER_MARGIN,
        "scores_depth": -(-engine.clock_multiple // engine.ii_cycles) + 1,
        "bits": lambda largest: max(1, int(largest).bit_length()),
        "counters": tuple(vectors.trace.counters),
        "back_counters": _BACK_COUNTERS,
        "vectors": vectors,
        "full_target": full_target,
        "part": full_target.part,
        "clock_period_ns": full_target.clock_period_ns,
        "units": UNITS,
        "flags": FLAGS,
        **stages,
    }

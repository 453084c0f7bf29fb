"""Runs the generated Verilog clock by clock in Verilator, by the test bench that lies in its folder."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ToolError
from trigger_prune.synthesis.process import log_tail
from trigger_prune.synthesis.rtl.tools import Limits, run_tool
from trigger_prune.synthesis.rtl.verilator import find_verilator
from trigger_prune.synthesis.rtl.verilator_runtime import design_sources, runtime_objects
from trigger_prune.two_stage.firmware.vectors import FirmwareVectors
from trigger_prune.two_stage.firmware.verilog.project import VECTORS, write_vectors
from trigger_prune.two_stage.firmware.verilog.render import COMPILER_FLAGS, TEST, VERILATOR_FLAGS

Ints = NDArray[np.int64]

# Older versions refuse the names of newer warnings; all warnings are off anyway.
_LINT_COMMENT = re.compile(r"/\*\s*verilator lint_[^*]*\*/|//\s*verilator lint_.*")

_EQUAL, _DIFFERENT = 0, 1
_STATUS = "status.txt"


@dataclass(frozen=True, eq=False)
class VerilogRun:
    """What came out of the design. Cycles count from the first cycle of the first crossing; -1: never seen.

    accepted       int64 ``(crossings,)``: decision, 0 or 1
    output_cycle   int64 ``(crossings,)``: cycle in which it was at the output
    waiting        int64 ``(crossings,)``: objects in the FIFO right after the arrivals of the crossing
    fate           int64 ``(objects,)``, as in ``cycle_model``
    light          int64 ``(objects,)``: light score
    start_cycle    int64 ``(objects,)``: cycle in which the full network took the object
    score_cycle    int64 ``(objects,)``: cycle of its score
    full           int64 ``(objects,)``: that score, 0 where there is none
    counters       name: value at the end
    surplus        signals that belong to no object or crossing, or came twice
    passed         what the test bench itself says
    """

    accepted: Ints
    output_cycle: Ints
    waiting: Ints
    fate: Ints
    light: Ints
    start_cycle: Ints
    score_cycle: Ints
    full: Ints
    counters: dict[str, int]
    surplus: int
    passed: bool
    build_seconds: float
    run_seconds: float
    simulator: str


def simulate_verilog_firmware(
    folder: Path,
    vectors: FirmwareVectors | None = None,
    *,
    timeout_s: float = 900.0,
    memory_limit_mib: float = 8192.0,
) -> VerilogRun:
    """Build the test bench of ``folder`` and play ``vectors`` (None: the golden vectors of the folder).

    Nothing in ``folder`` changes. Raises ToolError when Verilator or a C++ compiler is missing, fails or breaks a
    limit, or when the test bench cannot read the vectors.
    """
    tool = find_verilator()
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise ToolError("no C++ compiler was found: Verilator's simulation is C++", hint="install g++, or set CXX")
    limits = Limits(timeout_s, memory_limit_mib)
    with tempfile.TemporaryDirectory(prefix="trigger_prune_two_stage_") as scratch:
        work = Path(scratch)
        names = []
        for source in sorted((folder / "src").glob("*.v")):
            (work / source.name).write_text(_LINT_COMMENT.sub("", source.read_text()))
            names.append(source.name)
        shutil.copyfile(folder / TEST, work / TEST)
        build = run_tool(
            [tool.command, *VERILATOR_FLAGS, *names],
            tool="Verilator",
            folder=work,
            error_lines="%Error",
            env={"VERILATOR_ROOT": str(tool.root)},
            limits=limits,
        )
        include = tool.root / "include"
        flags = [*COMPILER_FLAGS, "-Icpp", f"-I{include}", f"-I{include / 'vltstd'}", "-o", "simulation"]
        library = runtime_objects(tool.root, compiler, COMPILER_FLAGS, limits)
        build += run_tool(
            [compiler, *flags, TEST, *design_sources(work / "cpp"), *library],
            tool=f"{Path(compiler).name} on Verilator's C++",
            folder=work,
            error_lines="error",
            limits=limits,
        )
        data = folder / VECTORS
        if vectors is not None:
            data = work / VECTORS
            write_vectors(vectors, data)
        run, status = _play(work, data, limits)
        return _read(work, status == _EQUAL, build, run, f"verilator {tool.version}")


def _play(work: Path, data: Path, limits: Limits) -> tuple[float, int]:
    """Seconds and exit status of the test bench: that it finds a difference is no failure of the simulation."""
    script = f'./simulation "$1" . ; echo $? > {_STATUS}'
    tool = "the simulation of the two-stage firmware"
    seconds = run_tool(["sh", "-c", script, "sh", data.resolve()], tool=tool, folder=work, limits=limits)
    status = int((work / _STATUS).read_text())
    if status not in (_EQUAL, _DIFFERENT):
        raise ToolError(f"{tool} failed with exit status {status}:\n{log_tail(work / 'tool.log')}")
    return seconds, status


def _read(work: Path, passed: bool, build: float, run: float, simulator: str) -> VerilogRun:
    accepted, output_cycle, waiting = np.fromfile(work / "crossings.bin", np.int64).reshape(-1, 3).T
    fate, light, start_cycle, score_cycle, full = np.fromfile(work / "objects.bin", np.int64).reshape(-1, 5).T
    lines = (work / "counters.txt").read_text().split()
    counters = {name: int(value) for name, value in zip(lines[::2], lines[1::2], strict=True)}
    surplus = counters.pop("surplus")
    return VerilogRun(
        accepted=accepted,
        output_cycle=output_cycle,
        waiting=waiting,
        fate=fate,
        light=light,
        start_cycle=start_cycle,
        score_cycle=score_cycle,
        full=full,
        counters=counters,
        surplus=surplus,
        passed=passed,
        build_seconds=build,
        run_seconds=run,
        simulator=simulator,
    )

"""Counts the LUTs, registers, DSPs and block RAMs of a Verilog design: Yosys, mapped to UltraScale+ cells.

This is logic synthesis without place and route: it says nothing about the clock that is reached. Yosys maps LUTs and
carry chains (CARRY4) as for a 7-series device whatever the family; pairs of small LUTs are not packed into LUT6_2.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trigger_prune.errors import ReportFormatError, ToolError
from trigger_prune.synthesis.rtl.tools import Limits, require_package, run_tool, worker_command

FAMILY = "xcup"
_LUT = re.compile(r"LUT[1-6]|INV")


@dataclass(frozen=True)
class CellCounts:
    """Mapped design. ``lut`` counts LUT1..LUT6 and inverters, ``bram18`` halves of a 36 Kbit block RAM.

    cells         every cell type as Yosys names it
    logic_depth   most LUT, carry and inverter cells one after the other between registers, block RAMs, DSPs and ports
    script        the worker's script that ran
    seconds       wall time
    cpu_seconds   processor time of Yosys and abc
    peak_mib      largest resident memory of Yosys plus that of abc: an upper bound of what both held at once
    """

    lut: int
    ff: int
    dsp: int
    bram18: int
    carry4: int
    cells: dict[str, int]
    yosys_version: str
    script: str
    seconds: float
    logic_depth: int = 0
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0

    @property
    def lut_by_type(self) -> dict[str, int]:
        """LUT1..LUT6 and INV; their sum is ``lut``."""
        return {kind: n for kind, n in self.cells.items() if _LUT.fullmatch(kind)}

    @property
    def ff_by_type(self) -> dict[str, int]:
        """Flip-flops by kind of set and reset; their sum is ``ff``."""
        return {kind: n for kind, n in self.cells.items() if kind.startswith("FD")}


def synthesize(
    sources: Sequence[Path],
    top: str,
    *,
    timeout_s: float = 900.0,
    memory_limit_mib: float = 8192.0,
    family: str = FAMILY,
    script: Literal["auto", "stock"] = "auto",
) -> CellCounts:
    """Map a Verilog design in a child process and count its cells. ``sources`` must hold every module under ``top``.

    ``script`` "auto" leaves out the passes that adders and registers do not need; designs that hold multipliers
    or memories get them all. "stock" is the complete synth_xilinx with Yosys' default LUT mapping (``abc``): it counts
    the same within 1 % and takes about twice as long.

    Equal sources give equal counts, wherever they lie. Combinational designs have no clock and need none. Nothing is
    left in the file system, and Yosys ends when this process does.
    Raises ToolError when pyosys is missing, when Yosys refuses the design (its message is quoted) or when a limit is
    broken.
    """
    require_package("pyosys", "Yosys", "rtl")
    with tempfile.TemporaryDirectory(prefix="trigger_prune_yosys_") as scratch:
        folder = Path(scratch)
        result = folder / "cells.json"
        names = copy_sources(sources, folder)
        command, env = worker_command("_yosys_worker", result, top, family, script, *names)
        tool = f"Yosys on module {top!r}"
        limits = Limits(timeout_s, memory_limit_mib)
        seconds = run_tool(command, tool=tool, folder=folder, limits=limits, env=env)
        if not result.is_file():
            raise ToolError(f"{tool} ended without a result")
        report = json.loads(result.read_text())
    return count(
        report["cells"],
        yosys_version=report["yosys"],
        script=report["script"],
        seconds=seconds,
        logic_depth=report["depth"],
        cpu_seconds=report["cpu_s"],
        peak_mib=report["peak_mib"],
    )


def copy_sources(sources: Sequence[Path], folder: Path) -> list[str]:
    """Copy the sources into ``folder`` under their own names; returns these, relative to the folder.

    The tools put file names into the names of cells, so a path of the caller's could change the order in which they
    are mapped. Raises ToolError when two files have the same name.
    """
    names = [path.name for path in sources]
    if len(set(names)) < len(names):
        raise ToolError(f"two source files have the same name: {', '.join(sorted(names))}")
    for path in sources:
        shutil.copyfile(path, folder / path.name)
    return names


def count(
    cells: dict[str, int],
    *,
    yosys_version: str,
    script: str,
    seconds: float,
    logic_depth: int = 0,
    cpu_seconds: float = 0.0,
    peak_mib: float = 0.0,
) -> CellCounts:
    """Group Yosys' cell counts by resource. Raises ReportFormatError when a cell was left unmapped (``$...``)."""
    unmapped = sorted(kind for kind in cells if kind.startswith("$") and kind != "$scopeinfo")
    if unmapped:
        raise ReportFormatError(f"Yosys left cells unmapped: {', '.join(unmapped)}")
    return CellCounts(
        lut=sum(n for kind, n in cells.items() if _LUT.fullmatch(kind)),
        ff=sum(n for kind, n in cells.items() if kind.startswith("FD")),
        dsp=sum(n for kind, n in cells.items() if kind.startswith("DSP")),
        bram18=sum(n * (2 if "36" in kind else 1) for kind, n in cells.items() if kind.startswith("RAMB")),
        carry4=cells.get("CARRY4", 0),
        cells=dict(sorted(cells.items())),
        yosys_version=_version(yosys_version),
        script=script,
        seconds=seconds,
        logic_depth=logic_depth,
        cpu_seconds=cpu_seconds,
        peak_mib=peak_mib,
    )


def _version(creator: str) -> str:
    match = re.match(r"Yosys (\S+)", creator)
    return match.group(1) if match else creator

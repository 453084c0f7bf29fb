"""Counts the LUTs, registers, DSPs and block RAMs of a Verilog design: Yosys, mapped to UltraScale+ cells.

This is logic synthesis without place and route: it says nothing about the clock that is reached. Yosys maps LUTs and
carry chains (CARRY4) as for a 7-series device whatever the family; pairs of small LUTs are not packed into LUT6_2.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trigger_prune.errors import ReportFormatError, ToolError
from trigger_prune.synthesis.process import log_tail, run_limited

FAMILY = "xcup"
_LUT = re.compile(r"LUT[1-6]")


@dataclass(frozen=True)
class CellCounts:
    """Mapped design. ``lut`` counts LUT1..LUT6 and inverters, ``bram18`` halves of a 36 Kbit block RAM.

    cells holds every cell type as Yosys names it, script names the worker's script that ran, seconds is wall time.
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

    Combinational designs have no clock and need none. Nothing is left in the file system.
    Raises ToolError when pyosys is missing, when Yosys refuses the design (its message is quoted) or when a limit is
    broken.
    """
    _require_pyosys()
    with tempfile.TemporaryDirectory(prefix="trigger_prune_yosys_") as scratch:
        folder = Path(scratch)
        result, log = folder / "cells.json", folder / "yosys.log"
        worker = "trigger_prune.synthesis.rtl._yosys_worker"
        root = str(Path(__file__).parents[3])
        search_path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        status, seconds = run_limited(
            [sys.executable, "-m", worker, result, top, family, script, *(path.resolve() for path in sources)],
            tool=f"Yosys on module {top!r}",
            cwd=folder,
            log=log,
            timeout_s=timeout_s,
            memory_limit_mib=memory_limit_mib,
            # Yosys and abc put their own scratch files into TMPDIR; here they vanish with the folder.
            env={"TMPDIR": scratch, "PYTHONPATH": search_path},
        )
        if status or not result.is_file():
            raise ToolError(
                f"Yosys failed on module {top!r} with exit status {status}:\n{log_tail(log, only='ERROR')}",
                hint="a negative status is the signal that ended it; -9 may be the system running out of memory",
            )
        report = json.loads(result.read_text())
    return count(report["cells"], yosys_version=report["yosys"], script=report["script"], seconds=seconds)


def count(cells: dict[str, int], *, yosys_version: str, script: str, seconds: float) -> CellCounts:
    """Group Yosys' cell counts by resource. Raises ReportFormatError when a cell was left unmapped (``$...``)."""
    unmapped = sorted(kind for kind in cells if kind.startswith("$") and kind != "$scopeinfo")
    if unmapped:
        raise ReportFormatError(f"Yosys left cells unmapped: {', '.join(unmapped)}")
    return CellCounts(
        lut=sum(n for kind, n in cells.items() if _LUT.fullmatch(kind)) + cells.get("INV", 0),
        ff=sum(n for kind, n in cells.items() if kind.startswith("FD")),
        dsp=sum(n for kind, n in cells.items() if kind.startswith("DSP")),
        bram18=sum(n * (2 if "36" in kind else 1) for kind, n in cells.items() if kind.startswith("RAMB")),
        carry4=cells.get("CARRY4", 0),
        cells=dict(sorted(cells.items())),
        yosys_version=_version(yosys_version),
        script=script,
        seconds=seconds,
    )


def _version(creator: str) -> str:
    match = re.match(r"Yosys (\S+)", creator)
    return match.group(1) if match else creator


def _require_pyosys() -> None:
    from importlib.util import find_spec

    if find_spec("pyosys") is None:
        raise ToolError("Yosys (the package pyosys) is not installed", hint="pip install 'trigger_prune[rtl]'")

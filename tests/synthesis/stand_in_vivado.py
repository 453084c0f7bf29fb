"""A stand-in for ``vivado``: nothing is synthesised, reports in Vivado's format with invented figures are written.

It runs hls4ml's ``vivado_synth.tcl`` and our ``run_vivado.tcl`` (of which it reads every report command, so that a
report that the script does not ask for is not written). STAND_IN_VIVADO is ``ok``, ``unplaced`` (fails in
``place_design``), ``part`` or ``slow`` (the clock is missed).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

BANNER = """Copyright 1986-2022 Xilinx, Inc. All Rights Reserved.
---------------------------------------------------------
| Tool Version : Vivado v.2022.2 (lin64) Build 1
| Date         : Mon Jan  1 00:00:00 2024
| Command      : {command}
| Design       : {design}
| Device       : {device}
| Design State : {state}
---------------------------------------------------------
"""
UTILIZATION = """
Utilization Design Information

1. CLB Logic
------------

+-------------------------+------+-------+------------+-----------+-------+
|        Site Type        | Used | Fixed | Prohibited | Available | Util% |
+-------------------------+------+-------+------------+-----------+-------+
| CLB LUTs*               | {lut} |     0 |          0 |   1728000 |  0.04 |
|   LUT as Logic          | {lut} |     0 |          0 |   1728000 |  0.04 |
|   LUT as Memory         |    0 |     0 |          0 |    791040 |  0.00 |
| CLB Registers           | {ff} |     0 |          0 |   3456000 |  0.01 |
+-------------------------+------+-------+------------+-----------+-------+

2. BLOCKRAM
-----------

+-------------------+------+-------+------------+-----------+-------+
|     Site Type     | Used | Fixed | Prohibited | Available | Util% |
+-------------------+------+-------+------------+-----------+-------+
| Block RAM Tile    |  1.5 |     0 |          0 |      2688 |  0.05 |
|   RAMB36/FIFO*    |    1 |     0 |          0 |      2688 |  0.03 |
|   RAMB18          |    1 |     0 |          0 |      5376 |  0.01 |
| URAM              |    0 |     0 |          0 |      1280 |  0.00 |
+-------------------+------+-------+------------+-----------+-------+

3. ARITHMETIC
-------------

+----------------+------+-------+------------+-----------+-------+
|    Site Type   | Used | Fixed | Prohibited | Available | Util% |
+----------------+------+-------+------------+-----------+-------+
| DSPs           |    9 |     0 |          0 |     12288 |  0.07 |
|   DSP48E2 only |    9 |       |            |           |       |
+----------------+------+-------+------------+-----------+-------+
"""
HEADINGS = (
    "WNS(ns)",
    "TNS(ns)",
    "TNS Failing Endpoints",
    "TNS Total Endpoints",
    "WHS(ns)",
    "THS(ns)",
    "THS Failing Endpoints",
    "THS Total Endpoints",
    "WPWS(ns)",
    "TPWS(ns)",
    "TPWS Failing Endpoints",
    "TPWS Total Endpoints",
)


def table(values: list[str], first: str = "", name: str = "") -> str:
    widths = [max(len(heading), len(value)) for heading, value in zip(HEADINGS, values, strict=True)]
    rows = []
    for cells, lead in ((HEADINGS, first), (["-" * len(h) for h in HEADINGS], "-" * len(first)), (values, name)):
        rows.append(lead.ljust(14) + "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))
    return "\n".join(rows)


def section(title: str, body: str) -> str:
    line = "-" * 80
    return f"{line}\n| {title}\n| {'-' * len(title)}\n{line}\n\n{body}\n\n"


def timing(period: float, wns: float) -> str:
    failing, verdict = (0, "All user specified timing constraints are met.")
    if wns < 0:
        failing, verdict = (7, "Timing constraints are not met.")
    tns = min(wns, 0.0) * 3
    values = [f"{wns:.3f}", f"{tns:.3f}", str(failing), "400", "0.050", "0.000", "0", "400", "1.0", "0.000", "0", "410"]
    clock = (
        "Clock  Waveform(ns)       Period(ns)  Frequency(MHz)\n-----  ------------       ----------  --------------\n"
    )
    clock += f"clock  {{0.000 {period / 2:.3f}}}      {period:.3f}       {1000 / period:.3f}"
    return (
        section("Design Timing Summary", f"{table(values)}\n\n\n{verdict}")
        + section("Clock Summary", clock)
        + section("Intra Clock Table", table(values, "Clock", "clock"))
        + section(
            "Inter Clock Table", "From Clock    To Clock          WNS(ns)\n----------    --------          -------"
        )
        + section(
            "Other Path Groups Table", "Path Group    From Clock    To Clock\n----------    ----------    --------"
        )
        + section("Timing Details", "")
    )


def tcl_variable(name: str, text: str) -> str:
    found = re.search(rf"^set {name} \"?([^\"\n]+)\"?", text, re.M)
    assert found is not None, name
    return found.group(1)


def hls4ml_synthesis(script: str, mode: str) -> int:
    project = Path("project.tcl").read_text()
    name, part = tcl_variable("project_name", project), tcl_variable("part", project)
    if not Path(f"{name}_prj/solution1/syn/verilog").is_dir():
        raise SystemExit("no Verilog")
    if mode == "part":
        print(f"ERROR: [Coretcl 2-106] Specified part could not be found: {part}")
        return 1
    banner = BANNER.format(
        command="report_utilization", design=name, device=part.replace("-", "", 1), state="Synthesized"
    )
    Path("vivado_synth.rpt").write_text(banner + UTILIZATION.format(lut=5432, ff=1111))
    return 0


def ours(script: str, flow: str, mode: str) -> int:
    found = re.search(r"synth_design -top (\S+) -part (\S+) -mode out_of_context", script)
    assert found is not None
    top, part = found.groups()
    period = re.search(r"-period (\S+)", Path("clock.xdc").read_text())
    assert period is not None
    for path in re.findall(r"^read_\S+(?: -\S+)* \[file join \$here src \{(\S+)\}\]", script, re.M):
        if not Path("src", path).is_file():
            raise SystemExit(f"no source {path}")
    before, after = script.split("if {$flow eq", 1)
    if mode == "part":
        print(f"ERROR: [Coretcl 2-106] Specified part could not be found: {part}")
        return 1
    Path("vivado_reports").mkdir(exist_ok=True)
    for block, state, lut, wns in ((before, "Synthesized", 5432, 0.75), (after, "Routed", 5210, 0.25)):
        if state == "Routed" and flow == "synth":
            break
        if state == "Routed" and mode == "unplaced":
            print("ERROR: [Place 30-640] Place Check : This design requires more CLB LUTs than are available")
            return 1
        for command, name in re.findall(r"(report_\w+) -file \[file join \$reports (\S+)\]", block):
            banner = BANNER.format(command=command, design=top, device=part, state=state)
            slack = -0.5 if mode == "slow" else wns
            body = UTILIZATION.format(lut=lut, ff=1111) if "utilization" in command else timing(float(period[1]), slack)
            Path("vivado_reports", name).write_text(banner + body)
    return 0


def main() -> int:
    if sys.argv[1:] == ["-version"]:
        print("Vivado v2022.2 (64-bit)")
        return 0
    print("This is a stand-in for Vivado; it synthesises nothing.", flush=True)
    mode = os.environ.get("STAND_IN_VIVADO", "ok")
    arguments = sys.argv[1:]
    script = Path(arguments[arguments.index("-source") + 1])
    if script.name == "vivado_synth.tcl":
        return hls4ml_synthesis(script.read_text(), mode)
    return ours(script.read_text(), arguments[arguments.index("-tclargs") + 1], mode)


if __name__ == "__main__":
    sys.exit(main())

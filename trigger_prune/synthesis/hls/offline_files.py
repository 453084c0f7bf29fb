"""What lies beside an hls4ml project that is synthesised on another machine: a stamp, instructions, a script."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from trigger_prune.synthesis.hls.steps import HlsSteps
from trigger_prune.synthesis.hls.tools import ToolKind

if TYPE_CHECKING:
    from trigger_prune.synthesis.hls.dropped import Expected

STAMP = "trigger_prune_design.json"
SCRIPT = "synthesise.sh"
ALL_SCRIPT = "synthesise_all.sh"
INSTRUCTIONS = "HOW_TO_SYNTHESISE.txt"

_VITIS = """if command -v vitis-run >/dev/null 2>&1; then
    vitis-run --tcl build_prj.tcl --mode hls > hls.log 2>&1
else
    vitis_hls -f build_prj.tcl > hls.log 2>&1
fi
"""
_SH = """#!/bin/sh
# {what}; source settings64.sh of the tools first
cd "$(dirname "$0")" || exit 1
{command}"""
_ALL = """for stamp in */{stamp}; do
    folder=$(dirname "$stamp")
    # the report may be where the tool puts it, or anywhere else below
    if [ -n "$(find "$folder" -name '*csynth.xml' -print -quit)" ]; then continue; fi
    if [ -e "$folder/hls.log" ]; then
        echo "skipping $folder: it was tried before; remove its hls.log to try again"
        continue
    fi
    echo "synthesising $folder"
    sh "$folder/{script}" || echo "  failed, see $folder/hls.log"
done
"""
_TEXT = """This is the hls4ml project of one design that waits for its {stage} report.

  part     {part}
  clock    {clock:g} ns
  function {top}

On a machine with {tool}{version}:

  source .../settings64.sh
  sh {script}

Then copy this folder back to where it came from, or put just the report there: {files}.
If the synthesis fails, copy hls.log back: the failure is recorded, and the next design is smaller.
Change nothing in the project: a report of another function, part or clock is refused.
"""
_FILES = {
    "csynth": "{top}_prj/solution1/syn/report/{top}_csynth.xml",
    "cosim": "{top}_prj/solution1/syn/report/{top}_csynth.xml and .../sim/report/{top}_cosim.rpt",
    "vsynth": "{top}_prj/solution1/syn/report/{top}_csynth.xml and vivado_synth.rpt",
}


def write_instructions(project: Path, expected: Expected, kind: ToolKind, steps: HlsSteps) -> None:
    """Stamp, script and instructions in the folder of a project."""
    stamp = {
        "key": expected.key,
        "content_hash": expected.content_hash,
        "top": expected.top,
        "part": expected.part,
        "clock_period_ns": expected.clock_period_ns,
        "stage": expected.stage.value,
    }
    (project / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
    vivado_hls = f"vivado_hls -f build_prj.tcl {shlex.quote(steps.on_command_line)} > hls.log 2>&1\n"
    what = f"Runs {', '.join(steps.chosen)} of this project"
    _write_script(project / SCRIPT, _SH.format(what=what, command=vivado_hls if kind == "vivado_hls" else _VITIS))
    tool = "Vivado HLS" if kind == "vivado_hls" else "Vitis HLS"
    (project / INSTRUCTIONS).write_text(
        _TEXT.format(
            stage=expected.stage.value,
            part=expected.part,
            clock=expected.clock_period_ns,
            top=expected.top,
            tool=tool + (" and Vivado" if steps.vsynth else ""),
            version=f" {expected.tool_version}" if expected.tool_version else "",
            script=SCRIPT,
            files=_FILES[expected.stage.value].format(top=expected.top),
        )
    )


def write_all_script(folder: Path) -> None:
    """The script that synthesises every design of ``folder`` that has no report yet."""
    command = _ALL.format(stamp=STAMP, script=SCRIPT)
    _write_script(folder / ALL_SCRIPT, _SH.format(what="Synthesises every design without a report", command=command))


def _write_script(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text)
    scratch.chmod(0o755)
    scratch.replace(path)

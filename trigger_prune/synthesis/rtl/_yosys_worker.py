"""Child process of ``yosys.py``: pyosys ends the whole process on an error, so it never runs in the caller's.

    python -m trigger_prune.synthesis.rtl._yosys_worker RESULT.json TOP FAMILY (auto | stock) SOURCE.v...

Sources are best given relative to the working folder: Yosys puts their names into its own.

Writes ``{"cells": {type: count}, "yosys": version, "script": "adders" | "general" | "stock", "depth": cells,
"cpu_s": seconds, "peak_mib": MiB}``, the last two of Yosys and abc together.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from pathlib import Path
from typing import Any

# The LUT costs 2:2,3,6:5 are those of synth_xilinx.
_MAP_LUTS = """
opt_expr -mux_undef -noclkinv
abc {abc_options}-luts 2:2,3,6:5
clean -purge
techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6
xilinx_dffopt
opt_lut_ins -tech xilinx
clean -purge
"""

# Gives the LUT counts of Yosys' default abc script within 0.1 % in two thirds of its time.
_ABC_QUICK = "-script +strash;dc2;if;mfs2 "

# synth_xilinx without what adders, registers and multiplexers never need: DSP and memory inference, state machines,
# resource sharing and the repeated clean-ups in between.
_ADDERS = """
opt_expr
opt_clean -purge
wreduce
opt_clean -purge
techmap -map +/cmp2lut.v -map +/cmp2lcu.v -D LUT_WIDTH=6
alumacc
opt_clean -purge
opt -full
techmap -map +/techmap.v -D LUT_SIZE=6 -map +/xilinx/arith_map.v
opt -fast
clean -purge
dfflegalize -cell $_DFFE_?P?P_ 01 -cell $_SDFFE_?P?P_ 01 -cell $_DLATCH_?P?_ 01
techmap -map +/xilinx/ff_map.v
"""

_GENERAL = """
read_verilog -lib +/xilinx/cells_xtra.v
synth_xilinx -family {family} -flatten -noiopad -noclkbuf -nosrl -top {top} -run prepare:map_luts
"""

# Registers, block RAMs and DSPs end a path.
_LOGIC_ONLY = "*/t:FD* */t:RAMB* */t:DSP* %u %u %n"

_NEEDS_GENERAL = ("$mul", "$macc", "$div", "$mod", "$pow", "$mem", "$fsm")


def main(arguments: list[str]) -> None:
    result, top, family, choice, *sources = arguments
    from pyosys import libyosys

    design = libyosys.Design()

    def run(script: str) -> None:
        for line in script.splitlines():
            if line.strip():
                libyosys.run_pass(line.strip(), design)

    def statistics() -> dict[str, Any]:
        run("tee -q -o stat.json stat -json")
        report: dict[str, Any] = json.loads(Path("stat.json").read_text())
        return report

    def count_cells(report: dict[str, Any]) -> dict[str, int]:
        counts: dict[str, int] = report["modules"]["\\" + top].get("num_cells_by_type", {})
        return counts

    run("read_verilog -lib +/xilinx/cells_sim.v")
    # Deferred, because the parametrised modules of the library are not valid before their parameters are known.
    run(f"read_verilog -sv -defer {' '.join(sources)}\nhierarchy -check -top {top}\nproc\nflatten -noscopeinfo")
    script = choice
    if choice == "auto":
        needs_more = any(kind.startswith(_NEEDS_GENERAL) for kind in count_cells(statistics()))
        script = "general" if needs_more else "adders"
    run(_ADDERS if script == "adders" else _GENERAL.format(family=family, top=top))
    run(_MAP_LUTS.format(abc_options="" if script == "stock" else _ABC_QUICK))
    report = statistics()
    run(f"tee -q -o depth.txt ltp {_LOGIC_ONLY}")
    length = re.search(r"length=(\d+)", Path("depth.txt").read_text())
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Kilobytes on Linux, bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    result_data = {
        "cells": count_cells(report),
        "yosys": str(report["creator"]),
        "script": script,
        "depth": int(length.group(1)) if length else 0,
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "peak_mib": (own.ru_maxrss + children.ru_maxrss) / unit,
    }
    Path(result).write_text(json.dumps(result_data))


if __name__ == "__main__":
    main(sys.argv[1:])

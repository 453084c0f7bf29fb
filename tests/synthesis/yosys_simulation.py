"""Simulates a Verilog project clock by clock with Yosys, to see what the hardware would do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from trigger_prune.synthesis.rtl.verilog import RtlProject

_RUN = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.argv[1].splitlines():
    libyosys.run_pass(line, design)
"""


def simulate(project: RtlProject, comb: Any, events: np.ndarray, folder: Path) -> list[np.ndarray | None]:
    """Output port after each event's clock cycle: one event per cycle at the input, None while still undefined."""
    widths = [int(w) for w in comb.inp_kifs.sum(axis=0)]
    fractions = [int(f) for f in comb.inp_kifs[2]]
    words = [_pack(event, widths, fractions) for event in events.reshape(len(events), -1)]
    stimulus = {
        "format": "Yosys Witness Trace",
        "clocks": [{"path": ["\\clk"], "edge": "posedge", "offset": 0}] if project.register_ranks else [],
        "signals": [{"path": ["\\model_inp"], "offset": 0, "width": sum(widths), "init_only": False}],
        "steps": [{"bits": f"{word:0{sum(widths)}b}"} for word in words],
    }
    (folder / "events.yw").write_text(json.dumps(stimulus))
    script = f"""read_verilog -sv -defer {" ".join(map(str, project.sources))}
hierarchy -check -top {project.top}
proc
flatten
sim -r {folder / "events.yw"} -vcd {folder / "out.vcd"} {project.top}"""
    subprocess.run([sys.executable, "-c", _RUN, script], check=True, capture_output=True, timeout=120)
    return [_unpack(bits, comb) for bits in _port_values((folder / "out.vcd").read_text(), "model_out")]


def _pack(event: np.ndarray, widths: list[int], fractions: list[int]) -> int:
    word = offset = 0
    for value, width, fraction in zip(event, widths, fractions, strict=True):
        if width:
            word |= (int(np.ldexp(value, fraction)) & ((1 << width) - 1)) << offset
            offset += width
    return word


def _unpack(bits: str, comb: Any) -> np.ndarray | None:
    if "x" in bits:
        return None
    word, values = int(bits, 2), []
    for signed, integer, fraction in comb.out_kifs.T.astype(int):
        width = int(signed + integer + fraction)
        code = word & ((1 << width) - 1) if width > 0 else 0
        word >>= max(width, 0)
        if signed and code >> (width - 1):
            code -= 1 << width
        values.append(code * 2.0 ** -float(fraction))
    return np.array(values)


def _port_values(vcd: str, port: str) -> list[str]:
    """Value of a port in the first half of every clock cycle (10 time units each)."""
    found = re.search(rf"\$var \w+ \d+ (\S+) {port}\b", vcd)
    assert found is not None
    changes: dict[int, str] = {}
    time, current = 0, "x"
    for line in vcd.splitlines():
        if line.startswith("#"):
            time = int(line[1:])
        elif line.startswith("b") and line.split()[1] == found.group(1):
            current = line.split()[0][1:]
        changes[time] = current
    return [value for time, value in sorted(changes.items()) if time % 10 == 0]

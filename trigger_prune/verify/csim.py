"""The hls4ml C simulation: compiled from the exported project and called in a process of its own.

A crash inside the C++ (hls4ml's io_stream can end in SIGILL) then is a failure to report, not the end of the run.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ToolError
from trigger_prune.verify.wires import Wire, WireKind

_LAYER_CALL = re.compile(r"^\s*nnet::\w+<[^;]*>\((?P<arguments>[^;]*)\);\s*//\s*(?P<name>\w+)\s*$")
_DECLARATION = re.compile(r"^\s*(?P<type>[\w:<>]+)\s+(?P<variable>\w+)\[(?P<size>[^\]]+)\];")
_SUM_LAYER = re.compile(r"^(Dense|MatMul|Conv|DepthwiseConv|PointwiseConv)", re.IGNORECASE)


def compile_csim(project: Path, work: Path, timeout_s: float = 600.0) -> Path:
    """Compile a copy of an hls4ml project inside ``work`` and return the copy. Raises ToolError with g++'s message.

    A copy, because the compiled library holds the absolute path of its weight files.
    """
    if shutil.which("g++") is None:
        raise ToolError("g++ is not installed; the C simulation needs it", hint="install a C++ compiler (g++)")
    copy = work / "csim"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(project, copy)
    _build(copy, timeout_s)
    return copy


def run_csim(compiled: Path, features: NDArray[Any], work: Path, timeout_s: float = 1800.0) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of hls4ml's ``predict``; features in the memory order of the project.

    Raises ToolError when the process fails, naming the signal when it was killed by one.
    """
    np.save(work / "csim_inputs.npy", features)
    _worker(["predict", str(compiled), str(work / "csim_inputs.npy"), str(work / "csim_outputs.npy")], timeout_s)
    outputs: NDArray[np.float64] = np.load(work / "csim_outputs.npy").reshape(len(features), -1).astype(np.float64)
    return outputs


def csim_wires(project: Path, event: NDArray[Any], work: Path, *, channels_last: bool) -> list[Wire]:
    """Wires of the C simulation for one event ``(1, ...)``: a copy of the project with a tap behind every layer."""
    copy = work / "csim_tapped"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(project, copy)
    names = _tap(copy)
    _build(copy, 600.0)
    np.save(work / "tap_input.npy", event.astype(np.float64))
    _worker(["trace", str(copy), str(work / "tap_input.npy"), str(work / "tap_output.npz")], 600.0)
    found = np.load(work / "tap_output.npz")
    wires = []
    for name, channels in names:
        kind: WireKind = "sum" if _SUM_LAYER.match(name) else "quantised"
        values = found[name]
        if channels_last and channels:
            values = values.reshape(-1, channels).T
        wires.append(Wire(name, kind, values[None].astype(np.float64)))
    return wires


def _build(project: Path, timeout_s: float) -> None:
    try:
        done = subprocess.run(
            ["bash", "build_lib.sh"], cwd=project, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"compiling the C simulation took more than {timeout_s:.0f} s") from None
    if done.returncode:
        tail = "\n".join(line for line in done.stderr.splitlines() if "error" in line)[:2000] or done.stderr[-2000:]
        raise ToolError(f"g++ could not compile the C simulation of {project.name}:\n{tail}")


def _worker(arguments: list[str], timeout_s: float) -> None:
    command = [sys.executable, "-m", "trigger_prune.verify._csim_worker", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise ToolError(f"the C simulation took more than {timeout_s:.0f} s") from None
    if done.returncode < 0:
        raise ToolError(f"the C simulation was killed by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise ToolError(f"the C simulation failed (exit status {done.returncode}): {last}")


def _tap(project: Path) -> list[tuple[str, int]]:
    """Insert hls4ml's own ``save_layer_output`` behind every layer call; return (layer, last axis) in order."""
    top = next((project / "firmware").glob("*.cpp"))
    declared: dict[str, tuple[str, str]] = {}
    lines: list[str] = []
    names: list[tuple[str, int]] = []
    for line in top.read_text().splitlines():
        lines.append(line)
        declaration = _DECLARATION.match(line)
        if declaration:
            declared[declaration["variable"]] = (declaration["type"], declaration["size"])
        call = _LAYER_CALL.match(line)
        output = next((a for a in reversed(call["arguments"].split(", ")) if a in declared), None) if call else None
        if call is not None and output is not None:
            kind, size = declared[output]
            lines.append(f'    nnet::save_layer_output<{kind}>({output}, "{call["name"]}", {size});')
            names.append((call["name"], _last_axis(size)))
    top.write_text("\n".join(lines) + "\n")
    return names


def _last_axis(size: str) -> int:
    """Channels of an array declared ``[positions*channels]``; 0 when it has one axis."""
    factors = size.split("*")
    return int(factors[-1]) if len(factors) > 1 and factors[-1].isdigit() else 0

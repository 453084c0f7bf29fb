"""The generated HLS C++ compiled with g++ and played on its golden vectors, and what came out of it."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ToolError
from trigger_prune.two_stage.firmware.hls.project import VECTORS
from trigger_prune.two_stage.firmware.hls.render import FLAGS, UNITS
from trigger_prune.verify._processes import Ended, run_all

_BENCH = "two_stage_test"
_DIFFERENT = 1
"""Status of the test bench when something differs from the golden vectors: a result, not a failure."""


@dataclass(frozen=True, eq=False)
class HlsRun:
    """Results of the test bench, one entry per call of the top: every crossing, then what empties the delay line.

    valid, accepted   bool: the decision that came out of this call
    waiting           int64: objects in the FIFO as the scheduler computes them, after the arrivals of this call
    occupancy         int64: objects that are in the stream
    counters          after the last call
    passed            verdict of the test bench itself
    seconds           of the simulation, without the compiler
    """

    valid: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    waiting: NDArray[np.int64]
    occupancy: NDArray[np.int64]
    counters: dict[str, int]
    passed: bool
    seconds: float


def run_hls_firmware(folder: Path, *, compile_timeout_s: float = 600.0, run_timeout_s: float = 1800.0) -> HlsRun:
    """Compile a copy of the project in ``folder`` (which is left as it is) and play its vectors.

    Raises ToolError when g++ is missing, does not compile it, or the test bench does not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="trigger_prune_two_stage_") as name:
        bench = build_bench(folder, Path(name) / "build", compile_timeout_s)
        return play(bench, folder / VECTORS, run_timeout_s)


def build_bench(folder: Path, work: Path, timeout_s: float = 600.0) -> Path:
    """Compile a copy of ``folder`` in the new folder ``work`` and return the test bench. Raises ToolError."""
    if shutil.which("g++") is None:
        raise ToolError("g++ is not installed; the C simulation needs it", hint="install a C++ compiler (g++)")
    shutil.copytree(folder, work, ignore=shutil.ignore_patterns(VECTORS, "*.o", "*_prj"))
    commands = [["g++", *FLAGS, "-c", f"{unit}.cpp", "-o", f"{unit}.o"] for unit in UNITS]
    for unit, ended in zip(
        UNITS, run_all(commands, what="compiling the firmware", timeout_s=timeout_s, cwd=work), strict=True
    ):
        _require_built(ended, unit)
    link = ["g++", *(f"{unit}.o" for unit in UNITS), "-o", _BENCH]
    [ended] = run_all([link], what="linking the firmware", timeout_s=timeout_s, cwd=work)
    _require_built(ended, _BENCH)
    return work / _BENCH


def play(bench: Path, vectors: Path, timeout_s: float = 1800.0) -> HlsRun:
    """Run a test bench on the text vectors in the folder ``vectors``. Raises ToolError when it ends early."""
    results = bench.with_name("results.txt")
    start = time.perf_counter()
    command = [str(bench), str(vectors.resolve()), str(results)]
    [ended] = run_all([command], what="the test bench", timeout_s=timeout_s, cwd=bench.parent)
    seconds = time.perf_counter() - start
    if ended.status not in (0, _DIFFERENT):
        how = f"was killed by {ended.signal_name}" if ended.signal_name else f"ended with status {ended.status}"
        raise ToolError(f"the test bench {how}: {ended.stderr.strip()[-500:]}")
    return _read(results, seconds, ended.status == 0)


def _require_built(ended: Ended, unit: str) -> None:
    if ended.status:
        lines = [line for line in ended.stderr.splitlines() if "error" in line] or ended.stderr.splitlines()[-5:]
        raise ToolError(f"g++ could not build {unit}:\n" + "\n".join(lines)[:2000])


def _read(path: Path, seconds: float, passed: bool) -> HlsRun:
    rows: list[list[int]] = []
    counters: dict[str, int] = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) == 2:
            counters[words[0]] = int(words[1])
        else:
            rows.append([int(word) for word in words])
    table = np.asarray(rows, np.int64).reshape(-1, 4)
    return HlsRun(table[:, 0] == 1, table[:, 1] == 1, table[:, 2].copy(), table[:, 3].copy(), counters, passed, seconds)

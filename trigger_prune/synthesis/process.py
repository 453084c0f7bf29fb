"""Runs one external tool with a time and a memory limit, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from trigger_prune.errors import ToolError

_POLL_S = 0.1


class LimitError(ToolError):
    """A tool was stopped because it passed the limit ``limit``: ``time`` or ``memory``."""

    def __init__(self, message: str, *, limit: Literal["time", "memory"], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.limit = limit


def run_limited(
    command: Sequence[str | Path],
    *,
    tool: str,
    cwd: Path,
    log: Path,
    timeout_s: float,
    memory_limit_mib: float,
    env: Mapping[str, str] | None = None,
) -> tuple[int, float]:
    """Run ``command`` in ``cwd``, stdout and stderr into the file ``log``; returns (exit status, wall seconds).

    The command and all its children form a process group. When the wall-clock limit is passed, or when the resident
    memory of the group exceeds ``memory_limit_mib``, the whole group is killed and a LimitError names the limit. The
    group is also killed when this process is interrupted.

    Raises ToolError when the command cannot be started, LimitError when it breaks a limit.
    """
    start = time.monotonic()
    with log.open("wb") as output:
        try:
            # A group of its own: killing the tool alone would leave its helpers (abc, clang, ...) running.
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"{tool} cannot be started: {error}") from error
        try:
            status = _wait(process, start, tool, timeout_s, memory_limit_mib)
        finally:
            _kill_group(process)
    return status, time.monotonic() - start


def _wait(process: subprocess.Popen[bytes], start: float, tool: str, timeout_s: float, memory_limit_mib: float) -> int:
    while True:
        try:
            return process.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            pass
        elapsed = time.monotonic() - start
        if elapsed > timeout_s:
            raise LimitError(
                f"{tool} was stopped after {elapsed:.0f} s: the limit is {timeout_s:g} s",
                limit="time",
                hint="raise cost.timeout_s, or measure a smaller network",
            )
        used = group_memory_mib(process.pid)
        if used > memory_limit_mib:
            raise LimitError(
                f"{tool} was stopped after {elapsed:.0f} s: it used {used:.0f} MiB of at most {memory_limit_mib:g} MiB",
                limit="memory",
                hint="raise cost.memory_limit_mib, or measure a smaller network",
            )


def group_memory_mib(group: int) -> float:
    """Resident memory of all processes of a process group, MiB (pages shared between them count for each)."""
    if not Path("/proc/self/stat").exists():
        return _group_memory_from_ps(group)
    pages = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                # The command name, in brackets, may itself hold spaces: fields are counted behind it.
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended meanwhile
            if int(fields[2]) == group:
                pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _group_memory_from_ps(group: int) -> float:
    listing = subprocess.run(["ps", "-A", "-o", "pgid=,rss="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listing.splitlines())
    return sum(int(rss) for pgid, rss in rows if int(pgid) == group) / 1024


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # No such process: the whole group has ended (macOS calls that a permission error).
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def log_tail(log: Path, *, lines: int = 8, only: str | None = None) -> str:
    """The last lines of a log file, or the last ones that contain ``only`` if there are any."""
    text = log.read_text(errors="replace").splitlines() if log.is_file() else []
    chosen = [line for line in text if only in line] if only else []
    return "\n".join((chosen or [line for line in text if line.strip()])[-lines:])

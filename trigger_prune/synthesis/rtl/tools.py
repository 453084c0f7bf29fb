"""Runs the external tools of the Verilog route: guarded, limited, their errors quoted."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trigger_prune.errors import ToolError
from trigger_prune.synthesis.process import log_tail, run_limited

_GUARD = Path(__file__).with_name("_guard.py")


@dataclass(frozen=True)
class Limits:
    """Wall-clock and memory limit of one run of one tool and everything it starts."""

    timeout_s: float
    memory_limit_mib: float


def run_tool(
    command: Sequence[str | Path],
    *,
    tool: str,
    folder: Path,
    limits: Limits,
    error_lines: str = "ERROR",
    env: Mapping[str, str] | None = None,
) -> float:
    """Run ``command`` in ``folder`` within the limits; returns wall seconds. It ends when this process ends.

    Raises ToolError when the command fails (quoting the lines of its output that hold ``error_lines``) or breaks a
    limit.
    """
    log = folder / "tool.log"
    status, seconds = run_limited(
        [sys.executable, "-I", "-S", _GUARD, str(os.getpid()), *command],
        tool=tool,
        cwd=folder,
        log=log,
        timeout_s=limits.timeout_s,
        memory_limit_mib=limits.memory_limit_mib,
        # Tools put their own scratch files into TMPDIR; here they vanish with the folder.
        env={"TMPDIR": str(folder), **(env or {})},
    )
    if status:
        raise ToolError(
            f"{tool} failed with exit status {status}:\n{log_tail(log, only=error_lines)}",
            hint="a negative status is the signal that ended it; -9 may be the system running out of memory",
        )
    return seconds


def worker_command(module: str, *arguments: str | Path) -> tuple[list[str | Path], dict[str, str]]:
    """Command and environment that run a worker module of this package with this interpreter."""
    root = str(Path(__file__).parents[3])
    search_path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return [sys.executable, "-m", f"trigger_prune.synthesis.rtl.{module}", *arguments], {"PYTHONPATH": search_path}


def require_package(package: str, what: str, extra: str) -> None:
    """Raise ToolError naming the extra when ``package`` is not installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise ToolError(
            f"{what} (the package {package}) is not installed", hint=f"pip install 'trigger_prune[{extra}]'"
        )

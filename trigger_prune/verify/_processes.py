"""Processes of their own for code that may crash or hang: the compiler and the compiled C++."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trigger_prune.errors import ToolError


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit status (negative: killed by that signal) and what it wrote to stderr."""

    status: int
    stderr: str

    @property
    def signal_name(self) -> str | None:
        """SIGABRT, SIGFPE, ... when a signal killed it."""
        return signal.Signals(-self.status).name if self.status < 0 else None


def run_all(
    commands: Sequence[Sequence[str]],
    *,
    what: str,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> list[Ended]:
    """Run all ``commands`` at the same time and wait for them; nothing they print reaches the terminal.

    Raises ToolError (``what`` names the work) when one cannot be started or ``timeout_s`` has passed for all of them.
    No process, nor a child of one, is left behind.
    """
    deadline = time.monotonic() + timeout_s
    running: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        # Files, not pipes: a pipe stays open as long as any grandchild (cc1plus) holds it.
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in commands]
        try:
            for command, log in zip(commands, logs, strict=True):
                running.append(
                    subprocess.Popen(
                        list(command),
                        cwd=cwd,
                        env={**os.environ, **(env or {})},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=log,
                        start_new_session=True,
                    )
                )
            for process in running:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except OSError as error:
            raise ToolError(f"{what} cannot be started: {error}") from error
        except subprocess.TimeoutExpired:
            raise ToolError(f"{what} took more than {timeout_s:g} s") from None
        finally:
            for process in running:
                _kill_group(process)
        return [Ended(process.returncode, _text(log)) for process, log in zip(running, logs, strict=True)]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the whole group has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")

"""A claim: "I am synthesising this key". It keeps two processes from doing the same hours of work twice.

A claim is a file that only one process can create. Its owner touches it every few seconds; a claim whose owner is gone
is taken over. Nothing depends on clocks agreeing: a waiter watches with its own clock whether the file still changes.
A claim is a courtesy, not a lock: should two processes hold one (after a network failure, or a suspended machine), both
synthesise and the store keeps the first result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Patience:
    """Seconds between signs of life, without them until a claim is taken over, and between two looks at it.

    ``stale_s`` is far longer than network file systems remember what a file looked like (about a minute).
    """

    heartbeat_s: float = 10.0
    stale_s: float = 180.0
    poll_s: float = 1.0


class Claim:
    """A held claim; keeps showing signs of life from a thread of its own until ``release``."""

    def __init__(self, path: Path, owner: str, patience: Patience) -> None:
        self.path = path
        self._owner = owner
        self._patience = patience
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"claim {path.name[:8]}", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._done.wait(self._patience.heartbeat_s):
            try:
                if not self._is_mine():
                    return  # this process was taken for dead
                os.utime(self.path)
            except OSError:
                continue  # a file system that is away for a moment

    def _is_mine(self) -> bool:
        return _read(self.path).get("owner") == self._owner

    def release(self) -> None:
        """Give the claim up; does nothing when somebody has taken it over."""
        self._done.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._is_mine():
                self.path.unlink()


def try_claim(path: Path, patience: Patience) -> Claim | None:
    """Claim ``path``; None when somebody else holds it. Raises OSError where no file can be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = uuid.uuid4().hex
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return None
    with os.fdopen(descriptor, "w") as stream:
        json.dump({"owner": owner, "machine": _machine(), "process": os.getpid()}, stream)
    return Claim(path, owner, patience)


def wait_for_release(path: Path, patience: Patience, keep_waiting: Callable[[], bool] = lambda: True) -> None:
    """Return when nobody holds ``path`` any more: it was released, or its owner is gone and it was removed.

    Also returns as soon as ``keep_waiting`` says no; it is asked at every look.
    """
    seen, since = _token(path), time.monotonic()
    while seen is not None and keep_waiting():
        if _owner_died(path) or time.monotonic() - since > patience.stale_s:
            _take_away(path, seen)
            return
        time.sleep(patience.poll_s)
        token = _token(path)
        if token != seen:
            seen, since = token, time.monotonic()


def _token(path: Path) -> tuple[str, int] | None:
    """Changes with the owner and with every sign of life; None when nobody holds the claim."""
    try:
        # Opening asks a network file system for the present state; stat alone may be answered from memory.
        with path.open() as stream:
            modified = os.fstat(stream.fileno()).st_mtime_ns
            return stream.read(4096), modified
    except FileNotFoundError:
        return None


def _take_away(path: Path, seen: tuple[str, int]) -> None:
    """Remove a claim, but only the one that was ``seen``: another waiter may have been quicker and hold a new one."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if _token(aside) != seen:
        # It was a fresh one: back, unless a third process has claimed meanwhile.
        with contextlib.suppress(OSError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _owner_died(path: Path) -> bool:
    """True only when the owner ran on this machine and its process is no more."""
    try:
        holder = _read(path)
    except OSError:
        return False
    process = holder.get("process")
    if holder.get("machine") != _machine() or not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # alive, but somebody else's
    return False


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return {}  # its owner is just writing it
    return content if isinstance(content, dict) else {}


@cache
def _machine() -> str:
    """Tells this machine, boot and set of process numbers from others, without naming them."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

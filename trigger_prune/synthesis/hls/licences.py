"""At most so many vendor tools at once: one lock file per licence, shared by all processes of a machine (or a group).

The locks are ``flock``s: the system frees them when their process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trigger_prune.errors import ToolError

FOLDER_VARIABLE = "TRIGGER_PRUNE_LICENCES"
"""Folder of the lock files; on a shared file system it is a limit for all machines that mount it."""


def licence_folder() -> Path:
    """Where the lock files are: TRIGGER_PRUNE_LICENCES, or a folder of this user on this machine."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"trigger_prune_licences_{os.getuid()}"


@contextmanager
def licence_slot(
    licences: int | None,
    *,
    folder: Path | None = None,
    say: Callable[[str], None] | None = None,
    timeout_s: float | None = None,
    poll_s: float = 1.0,
) -> Iterator[int | None]:
    """Hold one of ``licences`` slots; waits until one is free. Yields its number; None = no limit.

    ``say`` gets one message when it has to wait. Raises ToolError for a number below 1, a folder that cannot be
    written, or when no slot is free within ``timeout_s``.
    """
    if licences is None:
        yield None
        return
    if licences < 1:
        raise ToolError(f"{licences} licences allow no run at all", hint="give 1 or more, or no limit")
    place = folder or licence_folder()
    start, told = time.monotonic(), False
    while (held := _take(place, licences)) is None:
        waited = time.monotonic() - start
        if timeout_s is not None and waited >= timeout_s:
            raise ToolError(
                f"all {licences} licence slots in {place} stayed in use for {waited:.0f} s",
                hint="wait for the other runs to end, or raise the number of licences",
            )
        if say is not None and not told:
            say(f"waiting: all {licences} licences are in use ({place})")
            told = True
        time.sleep(poll_s)
    slot, descriptor = held
    try:
        yield slot
    finally:
        os.close(descriptor)


def _take(folder: Path, licences: int) -> tuple[int, int] | None:
    """Lock the first free slot; returns its number and the open descriptor that holds it."""
    for slot in range(licences):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Tools started later must not inherit the lock: it would outlive this process.
            descriptor = os.open(folder / f"licence-{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ToolError(
                f"the licence locks in {folder} cannot be written: {error.strerror}",
                hint=f"set {FOLDER_VARIABLE} to another folder",
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        except OSError as error:
            os.close(descriptor)
            raise ToolError(
                f"{folder} cannot hold locks: {error.strerror}", hint=f"set {FOLDER_VARIABLE} to another folder"
            ) from None
        return slot, descriptor
    return None

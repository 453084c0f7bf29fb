"""Takes out of tool texts what says where and by whom they were made: folders, host and user names, dates of a run.

Stored reports travel between groups. What they say about the network stays; only names of machines and people go.
"""

from __future__ import annotations

import contextlib
import re
import socket
from functools import cache
from typing import Any

HIDDEN = "<hidden>"

_FOLDERS = re.compile(
    # At least two separators: a closing XML tag has one, and so has the root of a path that tells nothing.
    r"(?<![\w.:/\\\]})])(?:[A-Za-z]:)?(?:~\w*)?[/\\](?:[^\s/\\'\"<>|,;:()\[\]{}]+[/\\])+"
    r"([^\s/\\'\"<>|,;:()\[\]{}]*)"
)
_PHRASES = (
    (re.compile(r"(?i)(user\s+')[^']*(')"), rf"\g<1>{HIDDEN}\g<2>"),
    (re.compile(r"(?i)(on host\s+')[^']*(')"), rf"\g<1>{HIDDEN}\g<2>"),
    # Vivado's banners: "| Host : node3 running 64-bit", "# Running On: node3", "# Process ID: 4711", "| Command : ..."
    (
        re.compile(
            r"(?im)^([#|*\s-]*(?:host(?:\s?name)?|running on|user(?:\s?name)?|login|process id|command|"
            r"current directory|log file|journal|start of session at)\s*:).*$"
        ),
        rf"\g<1> {HIDDEN}",
    ),
)


def scrub(text: str) -> str:
    """The text with every absolute path cut to its last part, and without host and user names."""
    for pattern, replacement in _PHRASES:
        text = pattern.sub(replacement, text)
    text = _FOLDERS.sub(r"\1", text)
    for name in _own_names():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", HIDDEN, text)
    return text


def scrub_values(value: Any) -> Any:
    """``scrub`` on every string inside plain JSON values; keys stay."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {key: scrub_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub_values(item) for item in value]
    return value


@cache
def _own_names() -> tuple[str, ...]:
    """Names of this machine and user that cannot be ordinary words of a report."""
    import getpass

    names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    with contextlib.suppress(KeyError, OSError):  # a user id without an entry, as in containers
        names.add(getpass.getuser())
    ordinary = {"root", "user", "localhost", "network", "vivado", "vitis", "build", "runner"}
    return tuple(sorted(name for name in names if len(name) > 2 and name.lower() not in ordinary))

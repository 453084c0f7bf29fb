"""Writing text so that a killed run never leaves half a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text under a temporary name, then rename: ``path`` is the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        # mkstemp keeps files private; a report is meant to be read by others
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

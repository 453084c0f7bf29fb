"""The one form in which benchmarks leave their figures."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write_json(path: Path, content: dict[str, Any], indent: int | None = 2) -> None:
    """Write under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")
    temporary.rename(path)


def write_result(name: str, figures: dict[str, float], packages: Sequence[str], **more: Any) -> None:
    """``benchmarks/results/NAME.json``: the command as called, flat figures, versions and machine."""
    content = {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_argument, sys.argv[1:])]),
        "figures": figures,
        "versions": {package: version(package) for package in packages} | {"python": platform.python_version()},
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count(), "system": platform.platform()},
        **more,
    }
    write_json(RESULTS / f"{name}.json", content)


def _argument(text: str) -> str:
    """An argument without the folders of this machine."""
    return Path(text).name if Path(text).is_absolute() else text

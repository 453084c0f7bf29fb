"""The two copies of each weight in an hls4ml project: the simulation reads ``wN.txt``, the synthesis ``wN.h``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ToolError

_VALUES = re.compile(r"=\s*\{(?P<values>[^{}]*)\}\s*;")


def check_weight_files(project: Path) -> None:
    """Raise ToolError, naming file and position, where a text file and its header hold different numbers.

    Without this check the simulation would vouch for numbers that the firmware does not hold.
    """
    for text in sorted((project / "firmware" / "weights").glob("*.txt")):
        header = text.with_suffix(".h")
        if not header.is_file():
            raise ToolError(f"{text.name} has no {header.name} beside it in firmware/weights")
        match = _VALUES.search(header.read_text())
        if match is None:
            raise ToolError(f"firmware/weights/{header.name} holds no list of values")
        simulated, synthesised = _numbers(text.read_text(), text), _numbers(match["values"], header)
        if simulated.size != synthesised.size:
            raise ToolError(
                f"firmware/weights: {text.name} holds {simulated.size} values, {header.name} {synthesised.size}"
            )
        different = np.flatnonzero(simulated != synthesised)
        if different.size:
            k = int(different[0])
            raise ToolError(
                f"firmware/weights: value {k} is {float(simulated[k])!r} in {text.name}, which the simulation reads, "
                f"and {float(synthesised[k])!r} in {header.name}, which is synthesised",
                hint="export the project again",
            )


def _numbers(text: str, path: Path) -> NDArray[np.float64]:
    try:
        return np.array([float(word) for word in text.replace(",", " ").split()], np.float64)
    except ValueError as error:
        raise ToolError(f"firmware/weights/{path.name}: {error}") from None

"""Which HLS compiler is installed, if any."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trigger_prune.errors import ToolError


@dataclass(frozen=True)
class HlsTool:
    """An HLS compiler on PATH. ``backend`` is the hls4ml backend whose projects it builds."""

    name: Literal["vitis-run", "vivado_hls"]
    path: Path
    backend: Literal["Vitis", "Vivado"]


def find_hls_tool() -> HlsTool | None:
    """``vitis-run`` (Vitis 2024.1 and later) before ``vivado_hls``; None when neither is on PATH."""
    vitis = shutil.which("vitis-run")
    if vitis is not None:
        return HlsTool("vitis-run", Path(vitis), "Vitis")
    vivado = shutil.which("vivado_hls")
    if vivado is not None:
        return HlsTool("vivado_hls", Path(vivado), "Vivado")
    return None


def require_hls_tool() -> HlsTool:
    """``find_hls_tool``, or a ToolError that says what to do."""
    tool = find_hls_tool()
    if tool is None:
        raise ToolError(
            "no HLS compiler: none of vitis-run, vivado_hls is on PATH",
            hint="source the settings64.sh of your Vitis or Vivado installation, or set cost.backend to rtl",
        )
    return tool

"""Generations of HLS compilers: releases within one behave alike, others need corrections of their own."""

from __future__ import annotations

from dataclasses import dataclass

from trigger_prune.cost.report import HardwareReport


@dataclass(frozen=True)
class Generation:
    """``tool`` (``vivado_hls``, ``vitis_hls``, ``vivado``) and the year of its release; "" = not known."""

    tool: str
    year: str


def generation_of(report: HardwareReport) -> Generation:
    """Which compiler a report is of. An estimate names the one it predicts in ``details``: ``hls_tool`` and
    ``hls_version``."""
    tool = str(report.details.get("hls_tool") or report.tool)
    version = str(report.details.get("hls_version") or report.tool_version)
    year = version.split(".")[0]
    name = tool.lower().replace(" ", "_")  # reports say "Vitis HLS"
    known = name in ("vivado_hls", "vitis_hls", "vivado")
    return Generation(name if known else "", year if known and year.isdigit() else "")

"""Which format a file is in: by its content, and by its name when the content says nothing (an empty file, say)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from trigger_prune.synthesis.parsers.tool_log import looks_like_log

Kind = Literal[
    "csynth_xml",
    "csynth_rpt",
    "csynth_summary",
    "utilization",
    "timing",
    "cosim",
    "cosim_latency",
    "transactions",
    "export_rpt",
    "export_xml",
    "log",
]

_CONTENTS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("csynth_summary", re.compile(r"^== Synthesis Summary Report of '", re.MULTILINE)),
    ("csynth_rpt", re.compile(r"^== (?:Vivado|Vitis) HLS Report for '", re.MULTILINE)),
    ("utilization", re.compile(r"^\| Command\s*: report_utilization|^Utilization Design Information", re.MULTILINE)),
    ("timing", re.compile(r"^\| Command\s*: report_timing_summary|^Timing Summary Report", re.MULTILINE)),
    ("export_rpt", re.compile(r"^Implementation tool: .*Vivado", re.MULTILINE)),
    ("cosim_latency", re.compile(r"^\$(?:MAX|MIN|AVER)_LATENCY = ", re.MULTILINE)),
    ("transactions", re.compile(r"\A\s*latency\s+interval\s*$", re.MULTILINE)),
    ("cosim", re.compile(r"^\|\s*(?:VHDL|Verilog)\|", re.MULTILINE)),
    ("export_xml", re.compile(r"<TimingReport>")),
    ("csynth_xml", re.compile(r"<(?:ReportVersion|UserAssignments|PerformanceEstimates|AreaEstimates)>")),
)
_NAMES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("csynth_xml", re.compile(r"(?:.*_)?csynth\.xml")),
    ("csynth_summary", re.compile(r"csynth\.rpt|hls_compile\.rpt")),
    ("csynth_rpt", re.compile(r".*_csynth\.rpt")),
    ("utilization", re.compile(r"vivado_synth\.rpt|.*utili[sz]ation.*\.rpt")),
    ("timing", re.compile(r".*timing(?:_summary|_synth|_routed|_placed|_opt)*\.rpt")),
    ("cosim", re.compile(r".*_cosim\.rpt")),
    ("cosim_latency", re.compile(r"lat\.rpt")),
    ("transactions", re.compile(r".*result\.transaction\.(?:rpt|xml)")),
    ("export_rpt", re.compile(r".*_export\.rpt|export_(?:syn|impl)\.rpt")),
    ("export_xml", re.compile(r".*_export\.xml|export_(?:syn|impl)\.xml")),
    ("log", re.compile(r"(?:vivado_hls|vitis_hls|vitis-run|vitis_run|v\+\+|vivado)\.log")),
)
_SUFFIXES = frozenset({".xml", ".rpt", ".log"})
# The scheduler's working files, and what the test bench printed.
_WORKING_FOLDERS = frozenset({".autopilot", "tb_data", ".Xil", "wrapc", "wrapc_pc"})


def is_candidate(path: Path) -> bool:
    """Whether a file may be a report at all, by its folder and suffix."""
    return path.suffix in _SUFFIXES and not _WORKING_FOLDERS.intersection(path.parts)


def recognise(name: str, text: str) -> Kind | None:
    """Format of the text of a file of that name; None for what is no report of the formats read here."""
    if name.endswith(".log"):
        return "log" if _named(name) == "log" or looks_like_log(text.splitlines()[:400]) else None
    for kind, pattern in _CONTENTS:
        # A transaction file may be called .xml, though it is none.
        if (kind.endswith("xml") == name.endswith(".xml") or kind == "transactions") and pattern.search(text):
            return kind
    return _named(name)


def _named(name: str) -> Kind | None:
    return next((kind for kind, pattern in _NAMES if pattern.fullmatch(name)), None)

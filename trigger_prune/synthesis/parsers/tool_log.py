"""Logs of ``vivado_hls``, ``vitis_hls``, ``vitis-run``, ``v++`` and ``vivado``: what was run, how long, how it ended.

Seen with 2018.2 to 2025.1. Logs are for people: a line that is not there leaves its value None, but a line that is
there and cannot be read is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.failure import Failure, ended, find_failure, names_a_cause
from trigger_prune.synthesis.parsers.text import require_text

_BANNER = re.compile(r"\*{6} (Vivado\(TM\) HLS|Vitis HLS|Vivado|vitis-run|v\+\+).*? v(\d{4}\.\d\S*)")
_RUNNING = re.compile(r"\[HLS 200-(?:1510|1464)\] Running(?: solution command)?: (\S.*?)\s*$")
_CONFIG = ("config_", "set_directive_")
_LINES = {
    "part": re.compile(r"Setting target device to '([^']*)'|^Command: synth_design .*-part (\S+)"),
    "top": re.compile(
        r"\] Running: set_top (\S+)|^Command: synth_design .*-top (\S+)|Generating Verilog RTL for (\S+?)\.?$"
    ),
    "clock": re.compile(r"Setting up clock '[^']*' with a period of (\S+?)ns"),
    "uncertainty": re.compile(r"Setting up clock '[^']*' with an uncertainty of (\S+?)ns"),
    "elapsed": re.compile(r"\[HLS 200-112\].*[Tt]otal elapsed time: (.*?) seconds"),
    "allocated": re.compile(r"\[HLS 200-112\].*peak allocated memory: (.*?)\.?$"),
    "fmax": re.compile(r"\*{4} Estimated Fmax: (.*?) MHz"),
    "partition": re.compile(r"\[XFORM 203-101\] Allowed max sub elements number after partition is (.*?)\.?$"),
}
_PEAK = re.compile(r"Memory \(MB\): peak = (\S+)")
_STEP = re.compile(r"^\*{5} (.*?) COMPLETED IN (\d+)h(\d+)m(\d+)s \*{5}")
_OPERATOR = re.compile(r"config_op\b")
_MIB = {"KB": 1 / 1024, "MB": 1.0, "GB": 1024.0, "TB": 1024.0**2}
_OF_A_TOOL = re.compile(r"^(?:INFO|WARNING|CRITICAL WARNING|ERROR): \[|^\*{5,6} |Killed|^ERROR: ")


@dataclass(frozen=True)
class ToolLog:
    """One log; None = the log does not say.

    elapsed_s            wall time of the whole run, as the tool adds it up
    peak_allocated_mib   memory the HLS compiler allocated; peak_process_mib: of the whole process
    partition_limit      largest number of elements an array may be split into
    directives           configuration commands, in order, without repetition
    forced_operators     operator -> implementation of ``config_op OPERATOR -impl IMPLEMENTATION``: multipliers were not
                         left to the compiler's choice
    steps_s              seconds by step of hls4ml's script (``C/RTL SYNTHESIS``)
    errors               ERROR lines, harmless ones too
    failure              why the run failed; None when it did not
    """

    tool: str | None
    version: str | None
    top: str | None
    part: str | None
    clock_ns: float | None
    uncertainty_ns: float | None
    estimated_fmax_mhz: float | None
    elapsed_s: float | None
    peak_allocated_mib: float | None
    peak_process_mib: float | None
    partition_limit: int | None
    directives: tuple[str, ...]
    forced_operators: dict[str, str]
    steps_s: dict[str, int]
    n_warnings: int
    n_critical_warnings: int
    errors: tuple[str, ...]
    ended: bool
    failure: Failure | None


def parse_tool_log(text: str, *, source: str = "vitis_hls.log") -> ToolLog:
    """Read the text; ``source`` is the name that errors give.

    Raises ReportFormatError for what is no log of these tools, and for a number that cannot be read.
    """
    lines = require_text(text, source).splitlines()
    if not looks_like_log(lines):
        raise ReportFormatError(f"{source} is no log of Vivado HLS, Vitis HLS or Vivado")
    banner = next((match for line in lines if (match := _BANNER.search(line))), None)
    found = {key: _last(pattern, lines) for key, pattern in _LINES.items()}
    where = {key: f"{source}: {key}" for key in found}
    directives, forced = _directives(lines)

    def real(key: str) -> float | None:
        text = found[key]
        return None if text is None else values.amount(text, where[key])

    partition = found["partition"]
    return ToolLog(
        tool=banner[1].replace("(TM)", "") if banner else None,
        version=banner[2] if banner else None,
        top=found["top"],
        part=found["part"],
        clock_ns=real("clock"),
        uncertainty_ns=real("uncertainty"),
        estimated_fmax_mhz=real("fmax"),
        elapsed_s=real("elapsed"),
        peak_allocated_mib=_mib(found["allocated"], where["allocated"]),
        peak_process_mib=max(
            (values.amount(match[1], f"{source}: memory") for line in lines if (match := _PEAK.search(line))),
            default=None,
        ),
        partition_limit=None if partition is None else values.whole(partition, where["partition"]),
        directives=directives,
        forced_operators=forced,
        steps_s=_steps(lines),
        n_warnings=sum(line.startswith("WARNING:") for line in lines),
        n_critical_warnings=sum(line.startswith("CRITICAL WARNING:") for line in lines),
        errors=tuple(line.strip() for line in lines if line.startswith("ERROR:")),
        ended=ended(lines),
        failure=find_failure(lines),
    )


def looks_like_log(lines: Iterable[str]) -> bool:
    """Whether any line is of the form these tools (or the system that killed them) write."""
    return any(_OF_A_TOOL.search(line) or names_a_cause(line) for line in lines)


def _last(pattern: re.Pattern[str], lines: list[str]) -> str | None:
    """What the last such line states: a script may open a project with old settings before it sets its own."""
    for line in reversed(lines):
        match = pattern.search(line)
        if match is not None:
            return next(group for group in match.groups() if group is not None)
    return None


def _mib(text: str | None, where: str) -> float | None:
    if text is None:
        return None
    number, _, unit = text.partition(" ")
    if unit not in _MIB:
        raise ReportFormatError(f"{where} is {text!r}, not an amount of memory")
    return values.amount(number, where) * _MIB[unit]


def _directives(lines: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Commands, and operators bound by them: ``config_op mul -impl dsp`` or ``config_op -impl=dsp mul``."""
    commands: dict[str, None] = {}
    forced: dict[str, str] = {}
    for line in lines:
        running = _RUNNING.search(line)
        if running is None or not running[1].startswith(_CONFIG):
            continue
        commands[running[1]] = None
        if _OPERATOR.match(running[1]):
            words = running[1].replace("=", " ").split()[1:]
            if "-impl" in words[:-1]:
                at = words.index("-impl")
                operators = [word for word in words[:at] + words[at + 2 :] if not word.startswith("-")]
                forced.update({operators[0]: words[at + 1]} if operators else {})
    return tuple(commands), forced


def _steps(lines: list[str]) -> dict[str, int]:
    found = {}
    for line in lines:
        step = _STEP.match(line)
        if step is not None:
            found[step[1]] = int(step[2]) * 3600 + int(step[3]) * 60 + int(step[4])
    return found

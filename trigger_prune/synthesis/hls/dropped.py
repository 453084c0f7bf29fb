"""Reports that somebody has put into the folder of a design: read, and refused unless they are of that design."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ReportFormatError, ToolError, WrongReportError
from trigger_prune.synthesis.hls.offline_files import STAMP
from trigger_prune.synthesis.hls.results import at_home
from trigger_prune.synthesis.parsers.csynth import CsynthReport
from trigger_prune.synthesis.parsers.csynth_rpt import CsynthText
from trigger_prune.synthesis.parsers.discover import ReportFile, Solution, load_reports
from trigger_prune.synthesis.parsers.failure import FailureCause
from trigger_prune.synthesis.parsers.to_hardware import to_hardware_reports
from trigger_prune.synthesis.parsers.tool_log import ToolLog

_STILL_RUNNING = (FailureCause.TRUNCATED, FailureCause.TIMING_NOT_MET)
"""What a log may say of a synthesis that has not failed."""

_RAW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_LOG_CHARACTERS = 200_000


@dataclass(frozen=True)
class Expected:
    """What the report of a design must say.

    folder_name    of the design
    key            SHA-256 (hex) over network, target and backend; it is in the stamp beside the project
    top            name of the function that was synthesised
    tool_version   release of the compiler, or None for any
    """

    folder_name: str
    key: str
    top: str
    content_hash: str
    part: str
    clock_period_ns: float
    stage: CostStage
    tool_version: str | None = None


@dataclass(frozen=True)
class DroppedReports:
    """Reports by stage, the compiler that made the Verilog ("" = not known), texts by file name, end of the log."""

    reports: dict[CostStage, HardwareReport]
    hls_tool: str
    hls_version: str
    texts: dict[str, str]
    log: str


def read_dropped(place: Path, expected: Expected) -> DroppedReports | None:
    """What lies in the folder of a design; None when its report is not there yet.

    Raises WrongReportError, naming the file, for a report of something else, for a damaged one and for two that differ;
    ToolError when there is no report and a log says that the synthesis failed.
    """
    _check_stamps(place, expected)
    try:
        solutions = load_reports(place, strict=False)
    except ReportFormatError:
        return None  # nothing but the project
    found: dict[CostStage, HardwareReport] = {}
    texts: dict[str, str] = {}
    compiler: CsynthReport | None = None
    for solution in solutions:
        csynth = _csynth_of(solution, expected)
        compiler = compiler or csynth
        for report in to_hardware_reports(solution):
            path = Path(str(report.details["file"]))
            _check(report, path, expected)
            for problem in solution.problems:
                if str(path) in problem:
                    raise WrongReportError(f"{problem}", hint=_again(place))
            known = found.setdefault(report.stage, _named(report, csynth, expected))
            if _figures(known) != _figures(report):
                raise WrongReportError(
                    f"{path} and another {report.stage} report in {place} differ", hint="leave the right one there"
                )
            if _RAW_NAME.fullmatch(path.name):
                texts.setdefault(path.name, path.read_text(errors="replace"))
    if expected.stage not in found:
        _say_why(place, solutions, expected)
        return None
    tool, version = ("", "") if compiler is None else (compiler.tool, compiler.version)
    return DroppedReports(found, tool, version, texts, _log(solutions))


def _check_stamps(place: Path, expected: Expected) -> None:
    """The project that came back must be the one that was written."""
    for path in sorted(place.rglob(STAMP)):
        try:
            stated = json.loads(path.read_text())["key"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise WrongReportError(f"{path} cannot be read: {error}", hint=_again(place)) from None
        if stated != expected.key:
            raise WrongReportError(
                f"{path} is the stamp of another design ({str(stated)[:12]}), {place.name} is {expected.key[:12]}",
                hint=_again(place),
            )


def _csynth_of(solution: Solution, expected: Expected) -> CsynthReport | None:
    """C synthesis of the design in one solution."""
    file = solution.csynth()
    if file is None:
        return None
    parsed = file.value.report if isinstance(file.value, CsynthText) else file.value
    assert isinstance(parsed, CsynthReport)
    wanted = expected.tool_version
    if wanted is not None and not f"{parsed.version}.".startswith(f"{wanted}."):
        raise WrongReportError(
            f"{file.path} is of version {parsed.version}, cost.tool_version is {wanted}",
            hint="synthesise with that release, or change cost.tool_version",
        )
    return parsed


def _check(report: HardwareReport, path: Path, expected: Expected) -> None:
    """Refuse a report of another function, part or clock."""
    stated = report.details.get("top") or report.details.get("design")
    if stated is None:
        # Co-simulation names its function in nothing but the file.
        stated = expected.top if path.name.startswith(expected.top) else path.stem
    if stated != expected.top:
        raise WrongReportError(
            f"{path} is the report of {stated}, the design of this folder is {expected.top}",
            hint=f"put the report of {expected.top} there",
        )
    plain = report.part.lower().replace("-", "")
    if not expected.part.lower().replace("-", "").startswith(plain):
        raise WrongReportError(
            f"{path} is for the part {report.part}, the target is {expected.part}",
            hint="project.tcl of the project names the part: synthesise it unchanged",
        )
    clock = report.clock_period_ns
    if clock is not None and abs(clock - expected.clock_period_ns) > 0.006:
        raise WrongReportError(
            f"{path} is for a clock period of {clock} ns, the target is {expected.clock_period_ns} ns",
            hint="project.tcl of the project states the clock: synthesise it unchanged",
        )


def _named(report: HardwareReport, csynth: CsynthReport | None, expected: Expected) -> HardwareReport:
    """The report as the online backend gives it."""
    details = {name: value for name, value in report.details.items() if name != "file"}
    details["offline"] = expected.folder_name
    if csynth is not None:
        details |= {"hls_tool": csynth.tool.lower().replace(" ", "_"), "hls_version": csynth.version}
        report = at_home(report, csynth)
    return replace(report, content_hash=expected.content_hash, details=details)


def _figures(report: HardwareReport) -> tuple[int | None, ...]:
    return report.lut, report.ff, report.dsp, report.bram18, report.uram, report.latency_cycles, report.ii


def _say_why(place: Path, solutions: tuple[Solution, ...], expected: Expected) -> None:
    """Raise when a report is there but cannot be used, or when a log says that there will be none."""
    for solution in solutions:
        if solution.problems:
            raise WrongReportError(solution.problems[0], hint=_again(place))
        others = [file for file in solution.files if not isinstance(file.value, ToolLog)]
        if others and solution.csynth() is None and not to_hardware_reports(solution):
            raise WrongReportError(
                f"{_first(others)} is not the report of {expected.top}, and no other one of {place} is",
                hint=_again(place),
            )
    for solution in solutions:
        failure = solution.failure
        if failure is not None and failure.cause not in _STILL_RUNNING:
            raise ToolError(
                f"the synthesis in {place} failed ({failure.cause.value.replace('_', ' ')}): {failure.line}",
                hint=failure.cause.hint,
            )


def _first(files: list[ReportFile]) -> Path:
    return min(file.path for file in files)


def _again(place: Path) -> str:
    return f"synthesise the project {place.name} unchanged and put its report there once more"


def _log(solutions: tuple[Solution, ...]) -> str:
    """The end of the last log."""
    files = [file for solution in solutions for file in solution.of(ToolLog)]
    return files[-1].path.read_text(errors="replace")[-_LOG_CHARACTERS:] if files else ""

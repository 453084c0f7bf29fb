"""Finds and reads the reports of one or more synthesis projects: a file, a solution, a project, or a folder of them.

A solution of the HLS compilers is a folder with ``syn``, ``sim`` or ``impl`` in it. Reports beside or above it
(``vivado_synth.rpt``, logs) belong to the solutions of the nearest project below their folder. Reports that lie loose,
without such folders, form one solution per folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.agreement import require_agreement, require_summary_agrees
from trigger_prune.synthesis.parsers.cosim import (
    Cosim,
    CosimReport,
    Transactions,
    parse_cosim_latency,
    parse_cosim_rpt,
    parse_transactions,
)
from trigger_prune.synthesis.parsers.csynth import CsynthReport
from trigger_prune.synthesis.parsers.csynth_rpt import PRINTED_COSIM, CsynthText, parse_csynth_rpt
from trigger_prune.synthesis.parsers.csynth_summary import SynthesisSummary, parse_csynth_summary
from trigger_prune.synthesis.parsers.csynth_xml import parse_csynth_xml
from trigger_prune.synthesis.parsers.export_report import ExportReport, parse_export_rpt, parse_export_xml
from trigger_prune.synthesis.parsers.failure import Failure
from trigger_prune.synthesis.parsers.recognise import Kind, is_candidate, recognise
from trigger_prune.synthesis.parsers.text import read_report, sha256
from trigger_prune.synthesis.parsers.timing_summary import TimingSummary, parse_timing_summary
from trigger_prune.synthesis.parsers.tool_log import ToolLog, parse_tool_log
from trigger_prune.synthesis.parsers.utilization import Utilization, parse_utilization

Value = (
    CsynthReport
    | CsynthText
    | SynthesisSummary
    | Utilization
    | TimingSummary
    | CosimReport
    | Cosim
    | Transactions
    | ExportReport
    | ToolLog
)

PARSERS: Mapping[Kind, Callable[..., Value]] = {
    "csynth_xml": parse_csynth_xml,
    "csynth_rpt": parse_csynth_rpt,
    "csynth_summary": parse_csynth_summary,
    "utilization": parse_utilization,
    "timing": parse_timing_summary,
    "cosim": parse_cosim_rpt,
    "cosim_latency": parse_cosim_latency,
    "transactions": parse_transactions,
    "export_rpt": parse_export_rpt,
    "export_xml": parse_export_xml,
    "log": parse_tool_log,
}
_INSIDE = frozenset({"syn", "sim", "impl", "csim", "cosim"})
_MOST_FILES = 100_000


@dataclass(frozen=True)
class ReportFile:
    """One file that was read; ``text_sha256`` identifies its text."""

    path: Path
    kind: Kind
    value: Value
    text_sha256: str


@dataclass(frozen=True)
class Solution:
    """All reports on one design.

    top        name of the synthesised function; None when no C synthesis report says it
    core       name of the network itself where ``top`` is the AXI wrapper that hls4ml puts around it
    problems   what was wrong with files that could not be read (``load_reports(..., strict=False)`` only)
    """

    folder: Path
    name: str
    top: str | None
    core: str | None
    files: tuple[ReportFile, ...]
    problems: tuple[str, ...] = ()

    def of(self, kind: type) -> list[ReportFile]:
        """Files with a value of that type, in the order of their paths."""
        return [file for file in self.files if isinstance(file.value, kind)]

    def csynth(self, module: str | None = None) -> ReportFile | None:
        """C synthesis report of a module (default: the top); the XML rather than the text, the module's own first."""
        wanted = module or self.top
        found = [file for file in self.files if _module(file) == wanted and _module(file) is not None]
        ranks = {"csynth_xml": 0, "csynth_rpt": 1}
        return min(found, key=lambda file: (ranks[file.kind], file.path.name == "csynth.xml"), default=None)

    @property
    def failure(self) -> Failure | None:
        """Why the run failed, by its logs; None when no log says so. A missed clock counts when nothing else does."""
        failures = [file.value.failure for file in self.files if isinstance(file.value, ToolLog) and file.value.failure]
        return min(failures, key=lambda failure: failure.cause == "timing_not_met", default=None)


def load_reports(path: Path, *, strict: bool = True) -> tuple[Solution, ...]:
    """Every solution at or below ``path``, each with all its reports read and compared with each other.

    With ``strict=False`` a file that cannot be read does not end the search; it is listed in ``Solution.problems``.
    Raises ReportFormatError when there is no report, and, if strict, for the first broken or contradicting one.
    """
    if path.is_file():
        return (_solution(path.parent, [path], strict, required=True),)
    if not path.is_dir():
        raise ReportFormatError(f"{path} does not exist", hint="give a report file, a solution or a project folder")
    groups: dict[Path, list[Path]] = {}
    loose: dict[Path, list[Path]] = {}
    for file in _candidates(path):
        inside = _solution_folder(file, path)
        (groups if inside else loose).setdefault(inside or file.parent, []).append(file)
    for folder, files in loose.items():
        owners = _owners(folder, groups)
        for owner in owners or [folder]:
            groups.setdefault(owner, []).extend(files)
    solutions = [_solution(folder, sorted(files), strict, required=False) for folder, files in sorted(groups.items())]
    found = tuple(solution for solution in solutions if solution.files or solution.problems)
    if not found:
        raise ReportFormatError(f"{path} holds no synthesis report", hint="give a report file, a solution or a project")
    return found


def _candidates(path: Path) -> list[Path]:
    found: list[Path] = []
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if is_candidate(Path(name) / "x.rpt"))
        found += [Path(folder) / name for name in sorted(files) if is_candidate(Path(name))]
        if len(found) > _MOST_FILES:
            raise ReportFormatError(f"{path} holds more than {_MOST_FILES} reports", hint="give a smaller folder")
    return found


def _solution_folder(file: Path, root: Path) -> Path | None:
    """The folder whose ``syn``, ``sim`` or ``impl`` holds the file, no higher than ``root``'s parent."""
    for parent in file.parents:
        if parent.name in _INSIDE:
            return parent.parent
        if parent == root:
            return None
    return None


def _owners(folder: Path, groups: dict[Path, list[Path]]) -> list[Path]:
    """Solutions that loose files of a folder belong to: those of the project in it, two levels down at most."""
    if folder.name in ("reports", "logs"):
        folder = folder.parent  # of a Vitis component
    below = [solution for solution in groups if folder == solution or folder in solution.parents]
    near = [solution for solution in below if len(solution.relative_to(folder).parts) <= 2]
    # vivado_synth.tcl of hls4ml reads solution1, whatever other solutions there are.
    first = [solution for solution in near if solution.name == "solution1"]
    return first if len(first) == 1 else near


def _solution(folder: Path, paths: Iterable[Path], strict: bool, *, required: bool) -> Solution:
    files: list[ReportFile] = []
    problems: list[str] = []
    for path in paths:
        try:
            file = _read(path)
        except ReportFormatError as error:
            if strict:
                raise
            problems.append(error.message)
            continue
        files += file
        if required and not file:
            raise ReportFormatError(f"{path} is no report of a format that is read here")
    top = _top(folder, files)
    core = top.removesuffix("_axi") if top is not None else None
    modules = {_module(file) for file in files}
    solution = Solution(
        folder, folder.name, top, core if core != top and core in modules else None, tuple(files), tuple(problems)
    )
    try:
        _compare(solution)
    except ReportFormatError as error:
        if strict:
            raise
        problems.append(error.message)
    return Solution(solution.folder, solution.name, solution.top, solution.core, solution.files, tuple(problems))


def _read(path: Path) -> list[ReportFile]:
    """What the file holds; nothing for a file of another kind. Raises ReportFormatError."""
    known = recognise(path.name, "")
    try:
        text = read_report(path)
    except ReportFormatError:
        # Empty or binary: an error for what must be a report by its name, of no interest otherwise.
        if known is None and path.suffix == ".log":
            return []
        raise
    kind = recognise(path.name, text)
    if kind is None:
        return []
    parser: Callable[..., Value] = PARSERS[kind]
    found = [ReportFile(path, kind, parser(text, source=str(path)), sha256(text))]
    printed = text.partition(PRINTED_COSIM)[2]
    if kind == "csynth_rpt" and printed.strip():
        found.append(
            ReportFile(path, "cosim", parse_cosim_rpt(printed, source=f"{path} (co-simulation)"), sha256(text))
        )
    return found


def _module(file: ReportFile) -> str | None:
    """Name of the module a C synthesis report is about."""
    if isinstance(file.value, CsynthReport):
        return file.value.top
    return file.value.report.top if isinstance(file.value, CsynthText) else None


def _top(folder: Path, files: list[ReportFile]) -> str | None:
    for file in files:
        if isinstance(file.value, CsynthReport) and file.path.name == "csynth.xml":
            return file.value.top
    for file in files:
        if isinstance(file.value, SynthesisSummary):
            return file.value.top
    modules = sorted({name for file in files if (name := _module(file)) is not None})
    if len(modules) <= 1:
        return modules[0] if modules else None
    project = folder.parent.name.removesuffix("_prj")
    for name in (f"{project}_axi", project):
        if name in modules:
            return name
    texts = [file.value for file in files if isinstance(file.value, CsynthText)]
    inside = {instance.module for text in texts for instance in text.report.instances}
    outside = [name for name in modules if name not in inside]
    return outside[0] if len(outside) == 1 else None


def _compare(solution: Solution) -> None:
    """Reports on one module must not contradict each other."""
    first: dict[str, ReportFile] = {}
    for file in solution.files:
        name = _module(file)
        if name is not None:
            known = first.setdefault(name, file)
            require_agreement(_report(known), str(known.path), _report(file), str(file.path))
    for file in solution.files:
        if isinstance(file.value, SynthesisSummary) and file.value.top in first:
            known = first[file.value.top]
            require_summary_agrees(_report(known), str(known.path), file.value, str(file.path))


def _report(file: ReportFile) -> CsynthReport:
    assert isinstance(file.value, CsynthReport | CsynthText)
    return file.value.report if isinstance(file.value, CsynthText) else file.value

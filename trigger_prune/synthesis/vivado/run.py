"""Runs the written Vivado scripts where Vivado is installed, and reads the reports."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ReportFormatError, ToolError
from trigger_prune.synthesis.hls.failure import ToolFailure, ToolRunError, explain
from trigger_prune.synthesis.hls.licences import licence_slot
from trigger_prune.synthesis.hls.tools import HlsInstallation, require_vivado
from trigger_prune.synthesis.parsers.discover import load_reports
from trigger_prune.synthesis.parsers.to_hardware import to_hardware_reports
from trigger_prune.synthesis.process import LimitError, run_limited
from trigger_prune.synthesis.vivado.scripts import LOG, REPORTS, SCRIPT, Flow, VivadoProject

STAGES: dict[Flow, CostStage] = {"synth": CostStage.VSYNTH, "pnr": CostStage.PNR}
_OUTPUT = "vivado.out"
_FLOWS: tuple[Flow, ...] = ("synth", "pnr")


@dataclass(frozen=True)
class VivadoRun:
    """What one run gave: reports of the steps that ended, and why it stopped if it did."""

    project: VivadoProject
    reports: dict[CostStage, HardwareReport]
    failure: ToolFailure | None
    log: str
    seconds: float

    def require(self, stage: CostStage) -> HardwareReport:
        """The report of one stage. Raises ToolRunError when the run did not come that far."""
        if stage in self.reports:
            return self.reports[stage]
        if self.failure is not None:
            raise ToolRunError(self.failure, self)
        raise ToolError(f"the Vivado run of {self.project.top} did not include {stage.value}")


def run_vivado(
    project: VivadoProject,
    vivado: HlsInstallation | None = None,
    *,
    timeout_s: float = 7200.0,
    memory_limit_mib: float = 65536.0,
    licences: int | None = None,
    latency_cycles: int | None = None,
    ii: int | None = None,
    content_hash: str = "",
    say: Callable[[str], None] | None = None,
) -> VivadoRun:
    """Run the scripts of ``project``; ``latency_cycles`` and ``ii`` are those of the design, which Vivado cannot know.

    Raises ToolError when Vivado is not installed or cannot be started; what fails later is in ``VivadoRun.failure``.
    """
    vivado = vivado or require_vivado()
    label = f"vivado on {project.top}"
    output = project.folder / _OUTPUT
    shutil.rmtree(project.folder / REPORTS, ignore_errors=True)
    start = time.monotonic()
    status: int | None = None
    limit: LimitError | None = None
    with licence_slot(licences, say=say):
        try:
            status, _ = run_limited(
                vivado.command(
                    "-mode", "batch", "-nojournal", "-log", LOG, "-source", SCRIPT, "-tclargs", project.flow
                ),
                tool=label,
                cwd=project.folder,
                log=output,
                timeout_s=timeout_s,
                memory_limit_mib=memory_limit_mib,
                env={name: value for name, value in vivado.licences if name not in os.environ},
            )
        except LimitError as error:
            limit = error
    seconds = time.monotonic() - start
    log = output.read_text(errors="replace")
    reports: dict[CostStage, HardwareReport] = {}
    problem: str | None = None
    try:
        reports = read_vivado_reports(
            project, latency_cycles=latency_cycles, ii=ii, content_hash=content_hash, seconds=seconds
        )
    except ReportFormatError as error:
        problem = error.message
    wanted = STAGES[project.flow]
    if problem is None and wanted not in reports:
        problem = f"it wrote no {project.utilization(project.flow).name}"
    failure = None
    if limit is not None or status or problem is not None:
        step = "pnr" if CostStage.VSYNTH in reports else "synth"
        failure = explain(label=label, step=step, status=status, limit=limit, problem=problem, log=log, log_file=output)
    return VivadoRun(project, reports, failure, log, seconds)


def read_vivado_reports(
    project: VivadoProject,
    *,
    latency_cycles: int | None = None,
    ii: int | None = None,
    content_hash: str = "",
    seconds: float | None = None,
) -> dict[CostStage, HardwareReport]:
    """Reports of the steps of which both files are there, by stage. Raises ReportFormatError for a damaged one."""
    folder = project.folder / REPORTS
    if not folder.is_dir() or not any(folder.iterdir()):
        return {}
    details = {} if seconds is None else {"vivado_seconds": round(seconds, 1)}
    found = {}
    for solution in load_reports(folder):
        for report in to_hardware_reports(solution):
            flow = next((flow for flow in _FLOWS if str(project.utilization(flow)) == report.details.get("file")), None)
            # Without its timing report a step has not ended.
            if flow is None or not project.timing(flow).is_file():
                continue
            kept = {name: value for name, value in report.details.items() if name != "file"}
            found[STAGES[flow]] = replace(
                report,
                part=project.part,
                clock_period_ns=project.clock_period_ns,
                latency_cycles=latency_cycles,
                ii=ii,
                content_hash=content_hash,
                details={**kept, **details},
            )
    return found

"""The reports that hls4ml's build script leaves in a project, step by step."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.synthesis.hls.steps import HlsSteps
from trigger_prune.synthesis.parsers.csynth import CsynthReport
from trigger_prune.synthesis.parsers.discover import Solution, load_reports
from trigger_prune.synthesis.parsers.to_hardware import to_hardware_reports

STAGE_OF = {"csynth": CostStage.CSYNTH, "cosim": CostStage.COSIM, "vsynth": CostStage.VSYNTH}
"""Steps that leave a HardwareReport."""

_SOLUTION = "{name}_prj/solution1"
REPORT_FILES = {
    "csynth": f"{_SOLUTION}/syn/report/{{name}}_csynth.xml",
    "cosim": f"{_SOLUTION}/sim/report/{{name}}_cosim.rpt",
    "vsynth": "vivado_synth.rpt",
}
ARCHIVES = (f"{_SOLUTION}/impl/export.zip", f"{_SOLUTION}/impl/ip/*.zip")
"""Where ``export`` puts the IP archive, by version."""


@dataclass(frozen=True)
class StepResult:
    """Report of one step, or what is the problem with it; ``texts`` are the files that were read."""

    report: HardwareReport | None
    problem: str = ""
    texts: dict[str, str] = field(default_factory=dict)


def report_path(project_dir: Path, project_name: str, step: str) -> Path:
    """Where the report of a step is written."""
    return project_dir / REPORT_FILES[step].format(name=project_name)


def find_archive(project_dir: Path, project_name: str) -> Path | None:
    """The exported IP archive, or None."""
    for pattern in ARCHIVES:
        found = sorted(project_dir.glob(pattern.format(name=project_name)))
        if found:
            return found[0]
    return None


def clear_results(project_dir: Path, project_name: str, steps: HlsSteps) -> None:
    """Remove what ``steps`` are going to write: nothing of an earlier run must pass for theirs."""
    solution = project_dir / _SOLUTION.format(name=project_name)
    if steps.csynth:
        # What the script's "open_project -reset" does; the Verilog of the later steps goes with it.
        shutil.rmtree(solution.parent, ignore_errors=True)
        report_path(project_dir, project_name, "vsynth").unlink(missing_ok=True)
    for chosen, leftovers in ((steps.cosim, "sim"), (steps.export, "impl")):
        if chosen:
            shutil.rmtree(solution / leftovers, ignore_errors=True)
    if steps.vsynth:
        report_path(project_dir, project_name, "vsynth").unlink(missing_ok=True)


def read_results(
    project_dir: Path, project_name: str, ended: Sequence[str], content_hash: str, **details: Any
) -> dict[str, StepResult]:
    """The reports of the steps that have ended, by step; a missing or damaged one is the result's ``problem``."""
    wanted = [step for step in ended if step in STAGE_OF]
    present = [step for step in wanted if report_path(project_dir, project_name, step).is_file()]
    solutions: tuple[Solution, ...] = ()
    if present:
        solutions = load_reports(project_dir, strict=False)
    return {
        step: _one(solutions, report_path(project_dir, project_name, step), STAGE_OF[step], content_hash, details)
        for step in wanted
    }


def _one(
    solutions: Sequence[Solution], path: Path, stage: CostStage, content_hash: str, details: dict[str, Any]
) -> StepResult:
    if not path.is_file():
        return StepResult(None, f"it wrote no {path.name}")
    texts = {path.name: path.read_text(errors="replace")}
    for solution in solutions:
        for problem in solution.problems:
            if str(path) in problem:
                return StepResult(None, f"its report is damaged: {problem}", texts)
        top = solution.csynth()
        design = top.value if top is not None and isinstance(top.value, CsynthReport) else None
        for report in to_hardware_reports(solution):
            if report.stage is not stage or report.details.get("file") != str(path):
                continue
            if stage is CostStage.COSIM and report.latency_cycles is None:
                return StepResult(None, f"{path.name} states no latency", texts)
            kept = {name: value for name, value in report.details.items() if name != "file"}
            if design is not None:
                # Logic synthesis and simulation state their own tool: which compiler made the Verilog is kept as well.
                kept |= {"hls_tool": design.tool.lower().replace(" ", "_"), "hls_version": design.version}
            found = replace(report, content_hash=content_hash, details={**kept, **details})
            return StepResult(found if design is None else at_home(found, design), "", texts)
    return StepResult(None, f"{path.name} was not understood", texts)


def at_home(report: HardwareReport, design: CsynthReport) -> HardwareReport:
    """Part and clock as C synthesis names them: Vivado's report leaves out grade, dashes and the clock."""
    same_part = design.part.replace("-", "").startswith(report.part.replace("-", ""))
    return replace(
        report,
        part=design.part if same_part else report.part,
        clock_period_ns=report.clock_period_ns or design.target_clock_ns,
    )

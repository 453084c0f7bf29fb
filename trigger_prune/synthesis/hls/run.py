"""Runs C synthesis of an exported hls4ml project, as hls4ml's own ``build(csim=False, synth=True)`` does."""

from __future__ import annotations

from pathlib import Path

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ReportFormatError, ToolError
from trigger_prune.synthesis.hls.tools import HlsTool
from trigger_prune.synthesis.parsers.csynth_xml import CsynthReport, parse_csynth_xml
from trigger_prune.synthesis.process import log_tail, run_limited

LOG_NAME = "csynth.log"
_STEPS = {"reset": 1, "csim": 0, "synth": 1, "cosim": 0, "validation": 0, "export": 0, "vsynth": 0, "fifo_opt": 0}


def run_csynth(
    project_dir: Path,
    project_name: str,
    tool: HlsTool,
    timeout_s: float = 3600.0,
    memory_limit_mib: float = 32768.0,
    *,
    content_hash: str = "",
) -> HardwareReport:
    """Synthesise the project in place and read its report; the tool's output goes to ``csynth.log`` in the project.

    Raises ToolError when the project is not one, the tool fails (its last ERROR lines are quoted), writes no report or
    breaks a limit; ReportFormatError when the report is damaged.
    """
    project_dir = project_dir.resolve()
    if not (project_dir / "build_prj.tcl").is_file():
        raise ToolError(f"{project_dir} is not an hls4ml project: it has no build_prj.tcl", hint="export it first")
    report = project_dir / f"{project_name}_prj" / "solution1" / "syn" / "report" / f"{project_name}_csynth.xml"
    # A report of an earlier run must never pass for this one's.
    report.unlink(missing_ok=True)
    log = project_dir / LOG_NAME
    status, seconds = run_limited(
        _command(tool, project_dir),
        tool=f"{tool.name} on {project_name}",
        cwd=project_dir,
        log=log,
        timeout_s=timeout_s,
        memory_limit_mib=memory_limit_mib,
    )
    if status:
        raise ToolError(
            f"{tool.name} on {project_name} failed with exit status {status}:\n{log_tail(log, only='ERROR')}",
            hint=f"the whole log is {log}",
        )
    if not report.is_file():
        raise ToolError(
            f"{tool.name} ended without error but wrote no {report.name}:\n{log_tail(log, only='ERROR')}",
            hint=f"the whole log is {log}",
        )
    parsed = parse_csynth_xml(report.read_text(errors="replace"), source=str(report))
    return to_hardware_report(parsed, tool=tool.backend, content_hash=content_hash, seconds=seconds)


def to_hardware_report(parsed: CsynthReport, *, tool: str, content_hash: str, seconds: float) -> HardwareReport:
    """``HardwareReport`` of stage csynth. Raises ReportFormatError when the report gives no LUT count."""
    if parsed.used.lut is None:
        raise ReportFormatError(f"the report of {parsed.top} states no LUT count")
    return HardwareReport(
        stage=CostStage.CSYNTH,
        tool=f"{tool} HLS",
        tool_version=parsed.version,
        part=parsed.part,
        clock_period_ns=parsed.target_clock_ns,
        lut=parsed.used.lut,
        ff=parsed.used.ff,
        dsp=parsed.used.dsp,
        bram18=parsed.used.bram18,
        latency_cycles=parsed.latency_worst,
        ii=parsed.interval_max,
        content_hash=content_hash,
        details={
            "top": parsed.top,
            "estimated_clock_ns": parsed.estimated_clock_ns,
            "clock_uncertainty_ns": parsed.clock_uncertainty_ns,
            "pipeline_type": parsed.pipeline_type,
            "latency_best_cycles": parsed.latency_best,
            "interval_min_cycles": parsed.interval_min,
            "uram": parsed.used.uram,
            "csynth_seconds": round(seconds, 1),
        },
    )


def _command(tool: HlsTool, project_dir: Path) -> list[str | Path]:
    if tool.name == "vivado_hls":
        return [tool.path, "-f", "build_prj.tcl", " ".join(f"{step}={value}" for step, value in _STEPS.items())]
    options = "".join(f"    {step:<10} {value}\n" for step, value in _STEPS.items())
    scratch = project_dir / ".build_opt.tcl.new"
    scratch.write_text(f"array set opt {{\n{options}}}\n")
    scratch.replace(project_dir / "build_opt.tcl")
    return [tool.path, "--tcl", "build_prj.tcl", "--mode", "hls"]

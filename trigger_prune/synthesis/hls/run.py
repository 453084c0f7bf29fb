"""Runs the build script of an exported hls4ml project, as hls4ml's own ``build`` does, and reads what it leaves.

hls4ml 1.3.0 starts ``vitis-run --mode hls --tcl build_prj.tcl`` (options in ``build_opt.tcl``) or ``vivado_hls -f
build_prj.tcl "reset=1 csim=0 ..."``. Here exit codes, logs, time and memory limits and licences are looked after.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ToolError
from trigger_prune.synthesis.hls.failure import ToolFailure, ToolRunError, explain, licences_in_use
from trigger_prune.synthesis.hls.licences import licence_slot
from trigger_prune.synthesis.hls.results import STAGE_OF, clear_results, find_archive, read_results
from trigger_prune.synthesis.hls.steps import HlsSteps
from trigger_prune.synthesis.hls.tools import HlsInstallation, require_vivado
from trigger_prune.synthesis.process import LimitError, run_limited

LOG_NAME = "hls.log"
BUILD_SCRIPT = "build_prj.tcl"
OPTIONS_SCRIPT = "build_opt.tcl"
_LICENCE_POLL_S = 30.0
_LOG_CHARACTERS = 400_000

_BEGIN = {
    "csim": "***** C SIMULATION *****",
    "csynth": "***** C/RTL SYNTHESIS *****",
    "cosim": "***** C/RTL SIMULATION *****",
    "export": "***** EXPORT IP *****",
    "vsynth": "***** VIVADO SYNTHESIS *****",
}
"""What hls4ml's build script prints in front of each step."""


@dataclass(frozen=True)
class HlsRun:
    """What one run of the build script gave.

    reports   of the steps that ended, in the order of the steps; never of an earlier run
    failure   why the run stopped; None = all chosen steps ended
    texts     report files as the tools wrote them, by file name
    log       end of the tool's output; the whole is in the file ``log_file``
    """

    project: Path
    name: str
    tool: HlsInstallation
    steps: HlsSteps
    reports: dict[CostStage, HardwareReport]
    failure: ToolFailure | None
    texts: dict[str, str]
    log: str
    log_file: Path
    seconds: float

    @property
    def archive(self) -> Path | None:
        """The exported IP archive, when ``export`` was a step and ended."""
        return find_archive(self.project, self.name) if self.steps.export else None

    @property
    def raw(self) -> dict[str, str]:
        """Another name of ``texts``, by which the report store asks for them."""
        return self.texts

    def require(self, stage: CostStage) -> HardwareReport:
        """The report of one stage. Raises ToolRunError when the run did not come that far."""
        if stage in self.reports:
            return self.reports[stage]
        if self.failure is not None:
            raise ToolRunError(self.failure, self)
        raise ToolError(f"the run of {self.project.name} did not include {stage.value}")


def run_hls(
    project_dir: Path,
    project_name: str,
    tool: HlsInstallation,
    steps: HlsSteps | None = None,
    *,
    timeout_s: float = 3600.0,
    memory_limit_mib: float = 32768.0,
    licences: int | None = None,
    licence_wait_s: float = 0.0,
    licence_poll_s: float = _LICENCE_POLL_S,
    content_hash: str = "",
    say: Callable[[str], None] | None = None,
) -> HlsRun:
    """Run ``steps`` (default: C synthesis alone) in the project; the tool's output goes to ``hls.log`` there.

    timeout_s        wall-clock limit of one attempt, all steps together
    licences         at most so many runs at once (``licence_slot``); None = no limit
    licence_wait_s   try again for so long when the licence server says that all licences are in use

    A tool that fails, breaks a limit or leaves a damaged report is no exception here but ``HlsRun.failure``, beside
    the reports of the steps that did end. Raises ToolError when nothing can be started: no hls4ml project, a project
    of the other backend, no Vivado for vsynth, no solution to go on with.
    """
    steps = steps or HlsSteps()
    project_dir = project_dir.resolve()
    vivado = _check(project_dir, project_name, tool, steps)
    log = project_dir / LOG_NAME
    start = time.monotonic()
    while True:
        with licence_slot(licences, say=say):
            clear_results(project_dir, project_name, steps)
            run = _attempt(project_dir, project_name, tool, steps, vivado, timeout_s, memory_limit_mib, content_hash)
        waited = time.monotonic() - start
        if run.failure is None or not licences_in_use(run.log) or waited + licence_poll_s > licence_wait_s:
            return run
        if say is not None:
            say(f"all licences are in use: {run.failure.line or tool.name}; next attempt in {licence_poll_s:.0f} s")
        log.replace(log.with_suffix(".previous.log"))
        time.sleep(licence_poll_s)


def _check(project_dir: Path, project_name: str, tool: HlsInstallation, steps: HlsSteps) -> HlsInstallation | None:
    """Refuse what cannot work; returns the Vivado that the vsynth step needs beside a tool that is not on PATH."""
    if not (project_dir / BUILD_SCRIPT).is_file():
        raise ToolError(f"{project_dir} is not an hls4ml project: it has no {BUILD_SCRIPT}", hint="export it first")
    config = project_dir / "hls4ml_config.yml"
    stated = re.search(r"^Backend:\s*(\w+)", config.read_text(errors="replace"), re.M) if config.is_file() else None
    if stated is not None and stated.group(1) in ("Vitis", "Vivado") and stated.group(1) != tool.backend:
        raise ToolError(
            f"{project_dir} is a project of hls4ml's {stated.group(1)} backend; {tool.name} builds {tool.backend}",
            hint="export the project again for this tool, or choose another tool version",
        )
    if tool.kind == "vitis-run" and not _reads_options_file(project_dir):
        raise ToolError(
            f"{project_dir / BUILD_SCRIPT} takes its options from the command line, which vitis-run cannot pass on",
            hint="export the project again with hls4ml 1.2 or later",
        )
    solution = project_dir / f"{project_name}_prj" / "solution1"
    if not steps.csynth and set(steps.chosen) != {"csim"} and not (solution / "syn" / "verilog").is_dir():
        raise ToolError(f"{project_dir} has no synthesised solution to go on with", hint="choose csynth as well")
    if not steps.vsynth:
        return None
    # The build script calls plain ``vivado``: that of the same release.
    return require_vivado(tool)


def _reads_options_file(project_dir: Path) -> bool:
    return OPTIONS_SCRIPT in (project_dir / BUILD_SCRIPT).read_text(errors="replace")


def _command(tool: HlsInstallation, project_dir: Path, steps: HlsSteps, vivado: HlsInstallation | None) -> list[str]:
    if not _reads_options_file(project_dir):
        return tool.command("-f", BUILD_SCRIPT, steps.on_command_line, beside=vivado)
    write_options(project_dir, steps)
    if tool.kind == "vitis-run":
        return tool.command("--tcl", BUILD_SCRIPT, "--mode", "hls", beside=vivado)
    return tool.command("-f", BUILD_SCRIPT, beside=vivado)


def write_options(project_dir: Path, steps: HlsSteps) -> None:
    """The file from which the build script of hls4ml 1.2 and later takes its steps."""
    lines = "".join(f"    {name:<10} {value}\n" for name, value in steps.options.items())
    scratch = project_dir / f".{OPTIONS_SCRIPT}.new"
    scratch.write_text(f"array set opt {{\n{lines}}}\n")
    scratch.replace(project_dir / OPTIONS_SCRIPT)


def _attempt(
    project_dir: Path,
    project_name: str,
    tool: HlsInstallation,
    steps: HlsSteps,
    vivado: HlsInstallation | None,
    timeout_s: float,
    memory_limit_mib: float,
    content_hash: str,
) -> HlsRun:
    log_file = project_dir / LOG_NAME
    label = f"{tool.name} on {project_name}"
    start = time.monotonic()
    limit: LimitError | None = None
    status: int | None = None
    try:
        status, _ = run_limited(
            _command(tool, project_dir, steps, vivado),
            tool=label,
            cwd=project_dir,
            log=log_file,
            timeout_s=timeout_s,
            memory_limit_mib=memory_limit_mib,
            # Variables that are set already win over those of a module file.
            env={name: value for name, value in tool.licences if name not in os.environ},
        )
    except LimitError as error:
        limit = error
    seconds = time.monotonic() - start
    log = log_file.read_text(errors="replace")[-_LOG_CHARACTERS:]
    ended, stopped_in = _progress(log, steps, complete=status == 0)
    results = read_results(project_dir, project_name, ended, content_hash, hls_seconds=round(seconds, 1))
    reports = {STAGE_OF[step]: result.report for step, result in results.items() if result.report is not None}
    texts = {name: text for result in results.values() for name, text in result.texts.items()}
    damage = next(((step, result.problem) for step, result in results.items() if result.report is None), None)
    if damage is None and "export" in ended and find_archive(project_dir, project_name) is None:
        damage = "export", "it wrote no IP archive"
    failure = None
    if limit is not None or status or damage is not None or stopped_in is not None:
        step = damage[0] if damage is not None else stopped_in or steps.chosen[-1]
        failure = explain(
            label=label,
            step=step,
            status=status,
            limit=limit,
            problem=None if damage is None else damage[1],
            log=log,
            log_file=log_file,
        )
    return HlsRun(project_dir, project_name, tool, steps, reports, failure, texts, log, log_file, seconds)


def _progress(log: str, steps: HlsSteps, *, complete: bool) -> tuple[list[str], str | None]:
    """Steps that ended, and the one in which the run stopped (None after a run without error).

    The script prints a line when a step begins; it has ended when the next one has begun, or when the script says so.
    """
    if complete:
        return list(steps.chosen), None
    if "***** C/RTL VALIDATION *****" in log and "INFO: Test PASSED" not in log:
        # The two simulations gave different outputs: what co-simulation timed computes something else.
        return [step for step in steps.chosen if step in ("csim", "csynth")], "cosim"
    ended: list[str] = []
    for step in steps.chosen:
        title = _BEGIN[step].strip("* ")
        if f"{title} COMPLETED IN" not in log:
            return ended, step
        ended.append(step)
    return ended, steps.chosen[-1]

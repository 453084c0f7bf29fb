"""Runs the designs of a validation folder where the tools are, or reads the reports that were brought back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ReportFormatError, ToolError
from trigger_prune.synthesis.hls.results import STAGE_OF, read_results, report_path
from trigger_prune.synthesis.hls.run import LOG_NAME, run_hls
from trigger_prune.synthesis.hls.steps import HlsSteps
from trigger_prune.synthesis.hls.tools import HlsInstallation
from trigger_prune.synthesis.parsers.failure import find_failure
from trigger_prune.synthesis.validate.build import Entry, ValidationFolder, sources_hash
from trigger_prune.synthesis.validate.designs import PROJECT_NAME


@dataclass(frozen=True)
class Outcome:
    """Reports of one design, by stage; ``problem`` says why there are none, or not all."""

    entry: Entry
    reports: dict[CostStage, HardwareReport]
    problem: str | None = None


@dataclass(frozen=True)
class RunLimits:
    """Limits of every run: time and memory, runs side by side, licences, patience with the licence server."""

    timeout_s: float = 3600.0
    memory_limit_mib: float = 32768.0
    jobs: int = 1
    licences: int | None = None
    licence_wait_s: float = 0.0


def run_validation(
    validation: ValidationFolder,
    tool: HlsInstallation,
    steps: HlsSteps,
    limits: RunLimits | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Outcome, ...]:
    """Synthesise every design that is not finished; a design that fails does not stop the others.

    Raises ToolError when nothing can be run at all, ReportFormatError when the sources of a design were changed.
    """
    limits = limits or RunLimits()
    if tool.backend != validation.backend:
        raise ToolError(
            f"{validation.folder} holds projects for {validation.backend}; {tool.name} builds {tool.backend}",
            hint="choose another tool version, or write the folder for the other --backend",
        )
    for entry in validation.entries:
        _require_unchanged(validation, entry)
    with ThreadPoolExecutor(limits.jobs) as pool:
        job = partial(_run_one, validation, tool=tool, steps=steps, limits=limits, say=say)
        return tuple(pool.map(job, validation.entries))


def read_validation(validation: ValidationFolder) -> tuple[Outcome, ...]:
    """Whatever reports the folder holds. Raises ReportFormatError when the sources of a design were changed."""
    return tuple(_read_one(validation, entry) for entry in validation.entries)


def _run_one(
    validation: ValidationFolder,
    entry: Entry,
    *,
    tool: HlsInstallation,
    steps: HlsSteps,
    limits: RunLimits,
    say: Callable[[str], None],
) -> Outcome:
    marker = validation.marker(entry.name)
    if _finished(validation, entry.name, steps.chosen):
        done = _read_one(validation, entry)
        if done.problem is None and {STAGE_OF[step] for step in steps.chosen if step in STAGE_OF} <= set(done.reports):
            say(f"{entry.name}: finished already")
            return done
    marker.unlink(missing_ok=True)
    say(f"{entry.name}: {tool.name} {tool.version} runs {', '.join(steps.chosen)}")
    run = run_hls(
        validation.project(entry.name),
        PROJECT_NAME,
        tool,
        steps,
        timeout_s=limits.timeout_s,
        memory_limit_mib=limits.memory_limit_mib,
        licences=limits.licences,
        licence_wait_s=limits.licence_wait_s,
        content_hash=entry.network_hash,
        say=say,
    )
    if run.failure is not None:
        say(f"{entry.name}: {run.failure.message}\n  -> {run.failure.hint}")
        return Outcome(entry, run.reports, run.failure.message)
    scratch = marker.with_suffix(".new")
    scratch.write_text(",".join(steps.chosen) + "\n")
    scratch.replace(marker)
    say(f"{entry.name}: done in {run.seconds:.0f} s")
    return Outcome(entry, run.reports)


def _finished(validation: ValidationFolder, name: str, wanted: Sequence[str]) -> bool:
    marker = validation.marker(name)
    return marker.is_file() and set(wanted) <= set(marker.read_text().strip().split(","))


def _read_one(validation: ValidationFolder, entry: Entry) -> Outcome:
    _require_unchanged(validation, entry)
    project = validation.project(entry.name)
    there = [step for step in STAGE_OF if report_path(project, PROJECT_NAME, step).is_file()]
    results = read_results(project, PROJECT_NAME, there, entry.network_hash)
    reports = {STAGE_OF[step]: result.report for step, result in results.items() if result.report is not None}
    problems = [f"{step}: {result.problem}" for step, result in results.items() if result.report is None]
    if not there:
        problems.append(_why_nothing(validation, entry.name))
    return Outcome(entry, reports, "; ".join(problems) or None)


def _why_nothing(validation: ValidationFolder, name: str) -> str:
    """What the log of a run without any report says."""
    log = validation.project(name) / LOG_NAME
    if not log.is_file():
        return "not run yet"
    failure = find_failure(log.read_text(errors="replace").splitlines())
    return f"no report ({failure.cause.value.replace('_', ' ')}: {failure.line})" if failure else "no report"


def _require_unchanged(validation: ValidationFolder, entry: Entry) -> None:
    project = validation.project(entry.name)
    if not project.is_dir():
        raise ReportFormatError(f"{project} is missing", hint="copy the whole folder back, or write it again")
    if sources_hash(project) != entry.sources_hash:
        raise ReportFormatError(
            f"the sources in {project} are not those that were written: its reports belong to another design",
            hint="copy the folder again, or remove this design's folder and write it again",
        )

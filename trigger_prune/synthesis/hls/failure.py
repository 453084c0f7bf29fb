"""Why a run of a vendor tool failed, in words that say what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ToolError
from trigger_prune.synthesis.parsers.failure import FailureCause, find_failure
from trigger_prune.synthesis.process import LimitError, log_tail

TIMEOUT = "timeout"
OUT_OF_MEMORY = "out_of_memory"

_SMALLER = "take a larger reuse factor or the Resource strategy"
_OWN_HINTS = {
    TIMEOUT: f"raise the time limit (cost.timeout_s), or {_SMALLER}",
    OUT_OF_MEMORY: f"raise the memory limit (cost.memory_limit_mib), or {_SMALLER}",
    FailureCause.KILLED.value: f"the system may have run out of memory: take a machine with more, or {_SMALLER}",
    FailureCause.LICENCE.value: "check XILINXD_LICENSE_FILE or LM_LICENSE_FILE (file, or port@host), and that it "
    "covers this part",
    FailureCause.PART_NOT_INSTALLED.value: "add the device family in the vendor's installer, or set target.part to an "
    "installed part",
    FailureCause.TRUNCATED.value: "the tool was stopped before it had written everything, or the disk is full",
}

_KILLED = (137, 143)  # what a shell returns for a child that got SIGKILL or SIGTERM
_NOT_FOUND = 127
_IN_USE = re.compile(
    r"licensed number of users already reached|maximum number of users|all licenses (?:are )?in use|"
    r"licensing error: ?-4\b|no (?:floating )?licenses? (?:is|are) (?:currently )?available",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ToolFailure:
    """Why a run stopped.

    cause     a ``FailureCause`` of the logs, or ``timeout`` or ``out_of_memory`` when a limit of ours was broken
    step      step of the build script in which it happened
    message   what went wrong, as a sentence
    line      the line of the log that says it, if one does
    """

    cause: str
    step: str
    message: str
    line: str | None
    hint: str


class _Run(Protocol):
    """A run of a vendor tool: HlsRun or VivadoRun."""

    @property
    def reports(self) -> dict[CostStage, HardwareReport]: ...
    @property
    def log(self) -> str: ...


class ToolRunError(ToolError):
    """A run of the vendor's tools failed. ``cause`` as in ToolFailure; ``run`` holds the steps that did end."""

    def __init__(self, failure: ToolFailure, run: _Run) -> None:
        done = ", ".join(stage.value for stage in run.reports)
        kept = f"\ndone before: {done}" if done else ""
        super().__init__(f"{failure.message}{kept}", hint=failure.hint)
        self.cause = failure.cause
        self.failure = failure
        self.run = run
        self.log = run.log


def licences_in_use(log: str) -> bool:
    """Whether the licence server said that all licences are taken: a later attempt may succeed."""
    return _IN_USE.search(log) is not None


def hint_for(cause: str) -> str:
    """What to do about a cause."""
    return _OWN_HINTS.get(cause) or FailureCause(cause).hint


def explain(
    *,
    label: str,
    step: str,
    status: int | None,
    limit: LimitError | None,
    problem: str | None,
    log: str,
    log_file: Path,
) -> ToolFailure:
    """The failure of one attempt, by the best evidence there is.

    status    exit status of the tool (None when we stopped it); ``limit`` the limit it broke
    problem   what is wrong with a report, when the tool itself did not complain
    """
    where = f"; the whole log is {log_file}"
    if limit is not None:
        cause = TIMEOUT if limit.limit == "time" else OUT_OF_MEMORY
        return ToolFailure(cause, step, f"{limit.message} (in step {step})", None, hint_for(cause) + where)
    cause, line = _cause(log, status, damaged=problem is not None)
    if status:
        how = f"was killed by signal {-status}" if status < 0 else f"failed with exit status {status}"
        message = f"{label} {how} in step {step} ({cause.value.replace('_', ' ')})"
    else:
        message = f"{label} ended without error, but {problem or f'did not finish step {step}'}"
    tail = log_tail(log_file, only="ERROR").splitlines()
    if line is not None and line not in (errors := [entry for entry in tail if "ERROR" in entry]):
        tail = [line, *errors]
    return ToolFailure(cause.value, step, "\n".join([f"{message}:", *tail]), line, hint_for(cause.value) + where)


def _cause(log: str, status: int | None, *, damaged: bool) -> tuple[FailureCause, str | None]:
    """The cause by the log, and the line that says it; else by the exit status."""
    found = find_failure(log.splitlines())
    if found is not None and found.cause not in (FailureCause.TRUNCATED, FailureCause.UNKNOWN):
        return found.cause, found.line
    line = found.line if found is not None and found.cause is FailureCause.UNKNOWN else None
    if status is not None and (status < 0 or status in _KILLED):
        return FailureCause.KILLED, line
    if status == _NOT_FOUND:
        return FailureCause.TOOL_MISSING, line
    return (FailureCause.TRUNCATED if damaged else FailureCause.UNKNOWN), line

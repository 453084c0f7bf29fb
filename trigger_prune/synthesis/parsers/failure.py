"""Why a run of a vendor tool failed, from its log.

The message numbers (``[XFORM 203-504]``) are stable over versions, the wording is not; both are looked for. The
vendor's Tcl shell stops at the first error that is not caught, so errors that were followed by further progress did no
harm: hls4ml's script, for one, tries an option that Vitis HLS refuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class FailureCause(StrEnum):
    """Kinds of failure that call for different remedies."""

    TOOL_MISSING = "tool_missing"
    LICENCE = "licence"
    PART_NOT_INSTALLED = "part_not_installed"
    KILLED = "killed"  # by a signal, a batch system, or for lack of memory
    SIZE_LIMIT = "size_limit"  # of loop unrolling or array partitioning
    COMPILE_ERROR = "compile_error"
    COSIM_MISMATCH = "cosim_mismatch"
    TIMING_NOT_MET = "timing_not_met"
    TRUNCATED = "truncated"
    UNKNOWN = "unknown"

    @property
    def hint(self) -> str:
        """What to do about it."""
        return _HINTS[self]


_HINTS = {
    FailureCause.TOOL_MISSING: "source the settings64.sh of the installation that has the tool",
    FailureCause.LICENCE: "check XILINXD_LICENSE_FILE or LM_LICENSE_FILE, and that the server offers the feature",
    FailureCause.PART_NOT_INSTALLED: "install the device family, or choose an installed part",
    FailureCause.KILLED: "give the job more memory or time, or measure a smaller network",
    FailureCause.SIZE_LIMIT: "use the Resource strategy, a larger reuse factor, or io_stream for this layer",
    FailureCause.COMPILE_ERROR: "the generated C++ does not compile with this tool: check its version",
    FailureCause.COSIM_MISMATCH: "RTL and C simulation differ: compare csim_results.log and rtl_cosim_results.log",
    FailureCause.TIMING_NOT_MET: "choose a longer clock period, or more pipeline stages",
    FailureCause.TRUNCATED: "the log ends before the tool did: was the job stopped, or is it still running?",
    FailureCause.UNKNOWN: "read the log around the quoted line",
}


@dataclass(frozen=True)
class Failure:
    """The line that tells the cause (counted from 1), as the tool wrote it."""

    cause: FailureCause
    line: str
    line_number: int


_TOOLS = r"(?:vivado_hls|vitis_hls|vitis-run|vivado|v\+\+|xsim|xelab)"
_LICENCE = r"(?:valid )?licen[sc]e"
# By cause, in the order in which a line is tried; each text is a regular expression.
_TELLTALES: dict[FailureCause, tuple[str, ...]] = {
    FailureCause.TOOL_MISSING: (
        rf"{_TOOLS}['\"]?: (?:command )?not found",
        rf"{_TOOLS}['\"]?: No such file or directory",
        rf"couldn't execute \"[^\"]*{_TOOLS}\"",
        rf"'{_TOOLS}' is not recognized as",
        r"(?:Vivado|Vitis)(?: HLS)? installation not found",
    ),
    FailureCause.LICENCE: (
        r"\[Common 17-345\]",
        r"(?i:flexnet licensing error|flexlm|no such feature exists)",
        rf"(?i:{_LICENCE} check(?:-?out)? failed|{_LICENCE} was not found|cannot connect to {_LICENCE})",
        rf"(?i:(?:could not|unable to|failed to) (?:get|obtain|acquire|find|check ?out) (?:a |the )?{_LICENCE})",
        rf"(?i:{_LICENCE} (?:has )?expired|{_LICENCE} server (?:machine )?(?:is )?down)",
        r"(?i:^error.*\blicen[sc](?:e|ing)\b)",
    ),
    FailureCause.PART_NOT_INSTALLED: (
        r"\[HLS 200-1023\]|\[Coretcl 2-106\]|\[Vivado 12-172\]",
        r"(?i:parts? '?[\w-]+'? (?:is )?not installed|no parts? matched|invalid (?:fpga )?part\b|unknown part\b)",
        r"(?i:parts? '?x[\w-]+'? (?:was |is )?not found|'?x[\w-]+'? is not a valid part)",
    ),
    FailureCause.SIZE_LIMIT: (
        r"\[XFORM 203-(?:103|504)\]|Stop unrolling loop|partitioned elements number",
        r"^ERROR.*(?i:unroll|partition).*(?i:threshold|limit|exceed|exeed|too large|too many)",
    ),
    FailureCause.KILLED: (
        r"^(?:\S+: (?:line \d+: )?)?\s*(?:\d+ )?(?:Killed|Terminated)\b|child killed",
        r"\bstd::bad_alloc\b|[Aa]bnormal program termination \((?:6|9|15)\)",
        r"(?i:\bout of memory\b|cannot allocate memory|failed to allocate memory|insufficient memory|oom[-_]?kill)",
        r"(?i:(?:killed|terminated) by signal|exceeded (?:job |step )?memory limit|memory limit exceeded)",
        r"(?i:due to time limit)",
    ),
    FailureCause.COSIM_MISMATCH: (
        r"\[COSIM 212-(?:4|303|361|362|363|375)\]|co-simulation finished: FAIL|^ERROR: Test failed",
        r"(?i:post-checking.*failed|rtl.*mismatch)",
    ),
    FailureCause.COMPILE_ERROR: (
        r"^ERROR: \[HLS 207-\d+\]|^ERROR: \[HLS 200-70\] Compilation errors|^ERROR: \[SIM 211-100\]",
        r"^\S+:\d+(?::\d+)?: (?:fatal )?error:|\bfatal error:|undefined reference to|collect2: error",
        r"compilation error\(s\)|C preprocessor failed|(?:g\+\+|clang): error:",
    ),
    FailureCause.TIMING_NOT_MET: (
        r"\[Timing 38-282\]|\[Route 35-39\]|failed to meet the timing requirements|^Timing not met$",
        r"Vivado implementation timing failed",
    ),
}
_PATTERNS = tuple((cause, re.compile("|".join(texts))) for cause, texts in _TELLTALES.items())
_PROGRESS = re.compile(
    r"^\*{5} .* COMPLETED IN |\[HLS 200-10\] (?:Analyzing|Starting|--)|"
    # "Finished Command csynth_design" is printed after a failure too.
    r"\[HLS 200-111\] (?:Finished (?!Command|Source)|\s*Elapsed)|"
    r"\[RTGEN 206-100\]|\[HLS 200-789\]|\[HLS 200-1510\] Running|^HLS EXTRACTION: generated|"
    r"\[SIM 211-1\] CSim done with 0 errors|finished: PASS|Test PASSED"
)
_ERROR = re.compile(r"^(?:ERROR|FATAL|FATAL_ERROR|CRITICAL ERROR)\b[: ]|^\S*[Ee]rror: ")
_END = re.compile(r"\[Common 17-206\] Exiting |\[(?:vitis-run|v\+\+) 60-(?:791|1653|1662)\]|CSIM finish \*")


def find_failure(lines: Sequence[str]) -> Failure | None:
    """The cause of the failure; None for a run that came to its end without an error that counts.

    The earliest line that names a cause wins, since what follows is a consequence; but a job that was killed was killed
    whatever it had complained of before. A missed clock is named only when nothing else went wrong.
    """
    last_progress = max((i for i, line in enumerate(lines) if _PROGRESS.search(line)), default=-1)
    found: list[Failure] = []
    errors: list[Failure] = []
    late: Failure | None = None
    for i, line in enumerate(lines):
        # Progress before anything else: it is the common case of long logs.
        if i < last_progress and "iming" not in line:
            continue
        cause = next((cause for cause, pattern in _PATTERNS if pattern.search(line)), None)
        if cause is FailureCause.TIMING_NOT_MET:
            late = Failure(cause, line.strip(), i + 1)
        elif i > last_progress and cause is not None and not line.startswith(("INFO:", "WARNING:")):
            found.append(Failure(cause, line.strip(), i + 1))
        elif i > last_progress and _ERROR.match(line):
            errors.append(Failure(FailureCause.UNKNOWN, line.strip(), i + 1))
    killed = [failure for failure in found if failure.cause is FailureCause.KILLED]
    for chosen in (killed, found, errors):
        if chosen:
            return chosen[0]
    if not ended(lines):
        last = max((i for i, line in enumerate(lines) if line.strip()), default=0)
        return Failure(FailureCause.TRUNCATED, lines[last].strip() if lines else "", last + 1)
    return late


def names_a_cause(line: str) -> bool:
    """Whether a line tells the cause of a failure, also in a log in which no tool ever spoke."""
    return any(pattern.search(line) for _, pattern in _PATTERNS)


def ended(lines: Sequence[str]) -> bool:
    """Whether the tool took its leave in one of the last lines."""
    return any(_END.search(line) for line in [line for line in lines if line.strip()][-12:])

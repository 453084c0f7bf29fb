"""Logs: what was run, and why it failed."""

from pathlib import Path

import pytest

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.failure import FailureCause
from trigger_prune.synthesis.parsers.tool_log import parse_tool_log

LOG = Path(__file__).parent / "reports" / "tagger" / "vitis_hls.log"
HEAD = "\n".join(LOG.read_text().splitlines()[:24]) + "\n"
"""Up to the analysis of the sources."""
EXIT = "INFO: [Common 17-206] Exiting vitis_hls at Mon Mar  4 10:11:20 2024...\n"


def test_a_run_that_ended_well_in_spite_of_an_error_line():
    log = parse_tool_log(LOG.read_text())
    assert (log.tool, log.version, log.top, log.part) == ("Vitis HLS", "2023.2", "tagger", "xcvu13p-flga2577-2-e")
    assert (log.clock_ns, log.uncertainty_ns, log.estimated_fmax_mhz) == (2.5, 0.675, 584.45)
    assert (log.elapsed_s, log.peak_allocated_mib) == (38.95, 1280.0)
    assert log.steps_s == {"C/RTL SYNTHESIS": 35}
    assert log.directives[1:] == ("config_compile -name_max_length 80", "config_op mul -impl dsp")
    assert log.forced_operators == {"mul": "dsp"}
    assert (log.n_warnings, log.n_critical_warnings, len(log.errors)) == (2, 0, 1)
    assert log.ended
    assert log.failure is None


@pytest.mark.parametrize(
    ("command", "forced"),
    [
        ("config_op -impl=fabric mul", {"mul": "fabric"}),
        ("config_op add -impl fabric -latency 2", {"add": "fabric"}),
        ("config_op mul", {}),
        ("config_compile -name_max_length 80", {}),
    ],
)
def test_forced_operators(command, forced):
    line = f"INFO: [HLS 200-1464] Running solution command: {command}\n"
    assert parse_tool_log(line).forced_operators == forced


FAILURES = [
    (FailureCause.TOOL_MISSING, "bash: vivado_hls: command not found\n", False),
    (FailureCause.TOOL_MISSING, 'couldn\'t execute "vivado": no such file or directory\n', True),
    (FailureCause.TOOL_MISSING, "/bin/sh: 1: vitis-run: not found\n", False),
    (
        FailureCause.LICENCE,
        "ERROR: [Common 17-345] A valid license was not found for feature 'Synthesis'.\n" + EXIT,
        True,
    ),
    (FailureCause.LICENCE, "License checkout failed for feature 'HLS'. FLEXnet Licensing error:-15,10\n" + EXIT, True),
    (FailureCause.LICENCE, "ERROR: [HLS 200-70] Failed to get a license for Vitis HLS\n", True),
    (
        FailureCause.PART_NOT_INSTALLED,
        "ERROR: [HLS 200-1023] Part 'xcvu13p-flga2577-2-e' is not installed.\n" + EXIT,
        True,
    ),
    (FailureCause.PART_NOT_INSTALLED, "ERROR: [Coretcl 2-106] Specified part could not be found.\n", True),
    (FailureCause.KILLED, "Killed\n", True),
    (FailureCause.KILLED, "build.sh: line 12:  4711 Killed                  vitis_hls -f build_prj.tcl\n", True),
    (FailureCause.KILLED, "terminate called after throwing an instance of 'std::bad_alloc'\n", True),
    (FailureCause.KILLED, "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=9.batch\n", True),
    (FailureCause.KILLED, "slurmstepd: error: *** JOB 9 ON node CANCELLED DUE TO TIME LIMIT ***\n", True),
    (
        FailureCause.SIZE_LIMIT,
        "ERROR: [XFORM 203-504] Stop unrolling loop 'Product1' in function 'nnet::dense_latency' because it may cause "
        "large runtime and excessive memory usage.\nERROR: [HLS 200-70] Pre-synthesis failed.\n"
        "command 'ap_source' returned error code\n" + EXIT,
        True,
    ),
    (
        FailureCause.SIZE_LIMIT,
        "ERROR: [XFORM 203-103] Array 'mult.V': partitioned elements number (8192) has exeeded the threshold (4096).\n",
        True,
    ),
    (
        FailureCause.COMPILE_ERROR,
        "ERROR: [HLS 207-3776] use of undeclared identifier 'weight_t' (firmware/tagger.cpp:12:5)\n"
        "INFO: [HLS 200-111] Finished Command csynth_design CPU user time: 2.5 seconds.\n" + EXIT,
        True,
    ),
    (
        FailureCause.COMPILE_ERROR,
        "firmware/tagger.cpp:3:10: fatal error: ap_fixed.h: No such file or directory\n",
        True,
    ),
    (FailureCause.COMPILE_ERROR, "ERROR: [SIM 211-100] 'csim_design' failed: compilation error(s).\n", True),
    (FailureCause.COSIM_MISMATCH, "ERROR: [COSIM 212-4] *** C/RTL co-simulation finished: FAIL ***\n" + EXIT, True),
    (FailureCause.COSIM_MISMATCH, "***** C/RTL VALIDATION *****\nERROR: Test failed\n" + EXIT, True),
    (
        FailureCause.TIMING_NOT_MET,
        "#=== Final timing ===\nCP achieved post-synthesis:    5.940\nTiming not met\n" + EXIT,
        True,
    ),
    (
        FailureCause.TIMING_NOT_MET,
        "CRITICAL WARNING: [Timing 38-282] The design failed to meet the timing.\n" + EXIT,
        True,
    ),
    (FailureCause.TRUNCATED, "INFO: [HLS 200-10] Starting hardware synth", True),
    (FailureCause.UNKNOWN, "ERROR: [HLS 200-999] Something nobody has seen.\n" + EXIT, True),
]


@pytest.mark.parametrize(("cause", "text", "behind_a_head"), FAILURES)
def test_causes_of_failure_are_told_with_their_line(cause, text, behind_a_head):
    whole = HEAD + text if behind_a_head else text
    failure = parse_tool_log(whole).failure
    assert failure is not None
    assert failure.cause is cause
    assert failure.line == whole.splitlines()[failure.line_number - 1].strip()
    assert failure.line in text
    assert failure.cause.hint


def test_the_first_cause_wins_unless_the_job_was_killed():
    limit, licence = FAILURES[13][1].splitlines()[0] + "\n", FAILURES[3][1]
    assert parse_tool_log(HEAD + limit + licence).failure.cause is FailureCause.SIZE_LIMIT
    assert parse_tool_log(HEAD + limit + "Killed\n").failure.cause is FailureCause.KILLED


def test_words_that_are_no_failure():
    calm = (
        "INFO: [Common 17-349] Got license for feature 'Synthesis' and/or device 'xcvu13p'\n"
        "WARNING: [HLS 200-786] Detected dataflow-on-top; memory limit of the host is not checked.\n"
        "INFO: [HLS 200-10] no part of the design was not found\n"
    )
    assert parse_tool_log(HEAD + calm + EXIT).failure is None


@pytest.mark.parametrize("text", ["0.1 0.2 0.3\n0.4 0.5 0.6\n", "Dear all,\nthe meeting is at ten.\n", "", " \n\n"])
def test_what_is_no_log_is_an_error(text):
    with pytest.raises(ReportFormatError):
        parse_tool_log(text)


def test_a_broken_number_in_a_log_is_an_error():
    with pytest.raises(ReportFormatError, match=r"my\.log: elapsed is '38x95'"):
        parse_tool_log(LOG.read_text().replace("38.95", "38x95"), source="my.log")
    with pytest.raises(ReportFormatError, match="not an amount of memory"):
        parse_tool_log(LOG.read_text().replace("1.25 GB", "1.25 gulps"))

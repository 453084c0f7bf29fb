import os
import sys
import time
from pathlib import Path

import pytest

from trigger_prune.errors import ToolError
from trigger_prune.synthesis.process import group_memory_mib, log_tail, run_limited


def run(code: str, folder: Path, *, timeout_s: float = 30.0, memory_limit_mib: float = 4000.0) -> tuple[int, float]:
    return run_limited(
        [sys.executable, "-c", code],
        tool="helper",
        cwd=folder,
        log=folder / "log.txt",
        timeout_s=timeout_s,
        memory_limit_mib=memory_limit_mib,
    )


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int) -> bool:
    for _ in range(100):
        if not is_running(pid):
            return True
        time.sleep(0.05)
    return False


def test_status_output_and_folder(tmp_path):
    status, seconds = run("import os; print('to', os.getcwd()); raise SystemExit(7)", tmp_path)
    assert status == 7
    assert seconds > 0
    assert (tmp_path / "log.txt").read_text() == f"to {tmp_path}\n"


def test_a_timeout_kills_the_grandchildren_too(tmp_path):
    code = """import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open('pid', 'w').write(str(child.pid)); time.sleep(60)"""
    with pytest.raises(ToolError, match=r"helper was stopped after \d+ s: the limit is 2 s"):
        run(code, tmp_path, timeout_s=2)
    assert wait_until_gone(int((tmp_path / "pid").read_text()))


def test_a_helper_that_outlives_the_tool_is_killed(tmp_path):
    code = """import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open('pid', 'w').write(str(child.pid))"""
    assert run(code, tmp_path)[0] == 0
    assert wait_until_gone(int((tmp_path / "pid").read_text()))


def test_the_memory_of_a_child_counts(tmp_path):
    code = """import subprocess, sys
subprocess.run([sys.executable, '-c', 'import time; x = bytearray(300 << 20); time.sleep(60)'])"""
    with pytest.raises(ToolError, match="MiB of at most 200 MiB"):
        run(code, tmp_path, memory_limit_mib=200)


def test_memory_of_this_process_group_is_measured():
    before = group_memory_mib(os.getpgrp())
    block = bytearray(b"x") * (64 << 20)
    assert 50 < group_memory_mib(os.getpgrp()) - before < 200
    del block


def test_a_command_that_cannot_start(tmp_path):
    with pytest.raises(ToolError, match="helper cannot be started"):
        run_limited(
            [tmp_path / "absent"],
            tool="helper",
            cwd=tmp_path,
            log=tmp_path / "log",
            timeout_s=1,
            memory_limit_mib=100,
        )


def test_log_tail_prefers_the_lines_asked_for(tmp_path):
    log = tmp_path / "log"
    log.write_text("one\nERROR: two\n\nthree\nERROR: four\nfive\n")
    assert log_tail(log, only="ERROR") == "ERROR: two\nERROR: four"
    assert log_tail(log, lines=2) == "ERROR: four\nfive"
    assert log_tail(log, lines=1, only="absent") == "five"
    assert log_tail(tmp_path / "none") == ""

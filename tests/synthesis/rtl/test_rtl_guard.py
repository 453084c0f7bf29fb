import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trigger_prune.errors import ToolError
from trigger_prune.synthesis.rtl.tools import Limits, run_tool, worker_command

ROOT = str(Path(__file__).parents[3])
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed from /proc")


def run(code: str, folder: Path) -> float:
    limits = Limits(timeout_s=30, memory_limit_mib=4000)
    return run_tool([sys.executable, "-c", code], tool="helper", folder=folder, limits=limits)


def test_the_exit_status_or_signal_of_the_command_is_passed_on(tmp_path):
    assert run("print('fine')", tmp_path) > 0
    with pytest.raises(ToolError, match=r"helper failed with exit status 7:\nERROR: here"):
        run("import sys; print('ERROR: here'); print('more'); sys.exit(7)", tmp_path)
    with pytest.raises(ToolError, match="helper failed with exit status -9"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path)


def test_a_command_that_is_not_there(tmp_path):
    with pytest.raises(ToolError, match=r"status 127:\n/nowhere/tool cannot be started: No such file"):
        run_tool(["/nowhere/tool"], tool="x", folder=tmp_path, limits=Limits(30, 4000))


def test_scratch_files_of_the_tool_go_into_its_folder(tmp_path):
    run("import tempfile; tempfile.mkstemp(prefix='left_')", tmp_path)
    assert len(list(tmp_path.glob("left_*"))) == 1


def test_workers_run_with_this_interpreter_and_package(tmp_path):
    command, env = worker_command("_yosys_script", "nowhere.ys")
    with pytest.raises(ToolError, match=r"nowhere\.ys"):
        run_tool(command, tool="x", folder=tmp_path, limits=Limits(30, 4000), error_lines="FileNotFound", env=env)


def processes_of_session(session: int) -> set[int]:
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.add(int(entry.name))
    return found


def child_of(parent: int) -> int | None:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(children[0]) if children else None


def wait_for(condition, seconds: float = 20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("did not happen")


@needs_proc
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_yosys_and_its_children_end_when_the_caller_is_killed(death, tmp_path):
    # A design that Yosys works on for minutes.
    lines = [f"wire [31:0] w{i} = (w{i - 1} * w{i // 2}) ^ (w{i - 1} >> {i % 7});" for i in range(1, 600)]
    source = tmp_path / "top.v"
    text = "\n".join(lines)
    source.write_text(
        f"module top(input [31:0] a, output [31:0] y); wire [31:0] w0 = a;\n{text}\nassign y = w599; endmodule\n"
    )
    code = f"""from pathlib import Path
from trigger_prune.synthesis.rtl.yosys import synthesize
synthesize([Path({str(source)!r})], "top")"""
    env = {**os.environ, "PYTHONPATH": ROOT, "TMPDIR": str(tmp_path)}
    caller = subprocess.Popen([sys.executable, "-c", code], env=env)
    guard = 0
    try:
        guard = wait_for(lambda: child_of(caller.pid))
        # The guard and Yosys; run_limited makes a session of them.
        wait_for(lambda: len(processes_of_session(guard)) >= 2)
        time.sleep(1.0)
        assert len(processes_of_session(guard)) >= 2
        caller.send_signal(death)
        caller.wait()
        wait_for(lambda: not processes_of_session(guard), seconds=5)
    finally:
        caller.kill()
        caller.wait()
        if guard and processes_of_session(guard):
            os.killpg(guard, signal.SIGKILL)

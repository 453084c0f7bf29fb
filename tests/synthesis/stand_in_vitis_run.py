"""A stand-in for ``vitis-run``, ``vitis_hls`` and ``vivado_hls``: no synthesis happens, fixed reports are written.

It checks that it is called as the real tools are, in an hls4ml project, and walks through the steps of hls4ml's build
script. Its figures are invented; STAND_IN_FIGURES names a JSON file with other ones by name of the folder above the
project. STAND_IN_MODE is ``ok`` or one of the ways to fail in MODES.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

REPORT = Path(__file__).parent / "csynth_reports" / "vitis_2022.xml"
COSIM = """Report time       : Mon Jan 1 00:00:00 UTC 2024.
Solution          : solution1.
Simulation tool   : xsim.

+----------+----------+-----------------------------------------------+-----------------------------------------------+
|          |          |                    Latency                    |                    Interval                   |
+   RTL    +  Status  +-----------------------------------------------+-----------------------------------------------+
|          |          |      min      |      avg      |      max      |      min      |      avg      |      max      |
+----------+----------+-----------------------------------------------+-----------------------------------------------+
|      VHDL|        NA|             NA|             NA|             NA|             NA|             NA|             NA|
|   Verilog|      Pass|             10|             12|             13|              1|              1|              2|
+----------+----------+-----------------------------------------------+-----------------------------------------------+
"""
MODES = {
    "fail": "ERROR: [HLS 207-3777] use of undeclared identifier 'weight_t'",
    "licence": "ERROR: [Common 17-345] A valid license was not found for feature 'HLS' and/or device 'xcvu13p'.",
    "licence_in_use": "ERROR: [Common 17-345] A valid license was not found for feature 'HLS' and/or device 'xcvu13p'. "
    "Licensed number of users already reached. FlexNet Licensing error:-4,132",
    "part": "ERROR: [HLS 200-1023] Part 'xcvu13p-flga2577-2-e' is not installed.",
    "memory": "terminate called after throwing an instance of 'std::bad_alloc'",
    "unroll": "ERROR: [XFORM 203-504] Stop unrolling loop 'Product1' because it may cause large runtime.",
}
"""Ways to fail in C synthesis, and what the log says."""

ORDER = ("csim", "synth", "cosim", "validation", "export", "vsynth")
TITLES = {
    "csim": "C SIMULATION",
    "synth": "C/RTL SYNTHESIS",
    "cosim": "C/RTL SIMULATION",
    "validation": "C/RTL VALIDATION",
    "export": "EXPORT IP",
    "vsynth": "VIVADO SYNTHESIS",
}


def options() -> dict[str, str]:
    name = os.environ["STAND_IN_NAME"]
    as_called = {"vitis-run": ["--tcl", "build_prj.tcl", "--mode", "hls"], "vitis_hls": ["-f", "build_prj.tcl"]}
    if sys.argv[1:] == as_called.get(name):
        return dict(re.findall(r"^\s*(\w+)\s+([01])\s*$", Path("build_opt.tcl").read_text(), re.M))
    if name == "vivado_hls" and sys.argv[1:3] == ["-f", "build_prj.tcl"] and len(sys.argv) == 4:
        return dict(part.split("=") for part in sys.argv[3].split())
    raise SystemExit(f"{name} was called with {sys.argv[1:]}")


def entry(name: str) -> str:
    found = re.search(rf"set {name} \"?([^\"\n]+)\"?", Path("project.tcl").read_text())
    assert found is not None
    return found.group(1)


def csynth_report(mode: str, name: str) -> None:
    text = REPORT.read_text().replace("<TopModelName>network<", f"<TopModelName>{name}<")
    text = text.replace("2022.2", os.environ.get("STAND_IN_VERSION", "2022.2"))
    if "set part" in Path("project.tcl").read_text():
        text = text.replace("xcvu13p-flga2577-2-e", entry("part"))
        period = float(entry("clock_period"))
        text = text.replace("<TargetClockPeriod>5.00<", f"<TargetClockPeriod>{period:.2f}<")
        text = re.sub(r">(\d+)\.000 ns<", lambda time: f">{int(time[1]) / 5 * period:.3f} ns<", text)
    figures = os.environ.get("STAND_IN_FIGURES")
    if figures:
        for tag, value in json.loads(Path(figures).read_text()).get(Path.cwd().parent.name, {}).items():
            text = re.sub(rf"<{tag}>\d+</{tag}>", f"<{tag}>{value}</{tag}>", text, count=1)
    report = Path(f"{name}_prj/solution1/syn/report/{name}_csynth.xml")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(text[: len(text) // 2] if mode == "truncated" else text)
    verilog = Path(f"{name}_prj/solution1/syn/verilog")
    verilog.mkdir(parents=True, exist_ok=True)
    (verilog / f"{name}.v").write_text(f"module {name}(input ap_clk); endmodule\n")


def run(step: str, mode: str, name: str) -> int:
    print(f"***** {TITLES[step]} *****", flush=True)
    if step == "synth":
        if mode in MODES:
            print(f"INFO: [HLS 200-10] reading\n{MODES[mode]}\nINFO: bye")
            return 1
        if mode == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "hang":
            time.sleep(60)
        if mode == "hungry":
            block = bytearray(b"x") * (400 << 20)
            time.sleep(60)
            del block
        if mode != "silent":
            csynth_report(mode, name)
    elif step == "cosim":
        if mode == "cosim_crash":
            print("ERROR: [COSIM 212-303] Aborting co-simulation: C TB simulation failed.")
            return 1
        report = Path(f"{name}_prj/solution1/sim/report/{name}_cosim.rpt")
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(COSIM)
    elif step == "validation":
        print("ERROR: Test failed" if mode == "cosim_mismatch" else "INFO: Test PASSED")
        return int(mode == "cosim_mismatch")
    elif step == "export":
        archive = Path(f"{name}_prj/solution1/impl/export.zip")
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.write_text("not a real archive")
    elif step == "vsynth":
        status = subprocess.run(["vivado", "-mode", "batch", "-source", "vivado_synth.tcl"]).returncode
        if status:
            print("child process exited abnormally")
            return 1
    if step != "validation":
        print(f"***** {TITLES[step]} COMPLETED IN 0h0m1s *****", flush=True)
    return 0


def main() -> int:
    if sys.argv[1:] in (["-version"], ["--version"]):
        print(f"Vitis HLS - High-Level Synthesis v{os.environ.get('STAND_IN_VERSION', '2022.2')} (64-bit)")
        return 0
    print("This is a stand-in for the HLS compiler; it synthesises nothing.", flush=True)
    mode = os.environ.get("STAND_IN_MODE", "ok")
    counter = os.environ.get("STAND_IN_COUNTER")
    if counter:
        with Path(counter).open("a") as calls:
            calls.write(f"{Path.cwd()}\n")
        if mode == "licence_once":
            mode = "licence_in_use" if len(Path(counter).read_text().splitlines()) == 1 else "ok"
    chosen = options()
    if set(chosen) != {"reset", *ORDER, "fifo_opt"} or chosen["fifo_opt"] != "0" or chosen["reset"] != chosen["synth"]:
        raise SystemExit(f"unexpected steps {chosen}")
    name = entry("project_name")
    if not Path(f"firmware/{name}.cpp").is_file():
        raise SystemExit(f"no firmware/{name}.cpp")
    for step in ORDER:
        if chosen[step] == "1":
            status = run(step, mode, name)
            if status:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A stand-in for ``vitis-run`` and ``vivado_hls``: no synthesis happens, a fixed report is written.

It checks that it is called as the real tools are, in an hls4ml project. STAND_IN_MODE is one of ok, fail, hang,
truncated, silent.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

REPORT = Path(__file__).parent / "csynth_reports" / "vitis_2022.xml"


def options() -> dict[str, str]:
    if sys.argv[1:] == ["--tcl", "build_prj.tcl", "--mode", "hls"]:
        return dict(re.findall(r"^\s*(\w+)\s+([01])\s*$", Path("build_opt.tcl").read_text(), re.M))
    if sys.argv[1:3] == ["-f", "build_prj.tcl"] and len(sys.argv) == 4:
        return dict(part.split("=") for part in sys.argv[3].split())
    raise SystemExit(f"called with {sys.argv[1:]}")


def main() -> int:
    print("This is a stand-in for the HLS compiler; it synthesises nothing.", flush=True)
    mode = os.environ.get("STAND_IN_MODE", "ok")
    chosen = options()
    if chosen.pop("synth") != "1" or chosen.pop("reset") != "1" or set(chosen.values()) != {"0"}:
        raise SystemExit(f"unexpected steps {chosen}")
    found = re.search(r'set project_name "([^"]+)"', Path("project.tcl").read_text())
    assert found is not None
    name = found.group(1)
    if not Path(f"firmware/{name}.cpp").is_file():
        raise SystemExit(f"no firmware/{name}.cpp")
    if mode == "fail":
        print("INFO: [HLS 200-10] reading\nERROR: [HLS 207-3777] use of undeclared identifier 'weight_t'\nINFO: bye")
        return 1
    if mode == "hang":
        time.sleep(60)
    if mode == "silent":
        return 0
    report = Path(f"{name}_prj/solution1/syn/report/{name}_csynth.xml")
    report.parent.mkdir(parents=True, exist_ok=True)
    text = REPORT.read_text()
    report.write_text(text[: len(text) // 2] if mode == "truncated" else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""hls4ml's own build scripts, run by Tcl itself with the HLS commands replaced by ones that write down their calls.

This is the proof that the options arrive as hls4ml reads them; no synthesis happens, and the report is invented.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from trigger_prune.cost.report import CostStage
from trigger_prune.synthesis.hls.run import run_hls
from trigger_prune.synthesis.hls.steps import HlsSteps
from trigger_prune.synthesis.hls.tools import require_hls_tool

REPORT = Path(__file__).parents[1] / "csynth_reports" / "vitis_2022.xml"
QUIET = (
    *("set_top", "add_files", "config_array_partition", "config_compile", "set_part", "config_schedule"),
    *("create_clock", "set_clock_uncertainty"),
)
LOUD = ("open_project", "open_solution", "csim_design", "cosim_design", "export_design")

pytestmark = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh, which runs hls4ml's script, is not here")


def templates(backend: str) -> Path:
    spec = find_spec("hls4ml")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "templates" / backend


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "firmware").mkdir(parents=True)
    (folder / "project.tcl").write_text(
        'variable project_name\nset project_name "network"\nset backend "vivado"\n'
        'set part "xcvu13p-flga2577-2-e"\nset clock_period 5\nset clock_uncertainty 27%\n'
        "set version 1.0.0\nset maximum_size 4096\n"
    )
    return folder


def install_tcl(folder: Path, name: str, arguments: str) -> None:
    """A launcher that runs the script in tclsh, with the remaining arguments as $argv."""
    stubs = [f"proc {command} args {{}}" for command in QUIET]
    stubs += [f'proc {command} args {{ puts "CALLED {command} $args" }}' for command in LOUD]
    stubs.append(
        f'proc csynth_design args {{ puts "CALLED csynth_design"; set d network_prj/solution1/syn; '
        f"file mkdir $d/report $d/verilog; file copy -force {REPORT} $d/report/network_csynth.xml }}"
    )
    wrapper = folder / f"{name}.tcl"
    wrapper.write_text("\n".join([*stubs, f"set argv [list {arguments}]", "source build_prj.tcl", ""]))
    launcher = folder / name
    launcher.write_text(f'#!/bin/sh\n[ "$2" = build_prj.tcl ] || exit 9\nexec tclsh {wrapper} "$3"\n')
    launcher.chmod(0o755)


def called(log: str) -> list[str]:
    return [line.removeprefix("CALLED ").strip() for line in log.splitlines() if line.startswith("CALLED ")]


@pytest.mark.parametrize("name", ["vitis-run", "vitis_hls", "vivado_hls"])
def test_hls4mls_script_runs_the_chosen_steps_and_no_others(name, project, stand_ins):
    for file in templates("vivado" if name == "vivado_hls" else "vitis").glob("build_*.tcl"):
        shutil.copy(file, project)
    # vivado_hls gets the options as one argument, which the wrapper hands on as the real tool does.
    install_tcl(stand_ins.path_folder, name, "[lindex $argv 0]" if name == "vivado_hls" else "")
    run = run_hls(project, "network", require_hls_tool(), HlsSteps(), content_hash="abc")
    assert run.failure is None, run.failure
    assert called(run.log) == ["open_project -reset network_prj", "open_solution -reset solution1", "csynth_design"]
    assert run.require(CostStage.CSYNTH).lut == 12345
    # A step on its own leaves the solution as it is.
    run = run_hls(project, "network", require_hls_tool(), HlsSteps(csynth=False, csim=True))
    assert called(run.log) == ["open_project network_prj", "open_solution solution1", "csim_design"]
    assert run.reports == {} and run.failure is None
    run = run_hls(project, "network", require_hls_tool(), HlsSteps(csim=True, export=True))
    assert called(run.log) == [
        "open_project -reset network_prj",
        "open_solution -reset solution1",
        "csim_design",
        "csynth_design",
        "export_design -format ip_catalog -version 1.0.0",
    ]
    # The stub wrote no archive, and that is noticed.
    assert run.failure is not None and run.failure.step == "export"
    assert run.require(CostStage.CSYNTH).lut == 12345


def test_hls4mls_script_starts_vivado_of_its_own(project, stand_ins):
    for file in templates("vitis").glob("build_*.tcl"):
        shutil.copy(file, project)
    shutil.copy(templates("vivado") / "vivado_synth.tcl", project)
    install_tcl(stand_ins.path_folder, "vitis-run", "")
    stand_ins.install("vivado")
    run = run_hls(project, "network", require_hls_tool(), HlsSteps(vsynth=True))
    assert run.failure is None, run.failure
    assert run.require(CostStage.VSYNTH).lut == 5432

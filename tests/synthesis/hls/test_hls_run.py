import os
import signal
import time
from pathlib import Path

import pytest

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ToolError
from trigger_prune.synthesis.hls.failure import ToolRunError
from trigger_prune.synthesis.hls.run import LOG_NAME, run_hls
from trigger_prune.synthesis.hls.steps import HlsSteps, parse_steps
from trigger_prune.synthesis.hls.tools import HlsInstallation, require_hls_tool

ALL = HlsSteps(csim=True, cosim=True, export=True, vsynth=True)


def run_csynth(*arguments, **options):
    """C synthesis alone."""
    return run_hls(*arguments, **options).require(CostStage.CSYNTH)


def as_vivado_project(project: Path) -> Path:
    (project / "build_prj.tcl").write_text("foreach arg $::argv {}\n")
    return project


@pytest.mark.parametrize("name", ["vitis-run", "vitis_hls", "vivado_hls"])
def test_each_launcher_is_called_in_its_own_way_and_the_report_read(name, stand_ins, hls_project):
    stand_ins.install(name)
    if name == "vivado_hls":
        as_vivado_project(hls_project)
    report = run_csynth(hls_project, "network", require_hls_tool(), content_hash="abc")
    assert (report.stage, report.tool_version, report.content_hash) == (CostStage.CSYNTH, "2022.2", "abc")
    assert (report.lut, report.ff, report.dsp, report.bram18, report.uram) == (12345, 3021, 17, 4, 0)
    assert (report.latency_cycles, report.latency_best_cycles, report.ii, report.ii_min) == (11, 9, 2, 1)
    assert (report.clock_period_ns, report.estimated_clock_ns, report.clock_uncertainty_ns) == (5.0, 3.412, 1.35)
    assert report.available is not None and report.available.lut == 1728000
    assert "stand-in" in (hls_project / LOG_NAME).read_text()


def test_all_steps_give_the_reports_of_three_stages(stand_ins, hls_project):
    stand_ins.install("vitis-run")
    stand_ins.install("vivado")
    run = run_hls(hls_project, "network", require_hls_tool(), ALL, content_hash="abc")
    assert run.failure is None
    assert list(run.reports) == [CostStage.CSYNTH, CostStage.COSIM, CostStage.VSYNTH]
    cosim, vsynth = run.require(CostStage.COSIM), run.require(CostStage.VSYNTH)
    assert (cosim.latency_cycles, cosim.latency_best_cycles, cosim.ii, cosim.lut) == (13, 10, 2, None)
    # 1 RAMB36 and 1 RAMB18 are three units of 18 Kbit.
    assert (vsynth.lut, vsynth.ff, vsynth.dsp, vsynth.bram18) == (5432, 1111, 9, 3)
    assert (vsynth.part, vsynth.clock_period_ns, vsynth.latency_cycles) == ("xcvu13p-flga2577-2-e", 5.0, None)
    assert {report.content_hash for report in run.reports.values()} == {"abc"}
    assert set(run.texts) == {"network_csynth.xml", "network_cosim.rpt", "vivado_synth.rpt"}
    assert run.archive is not None and run.archive.name == "export.zip"


CAUSES = [
    ("fail", "compile_error", "use of undeclared identifier 'weight_t'"),
    ("licence", "licence", "A valid license was not found"),
    ("part", "part_not_installed", "xcvu13p-flga2577-2-e"),
    ("memory", "killed", "std::bad_alloc"),
    ("unroll", "size_limit", "Stop unrolling loop"),
]


@pytest.mark.parametrize("name", ["vitis-run", "vivado_hls"])
@pytest.mark.parametrize(("mode", "cause", "quoted"), CAUSES)
def test_a_failing_tool_is_classified_and_quoted(name, mode, cause, quoted, stand_ins, hls_project, monkeypatch):
    stand_ins.install(name)
    if name == "vivado_hls":
        as_vivado_project(hls_project)
    monkeypatch.setenv("STAND_IN_MODE", mode)
    with pytest.raises(ToolRunError) as caught:
        run_csynth(hls_project, "network", require_hls_tool())
    error = caught.value
    assert error.cause == cause
    assert f"{name} on network failed with exit status 1 in step csynth" in error.message
    assert quoted in error.message
    assert quoted in error.failure.line
    assert "INFO" not in error.message
    assert str(hls_project / LOG_NAME) in error.hint
    assert error.run.reports == {}


def test_a_tool_killed_by_the_system(stand_ins, hls_project, monkeypatch):
    stand_ins.install("vitis-run")
    monkeypatch.setenv("STAND_IN_MODE", "killed")
    with pytest.raises(ToolRunError, match=f"was killed by signal {signal.SIGKILL.value} in step csynth") as caught:
        run_csynth(hls_project, "network", require_hls_tool())
    assert caught.value.cause == "killed"
    assert "memory" in caught.value.hint


def test_an_old_report_never_passes_for_a_new_one(stand_ins, hls_project, monkeypatch):
    stand_ins.install("vitis-run")
    stand_ins.install("vivado")
    run_hls(hls_project, "network", require_hls_tool(), ALL)
    monkeypatch.setenv("STAND_IN_MODE", "silent")
    with pytest.raises(ToolRunError, match=r"ended without error, but it wrote no network_csynth\.xml"):
        run_csynth(hls_project, "network", require_hls_tool())
    # The other steps' reports described the Verilog that was just replaced.
    assert not (hls_project / "vivado_synth.rpt").exists()
    assert not list(hls_project.rglob("*_cosim.rpt"))


def test_a_half_written_report_is_named(stand_ins, hls_project, monkeypatch):
    stand_ins.install("vitis-run")
    monkeypatch.setenv("STAND_IN_MODE", "truncated")
    with pytest.raises(ToolRunError, match=r"its report is damaged: .*network_csynth\.xml") as caught:
        run_csynth(hls_project, "network", require_hls_tool())
    assert caught.value.cause == "truncated"


@pytest.mark.parametrize(
    ("mode", "limits", "cause", "message"),
    [
        ("hang", {"timeout_s": 1}, "timeout", r"vitis-run on network was stopped after \d+ s: the limit is 1 s"),
        ("hungry", {"memory_limit_mib": 200}, "out_of_memory", "MiB of at most 200 MiB"),
    ],
)
def test_a_tool_beyond_its_limits_is_stopped(mode, limits, cause, message, stand_ins, hls_project, monkeypatch):
    stand_ins.install("vitis-run")
    monkeypatch.setenv("STAND_IN_MODE", mode)
    with pytest.raises(ToolRunError, match=message) as caught:
        run_csynth(hls_project, "network", require_hls_tool(), **limits)
    assert caught.value.cause == cause
    assert "step csynth" in caught.value.message


@pytest.mark.parametrize(("mode", "cause"), [("cosim_mismatch", "cosim_mismatch"), ("cosim_crash", "cosim_mismatch")])
def test_steps_that_ended_are_kept_when_a_later_one_fails(mode, cause, stand_ins, hls_project, monkeypatch):
    stand_ins.install("vitis-run")
    stand_ins.install("vivado")
    monkeypatch.setenv("STAND_IN_MODE", mode)
    run = run_hls(hls_project, "network", require_hls_tool(), ALL)
    assert list(run.reports) == [CostStage.CSYNTH]
    assert run.require(CostStage.CSYNTH).lut == 12345
    assert run.failure is not None
    assert (run.failure.step, run.failure.cause) == ("cosim", cause)
    with pytest.raises(ToolRunError, match=r"(?s)step cosim.*\ndone before: csynth\n") as caught:
        run.require(CostStage.VSYNTH)
    assert caught.value.run is run


def test_a_failing_vivado_fails_the_last_step_only(stand_ins, hls_project, monkeypatch):
    stand_ins.install("vitis-run")
    stand_ins.install("vivado")
    monkeypatch.setenv("STAND_IN_VIVADO", "part")
    run = run_hls(hls_project, "network", require_hls_tool(), ALL)
    assert list(run.reports) == [CostStage.CSYNTH, CostStage.COSIM]
    assert run.failure is not None
    assert (run.failure.step, run.failure.cause) == ("vsynth", "part_not_installed")


def test_later_steps_go_on_with_the_earlier_solution(stand_ins, hls_project):
    stand_ins.install("vitis-run")
    with pytest.raises(ToolError, match="no synthesised solution to go on with"):
        run_hls(hls_project, "network", require_hls_tool(), HlsSteps(csynth=False, cosim=True))
    run_csynth(hls_project, "network", require_hls_tool())
    run = run_hls(hls_project, "network", require_hls_tool(), HlsSteps(csynth=False, cosim=True))
    assert list(run.reports) == [CostStage.COSIM]
    assert (hls_project / "network_prj" / "solution1" / "syn" / "report" / "network_csynth.xml").is_file()


def test_vsynth_needs_vivado_of_the_same_release(stand_ins, hls_project, tmp_path):
    stand_ins.install("vitis_hls", tmp_path / "Xilinx" / "Vitis_HLS" / "2022.2" / "bin")
    tool = HlsInstallation("vitis_hls", "2022.2", tmp_path / "Xilinx" / "Vitis_HLS" / "2022.2" / "bin" / "vitis_hls")
    with pytest.raises(ToolError, match=r"Vivado 2022\.2 is not installed"):
        run_hls(hls_project, "network", tool, HlsSteps(vsynth=True))


def test_settings_are_sourced_and_vivado_is_put_on_the_path(stand_ins, hls_project, tmp_path, monkeypatch):
    root = tmp_path / "with space" / "Xilinx"
    for product, name in (("Vitis_HLS", "vitis_hls"), ("Vivado", "vivado")):
        home = root / product / "2022.2"
        stand_ins.install(name, home / "bin")
        (home / "settings64.sh").write_text(f"export SEEN=$SEEN:{product}$#\necho sourced {product}\n")
    monkeypatch.setenv("TRIGGER_PRUNE_XILINX", str(root))
    tool = require_hls_tool()
    assert tool.settings == root / "Vitis_HLS" / "2022.2" / "settings64.sh"
    run = run_hls(hls_project, "network", tool, HlsSteps(vsynth=True))
    assert run.failure is None
    assert run.require(CostStage.VSYNTH).lut == 5432
    assert run.log.index("sourced Vivado") < run.log.index("sourced Vitis_HLS")


def test_licence_variables_of_a_module_reach_the_tool_but_yours_win(stand_ins, hls_project, tmp_path, monkeypatch):
    launcher = tmp_path / "print_licence"
    launcher.write_text('#!/bin/sh\necho "licence: $LM_LICENSE_FILE $XILINXD_LICENSE_FILE"\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("LM_LICENSE_FILE", "1@mine")
    tool = HlsInstallation(
        "vitis_hls",
        "2022.2",
        launcher,
        licences=(("LM_LICENSE_FILE", "2@module"), ("XILINXD_LICENSE_FILE", "3@module")),
    )
    assert "licence: 1@mine 3@module" in run_hls(hls_project, "network", tool).log


def test_a_busy_licence_server_is_asked_again(stand_ins, hls_project, tmp_path, monkeypatch):
    stand_ins.install("vitis-run")
    calls = tmp_path / "calls"
    monkeypatch.setenv("STAND_IN_COUNTER", str(calls))
    monkeypatch.setenv("STAND_IN_MODE", "licence_once")
    said: list[str] = []
    run = run_hls(hls_project, "network", require_hls_tool(), licence_wait_s=30, licence_poll_s=0.1, say=said.append)
    assert run.failure is None
    assert len(calls.read_text().splitlines()) == 2
    assert len(said) == 1 and "all licences are in use" in said[0]
    assert "Licensed number of users" in (hls_project / "hls.previous.log").read_text()


@pytest.mark.parametrize("mode", ["licence", "licence_in_use"])
def test_no_second_attempt_without_a_licence_at_all_or_without_patience(
    mode, stand_ins, hls_project, tmp_path, monkeypatch
):
    stand_ins.install("vitis-run")
    calls = tmp_path / "calls"
    monkeypatch.setenv("STAND_IN_COUNTER", str(calls))
    monkeypatch.setenv("STAND_IN_MODE", mode)
    patience = 30.0 if mode == "licence" else 0.0
    run = run_hls(hls_project, "network", require_hls_tool(), licence_wait_s=patience, licence_poll_s=0.1)
    assert run.failure is not None and run.failure.cause == "licence"
    assert len(calls.read_text().splitlines()) == 1


def test_projects_and_tools_that_do_not_belong_together(stand_ins, hls_project, tmp_path):
    stand_ins.install("vitis-run")
    with pytest.raises(ToolError, match=r"no build_prj\.tcl"):
        run_csynth(tmp_path, "network", require_hls_tool())
    (hls_project / "hls4ml_config.yml").write_text("Backend: Vivado\nPart: x\n")
    with pytest.raises(ToolError, match=r"hls4ml's Vivado backend; vitis-run builds Vitis"):
        run_csynth(hls_project, "network", require_hls_tool())
    (hls_project / "hls4ml_config.yml").write_text("Backend: Vitis\n")
    as_vivado_project(hls_project)
    with pytest.raises(ToolError, match="takes its options from the command line"):
        run_csynth(hls_project, "network", require_hls_tool())


def test_steps_are_chosen_by_name():
    assert parse_steps("csim, csynth,cosim") == HlsSteps(csim=True, csynth=True, cosim=True)
    assert parse_steps("cosim").options["reset"] == 0
    assert ALL.options == {
        "reset": 1,
        "csim": 1,
        "synth": 1,
        "cosim": 1,
        "validation": 1,
        "export": 1,
        "vsynth": 1,
        "fifo_opt": 0,
    }
    # Without C simulation there is nothing to compare the RTL simulation with.
    assert HlsSteps(cosim=True).options["validation"] == 0
    with pytest.raises(ToolError, match="no HLS step named 'synth'"):
        parse_steps("synth")
    with pytest.raises(ToolError, match="no step"):
        parse_steps("")


def test_nothing_is_left_running(stand_ins, hls_project, monkeypatch, tmp_path):
    stand_ins.install("vitis-run")
    monkeypatch.setenv("STAND_IN_MODE", "hang")
    start = time.monotonic()
    run = run_hls(hls_project, "network", require_hls_tool(), timeout_s=1)
    assert run.failure is not None and time.monotonic() - start < 20
    mine = [
        entry
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and os.access(entry / "cwd", os.R_OK) and (entry / "cwd").readlink() == hls_project
    ]
    assert mine == []

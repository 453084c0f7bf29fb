import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ToolError
from trigger_prune.synthesis.hls.failure import ToolRunError
from trigger_prune.synthesis.rtl.trace import trace_network
from trigger_prune.synthesis.rtl.verilog import write_verilog, write_vhdl
from trigger_prune.synthesis.vivado.run import read_vivado_reports, run_vivado
from trigger_prune.synthesis.vivado.scripts import (
    vivado_project_of_hls,
    vivado_project_of_rtl,
    write_vivado_project,
)
from trigger_prune.target import Target

PART = "xcvu13p-flga2577-2-e"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.v"
    path.write_text("module model(input clk, input a, output reg b); always @(posedge clk) b <= a; endmodule\n")
    return path


@pytest.fixture
def project(tmp_path, source):
    return write_vivado_project(tmp_path / "vivado", [source], "model", PART, 4.0, clock_port="clk")


def run_tcl(folder, script, arguments):
    """Run the script in Tcl itself, with Vivado's commands replaced by ones that write down how they were called."""
    tclsh = shutil.which("tclsh")
    if tclsh is None:
        pytest.skip("tclsh is not installed: the script is only run by the stand-in")
    names = "create_project read_verilog read_vhdl read_xdc synth_design opt_design place_design phys_opt_design"
    lines = [f'proc {name} args {{ puts "{name} $args" }}' for name in names.split()]
    lines += [f'proc {name} args {{ puts "{name} $args" }}' for name in ("route_design", "add_files")]
    lines += [f'proc {name} args {{ puts "{name} $args" }}' for name in ("report_utilization", "report_timing_summary")]
    wrapper = folder / "wrapper.tcl"
    wrapper.write_text("\n".join([*lines, f"set argv {{{arguments}}}", f"source {script}"]))
    return subprocess.run([tclsh, wrapper.name], cwd=folder, capture_output=True, text=True)


def commands(output):
    return [line.split()[0] for line in output.splitlines() if line]


def test_the_script_is_tcl_that_runs_the_flow_that_is_asked_for(project):
    whole = run_tcl(project.folder, "run_vivado.tcl", "")
    assert whole.returncode == 0, whole.stderr
    assert commands(whole.stdout) == [
        "create_project",
        "read_verilog",
        "read_xdc",
        "synth_design",
        "report_utilization",
        "report_timing_summary",
        "opt_design",
        "place_design",
        "phys_opt_design",
        "route_design",
        "report_utilization",
        "report_timing_summary",
    ]
    for path in (*project.reports, project.folder / "src" / "model.v"):
        assert str(path) in whole.stdout
    assert f"synth_design -top model -part {PART} -mode out_of_context" in whole.stdout
    short = run_tcl(project.folder, "run_vivado.tcl", "synth")
    assert commands(short.stdout)[-1] == "report_timing_summary" and "place_design" not in short.stdout
    assert run_tcl(project.folder, "run_vivado.tcl", "everything").returncode == 1


def test_a_complete_run_gives_both_stages(project, stand_ins):
    stand_ins.install("vivado")
    run = run_vivado(project, latency_cycles=7, ii=1, content_hash="abc")
    assert run.failure is None
    synthesised, routed = run.require(CostStage.VSYNTH), run.require(CostStage.PNR)
    assert (synthesised.lut, synthesised.bram18, synthesised.wns_ns) == (5432, 3, 0.75)
    assert (routed.lut, routed.ff, routed.dsp, routed.wns_ns, routed.tns_ns) == (5210, 1111, 9, 0.25, 0.0)
    assert routed.achieved_clock_ns == pytest.approx(3.75)
    assert (routed.latency_cycles, routed.ii, routed.content_hash) == (7, 1, "abc")
    assert (routed.part, routed.clock_period_ns, routed.timing_met) == (PART, 4.0, True)


def test_a_missed_clock_is_reported_not_raised(project, stand_ins, monkeypatch):
    stand_ins.install("vivado")
    monkeypatch.setenv("STAND_IN_VIVADO", "slow")
    routed = run_vivado(project).require(CostStage.PNR)
    assert (routed.wns_ns, routed.tns_ns, routed.timing_met) == (-0.5, -1.5, False)
    assert routed.achieved_clock_ns == pytest.approx(4.5)


def test_synthesis_is_kept_when_placement_fails_and_old_reports_are_not(project, stand_ins, monkeypatch):
    stand_ins.install("vivado")
    assert len(run_vivado(project).reports) == 2
    monkeypatch.setenv("STAND_IN_VIVADO", "unplaced")
    run = run_vivado(project)
    assert list(run.reports) == [CostStage.VSYNTH]
    with pytest.raises(ToolRunError, match=r"(?s)exit status 1 in step pnr.*Place 30-640.*done before: vsynth"):
        run.require(CostStage.PNR)
    monkeypatch.setenv("STAND_IN_VIVADO", "part")
    run = run_vivado(project)
    assert run.reports == {} and run.failure is not None and run.failure.cause == "part_not_installed"


def test_a_damaged_report_is_a_failure(project, stand_ins):
    stand_ins.install("vivado")
    launcher = stand_ins.path_folder / "vivado"
    damage = f'text=$(head -c 900 {project.timing("pnr")}); echo "$text" > {project.timing("pnr")}'
    launcher.write_text(launcher.read_text().replace("exec ", "") + f"{damage}\n")
    run = run_vivado(project)
    assert run.failure is not None and run.failure.cause == "truncated"
    assert "model_timing_routed.rpt" in run.failure.message


def test_reports_that_were_brought_back_are_read(project, stand_ins):
    stand_ins.install("vivado")
    result = subprocess.run(["./run_vivado.sh"], cwd=project.folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert set(read_vivado_reports(project)) == {CostStage.VSYNTH, CostStage.PNR}
    project.timing("pnr").unlink()
    assert set(read_vivado_reports(project)) == {CostStage.VSYNTH}


def test_without_vivado_it_says_so(project, stand_ins):
    with pytest.raises(ToolError, match="Vivado is not installed"):
        run_vivado(project)
    result = subprocess.run(["./run_vivado.sh"], cwd=project.folder, capture_output=True, text=True)
    assert result.returncode == 127 and "settings64.sh" in result.stderr
    assert "settings64.sh" in (project.folder / "README.md").read_text()


def test_the_verilog_of_an_hls_project_is_taken_with_its_memory_files(tmp_path):
    generated = tmp_path / "hls" / "network_prj" / "solution1" / "syn" / "verilog"
    with pytest.raises(ToolError, match="holds no Verilog"):
        vivado_project_of_hls(tmp_path / "hls", "network", tmp_path / "out", PART, 5.0)
    generated.mkdir(parents=True)
    for name in ("network.v", "network_dense.v", "network_table.dat", "network_ip.tcl"):
        (generated / name).write_text("")
    project = vivado_project_of_hls(tmp_path / "hls", "network", tmp_path / "out", PART, 5.0, flow="synth")
    assert sorted(path.name for path in (project.folder / "src").iterdir()) == [
        "network.v",
        "network_dense.v",
        "network_table.dat",
    ]
    assert "create_clock -name clock -period 5 [get_ports ap_clk]" in (project.folder / "clock.xdc").read_text()
    assert len(project.reports) == 2
    script = (project.folder / "run_vivado.tcl").read_text()
    assert "add_files [file join $here src {network_table.dat}]" in script


def traced():
    import torch
    from torch import nn

    from trigger_prune.fixed_point import FixedPoint

    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 1.0]]))
        layer.bias.zero_()
    return trace_network(layer, FixedPoint(6, 3), (3,))


@pytest.mark.parametrize(("write", "reader"), [(write_verilog, "read_verilog"), (write_vhdl, "read_vhdl -vhdl2008")])
def test_the_rtl_backends_sources_are_read_in_their_order(write, reader, tmp_path):
    rtl = write(traced(), tmp_path / "rtl", adders_per_stage=2.0, target=Target(clock_period_ns=2.5))
    project = vivado_project_of_rtl(rtl, tmp_path / "vivado", Target(clock_period_ns=2.5))
    script = (project.folder / "run_vivado.tcl").read_text()
    order = re.findall(rf"^{reader} \[file join \$here src \{{(\S+)\}}\]$", script, re.M)
    assert order == [path.name for path in rtl.sources]
    assert all((project.folder / "src" / name).is_file() for name in order)
    # The clock of the constraints is a port of the top module.
    assert "[get_ports clk]" in (project.folder / "clock.xdc").read_text()
    top = next(path for path in rtl.sources if path.stem == rtl.top).read_text()
    assert re.search(r"\bclk\b", top)


def test_combinational_logic_is_timed_against_a_virtual_clock(tmp_path):
    rtl = write_verilog(traced(), tmp_path / "rtl", target=Target())
    project = vivado_project_of_rtl(rtl, tmp_path / "vivado", Target())
    constraints = (project.folder / "clock.xdc").read_text()
    assert "get_ports" not in constraints and "set_input_delay -clock clock 0 [all_inputs]" in constraints


def test_what_tcl_could_misread_is_refused(tmp_path, source):
    for changes, message in (
        ({"top": "a b"}, "module name"),
        ({"part": "xc[exec ls]"}, "part name"),
        ({"clock_period_ns": 0.0}, "makes no sense"),
        ({"sources": [source, source]}, "two sources"),
        ({"folder": tmp_path}, "exists already"),
    ):
        arguments = {
            "folder": tmp_path / "new",
            "sources": [source],
            "top": "model",
            "part": PART,
            "clock_period_ns": 4.0,
        } | changes
        with pytest.raises(ToolError, match=message):
            write_vivado_project(**arguments, clock_port="clk")
    assert not (tmp_path / "new").exists()


def test_a_flow_that_ends_after_synthesis_wants_no_routed_report(project, stand_ins):
    stand_ins.install("vivado")
    run = run_vivado(replace(project, flow="synth"))
    assert run.failure is None and list(run.reports) == [CostStage.VSYNTH]

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import CostError, ReportFormatError, ToolError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.synthesis.hls.cost import CsynthCost
from trigger_prune.synthesis.hls.run import LOG_NAME, run_csynth
from trigger_prune.synthesis.hls.tools import HlsTool, find_hls_tool, require_hls_tool
from trigger_prune.target import Target

STAND_IN = Path(__file__).parent / "stand_in_vitis_run.py"


def install(name: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    launcher = folder / name
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    launcher.chmod(0o755)


@pytest.fixture
def tools(tmp_path, monkeypatch) -> Path:
    """A folder that is PATH's only place to find an HLS compiler."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "project"
    (folder / "firmware").mkdir(parents=True)
    (folder / "firmware" / "network.cpp").write_text("")
    (folder / "project.tcl").write_text('set project_name "network"\n')
    (folder / "build_prj.tcl").write_text("source build_opt.tcl\n")
    return folder


def test_vitis_is_preferred_and_absence_says_what_to_do(tools):
    assert find_hls_tool() is None
    with pytest.raises(ToolError, match="none of vitis-run, vivado_hls is on PATH") as caught:
        require_hls_tool()
    assert "rtl" in caught.value.hint
    install("vivado_hls", tools)
    assert find_hls_tool() == HlsTool("vivado_hls", tools / "vivado_hls", "Vivado")
    install("vitis-run", tools)
    assert require_hls_tool() == HlsTool("vitis-run", tools / "vitis-run", "Vitis")


@pytest.mark.parametrize("name", ["vitis-run", "vivado_hls"])
def test_a_project_is_synthesised_and_its_report_read(name, tools, project):
    install(name, tools)
    report = run_csynth(project, "network", require_hls_tool(), content_hash="abc")
    assert (report.stage, report.tool_version, report.content_hash) == (CostStage.CSYNTH, "2022.2", "abc")
    assert report.tool == {"vitis-run": "Vitis HLS", "vivado_hls": "Vivado HLS"}[name]
    assert (report.lut, report.ff, report.dsp, report.bram18) == (12345, 3021, 17, 4)
    assert (report.latency_cycles, report.ii, report.clock_period_ns) == (11, 2, 5.0)
    assert report.details["estimated_clock_ns"] == 3.412
    assert "stand-in" in (project / LOG_NAME).read_text()


def test_a_failing_tool_is_quoted(tools, project, monkeypatch):
    install("vitis-run", tools)
    monkeypatch.setenv("STAND_IN_MODE", "fail")
    with pytest.raises(ToolError) as caught:
        run_csynth(project, "network", require_hls_tool())
    message = caught.value.message
    assert "vitis-run on network failed with exit status 1" in message
    assert "ERROR: [HLS 207-3777] use of undeclared identifier 'weight_t'" in message
    assert "INFO" not in message
    assert str(project / LOG_NAME) in caught.value.hint


def test_an_old_report_never_passes_for_a_new_one(tools, project, monkeypatch):
    install("vitis-run", tools)
    run_csynth(project, "network", require_hls_tool())
    monkeypatch.setenv("STAND_IN_MODE", "silent")
    with pytest.raises(ToolError, match=r"wrote no network_csynth\.xml"):
        run_csynth(project, "network", require_hls_tool())


def test_a_hanging_tool_is_stopped(tools, project, monkeypatch):
    install("vitis-run", tools)
    monkeypatch.setenv("STAND_IN_MODE", "hang")
    with pytest.raises(ToolError, match=r"vitis-run on network was stopped after \d+ s: the limit is 1 s"):
        run_csynth(project, "network", require_hls_tool(), timeout_s=1)


def test_a_truncated_report_is_named(tools, project, monkeypatch):
    install("vitis-run", tools)
    monkeypatch.setenv("STAND_IN_MODE", "truncated")
    with pytest.raises(ReportFormatError, match=r"network_csynth\.xml is not complete XML"):
        run_csynth(project, "network", require_hls_tool())


def test_a_folder_that_is_no_project(tools, tmp_path):
    install("vitis-run", tools)
    with pytest.raises(ToolError, match=r"no build_prj\.tcl"):
        run_csynth(tmp_path, "network", require_hls_tool())


@pytest.mark.parametrize("name", ["vitis-run", "vivado_hls"])
def test_a_quantised_network_is_exported_and_measured(name, tools):
    install(name, tools)
    torch.manual_seed(0)
    input_type = FixedPoint(8, 3)
    events = torch.from_numpy(input_type.quantize(torch.randn(100, 4).numpy())).float()
    precision = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    network = quantize_model(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), events, input_type, precision)
    report = CsynthCost(timeout_s=60).measure(network, Target())
    assert report.stage is CostStage.CSYNTH
    assert report.lut == 12345
    assert report.content_hash == describe_network(network).content_hash()


def test_without_a_tool_or_a_network_csynth_cost_refuses(tools):
    with pytest.raises(ToolError, match="none of vitis-run"):
        CsynthCost().measure(nn.Sequential(nn.Linear(2, 2)), Target())
    install("vitis-run", tools)
    with pytest.raises(CostError, match="not a quantised network"):
        CsynthCost().measure(nn.Sequential(nn.Linear(2, 2)), Target())

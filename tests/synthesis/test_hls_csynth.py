"""CsynthCost, VsynthCost and CosimCost: from a quantised network to the reports of (stand-in) tools."""

import copy
from dataclasses import replace
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
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.synthesis.hls import cost
from trigger_prune.synthesis.hls.cost import CosimCost, CsynthCost, PnrCost, VsynthCost
from trigger_prune.synthesis.hls.failure import ToolRunError
from trigger_prune.synthesis.hls.tools import HlsInstallation
from trigger_prune.target import Target


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    input_type = FixedPoint(8, 3)
    events = torch.from_numpy(input_type.quantize(torch.randn(100, 4).numpy())).float()
    precision = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    return quantize_model(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), events, input_type, precision)


@pytest.mark.parametrize("name", ["vitis-run", "vitis_hls", "vivado_hls"])
def test_a_network_is_exported_for_the_tool_that_is_there(name, network, stand_ins):
    stand_ins.install(name)
    report = CsynthCost(timeout_s=60).measure(network, Target(part="xcku115-flvb2104-2-i", clock_period_ns=4.0))
    assert (report.stage, report.lut, report.latency_cycles) == (CostStage.CSYNTH, 12345, 11)
    assert (report.part, report.clock_period_ns) == ("xcku115-flvb2104-2-i", 4.0)
    assert report.content_hash == describe_network(network).content_hash()


def test_later_stages_report_their_own_figures_and_keep_the_others(network, stand_ins):
    stand_ins.install("vitis-run")
    stand_ins.install("vivado")
    vsynth = VsynthCost(timeout_s=60).measure_run(network, Target())
    assert set(vsynth.reports) == {CostStage.CSYNTH, CostStage.VSYNTH}
    assert VsynthCost(timeout_s=60).measure(network, Target()).lut == 5432
    cosim = CosimCost(timeout_s=60).measure(network, Target())
    assert (cosim.stage, cosim.latency_cycles, cosim.lut) == (CostStage.COSIM, 13, None)


def test_place_and_route_goes_on_from_the_generated_verilog(network, stand_ins, monkeypatch):
    stand_ins.install("vitis-run")
    with pytest.raises(ToolError, match=r"Vivado .* is not installed"):
        PnrCost(timeout_s=60).measure(network, Target())
    stand_ins.install("vivado")
    run = PnrCost(timeout_s=60).measure_run(network, Target())
    assert set(run.reports) == {CostStage.CSYNTH, CostStage.VSYNTH, CostStage.PNR}
    routed, csynth = run.reports[CostStage.PNR], run.reports[CostStage.CSYNTH]
    assert (routed.latency_cycles, routed.ii) == (csynth.latency_cycles, csynth.ii)
    assert routed.lut != csynth.lut and routed.wns_ns is not None and routed.timing_met is True
    assert routed.content_hash == describe_network(network).content_hash()
    monkeypatch.setenv("STAND_IN_VIVADO", "unplaced")
    with pytest.raises(ToolRunError) as caught:
        PnrCost(timeout_s=60).measure(network, Target())
    assert set(caught.value.run.reports) == {CostStage.VSYNTH}


def test_a_failure_carries_its_cause_and_what_ended(network, stand_ins, monkeypatch):
    stand_ins.install("vitis-run")
    monkeypatch.setenv("STAND_IN_MODE", "cosim_crash")
    with pytest.raises(ToolRunError) as caught:
        CosimCost(timeout_s=60).measure(network, Target())
    assert caught.value.cause == "cosim_mismatch"
    assert caught.value.run.reports[CostStage.CSYNTH].lut == 12345


def test_a_report_without_logic_is_no_result(network, stand_ins, monkeypatch):
    """Outputs that nothing drives synthesise to nothing; only weights of one or two bits may do so honestly."""
    stand_ins.install("vitis-run")
    run = cost.run_hls

    def optimised_away(*arguments, **options):
        found = run(*arguments, **options)
        found.reports[CostStage.CSYNTH] = replace(found.reports[CostStage.CSYNTH], lut=0)
        return found

    monkeypatch.setattr(cost, "run_hls", optimised_away)
    with pytest.raises(ReportFormatError, match="0 LUT although the network has weights of 6 bits"):
        CsynthCost(timeout_s=60).measure(network, Target())
    ternary = copy.deepcopy(network)
    for layer in weight_layers(ternary).values():
        layer.weight.data.clamp_(-layer.weight_type.lsb, layer.weight_type.lsb)
    assert CsynthCost(timeout_s=60).measure(ternary, Target()).lut == 0


def test_the_identity_names_tool_and_release(stand_ins, monkeypatch):
    with pytest.raises(ToolError, match="no HLS compiler"):
        CsynthCost().identity()
    stand_ins.install("vitis_hls")
    monkeypatch.setenv("STAND_IN_VERSION", "2023.2")
    assert CsynthCost().identity() == {"tool": "Vitis HLS", "version": "2023.2"}
    with pytest.raises(ToolError, match=r"version 2024\.1"):
        CsynthCost(tool_version="2024.1").identity()


def test_without_a_tool_or_a_network_it_refuses(stand_ins):
    with pytest.raises(ToolError, match="none of vitis-run"):
        CsynthCost().measure(nn.Sequential(nn.Linear(2, 2)), Target())
    stand_ins.install("vitis-run")
    with pytest.raises(CostError, match="not a quantised network"):
        CsynthCost().measure(nn.Sequential(nn.Linear(2, 2)), Target())


def test_a_hopeless_synthesis_is_not_started(network, stand_ins, tmp_path, monkeypatch):
    stand_ins.install("vitis-run")
    calls = tmp_path / "calls"
    monkeypatch.setenv("STAND_IN_COUNTER", str(calls))

    def refuse(spec, target, tool, least):
        assert spec.content_hash() == describe_network(network).content_hash() and least == 0.3
        raise CostError("it would not end")

    monkeypatch.setattr(cost, "require_hope", refuse)
    with pytest.raises(CostError, match="it would not end"):
        CsynthCost(least_chance=0.3).measure(network, Target())
    assert not calls.exists()
    CsynthCost(least_chance=None).measure(network, Target())
    assert calls.exists()


def test_hope_is_judged_for_the_tool_that_would_run(network, monkeypatch):
    from trigger_prune.cost.hls import feasibility

    seen = []
    monkeypatch.setattr(feasibility, "require_feasible", lambda design, parameters, least: seen.append(design.setting))
    spec = describe_network(network)
    for kind, version in (("vivado_hls", "2019.2"), ("vitis_hls", "2022.2")):
        cost.require_hope(spec, Target(), HlsInstallation(kind, version, Path(kind)))
    assert [(setting.tool, setting.version) for setting in seen] == [("vivado_hls", "2019.2"), ("vitis_hls", "2022.2")]
    # A reuse factor that hls4ml would replace: the export says so, with the valid ones.
    cost.require_hope(spec, Target(strategy="Resource", reuse_factor=5), HlsInstallation("vitis_hls", "", Path("x")))
    assert len(seen) == 2

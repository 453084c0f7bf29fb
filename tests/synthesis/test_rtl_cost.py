from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from rtl_networks import fill, quantizer
from torch import nn

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import CostError, ToolError, VerificationError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.synthesis.rtl import cost as cost_module
from trigger_prune.synthesis.rtl.cost import RtlCost
from trigger_prune.synthesis.rtl.pipeline import DelayModel
from trigger_prune.synthesis.rtl.trace import trace_network
from trigger_prune.target import Target

INPUT = FixedPoint(8, 3)
PRECISION = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")


def quantized_mlp(*, sparsity: float) -> torch.fx.GraphModule:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 3)).eval()
    events = torch.from_numpy(INPUT.quantize(torch.randn(200, 8).numpy())).float()
    network = quantize_model(model, events, INPUT, PRECISION)
    for layer in weight_layers(network).values():
        magnitude = layer.weight.detach().abs()
        layer.weight_mask.copy_(magnitude >= torch.quantile(magnitude, sparsity))
    return network


def test_a_power_of_two_is_wires_and_registers_only():
    network = nn.Sequential(nn.Linear(3, 3, bias=False)).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.diag(torch.tensor([0.5, 2.0, 1.0])))
    report = RtlCost().measure_frozen(network, INPUT, (3,), Target())
    # One stage: 3 x 8 bits at the input and again at the output, no logic.
    assert (report.lut, report.ff, report.dsp, report.bram18) == (0, 48, 0, 0)
    assert (report.latency_cycles, report.ii) == (2, 1)


def test_one_adder_costs_one_lut_a_bit():
    network = nn.Sequential(nn.Linear(2, 1, bias=False)).eval()
    nn.init.ones_(network[0].weight)
    report = RtlCost().measure_frozen(network, INPUT, (2,), Target())
    assert report.ff == 16 + 9
    assert report.lut == pytest.approx(9, abs=1)


def test_report_of_quantised_networks(monkeypatch):
    target = Target(clock_period_ns=2.5)
    dense, sparse = quantized_mlp(sparsity=0.0), quantized_mlp(sparsity=0.8)
    with ThreadPoolExecutor(2) as pool:  # two measurements at once
        big, small = pool.map(lambda network: RtlCost(3.0).measure(network, target), (dense, sparse))
    assert big.stage is CostStage.RTL_SYNTH
    assert (big.tool, big.part, big.clock_period_ns, big.ii) == ("yosys", target.part, 2.5, 1)
    assert big.content_hash == describe_network(dense).content_hash() != small.content_hash
    assert big.lut_ratio(small) > 3
    assert big.details["pipeline_stages"] + 1 == big.latency_cycles
    assert "timing not closed" in big.details["note"]
    assert HardwareReport.from_json(big.to_json()) == big
    assert RtlCost(3.0).measure(sparse, target).lut == small.lut


def test_the_report_states_its_limits_and_what_the_part_offers():
    network = fill(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), quantizer()))
    report = RtlCost().measure_frozen(network, INPUT, (4,), Target())
    assert sum(report.details["lut_by_type"].values()) == report.lut
    assert sum(report.details["ff_by_type"].values()) == report.ff
    limits = " ".join(report.details["limits"])
    assert all(word in limits for word in ("fully unrolled", "II = 1", "LUT6_2", "no UltraScale+ timing"))
    assert (report.available.lut, report.available.dsp) == (1_728_000, 12_288)
    assert report.fits_part() is True
    unknown = RtlCost().measure_frozen(network, INPUT, (4,), Target(part="xc0none-1"))
    assert unknown.available is None
    assert unknown.fits_part() is None
    # An estimate in the details is no statement about the clock.
    assert report.details["estimated_period_ns"] == pytest.approx(
        0.4 + 0.8 * report.details["longest_stage_units"], abs=1e-3
    )
    assert (report.estimated_clock_ns, report.timing_met) == (None, None)


def test_the_pipeline_is_cut_as_asked():
    network = fill(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), quantizer(), nn.Linear(6, 3)))

    def measure(clock_period_ns: float = 5.0, **options):
        return RtlCost(**options).measure_frozen(network, INPUT, (8,), Target(clock_period_ns=clock_period_ns))

    by_depth = measure(pipeline_stages=6)
    assert (by_depth.latency_cycles, by_depth.details["pipeline_stages"]) == (7, 6)
    assert by_depth.details["adders_per_stage"] is None
    shallow = measure(pipeline_stages=2)
    assert shallow.ff < by_depth.ff
    assert shallow.details["logic_depth_cells"] > by_depth.details["logic_depth_cells"]
    slow, fast = (measure(period, pipeline_for_clock=True) for period in (8.0, 3.0))
    assert slow.latency_cycles < fast.latency_cycles
    assert slow.details["estimated_period_ns"] <= 8.0
    assert fast.details["estimated_period_ns"] <= 3.0
    assert fast.lut == pytest.approx(slow.lut, rel=0.05)
    quick = measure(3.0, pipeline_for_clock=True, delay_model=DelayModel(0.2, 0.2))
    assert quick.latency_cycles < fast.latency_cycles
    for wrong in ({"pipeline_stages": 2, "pipeline_for_clock": True}, {"pipeline_stages": 0}, {"ecp5_seeds": -1}):
        with pytest.raises(CostError):
            RtlCost(**wrong)


def test_a_wrong_adder_graph_is_never_measured(monkeypatch):
    network = fill(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), quantizer()))
    other = fill(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), quantizer()), seed=9)
    comb = trace_network(other, INPUT, (3,))
    monkeypatch.setattr(cost_module, "trace_layers", lambda *_: (comb, {}))
    with pytest.raises(VerificationError, match="first: event"):
        RtlCost().measure_frozen(network, INPUT, (3,), Target())


def test_limits_reach_yosys_and_other_modules_are_refused():
    with pytest.raises(ToolError, match=r"limit is 0.01 s"):
        RtlCost(timeout_s=0.01).measure(quantized_mlp(sparsity=0.5), Target())
    with pytest.raises(CostError, match="Sequential is not a quantised network"):
        RtlCost().measure(nn.Sequential(nn.Linear(2, 2)), Target())

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
    assert "not proven" in big.details["note"]
    assert HardwareReport.from_json(big.to_json()) == big
    assert RtlCost(3.0).measure(sparse, target).lut == small.lut


def test_a_wrong_adder_graph_is_never_measured(monkeypatch):
    network = fill(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), quantizer()))
    other = fill(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), quantizer()), seed=9)
    comb = cost_module.trace_network(other, INPUT, (3,))
    monkeypatch.setattr(cost_module, "trace_network", lambda *_: comb)
    with pytest.raises(VerificationError, match="first: event"):
        RtlCost().measure_frozen(network, INPUT, (3,), Target())


def test_limits_reach_yosys_and_other_modules_are_refused():
    with pytest.raises(ToolError, match=r"limit is 0.01 s"):
        RtlCost(timeout_s=0.01).measure(quantized_mlp(sparsity=0.5), Target())
    with pytest.raises(CostError, match="Sequential is not a quantised network"):
        RtlCost().measure(nn.Sequential(nn.Linear(2, 2)), Target())

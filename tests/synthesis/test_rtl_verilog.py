import re

import numpy as np
import pytest
import torch
from rtl_networks import fill, networks, quantizer
from torch import nn
from yosys_simulation import simulate

from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl.trace import predict, probe_events, trace_network
from trigger_prune.synthesis.rtl.verilog import write_verilog
from trigger_prune.target import Target

INPUT = FixedPoint(6, 3)


def traced(name: str):
    network, shape = networks()[name]
    return trace_network(fill(network, sparsity=0.5, seed=1), INPUT, shape), shape


@pytest.mark.parametrize(("name", "adders_per_stage"), [("residual", 5), ("one_bit", 3), ("conv1d", 100)])
def test_simulated_verilog_gives_each_event_after_the_stated_latency(name, adders_per_stage, tmp_path):
    comb, shape = traced(name)
    project = write_verilog(comb, tmp_path / "rtl", adders_per_stage=adders_per_stage, target=Target())
    events = probe_events(INPUT, shape, n_random=40)
    outputs = simulate(project, comb, events, tmp_path)
    expected = predict(comb, events)
    latency = project.latency_cycles
    assert all(output is None for output in outputs[:latency])
    for cycle in range(latency, len(events)):
        assert np.array_equal(outputs[cycle], expected[cycle - latency]), cycle


def test_combinational_logic_answers_in_the_same_cycle(tmp_path):
    comb, shape = traced("residual")
    project = write_verilog(comb, tmp_path / "rtl", adders_per_stage=None, target=Target())
    assert (project.stages, project.register_ranks, project.latency_cycles, project.register_bits) == (0, 0, 0, 0)
    assert "clk" not in (tmp_path / "rtl/src/model.v").read_text()
    events = probe_events(INPUT, shape, n_random=20)
    outputs = simulate(project, comb, events, tmp_path)
    for output, expected in zip(outputs, predict(comb, events), strict=False):
        assert np.array_equal(output, expected)


@pytest.mark.parametrize("adders_per_stage", [2, 5, 1000])
def test_ranks_and_bits_are_those_of_the_verilog_text(adders_per_stage, tmp_path):
    comb, _ = traced("mlp")
    project = write_verilog(comb, tmp_path, adders_per_stage=adders_per_stage, target=Target())
    text = (tmp_path / "src/model.v").read_text()
    ranks = re.findall(r"^\s*(\w+)\[(\d+):0\] <= ", text, re.M)
    assert len(ranks) == project.register_ranks == project.latency_cycles == project.stages + 1
    assert sum(int(msb) + 1 for _, msb in ranks) == project.register_bits
    # One module of logic per stage, as many as the longest path in alkaid's delay units needs.
    assert len(list((tmp_path / "src").glob("logic*.v"))) == project.stages
    assert project.stages == max(1, int(np.ceil(max(op.latency for op in comb.ops) / adders_per_stage)))


def test_ternary_adders_are_never_used(tmp_path):
    comb, _ = traced("mlp")
    write_verilog(comb, tmp_path, adders_per_stage=5, target=Target())
    logic = "".join(path.read_text() for path in (tmp_path / "src").glob("logic*.v"))
    assert "shift_adder" in logic
    assert "ternary_adder" not in logic


def test_a_constant_output_beside_a_live_one_is_written(tmp_path):
    network = fill(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), quantizer(), nn.Linear(3, 3)))
    with torch.no_grad():
        network[0].weight[:, 2] = 0
        network[3].weight[1] = 0
        network[3].weight[2] = 0
        network[3].bias[2] = 0
    comb = trace_network(network, INPUT, (3,))
    project = write_verilog(comb, tmp_path / "rtl", adders_per_stage=5, target=Target())
    events = probe_events(INPUT, (3,), n_random=20)
    outputs = simulate(project, comb, events, tmp_path)
    for cycle in range(project.latency_cycles, len(events)):
        assert np.array_equal(outputs[cycle], predict(comb, events)[cycle - project.latency_cycles])


def test_a_network_without_logic_is_an_error(tmp_path):
    network = fill(nn.Sequential(nn.Linear(3, 2)))
    nn.init.zeros_(network[0].weight)
    comb = trace_network(network, INPUT, (3,))
    with pytest.raises(CostError, match="do not depend on its inputs"):
        write_verilog(comb, tmp_path, adders_per_stage=5, target=Target())


def test_a_stage_without_delay_is_an_error(tmp_path):
    comb, _ = traced("mlp")
    with pytest.raises(CostError, match="adders_per_stage 0 is not positive"):
        write_verilog(comb, tmp_path, adders_per_stage=0, target=Target())

import re
import shutil

import numpy as np
import pytest
from ghdl_simulation import simulate_vhdl, values_of, word_of
from rtl_networks import fill, networks

from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl.simulate import rtl_outputs
from trigger_prune.synthesis.rtl.trace import predict, probe_events, trace_network
from trigger_prune.synthesis.rtl.verilator import simulate_verilator
from trigger_prune.synthesis.rtl.verilog import write_verilog, write_vhdl
from trigger_prune.target import Target

INPUT = FixedPoint(6, 3)
needs_ghdl = pytest.mark.skipif(shutil.which("ghdl") is None, reason="GHDL, the VHDL simulator, is not installed")


def traced(name: str):
    network, shape = networks()[name]
    return trace_network(fill(network, sparsity=0.5, seed=1), INPUT, shape), shape


@needs_ghdl
@pytest.mark.parametrize("stages", [3, None])
@pytest.mark.parametrize("name", sorted(networks()))
def test_simulated_vhdl_gives_each_event_after_the_stated_latency(name, stages, tmp_path):
    comb, shape = traced(name)
    project = write_vhdl(comb, tmp_path / "rtl", pipeline_stages=stages, target=Target())
    events = probe_events(INPUT, shape, n_random=60)
    flat = events.reshape(len(events), -1)
    latency = project.latency_cycles
    assert latency == (0 if stages is None else 4)
    words = [word_of(event, project) for event in [*flat, *flat[:latency]]]
    got = simulate_vhdl(project, words, tmp_path)[max(latency - 1, 0) :]
    for event, expected in enumerate(predict(comb, events)):
        assert values_of(got[event], project) == expected.tolist(), event


@pytest.mark.parametrize("stages", [1, 4])
def test_vhdl_has_the_registers_and_the_latency_of_the_verilog(stages, tmp_path):
    comb, _ = traced("mlp")
    verilog = write_verilog(comb, tmp_path / "v", pipeline_stages=stages, target=Target())
    vhdl = write_vhdl(comb, tmp_path / "vhdl", pipeline_stages=stages, target=Target())
    for quantity in (
        "stages",
        "register_ranks",
        "latency_cycles",
        "register_bits",
        "longest_stage",
        "inputs",
        "outputs",
    ):
        assert getattr(vhdl, quantity) == getattr(verilog, quantity), quantity
    # Counted in the text itself: ranges assigned at the clock edge.
    text = (tmp_path / "vhdl/src/model.vhd").read_text().split("rising_edge(clk) then")[1]
    ranges = re.findall(r"^\s*\w+\((\d+) downto (\d+)\) <= ", text, re.M)
    assert sum(int(high) - int(low) + 1 for high, low in ranges) == verilog.register_bits
    assert vhdl.sources[-1].name == "model.vhd"
    assert {path.suffix for path in vhdl.sources} == {".vhd"}


def test_vhdl_is_refused_by_the_verilog_simulators(tmp_path):
    comb, shape = traced("residual")
    project = write_vhdl(comb, tmp_path, pipeline_stages=1, target=Target())
    for simulate in (simulate_verilator, lambda p, x: rtl_outputs(p, x, simulator="yosys")):
        with pytest.raises(CostError, match="not VHDL"):
            simulate(project, np.zeros((1, *shape)))

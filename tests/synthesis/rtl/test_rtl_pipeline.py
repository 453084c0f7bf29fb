from types import SimpleNamespace

import numpy as np
import pytest
from rtl_networks import fill, networks
from torch import nn

from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl.pipeline import DelayModel, adder_depth, longest_stage, path_delay, stages_for_clock
from trigger_prune.synthesis.rtl.simulate import simulate_yosys
from trigger_prune.synthesis.rtl.trace import predict, probe_events, trace_network
from trigger_prune.synthesis.rtl.verilog import write_verilog
from trigger_prune.target import Target

INPUT = FixedPoint(6, 3)


def traced(name: str):
    network, shape = networks()[name]
    return trace_network(fill(network, sparsity=0.3, seed=2), INPUT, shape), shape


def op(latency: float, *addr: int, opcode: int = 0) -> SimpleNamespace:
    return SimpleNamespace(opcode=opcode, addr=addr, latency=latency)


def test_a_path_counts_only_what_lies_in_its_own_stage():
    # Two registers of the stage before, there at 4.0 and 4.5; a constant; then adders of 1.0, 2.0 and 0.5.
    ops = [op(4.0, opcode=-1), op(4.5, opcode=-1), op(0.0, opcode=5)]
    ops += [op(5.5, 0, 1), op(6.0, 0, 2), op(6.5, 3, 4)]
    # Through op 3: 1.0, then op 5 takes 6.5 - 6.0 = 0.5; through op 4: 2.0 + 0.5.
    assert path_delay(ops) == pytest.approx(2.5)
    assert path_delay(ops[:3]) == 0.0


def all_paths(comb) -> list[list[int]]:
    """Every path from an input or constant to an output, by exhaustion."""

    def back(i: int) -> list[list[int]]:
        if not comb.ops[i].addr:
            return [[i]]
        return [[*path, i] for before in set(comb.ops[i].addr) for path in back(before)]

    return [path for i in comb.out_idxs if i >= 0 for path in back(i)]


def test_delay_and_depth_are_those_of_the_longest_of_all_paths():
    network = fill(nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2)), seed=3)
    comb = trace_network(network, INPUT, (5,))
    paths = all_paths(comb)
    assert len(paths) > 50
    assert adder_depth(comb) == max(sum(comb.ops[i].opcode in (0, 1, 4) for i in path) for path in paths)
    assert path_delay(comb.ops) == pytest.approx(max(o.latency for o in comb.ops))


@pytest.mark.parametrize("n", [2, 4, 8])
def test_a_sum_of_n_equal_inputs_is_a_balanced_tree(n):
    network = nn.Sequential(nn.Linear(n, 1, bias=False)).eval()
    nn.init.ones_(network[0].weight)
    assert adder_depth(trace_network(network, INPUT, (n,))) == np.log2(n)


@pytest.mark.parametrize("stages", [1, 2, 7, 40])
def test_the_requested_number_of_stages_is_built_and_simulates_right(stages, tmp_path):
    comb, shape = traced("residual")
    project = write_verilog(comb, tmp_path, pipeline_stages=stages, target=Target())
    assert (project.stages, project.latency_cycles) == (stages, stages + 1)
    events = probe_events(INPUT, shape, n_random=20)
    assert np.array_equal(simulate_yosys(project, events).outputs, predict(comb, events))


@pytest.mark.parametrize("name", ["mlp", "conv2d"])
def test_no_cut_is_longer_than_asked_by_more_than_one_operation(name, tmp_path):
    comb, _ = traced(name)
    total = max(o.latency for o in comb.ops)
    slowest = max(o.latency - max((comb.ops[i].latency for i in o.addr), default=0.0) for o in comb.ops)
    stages = []
    for adders in (2.0, 3.0, 5.0, 100.0):
        project = write_verilog(comb, tmp_path / str(adders), adders_per_stage=adders, target=Target())
        assert total / project.stages <= project.longest_stage + 1e-9
        assert project.longest_stage <= total / project.stages + slowest
        assert total / project.stages <= adders
        stages.append(project.stages)
    assert stages == sorted(stages, reverse=True)
    assert stages[-1] == 1
    assert project.longest_stage == pytest.approx(total)


def test_the_clock_gets_the_smallest_number_of_stages_that_fit():
    from alkaid.trace.pipeline import to_pipeline

    comb, _ = traced("mlp")
    delays = DelayModel(register_ns=0.5, unit_ns=0.5)

    def period(stages: int) -> float:
        return delays.period_ns(longest_stage(to_pipeline(comb, n_stages=stages, verbose=False).logic.values()))

    found = {period_ns: stages_for_clock(comb, period_ns, delays) for period_ns in (100.0, 6.0, 3.0, 2.0, 1.5)}
    assert found[100.0] == 1
    assert len(set(found.values())) == 5
    for period_ns, stages in found.items():
        assert period(stages) <= period_ns
        assert all(period(fewer) > period_ns for fewer in range(1, stages))


def test_a_clock_that_one_adder_misses_is_refused():
    comb, _ = traced("mlp")
    for period_ns in (0.2, 1.0):
        with pytest.raises(CostError, match="slowest operation alone takes"):
            stages_for_clock(comb, period_ns, DelayModel())
    assert DelayModel(0.3, 0.8).period_ns(DelayModel(0.3, 0.8).units(4.0)) == pytest.approx(4.0)
    with pytest.raises(CostError, match="impossible delay model"):
        DelayModel(unit_ns=0.0)


def test_two_ways_of_cutting_at_once_are_refused(tmp_path):
    comb, _ = traced("residual")
    with pytest.raises(CostError, match="both say where to cut"):
        write_verilog(comb, tmp_path, adders_per_stage=5.0, pipeline_stages=2, target=Target())
    with pytest.raises(CostError, match="0 pipeline stages"):
        write_verilog(comb, tmp_path, pipeline_stages=0, target=Target())

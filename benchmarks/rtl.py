"""What the ``rtl`` cost of a network is, how long it takes to measure, and whether it is the same every time.

    python benchmarks/rtl.py [--quick] [--simulate]

The MLP 16-64-32-32-5 with 8-bit weights (random Gaussian, pruned per layer by magnitude), 12-bit inputs and 8-bit
activations goes through alkaid and Yosys three times: twice with the short script the cost model uses, from different
folders, and once with the complete synth_xilinx of Yosys. Random weights: nothing here says anything about a trained
network's accuracy.

Prints a table and writes ``benchmarks/results/rtl.json``. ``--quick`` leaves out the dense and the 50 % sparse network;
``--simulate`` also compares the Verilog, simulated clock by clock with Verilator, with the network (minutes).
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _result import write_result
from torch import nn

from trigger_prune.fixed_point import FixedPoint, Overflow
from trigger_prune.quantize.layers import FixedQuantizer
from trigger_prune.synthesis.rtl.pipeline import adder_depth
from trigger_prune.synthesis.rtl.trace import check_trace, predict, trace_layers
from trigger_prune.synthesis.rtl.verilator import simulate_verilator
from trigger_prune.synthesis.rtl.verilog import RtlProject, write_verilog
from trigger_prune.synthesis.rtl.yosys import synthesize
from trigger_prune.target import Target

WIDTHS = (16, 64, 32, 32, 5)
INPUT = FixedPoint(12, 3)
WEIGHT = FixedPoint(8, 1, overflow=Overflow.AP_SAT)
ACTIVATION = FixedPoint(8, 3, False, overflow=Overflow.AP_WRAP)
ADDERS_PER_STAGE = 5.0
SPARSITIES = {"dense": 0.0, "sparse50": 0.5, "sparse80": 0.8, "sparse90": 0.9}
QUICK = ("sparse80", "sparse90")
GOALS = {"dense.cpu_s": 150.0, "dense.tool_peak_mib": 1536.0, "sparse80.cpu_s": 40.0}
"""Upper limits; ``same_cells`` shall be 1 everywhere."""

SIMULATED_EVENTS = 20_000


def make_network(sparsity: float, seed: int = 0) -> nn.Sequential:
    """The MLP with weights on their grid."""
    rng = np.random.default_rng(seed)
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(WIDTHS):
        layer = nn.Linear(n_in, n_out)
        weight = rng.normal(0, 1 / np.sqrt(n_in), (n_out, n_in))
        weight[np.abs(weight) < np.quantile(np.abs(weight), sparsity)] = 0
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(WEIGHT.quantize(weight)))
            layer.bias.copy_(torch.from_numpy(WEIGHT.quantize(rng.normal(0, 0.1, n_out))))
        modules += [layer, nn.ReLU(), FixedQuantizer(ACTIVATION)]
    return nn.Sequential(*modules[:-2]).eval()


def children_cpu_s() -> float:
    """CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def child_memory() -> Iterator[list[float]]:
    """Largest resident memory of all child processes together while the block runs, MiB, in the list's only place."""
    peak, stop = [0.0], threading.Event()

    def sample() -> None:
        while not stop.wait(0.2):
            peak[0] = max(peak[0], _descendants_mib(os.getpid()))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _descendants_mib(root: int) -> float:
    parents, pages = {}, {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended meanwhile
            parents[int(entry.name)], pages[int(entry.name)] = int(fields[1]), int(fields[21])
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(pages.get(pid, 0) for pid in family - {root}) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(sparsity: float, *, simulate: bool) -> dict[str, float]:
    """Figures of one network; seconds are CPU seconds, which other jobs on the machine disturb least."""
    network = make_network(sparsity)
    start = time.process_time()
    comb, _ = trace_layers(network, INPUT, (WIDTHS[0],))
    figures: dict[str, float] = {"trace_cpu_s": time.process_time() - start, "alkaid_cost": comb.cost}
    check_trace(comb, network, INPUT, (WIDTHS[0],))
    figures["nonzeros"] = sum(int((layer.weight != 0).sum()) for layer in network if isinstance(layer, nn.Linear))
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory(prefix="another_folder_") as other:
        project = write_verilog(comb, Path(scratch), adders_per_stage=ADDERS_PER_STAGE, target=Target())
        own = time.process_time() - start
        with child_memory() as peak:
            before = children_cpu_s()
            cells = synthesize(project.sources, project.top)
            between = children_cpu_s()
        stock = synthesize(project.sources, project.top, script="stock")
        after = children_cpu_s()
        again = write_verilog(comb, Path(other), adders_per_stage=ADDERS_PER_STAGE, target=Target())
        figures["same_cells"] = float(synthesize(again.sources, again.top).cells == cells.cells)
        if simulate:
            figures |= simulation(project, network, comb)
    figures |= {
        "lut": cells.lut,
        "ff": cells.ff,
        "dsp": cells.dsp,
        "bram18": cells.bram18,
        **{f"cells.{kind}": n for kind, n in cells.cells.items()},
        "stages": project.stages,
        "latency_cycles": project.latency_cycles,
        "adder_depth": adder_depth(comb),
        "logic_depth_cells": cells.logic_depth,
        "cpu_s": own + between - before,
        "yosys_cpu_s": between - before,
        "tool_peak_mib": peak[0],
        "stock_lut": stock.lut,
        "stock_ff": stock.ff,
        "stock_yosys_cpu_s": after - between,
    }
    return {key: round(float(value), 3) for key, value in figures.items()}


def simulation(project: RtlProject, network: nn.Module, comb: Any) -> dict[str, float]:
    """Mismatching events of the simulated Verilog against torch and against alkaid's interpreter."""
    rng = np.random.default_rng(1)
    codes = rng.integers(INPUT.min_code, INPUT.max_code, size=(SIMULATED_EVENTS, WIDTHS[0]), endpoint=True)
    events = codes * INPUT.lsb
    before = children_cpu_s()
    outputs = simulate_verilator(project, events, timeout_s=3600).outputs
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(events)).numpy()
    return {
        "simulated_events": SIMULATED_EVENTS,
        "mismatches_torch": int((outputs != expected).any(axis=1).sum()),
        "mismatches_interpreter": int((outputs != predict(comb, events)).any(axis=1).sum()),
        "simulation_cpu_s": children_cpu_s() - before,
    }


def main() -> None:
    """Measure, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the 80 %% and 90 %% sparse networks")
    parser.add_argument("--simulate", action="store_true", help="compare the simulated Verilog with the network too")
    arguments = parser.parse_args()
    names = QUICK if arguments.quick else tuple(SPARSITIES)
    figures: dict[str, float] = {}
    print(
        f"{'network':<9} {'weights':>7} {'LUT':>6} {'FF':>6} {'DSP':>4} {'stages':>6} {'depth':>5} {'CPU':>8}"
        f" {'Yosys':>8} {'memory':>8} {'same':>4} | {'stock: LUT':>10} {'FF':>6} {'Yosys':>8}   (CPU seconds)"
    )
    for name in names:
        row = measure(SPARSITIES[name], simulate=arguments.simulate)
        figures |= {f"{name}.{key}": value for key, value in row.items()}
        print(
            f"{name:<9} {row['nonzeros']:>7.0f} {row['lut']:>6.0f} {row['ff']:>6.0f} {row['dsp']:>4.0f}"
            f" {row['stages']:>6.0f} {row['logic_depth_cells']:>5.0f}"
            f" {row['cpu_s']:>6.1f} s {row['yosys_cpu_s']:>6.1f} s"
            f" {row['tool_peak_mib']:>4.0f} MiB {'yes' if row['same_cells'] else 'NO':>4}"
            f" | {row['stock_lut']:>10.0f} {row['stock_ff']:>6.0f} {row['stock_yosys_cpu_s']:>6.1f} s",
            flush=True,
        )
        if arguments.simulate:
            print(
                f"{'':<9} {row['simulated_events']:.0f} events in Verilator ({row['simulation_cpu_s']:.0f} s): "
                f"{row['mismatches_torch']:.0f} differ from torch, {row['mismatches_interpreter']:.0f} from alkaid",
                flush=True,
            )
    goals = {key: {"at_most": goal, "found": figures[key]} for key, goal in GOALS.items() if key in figures}
    for key, goal in goals.items():
        print(f"{key}: {goal['found']:.1f}, goal at most {goal['at_most']:.0f}")
    name = "rtl_quick" if arguments.quick else "rtl"
    write_result(name, figures, ("trigger_prune", "alkaid", "pyosys", "torch"), goals=goals)


if __name__ == "__main__":
    main()

"""What the ``rtl`` cost of a network is and how long it takes to measure.

    python benchmarks/rtl.py [--quick]

The MLP 16-64-32-32-5 with 8-bit weights (random Gaussian, pruned per layer by magnitude), 12-bit inputs and 8-bit
activations goes through alkaid and Yosys twice: with the short script the cost model uses, and with the complete
synth_xilinx of Yosys. Random weights: nothing here says anything about a trained network's accuracy.

Prints a table and writes ``benchmarks/results/rtl.json``. ``--quick`` leaves out the dense and the 50 % sparse network.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from _result import write_result
from torch import nn

from trigger_prune.fixed_point import FixedPoint, Overflow
from trigger_prune.quantize.layers import FixedQuantizer
from trigger_prune.synthesis.rtl.trace import check_trace, trace_network
from trigger_prune.synthesis.rtl.verilog import write_verilog
from trigger_prune.synthesis.rtl.yosys import synthesize
from trigger_prune.target import Target

WIDTHS = (16, 64, 32, 32, 5)
INPUT = FixedPoint(12, 3)
WEIGHT = FixedPoint(8, 1, overflow=Overflow.AP_SAT)
ACTIVATION = FixedPoint(8, 3, False, overflow=Overflow.AP_WRAP)
ADDERS_PER_STAGE = 5.0
SPARSITIES = {"dense": 0.0, "sparse50": 0.5, "sparse80": 0.8, "sparse90": 0.9}
QUICK = ("sparse80", "sparse90")


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


def measure(sparsity: float) -> dict[str, float]:
    """Figures of one network; seconds are CPU seconds, which other jobs on the machine disturb least."""
    network = make_network(sparsity)
    start = time.process_time()
    comb = trace_network(network, INPUT, (WIDTHS[0],))
    figures: dict[str, float] = {"trace_cpu_s": time.process_time() - start, "alkaid_cost": comb.cost}
    check_trace(comb, network, INPUT, (WIDTHS[0],))
    figures["nonzeros"] = sum(int((layer.weight != 0).sum()) for layer in network if isinstance(layer, nn.Linear))
    with tempfile.TemporaryDirectory() as scratch:
        project = write_verilog(comb, Path(scratch), adders_per_stage=ADDERS_PER_STAGE, target=Target())
        before = children_cpu_s()
        cells = synthesize(project.sources, project.top)
        between = children_cpu_s()
        stock = synthesize(project.sources, project.top, script="stock")
        after = children_cpu_s()
    figures |= {
        "lut": cells.lut,
        "ff": cells.ff,
        "dsp": cells.dsp,
        "bram18": cells.bram18,
        "stages": project.stages,
        "latency_cycles": project.latency_cycles,
        "yosys_cpu_s": between - before,
        "stock_lut": stock.lut,
        "stock_ff": stock.ff,
        "stock_yosys_cpu_s": after - between,
    }
    return {key: round(float(value), 3) for key, value in figures.items()}


def main() -> None:
    """Measure, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the 80 %% and 90 %% sparse networks")
    quick = parser.parse_args().quick
    names = QUICK if quick else tuple(SPARSITIES)
    figures: dict[str, float] = {}
    print(
        f"{'network':<9} {'weights':>7} {'LUT':>6} {'FF':>6} {'DSP':>4} {'stages':>6} {'trace':>7} {'Yosys':>8}"
        f" | {'stock: LUT':>10} {'FF':>6} {'Yosys':>8}   (CPU seconds)"
    )
    for name in names:
        row = measure(SPARSITIES[name])
        figures |= {f"{name}.{key}": value for key, value in row.items()}
        print(
            f"{name:<9} {row['nonzeros']:>7.0f} {row['lut']:>6.0f} {row['ff']:>6.0f} {row['dsp']:>4.0f}"
            f" {row['stages']:>6.0f} {row['trace_cpu_s']:>5.1f} s {row['yosys_cpu_s']:>6.1f} s"
            f" | {row['stock_lut']:>10.0f} {row['stock_ff']:>6.0f} {row['stock_yosys_cpu_s']:>6.1f} s",
            flush=True,
        )
    write_result("rtl_quick" if quick else "rtl", figures, ("trigger_prune", "alkaid", "pyosys", "torch"))


if __name__ == "__main__":
    main()

"""How far the analytic cost model is from mapped hardware.

    python benchmarks/cost_model.py [--quick] [--fit] [--record FILE]

Random dense layers and small networks are built by alkaid (distributed arithmetic, Verilog) and mapped to LUTs by
Yosys; the LUTs, registers and pipeline stages found there are compared with ``AnalyticCost``. The layers the constants
of ``trigger_prune.cost.analytic`` were fitted on (``--fit`` prints the fit) are drawn from another seed than those of the
comparison. Weights are random: nothing here says anything about a trained network's accuracy. No vendor tool is run.

Prints a table and writes ``benchmarks/results/cost_model.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

FIT_SEED, VALIDATION_SEED = 20, 21
N_FIT, N_VALIDATION = 36, 30
ADDERS_PER_STAGE = 5

WORKER = """
import json, sys
from pyosys import libyosys as ys
out, *sources = sys.argv[1:]
design = ys.Design()
for command in (
    "read_verilog -sv -defer " + " ".join(sources),
    "synth_xilinx -family xcup -flatten -noiopad -noclkbuf -nosrl -top model -run begin:map_luts",
    "opt_expr -mux_undef -noclkinv", "abc -luts 2:2,3,6:5", "clean",
    "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
    "xilinx_dffopt", "opt_lut_ins -tech xilinx", "clean", f"tee -q -o {out} stat -json",
):
    ys.run_pass(command, design)
"""
"""The whole Yosys flow. It runs in a process of its own: pyosys ends the process on an error."""


@dataclass(frozen=True)
class Mapped:
    """What alkaid and Yosys made of one network. ``stages`` is None for the unpipelined layers."""

    lut: int
    ff: int
    dsp: int
    stages: int | None
    alkaid_cost: float
    seconds: float


def random_layer(
    rng: np.random.Generator, n_out: int, n_in: int, sparsity: float, input_type: FixedPoint, activated: bool, name: str
) -> WeightLayer:
    """A dense layer with Gaussian weights, pruned by magnitude (three of four) or by whole inputs."""
    bits = int(rng.choice([4, 5, 6, 8]))
    weight = rng.normal(0, rng.choice([0.12, 0.2, 0.35]), (n_out, n_in))
    if rng.random() < 0.25:
        weight[:, rng.random(n_in) < sparsity] = 0
    else:
        weight[np.abs(weight) < np.quantile(np.abs(weight), sparsity)] = 0
    weight_type = FixedPoint(bits, 1, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)
    output_type = None
    if activated:
        integer = int(rng.integers(1, 7))
        rounding = Rounding.AP_TRN if rng.random() < 0.7 else Rounding.AP_RND
        overflow = Overflow.AP_SAT if rng.random() < 0.8 else Overflow.AP_WRAP
        output_type = FixedPoint(max(integer + int(rng.integers(1, 6)), 5), integer, False, rounding, overflow)
    bias = weight_type.to_code(rng.normal(0, 0.2, n_out))
    codes = weight_type.to_code(weight)
    return WeightLayer(
        name, "dense", codes, weight_type, bias, weight_type, input_type, output_type, relu=activated, positions=1
    )


def random_network(rng: np.random.Generator, index: int) -> NetworkSpec:
    """In turn: one layer, one layer with ReLU and conversion of its outputs, an MLP with two hidden layers."""
    input_type = FixedPoint(int(rng.integers(5, 11)), 2, bool(rng.integers(0, 2)))
    if index % 3 == 2:
        sizes = [int(rng.integers(8, 25)), int(rng.integers(16, 49)), int(rng.integers(8, 33)), 5]
        sparsity = float(rng.choice([0.5, 0.7, 0.8, 0.9]))
    else:
        sizes = [int(rng.integers(8, 49)), int(rng.integers(4, 25))]
        sparsity = float(rng.choice([0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95]))
    layers: list[WeightLayer] = []
    wire = input_type
    for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        activated = i < len(sizes) - 2 or index % 3 == 1
        layers.append(random_layer(rng, n_out, n_in, sparsity, wire, activated, f"dense{i}"))
        wire = layers[-1].output_type or wire
    return NetworkSpec(tuple(layers), input_type, (sizes[0],), sizes[-1])


def network_in_alkaid(spec: NetworkSpec) -> Any:
    """The network as alkaid's combinational logic, checked bit by bit against integer arithmetic on 200 inputs."""
    import alkaid.trace.passes.canon as canon
    from alkaid.trace import FVArray, HWConfig, trace
    from alkaid.trace.ops import quantize

    # This pass of alkaid 0.8.2 reads the wrong bit for 1-bit activations; leaving it out costs nothing.
    canon.canonicalize_msb_wraps = lambda comb: comb
    x_type, n_in = spec.input_type, spec.input_shape[0]
    kif = [np.full(n_in, v, dtype=np.int8) for v in (x_type.signed, x_type.integer - x_type.signed, x_type.fraction)]
    start = FVArray.from_kif(*kif, HWConfig(1, -1, -1), 0, {"hard_dc": 2})
    codes = np.random.default_rng(0).integers(x_type.min_code, x_type.max_code + 1, (200, n_in))
    x, values = start, codes * x_type.lsb
    for layer in spec.layers:
        weight, bias = layer.weight.T * layer.weight_type.lsb, layer.bias * layer.bias_type.lsb
        x, values = x @ weight + bias, values @ weight + bias
        if layer.relu:
            x, values = x.relu(), np.maximum(values, 0)
        y = layer.output_type
        if y is not None:
            modes = {"overflow_mode": y.overflow.removeprefix("AP_"), "round_mode": y.rounding.removeprefix("AP_")}
            x, values = quantize(x, int(y.signed), y.integer - int(y.signed), y.fraction, **modes), y.quantize(values)
    logic = trace(start, x)
    if not np.array_equal(logic.predict((codes * x_type.lsb).astype(np.float64)), values):
        raise SystemExit("alkaid's logic differs from integer arithmetic: the comparison would be meaningless")
    return logic


def map_network(spec: NetworkSpec, pipelined: bool) -> Mapped:
    """Verilog and LUT mapping of one network; ``pipelined`` puts registers after every ADDERS_PER_STAGE adders."""
    from alkaid.codegen import RTLModel

    logic = network_in_alkaid(spec)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cutoff = ADDERS_PER_STAGE if pipelined else -1
        model = RTLModel(logic, folder, "model", flavor="verilog", latency_cutoff=cutoff, print_latency=False, ternary_fuse=False)
        model.write()
        sources = [p for p in Path(folder, "src").rglob("*.v") if "wrapper" not in p.name]
        out = Path(folder, "stat.json")
        command = [sys.executable, "-c", WORKER, str(out), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise SystemExit(f"yosys failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        cells = json.loads(out.read_text())["design"]["num_cells_by_type"]
    return Mapped(
        lut=sum(n for cell, n in cells.items() if re.fullmatch("LUT[1-6]|INV", cell)),
        ff=sum(n for cell, n in cells.items() if cell.startswith("FD")),
        dsp=sum(n for cell, n in cells.items() if cell.startswith("DSP")),
        stages=round(model.latency) if pipelined and model.latency is not None else None,
        alkaid_cost=float(logic.cost),
        seconds=round(time.perf_counter() - started, 2),
    )

"""How far the analytic cost model is from mapped hardware.

    python benchmarks/cost_model.py [--quick] [--fit] [--record FILE]

Random dense layers and small networks are built by alkaid (distributed arithmetic, Verilog) and mapped to LUTs by
Yosys; the LUTs, registers and pipeline stages found there are compared with ``AnalyticCost``. The networks that the
constants of ``trigger_prune.cost.analytic`` were fitted on (``--fit`` maps them too and prints the fit) are drawn from
other seeds than those of the comparison. Weights are random: nothing here says anything about a trained network's
accuracy. No vendor tool is run.

Prints a table and writes ``benchmarks/results/cost_model.json``.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _result import write_json, write_result
from torch import nn

from trigger_prune.cost import analytic
from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.dataflow import live_layers
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.layers import FixedQuantizer
from trigger_prune.synthesis.rtl.cost import RtlCost
from trigger_prune.target import Target

FIT_SAMPLES = ((20, 30), (22, 20))
VALIDATION_SAMPLE = (23, 24)
"""Seed and number of networks; no network is in both."""

MIN_LUT = 100
"""Smaller networks say more about constant folding than about adders."""


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
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        activated = i < len(sizes) - 2 or index % 3 == 1
        layers.append(random_layer(rng, n_out, n_in, sparsity, wire, activated, f"dense{i}"))
        wire = layers[-1].output_type or wire
    return NetworkSpec(tuple(layers), input_type, (sizes[0],), sizes[-1])


def as_module(spec: NetworkSpec) -> nn.Module:
    """Plain torch layers with exactly the values of ``spec``; dense layers only."""
    modules: list[nn.Module] = []
    for layer in spec.layers:
        linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weight * layer.weight_type.lsb))
            linear.bias.copy_(torch.from_numpy(layer.bias * layer.bias_type.lsb))
        modules.append(linear)
        if layer.relu:
            modules.append(nn.ReLU())
        if layer.output_type is not None:
            modules.append(FixedQuantizer(layer.output_type))
    return nn.Sequential(*modules)


def mapped(spec: NetworkSpec) -> HardwareReport:
    """Cost of the alkaid Verilog under Yosys; its bits were compared with the network's before."""
    return RtlCost().measure_frozen(as_module(spec), spec.input_type, spec.input_shape, Target(), spec.content_hash())


def map_sample(seed: int, count: int) -> list[tuple[NetworkSpec, HardwareReport]]:
    """Random networks with their mapped cost; those whose outputs are constants, or below MIN_LUT, are left out."""
    found = []
    for index in range(count):
        spec = random_network(np.random.default_rng([seed, index]), index)
        try:
            report = mapped(spec)
        except CostError as error:
            print(f"seed {seed} network {index}: left out ({error.message})", flush=True)
            continue
        if report.lut < MIN_LUT:
            print(f"seed {seed} network {index}: left out ({report.lut} LUT)", flush=True)
            continue
        print(f"seed {seed} network {index}: {describe(spec)}, {report.lut} LUT", flush=True)
        found.append((spec, report))
    return found


def describe(spec: NetworkSpec) -> str:
    """Shape and number of non-zero weights, ``16-32-5 (210 of 672)``."""
    sizes = [spec.input_shape[0], *(len(layer.weight) for layer in spec.layers)]
    return f"{'-'.join(map(str, sizes))} ({spec.nonzeros} of {spec.n_weights})"


def fit(sample: list[tuple[NetworkSpec, HardwareReport]]) -> dict[str, float]:
    """The constants of ``analytic`` that fit best: robust least squares in the logarithm of the LUT count."""
    from scipy.optimize import least_squares

    terms = [[(live.trees, analytic.conversion_bits(live)) for live in live_layers(spec)] for spec, _ in sample]
    log_lut = np.log([report.lut for _, report in sample])

    def residuals(constants: np.ndarray) -> np.ndarray:
        adder, sharing, relu, saturation = constants
        predicted = [
            sum(
                adder * tree.adder_bits * (max(tree.terms, 1) / max(tree.inputs, 1)) ** -sharing
                + relu * bits.relu
                + saturation * bits.saturation
                for tree, bits in layers
            )
            for layers in terms
        ]
        return np.log(predicted) - log_lut

    found = least_squares(residuals, [0.8, 0.1, 0.5, 0.5], bounds=(0, 5), loss="soft_l1", f_scale=0.1).x
    return dict(zip(("ADDER_LUT", "SHARING", "RELU_LUT", "SATURATION_LUT"), np.round(found, 3).tolist(), strict=True))


def errors(sample: list[tuple[NetworkSpec, HardwareReport]], prefix: str) -> dict[str, float]:
    """Relative errors of ``AnalyticCost`` on a sample, and its speed next to the tools'."""
    model = AnalyticCost()
    started = time.perf_counter()
    estimates = [model.estimate(spec, Target()) for spec, _ in sample]
    estimate_s = time.perf_counter() - started
    lut, ff, cycles = (
        np.array(
            [[getattr(e, name), getattr(r, name)] for e, (_, r) in zip(estimates, sample, strict=True)], dtype=float
        )
        for name in ("lut", "ff", "latency_cycles")
    )
    lut_error, ff_error = np.abs(lut[:, 0] / lut[:, 1] - 1), np.abs(ff[:, 0] / ff[:, 1] - 1)
    large = lut[:, 1] >= 1000
    tools_s = sum(report.details["trace_seconds"] + report.details["yosys_seconds"] for _, report in sample)
    figures = {
        "networks": len(sample),
        "lut_smallest": int(lut[:, 1].min()),
        "lut_largest": int(lut[:, 1].max()),
        "lut_error_median": float(np.median(lut_error)),
        "lut_error_90": float(np.quantile(lut_error, 0.9)),
        "lut_error_max": float(lut_error.max()),
        "lut_bias_median": float(np.median(lut[:, 0] / lut[:, 1]) - 1),
        "networks_from_1000_lut": int(large.sum()),
        "lut_error_90_from_1000_lut": float(np.quantile(lut_error[large], 0.9)) if large.any() else float("nan"),
        "ff_error_median": float(np.median(ff_error)),
        "ff_error_90": float(np.quantile(ff_error, 0.9)),
        "latency_exact_fraction": float((cycles[:, 0] == cycles[:, 1]).mean()),
        "latency_error_max_cycles": int(np.abs(cycles[:, 0] - cycles[:, 1]).max()),
        "tools_over_formula_time": tools_s / estimate_s,
    }
    return {f"{prefix}_{key}": round(value, 4) for key, value in figures.items()}


def table(sample: list[tuple[NetworkSpec, HardwareReport]]) -> str:
    """One line per network: mapped and estimated."""
    lines = [
        f"{'network (non-zero weights)':36} {'LUT':>7} {'est.':>7} {'error':>7} {'FF':>6} {'est.':>6} {'cycles':>6} "
        f"{'est.':>5}"
    ]
    for spec, report in sample:
        e = AnalyticCost().estimate(spec, Target())
        lines.append(
            f"{describe(spec):36} {report.lut:7} {e.lut:7} {e.lut / report.lut - 1:+7.1%} {report.ff:6} {e.ff:6} "
            f"{report.latency_cycles:6} {e.latency_cycles:5}"
        )
    return "\n".join(lines)


def record(sample: list[tuple[NetworkSpec, HardwareReport]]) -> list[dict[str, Any]]:
    """Mapped networks as JSON, with their integer weights (the fixture of the cost tests)."""
    return [
        {
            "lut": report.lut,
            "ff": report.ff,
            "latency_cycles": report.latency_cycles,
            "layers": [
                {
                    "weight": layer.weight.tolist(),
                    "bias": layer.bias.tolist(),
                    "weight_type": str(layer.weight_type),
                    "input_type": str(layer.input_type),
                    "output_type": str(layer.output_type) if layer.output_type else None,
                }
                for layer in spec.layers
            ],
        }
        for spec, report in sample
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Error of the analytic cost model against mapped hardware.")
    parser.add_argument("--quick", action="store_true", help="six networks instead of all")
    parser.add_argument(
        "--fit", action="store_true", help="also map the calibration sample and print the fitted constants"
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write the smaller mapped networks of the comparison"
    )
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    if arguments.fit:
        fit_sample = [network for seed, count in FIT_SAMPLES for network in map_sample(seed, count)]
        print("fitted constants:", fit(fit_sample))
        figures |= errors(fit_sample, "fit")
    seed, count = VALIDATION_SAMPLE
    sample = map_sample(seed, 6 if arguments.quick else count)
    figures |= errors(sample, "validation")
    print(table(sample))
    for figure, value in figures.items():
        print(f"{figure:40} {value}")
    if arguments.record:
        small = [network for network in sample if network[0].n_weights <= 1000]
        write_json(arguments.record, {"networks": record(small)}, indent=None)
    name = "cost_model_quick" if arguments.quick else "cost_model"
    write_result(name, figures, ("trigger_prune", "alkaid", "pyosys", "numpy", "torch"))


if __name__ == "__main__":
    main()

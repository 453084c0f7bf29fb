"""Layers of strategy resource: how far estimates are from csynth by reuse factor and bits, and how far their ratios.

    python benchmarks/hls_resource.py --reports DIR [--reports DIR ...]

DIR as in ``hls_cost.py``. Every estimate is by coefficients fitted without its project (and, for comparison, without
its network); the 68 and 90 % intervals are made without the errors of the project. All of these reports are of Vivado
HLS 2019.1 to 2020.1 with inputs of 16 or 20 bits: none is of Vitis HLS.

Prints quantiles of estimate / truth and writes ``benchmarks/results/hls_resource.json``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from _result import write_result

from trigger_prune.cost.calibration.fit import held_out, network_folds, project_folds, with_intervals
from trigger_prune.cost.calibration.metrics import errors
from trigger_prune.cost.calibration.prediction_interval import ratio, spread_of
from trigger_prune.cost.calibration.predictions import Prediction
from trigger_prune.cost.calibration.reuse_ratios import ratio_errors
from trigger_prune.cost.hls.design import HlsLayer
from trigger_prune.cost.hls.reuse_factor import multiplication_size
from trigger_prune.synthesis.calibration.collect import collect_samples

FAMILIES = ("dense_resource", "conv")
QUANTITIES = ("lut", "ff", "dsp", "latency_cycles")


def reuse_class(layer: HlsLayer) -> str:
    """Reuse factor against the inputs: what the compiler builds changes at n_in and behind 2 n_in."""
    n_in, _ = multiplication_size(layer)
    factor = layer.reuse_factor
    if factor <= n_in:
        return "RF < n_in" if factor < n_in else "RF = n_in"
    return "RF = 2 n_in" if factor == 2 * n_in else "RF > 2 n_in"


def weight_bits(layer: HlsLayer) -> str:
    """Width of the weights."""
    return f"{layer.weight_type.width if layer.weight_type else layer.input_type.width} bits"


def held(found: Sequence[Prediction]) -> float:
    """Share of intervals, rounded outwards, that hold the truth."""
    return errors([p.predicted for p in found], [p.true for p in found], [p.interval for p in found]).coverage


def line(label: str, at_90: Sequence[Prediction], at_68: Sequence[Prediction]) -> dict[str, float]:
    """Print one line; figures of it."""
    quotients = [1 / ratio(p) for p in at_90]
    low, median, high = np.quantile(quotients, (0.05, 0.5, 0.95))
    figures = {
        "layers": float(len(at_90)),
        "q05": float(low),
        "median": float(median),
        "q95": float(high),
        "held_68": held(at_68),
        "held_90": held(at_90),
    }
    print(
        f"{label:62}{len(at_90):5}  {low:5.2f} {median:5.2f} {high:5.2f}   {figures['held_68']:.2f} "
        f"{figures['held_90']:.2f}"
    )
    return figures


def main() -> None:
    """Print the tables, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path, action="append", required=True, metavar="DIR")
    samples = collect_samples(parser.parse_args().reports)
    layers = {o.fingerprint: s.layer for s, o in zip(samples.layers, samples.layer_origins, strict=True)}
    by_network, by_project = held_out(samples, network_folds(samples)), held_out(samples, project_folds(samples))
    figures: dict[str, float] = {}
    groupings: tuple[Callable[[HlsLayer], str], ...] = (reuse_class, weight_bits)
    for split, predictions in (("project", by_project), ("network", by_network)):
        at_90, at_68 = (
            with_intervals(predictions, by_network, by_project, split, coverage)  # type: ignore[arg-type]
            for coverage in (0.90, 0.68)
        )
        print(f"\n{split} held out: estimate / truth{'':32}layers   5 %   50 %  95 %   in 68 % and 90 % interval")
        for family in FAMILIES:
            for quantity in QUANTITIES:
                chosen = [
                    i
                    for i, p in enumerate(at_90)
                    if (p.family, p.quantity) == (family, quantity) and layers[p.fingerprint].reuse_factor > 1
                ]
                for grouping in groupings:
                    keys = [(at_90[i].project.split("+")[0], grouping(layers[at_90[i].fingerprint])) for i in chosen]
                    for key in sorted(set(keys)):
                        of_key = [i for i, own in zip(chosen, keys, strict=True) if own == key]
                        label = f"{family}, {quantity}, {key[0]}, {key[1]}"
                        found = line(label, [at_90[i] for i in of_key], [at_68[i] for i in of_key])
                        figures |= {f"{split}, {label}, {name}": value for name, value in found.items()}
                if not chosen:
                    continue
                everything = line(f"{family}, {quantity}, all", [at_90[i] for i in chosen], [at_68[i] for i in chosen])
                figures |= {f"{split}, {family}, {quantity}, all, {n}": value for n, value in everything.items()}
    figures |= ratio_table(ratio_errors(samples, by_project))
    write_result("hls_resource", {name: round(value, 4) for name, value in figures.items() if value == value},
                 ("trigger_prune", "numpy", "scipy"))  # fmt: skip


def ratio_table(pairs: Sequence[Prediction]) -> dict[str, float]:
    """Errors of the ratio of two reuse factors of one layer, and how often the interval from other projects holds."""
    figures: dict[str, float] = {}
    print("\nratio of two reuse factors of one layer, project held out: |log error| at 50, 68, 90 %; in 90 % interval")
    for quantity in ("lut", "ff"):
        of_quantity = [p for p in pairs if p.quantity == quantity]
        for project in sorted({p.project for p in of_quantity}):
            own = [p for p in of_quantity if p.project == project]
            others = [p for p in of_quantity if p.project != project]
            sizes = np.abs([math.log(ratio(p)) for p in own])
            low, high = spread_of(others)[quantity] if others else (math.nan, math.nan)
            inside = float(np.mean([low <= ratio(p) <= high for p in own]))
            values = dict(zip(("q50", "q68", "q90"), map(float, np.quantile(sizes, (0.5, 0.68, 0.9))), strict=True))
            print(f"{quantity}, {project}: {len(own)} pairs, {values}, {inside:.2f}")
            figures |= {f"ratio, {quantity}, {project}, {name}": value for name, value in values.items()}
            figures[f"ratio, {quantity}, {project}, held_90"] = inside
    return figures


if __name__ == "__main__":
    main()

"""The latency-strategy estimate against a sweep that no fit of it has used: wa-hls4ml-search, Vivado HLS 2020.1.

    python benchmarks/hls_cost_unseen.py TABLE.csv

TABLE.csv is the public table of single dense layers (``dense_layers_wa_ntorc.csv``). It does not state the weights.
They are drawn as Keras initialises them (Glorot uniform) on the grid ap_fixed<bits, 1>, once per seed: layers like
those are compared, not those themselves. A ReLU of 16 bits per output follows, as the table's layers have one.

Prints SMAPE over the layers, mean and standard deviation over the seeds, and writes
``benchmarks/results/hls_cost_unseen.json``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _result import write_result

from trigger_prune.cost.calibration.metrics import smape
from trigger_prune.cost.calibration.rows import Row, read_rows
from trigger_prune.cost.calibration.sweep_tables import DATA, WA_HLS4ML
from trigger_prune.cost.hls.calibration import shipped_calibration
from trigger_prune.cost.hls.design import HlsDesign, HlsLayer
from trigger_prune.cost.hls.network import predict_design
from trigger_prune.fixed_point import FixedPoint

SEEDS = 5
COLUMNS = {"lut": "lut", "ff": "ff", "dsp": "dsp", "latency_cycles": "lat_max", "ii": "ii_max"}


def layers_of(rows: Sequence[Row], seed: int) -> list[tuple[HlsLayer, Row]]:
    """One layer with drawn weights for every finished row of strategy latency."""
    found = []
    for row in rows:
        sweep = (row.text("source") or "").startswith("wa-hls4ml")
        if not sweep or row.text("strategy") != "latency" or not row.flag("success"):
            continue
        n_in, n_out, bits, reuse = (row.required_integer(name) for name in ("n_in", "n_out", "prec_bits", "rf"))
        limit = math.sqrt(6 / (n_in + n_out))
        weights = FixedPoint(bits, 1)
        values = np.random.default_rng((seed, n_in, n_out)).uniform(-limit, limit, (n_out, n_in))
        codes = np.clip(np.floor(values / weights.lsb), weights.min_code, weights.max_code).astype(np.int64)
        layer = HlsLayer(
            row.source, "dense", n_in, n_out, DATA, DATA, "latency", reuse, accum_type=DATA, weight=codes,
            weight_type=weights, bias=np.zeros(n_out, dtype=np.int64), bias_type=weights,
        )  # fmt: skip
        found.append((layer, row))
    return found


def errors_of(rows: Sequence[Row], seed: int, shared: bool) -> dict[str, float]:
    """SMAPE by quantity over the layers of reuse factor 1, or of those above."""
    calibration = shipped_calibration()
    predicted: dict[str, list[float]] = {name: [] for name in COLUMNS}
    true: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for layer, row in layers_of(rows, seed):
        if (layer.reuse_factor > 1) != shared:
            continue
        relu = HlsLayer("relu", "relu", layer.n_out, layer.n_out, DATA, DATA)
        estimate, _ = predict_design(HlsDesign((layer, relu), WA_HLS4ML), calibration)
        for name, column in COLUMNS.items():
            predicted[name].append(getattr(estimate, name) or 0.0)
            true[name].append(row.real(column) or 0.0)
    return {
        "layers": len(true["lut"]),
        **{name: float(np.mean(smape(predicted[name], true[name]))) for name in COLUMNS},
    }


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, metavar="TABLE.csv")
    rows = read_rows(parser.parse_args().table, ("source", "n_in", "n_out", "prec_bits", "rf", "strategy", "success"))
    figures: dict[str, float] = {"seeds": SEEDS}
    for shared, label in ((False, "rf_1"), (True, "rf_above_1")):
        seeds = [errors_of(rows, seed, shared) for seed in range(1, SEEDS + 1)]
        figures[f"{label}_layers"] = seeds[0]["layers"]
        print(f"\n{label}: {seeds[0]['layers']} layers, SMAPE in %")
        for name in COLUMNS:
            values = [one[name] for one in seeds]
            figures[f"{label}_{name}_smape"] = round(float(np.mean(values)), 2)
            figures[f"{label}_{name}_smape_sd"] = round(float(np.std(values, ddof=1)), 2)
            print(f"{name:16}{np.mean(values):7.1f} +- {np.std(values, ddof=1):.1f}")
    write_result("hls_cost_unseen", figures, ["trigger_prune", "numpy"])


if __name__ == "__main__":
    main()

"""How fast the formulas of the HLS cost model are.

    python benchmarks/hls_cost_speed.py [--quick]

Dense layers with random 8-bit weights: one estimate of one layer, and (strategy latency) many masks of one layer at
once. Process time of one thread, median of several repetitions. Every mask of the batch is also estimated alone once,
and the results must agree.

Prints a table and writes ``benchmarks/results/hls_cost_speed.json``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from _result import write_result

from trigger_prune.cost.hls.calibration import shipped_calibration
from trigger_prune.cost.hls.dense_latency import DEFAULTS, predict
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting, Strategy
from trigger_prune.cost.hls.layers import predict_layer
from trigger_prune.cost.hls.masks import mask_costs, masked_layer
from trigger_prune.fixed_point import FixedPoint

SETTING = HlsSetting("vitis_hls", "2024.1", "xcvu13p-flga2577-2-e", "virtexuplus", 5.0)
LAYERS = ((16, 16), (64, 32), (64, 64), (128, 128))
"""Inputs and outputs."""
OTHERS: dict[Strategy, int] = {"resource": 8, "resource_unrolled": 8, "distributed_arithmetic": 1}
"""Other strategies, with their reuse factor."""
MASKED = (64, 32)
LIMIT_MS, LIMIT_PER_SECOND = 5.0, 1000
DENSITIES = (0.9, 0.5, 0.1)


def random_layer(n_in: int, n_out: int) -> HlsLayer:
    """A dense layer with random weights of 8 bits."""
    rng = np.random.default_rng(n_in + n_out)
    return HlsLayer(
        name="dense",
        kind="dense",
        n_in=n_in,
        n_out=n_out,
        input_type=FixedPoint(10, 4),
        output_type=FixedPoint(20, 10),
        accum_type=FixedPoint(20, 10),
        weight=rng.integers(-128, 128, (n_out, n_in)),
        weight_type=FixedPoint(8, 1),
        bias=rng.integers(-100, 100, n_out),
        bias_type=FixedPoint(12, 3),
    )


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median process time of a call."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    """Measure, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 masks and 5 repetitions instead of 2000 and 21")
    quick = parser.parse_args().quick
    count, repeats = (200, 5) if quick else (2000, 21)
    figures: dict[str, float] = {}
    for n_in, n_out in LAYERS:
        layer = random_layer(n_in, n_out)
        milliseconds = 1e3 * seconds(lambda layer=layer: predict(layer, SETTING, DEFAULTS), repeats)  # type: ignore[misc]
        figures[f"layer_{n_in}x{n_out}_ms"] = round(milliseconds, 3)
        print(f"one estimate, {n_in:>3} x {n_out:<3}   {milliseconds:8.2f} ms   (limit {LIMIT_MS:g} ms to 64 x 64)")
    calibration = shipped_calibration()
    for strategy, reuse_factor in OTHERS.items():
        layer = replace(random_layer(64, 64), strategy=strategy, reuse_factor=reuse_factor)
        milliseconds = 1e3 * seconds(lambda layer=layer: predict_layer(layer, SETTING, calibration), repeats)  # type: ignore[misc]
        figures[f"{strategy}_64x64_ms"] = round(milliseconds, 3)
        print(f"{strategy:<23} 64 x 64 {milliseconds:8.2f} ms")
    layer = random_layer(*MASKED)
    rng = np.random.default_rng(0)
    for density in DENSITIES:
        masks = rng.random((count, layer.n_out, layer.n_in)) < density
        costs = mask_costs(layer, SETTING, DEFAULTS, masks)
        for index in range(0, count, max(count // 50, 1)):
            alone = predict(masked_layer(layer, masks[index]), SETTING, DEFAULTS)
            found = (costs.lut[index], costs.ff[index], costs.dsp[index], costs.latency_cycles[index])
            if not np.allclose(
                found, np.array([alone.lut, alone.ff, alone.dsp, alone.latency_cycles], dtype=np.float64)
            ):
                raise SystemExit(f"mask {index}: {found} together, {alone} alone")
        rate = count / seconds(lambda masks=masks: mask_costs(layer, SETTING, DEFAULTS, masks), min(repeats, 5))  # type: ignore[misc]
        figures[f"masks_per_second_density_{density:g}"] = round(rate)
        print(f"masks of {MASKED[0]} x {MASKED[1]}, {density:.0%} kept {rate:10.0f} /s   (limit {LIMIT_PER_SECOND} /s)")
    write_result("hls_cost_speed_quick" if quick else "hls_cost_speed", figures, ("trigger_prune", "numpy"))


if __name__ == "__main__":
    main()

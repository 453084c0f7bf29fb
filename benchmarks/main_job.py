"""The main job on the shipped jets, for several seeds: accuracy, cost, bits, time.

    python benchmarks/main_job.py [--quick] [--seeds 1 2 3]

Every seed is one ``trigger-prune run hls_projects/jet_tagger --seed N`` in a folder of its own (kept between calls, so
a finished seed is loaded). ``--quick`` runs seed 1 with a tenth of the epochs, to see that the benchmark works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _result import write_result

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "hls_projects" / "jet_tagger"
QUICK = {
    "train.epochs": 6,
    "quantize.epochs": 2,
    "baseline.epochs": 2,
    "prune.epochs_per_round": 4,
    "prune.final_epochs": 4,
}
COLUMNS = (
    ("float_accuracy", "float.accuracy"),
    ("float_auc", "float.auc"),
    ("dense_accuracy", "dense.accuracy"),
    ("deployed_accuracy", "deployed.accuracy"),
    ("deployed_auc", "deployed.auc"),
    ("accuracy_drop", "accuracy_drop.value"),
    ("accuracy_drop_error", "accuracy_drop.error"),
    ("dense_lut", "dense.lut"),
    ("deployed_lut", "deployed.lut"),
    ("lut_ratio", "lut_ratio"),
    ("deployed_ff", "deployed.ff"),
    ("deployed_dsp", "deployed.dsp"),
    ("deployed_latency_cycles", "deployed.latency_cycles"),
    ("deployed_nonzeros", "deployed.nonzeros"),
    ("deployed_inputs", "deployed.inputs_used"),
    ("wall_s", "timings_s.total"),
)


def run_seed(seed: int, quick: bool) -> dict[str, Any]:
    """Figures of one seed."""
    out = PROJECT / "build" / ("benchmark_quick" if quick else "benchmark") / f"seed{seed}"
    command = [sys.executable, "-m", "trigger_prune", "run", str(PROJECT), "--seed", str(seed), "--out", str(out)]
    for key, value in (QUICK if quick else {}).items():
        command += ["--set", f"{key}={value}"]
    start = time.perf_counter()
    subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def lookup(summary: dict[str, Any], dotted: str) -> Any:
    """The value under a dotted key."""
    value: Any = summary
    for part in dotted.split("."):
        value = value[part]
    return value


def main() -> None:
    """Run, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seed 1 with few epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    seeds = [1] if options.quick else options.seeds
    summaries = {seed: run_seed(seed, options.quick) for seed in seeds}
    figures: dict[str, float] = {}
    print(f"{'figure':<26}" + "".join(f"{f'seed {seed}':>12}" for seed in seeds) + f"{'mean':>12}{'sd':>10}")
    for name, dotted in COLUMNS:
        found = [lookup(summaries[seed], dotted) for seed in seeds]
        values = [float(len(value) if isinstance(value, list) else value) for value in found]
        mean, deviation = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        figures |= {f"{name}_seed{seed}": round(value, 5) for seed, value in zip(seeds, values, strict=True)}
        figures |= {f"{name}_mean": round(mean, 5), f"{name}_sd": round(deviation, 5)}
        print(f"{name:<26}" + "".join(f"{value:>12.5g}" for value in values) + f"{mean:>12.5g}{deviation:>10.2g}")
    mismatches = sum(count for summary in summaries.values() for count in summary["verify"]["mismatches"].values())
    figures["mismatches_all_pairs"] = mismatches
    figures["test_events"] = summaries[seeds[0]]["verify"]["events"]
    print(f"mismatching events, all pairs and seeds: {mismatches} (of {figures['test_events']} per pair)")
    packages = ("trigger_prune", "torch", "onnxruntime", "qonnx", "hls4ml", "alkaid", "pyosys")
    stage = summaries[seeds[0]]["deployed"]["cost_stage"]
    write_result("main_job_quick" if options.quick else "main_job", figures, packages, cost_stage=stage)


if __name__ == "__main__":
    main()

"""The level-1 projects end to end: signal efficiency at fixed rates beside the cut menu, cost, bits, time.

    python benchmarks/level1_projects.py [--quick] [--projects NAME ..] [--seeds 1 2 3] [--one-seed NAME ..]

Every row of a network is ``trigger-prune run hls_projects/PROJECT --seed N`` in a folder of its own (kept, so that a
finished seed is loaded). Thresholds are set on validation, figures are of test events. ``--quick`` runs seed 1
of each project with few epochs, to see that the benchmark works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _result import write_result

ROOT = Path(__file__).parents[1]
PROJECTS = ("hh4b_trigger", "anomaly", "calo_cnn")
QUICK = {
    "teacher.epochs": 3,
    "train.epochs": 4,
    "quantize.epochs": 2,
    "baseline.epochs": 2,
    "prune.epochs_per_round": 4,
    "prune.final_epochs": 4,
}
MAIN_KHZ = 100.0
FEW_EVENTS = 100
PACKAGES = ("trigger_prune", "torch", "onnxruntime", "qonnx", "hls4ml", "alkaid", "pyosys")


def run_seed(project: str, seed: int, quick: bool) -> dict[str, Any]:
    """Summary of one run."""
    folder = ROOT / "hls_projects" / project
    out = folder / "build" / ("benchmark_quick" if quick else "benchmark") / f"seed{seed}"
    command = [sys.executable, "-m", "trigger_prune", "run", str(folder), "--seed", str(seed), "--out", str(out)]
    for key, value in (QUICK if quick else {}).items():
        command += ["--set", f"{key}={value}"]
    subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    print(f"{project} seed {seed}: {summary['timings_s']['total']:.0f} s of stages", flush=True)
    return summary


def point_at(points: list[dict[str, Any]], khz: float) -> dict[str, Any]:
    """The working point of a target rate."""
    return next(point for point in points if point["target_khz"] == khz)


def figures_of(summary: dict[str, Any]) -> dict[str, float]:
    """Flat figures of one run: efficiency per row and signal at every rate, how the rates moved, cost."""
    trigger = summary["trigger"]
    found: dict[str, float] = {}
    rows = {**trigger["networks"], **(trigger["cuts"] or {})}
    for row, points in rows.items():
        for point in points:
            at = f"{row}.{point['target_khz']:g}khz"
            found |= {f"{at}.{name}": value["value"] for name, value in point["efficiency"].items()}
            found[f"{at}.rate_khz"] = point["test"]["rate_khz"]
            found[f"{at}.n_effective"] = min(point["test"]["n_effective"], point["validation"]["n_effective"])
            if point["moved"] is not None:
                found[f"{at}.moved"] = point["moved"]
    for network in ("dense", "deployed"):
        found[f"{network}.lut"] = summary[network]["lut"]
        found[f"{network}.latency_ns"] = summary[network]["latency_ns"]
    found["mismatches"] = sum(summary["verify"]["mismatches"].values())
    found["verified_events"] = summary["verify"]["events"]
    found["seconds"] = summary["timings_s"]["total"]
    return found


def table(project: str, runs: list[dict[str, float]], signals: list[str]) -> None:
    """Efficiency of every row at the main rate, mean and standard deviation over seeds."""
    print(f"\n{project}: efficiency at {MAIN_KHZ:g} kHz, mean +- standard deviation over {len(runs)} seeds")
    print(f"{'row':<24}" + "".join(f"{name:>18}" for name in signals) + f"{'rate moved':>18}")
    at = f".{MAIN_KHZ:g}khz."
    for row in dict.fromkeys(key.split(at)[0] for key in runs[0] if at in key):
        few = min(run[f"{row}{at}n_effective"] for run in runs) < FEW_EVENTS
        cells = [_mean([run[f"{row}{at}{name}"] for run in runs], 4) + (" !" if few else "") for name in signals]
        moved = _mean([100 * run.get(f"{row}{at}moved", float("nan")) for run in runs], 1)
        print(f"{row:<24}" + "".join(f"{cell:>18}" for cell in cells) + f"{moved + ' %':>18}")
    print(f"!: the rate rests on fewer than {FEW_EVENTS} effective background events")
    print(f"LUT dense {_mean([run['dense.lut'] for run in runs], 0)}, deployed", end=" ")
    print(f"{_mean([run['deployed.lut'] for run in runs], 0)}; stages {_mean([run['seconds'] for run in runs], 0)} s")


def _mean(values: list[float], digits: int) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean}+-{statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def main() -> None:
    """Run, print a table per project, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seed 1 with few epochs")
    parser.add_argument("--projects", nargs="+", default=PROJECTS, choices=PROJECTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--one-seed", nargs="*", default=[], choices=PROJECTS, help="projects to run with seed 1 only")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for project in options.projects:
        seeds = [1] if options.quick or project in options.one_seed else options.seeds
        summaries = [run_seed(project, seed, options.quick) for seed in seeds]
        runs = [figures_of(summary) for summary in summaries]
        table(project, runs, summaries[0]["trigger"]["signals"])
        for seed, run in zip(seeds, runs, strict=True):
            figures |= {f"{project}.seed{seed}.{key}": round(value, 6) for key, value in run.items()}
    write_result("level1_projects_quick" if options.quick else "level1_projects", figures, PACKAGES)


if __name__ == "__main__":
    main()

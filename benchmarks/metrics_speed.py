"""How fast, and in how much memory, ten million weighted events become the figures of a report.

    python benchmarks/metrics_speed.py [--rows N]

Half of the rows are validation, half test: nine tenths background whose weights fall where the score rises (as in
pT-hat bins; every collision used five times), the rest three signal processes (used eight times). Measured in a
process of its own: working points at 1, 10 and 100 kHz, efficiency against rate for every signal, ROC curves down to
1e-5; and, apart, the paired difference of two networks at equal rate with 200 bootstrap replicas. Process time of
one thread. The peak memory is that of the process, events included.

Prints a table and writes ``benchmarks/results/metrics_speed.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
from _result import write_result

from trigger_prune.physics.efficiency_curves import efficiency_curves, roc_curves
from trigger_prune.physics.equal_efficiency import rank_background
from trigger_prune.physics.equal_rate import paired_efficiency_difference
from trigger_prune.physics.scored_events import ScoredEvents
from trigger_prune.physics.working_points import working_points

CROSSINGS_HZ = 30.9e6
SIGNALS = ("HH4b", "VBFHbb", "ttbar")
LIMIT_S, LIMIT_GB = 5.0, 2.0
PAIRED_ROWS, REPLICAS, PAIRED_LIMIT_S = 500_000, 200, 10.0


def events(rows: int, seed: int) -> ScoredEvents:
    """Scores of background and signal with weights and repeated collisions."""
    generator = np.random.default_rng(seed)
    signal = np.where(generator.random(rows) < 0.9, -1, generator.integers(0, len(SIGNALS), rows))
    scores = generator.normal(1.5 * (signal >= 0), 1.0)
    weights = np.where(signal < 0, np.exp(-2 * scores), 1.0)
    weights *= np.where(signal < 0, CROSSINGS_HZ / weights[signal < 0].sum(), 1.0)
    groups = np.where(signal < 0, np.arange(rows) // 5, rows + np.arange(rows) // 8)
    return ScoredEvents(scores, signal, weights, groups, SIGNALS)


def peak_gb() -> float:
    """Largest memory this process ever had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measure(rows: int) -> dict[str, float]:
    """All figures, measured in this process."""
    validation, test = events(rows // 2, 1), events(rows - rows // 2, 2)
    figures = {"rows": float(rows), "events_gb": round(peak_gb(), 2)}
    times = [time.process_time()]
    background = rank_background(test)
    times.append(time.process_time())
    points = working_points(validation, test, test_background=background)
    times.append(time.process_time())
    curves = efficiency_curves(test, background=background)
    times.append(time.process_time())
    rocs = roc_curves(test, background=background)
    times.append(time.process_time())
    names = ("sort_s", "working_points_s", "efficiency_curves_s", "roc_curves_s")
    figures |= dict(zip(names, np.diff(times).tolist(), strict=True)) | {"total_s": times[-1] - times[0]}
    figures["peak_gb"] = round(peak_gb(), 2)
    if len(points) != 3 or len(curves) != len(SIGNALS) or len(rocs) != len(SIGNALS):
        sys.exit("figures are missing")
    return figures


def measure_pair(rows: int) -> dict[str, float]:
    """The paired difference: a second network that scores like the first with a little noise."""
    reference = events(rows, 3)
    noise = np.random.default_rng(4).normal(size=rows)
    candidate = ScoredEvents(
        reference.scores + 0.2 * noise, reference.signal, reference.weights, reference.groups, SIGNALS
    )
    start = time.process_time()
    paired_efficiency_difference(reference, candidate, 100.0, SIGNALS[0], replicas=REPLICAS)
    return {"paired_rows": float(rows), "paired_s": time.process_time() - start, "paired_peak_gb": round(peak_gb(), 2)}


def in_subprocess(part: str, rows: int) -> dict[str, float]:
    """Figures of one part from a fresh process, so that its peak memory is its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--part", part, "--rows", str(rows)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Measure in subprocesses, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--part", choices=("metrics", "pair"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measure(options.rows) if options.part == "metrics" else measure_pair(options.rows)))
        return
    figures = in_subprocess("metrics", options.rows) | in_subprocess("pair", PAIRED_ROWS)
    figures = {name: round(value, 2) for name, value in figures.items()}
    for name, value in figures.items():
        print(f"{name:<30} {value:14.2f}")
    print(f"limits: total {LIMIT_S:g} s and {LIMIT_GB:g} GB; paired difference {PAIRED_LIMIT_S:g} s")
    write_result("metrics_speed", figures, ["trigger_prune", "numpy", "scipy"])
    if options.rows <= 10_000_000 and (
        figures["total_s"] > LIMIT_S or figures["peak_gb"] > LIMIT_GB or figures["paired_s"] > PAIRED_LIMIT_S
    ):
        sys.exit("slower or larger than the limits")


if __name__ == "__main__":
    main()

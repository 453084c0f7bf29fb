"""Solver (alone, and with refinement), uniform sparsity and a global magnitude ranking at equal measured LUTs.

    python benchmarks/equal_lut.py [--seeds 4 5 6] [--budgets 4500 5600] [--at 4800] [--jobs 2]
    python benchmarks/equal_lut.py --equal-epochs --seeds 13 14 15 --methods uniform global solver
    python benchmarks/equal_lut.py --long               # nearly as many epochs again, and twice as long; seeds 7 to 9

Each method's own loop meets two budgets, one on either side (``budget_loop.py`` has the methods and their settings);
accuracy and AUC on test events are read off the straight line in log LUT between the two networks of a seed. The
differences are paired by seed, which shares the trained network. Finished runs are kept and loaded.

The final trainings of ``budget_loop.py`` are equally long, but the loops differ in how often they repeat them: the
solver's comes out with two thirds of the epochs of uniform sparsity. ``--equal-epochs`` lengthens the final trainings
of the three allocations differently, so that their loops come nearer to each other, search and discarded trainings
included; how near is among the figures. Its lengths were set by the loops of seeds 4 to 6 with the solver by the
diagonal Fisher, after their accuracies were seen, and before any loop of seeds 7 to 15 was run. ``--long`` is the same
with trainings about twice as long, whose lengths, too, were set before.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from _result import write_result
from budget_loop import PROJECT, RANKED, run, work

EQUAL_EPOCHS: dict[str, int | None] = {
    "uniform": 190,
    "global": 260,
    "solver": 240,
    "solver_fisher": 240,
    "uniform_digits": None,
    "global_digits": None,
    "digits": None,
}
"""Final epochs of the comparison at nearly equal epochs of the whole loops; None: those of the method."""
LONG_EPOCHS: dict[str, int | None] = {"uniform": 480, "global": 480, "solver": 400, "solver_fisher": 400}
"""From the loops of seeds 4 to 6: about 1.2, 1.2 and 1.5 final trainings, and 70, 70 and 20 epochs of search."""


def at_equal_lut(points: list[dict[str, Any]], lut: int, name: str) -> float:
    """Figure ``name`` on the line through two networks, in log LUT."""
    low, high = sorted(points, key=lambda point: point["lut"])
    share = math.log(lut / low["lut"]) / math.log(high["lut"] / low["lut"])
    return float(low[name] + share * (high[name] - low[name]))


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error (0 for one value)."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def main() -> None:
    """Run, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", help="4 5 6, with --long 7 8 9")
    parser.add_argument("--budgets", type=int, nargs=2, default=[4500, 5600])
    parser.add_argument("--at", type=int, default=4800)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--methods", nargs="+", choices=list(EQUAL_EPOCHS), help="some of them only")
    lengths = parser.add_mutually_exclusive_group()
    lengths.add_argument("--equal-epochs", action="store_true", help="loops of nearly as many epochs")
    lengths.add_argument("--long", action="store_true", help="loops of nearly as many epochs, twice as long")
    options = parser.parse_args()
    usual = [7, 8, 9] if options.long else [4, 5, 6]
    seeds = options.seeds or usual
    base = PROJECT / "build" / "budget_loop"
    possible = LONG_EPOCHS if options.long else EQUAL_EPOCHS if options.equal_epochs else dict.fromkeys(RANKED)
    epochs = {method: possible[method] for method in options.methods or possible}
    jobs = [(method, seed, lut) for seed in seeds for lut in options.budgets for method in epochs]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda seed: work(seed, base / f"seed{seed}", "sensitivity", []), seeds))
        found = dict(zip(jobs, pool.map(lambda job: run(*job, False, epochs[job[0]]), jobs), strict=True))
    figures: dict[str, float] = {"at_lut": options.at}
    luts = {}
    value: dict[tuple[str, str], list[float]] = {}
    for method in epochs:
        for name in ("accuracy", "auc"):
            value[method, name] = [
                at_equal_lut([found[method, seed, lut] for lut in options.budgets], options.at, name) for seed in seeds
            ]
            mean, error = mean_and_error(value[method, name])
            figures |= {f"{method}_{name}_mean": round(mean, 5), f"{method}_{name}_error": round(error, 5)}
            print(f"{method:8s} {name:8s} at {options.at} LUT: {mean:.4f} +- {error:.4f}")
        every = [float(found[method, seed, lut]["epochs"]) for seed in seeds for lut in options.budgets]
        figures[f"{method}_epochs_mean"] = round(statistics.fmean(every), 1)
        luts[method] = [[found[method, s, lut]["lut"] for lut in options.budgets] for s in seeds]
    pairs = [*itertools.product(("solver", "digits"), ("uniform", "global"))]
    pairs += [("solver", "solver_fisher"), ("digits", "uniform_digits"), ("digits", "global_digits")]
    for method, other in (pair for pair in pairs if set(pair) <= set(epochs)):
        for name, unit in (("accuracy", 100.0), ("auc", 1.0)):
            gains = [unit * (a - b) for a, b in zip(value[method, name], value[other, name], strict=True)]
            mean, error = mean_and_error(gains)
            key = f"{method}_gain_over_{other}_{name}"
            figures |= {key: round(mean, 4), f"{key}_error": round(error, 4)}
            print(f"{method} over {other}, {name}: {mean:+.4f} +- {error:.4f} " + " ".join(f"{x:+.4f}" for x in gains))
    packages = ("trigger_prune", "torch", "alkaid", "pyosys")
    name = "equal_lut" + ("_long" if options.long else "_equal_epochs" if options.equal_epochs else "")
    if seeds != usual:
        name += "_seeds_" + "_".join(map(str, seeds))
    write_result(name, figures, packages, cost_stage="rtl_synth", seeds=seeds, luts=luts)


if __name__ == "__main__":
    main()

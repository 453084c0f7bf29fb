"""The solver against uniform sparsity and one global magnitude ranking, at the same budget of measured LUTs.

Method ``solver`` takes the loss of a weight from criterion ``obs_gauss_newton``, ``solver_fisher`` from the diagonal
Fisher. Method ``digits`` prunes to 1.4 times the budget by the solver and refines into it, with a final training of 90
epochs instead of 150 and 10 epochs in every round of the refinement, which makes more epochs in all;
``uniform_digits`` and ``global_digits`` do the same behind the two others. Method ``learned`` trains the bits of every
weight and activation too; alone it writes ``budget_loop_learned.json``.

    python benchmarks/budget_loop.py [--quick] [--seeds 1 2 3] [--jobs 2]
    python benchmarks/budget_loop.py --lut 10000 --methods solver --jobs 1      # how fast a budget is met
    python benchmarks/budget_loop.py --methods learned                          # bit widths trained as well

Every network starts from the same trained network of its seed. ``epochs`` are those of the whole loop: a method whose
loop needs more rounds, or a second final training, gets more. Each method's own loop meets the budget by the ``rtl``
backend; accuracy and AUC are those of test events, thresholds and epochs were chosen on validation. ``rounds`` are
measured iterations; ``seconds`` is the wall time of stage prune, with ``--jobs`` of them at once. Finished runs are
kept and loaded.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _result import write_result

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "hls_projects" / "jet_tagger"
REFINED = [
    *("prune.final_epochs=90", "refine.enabled=true", "refine.headroom=1.4"),
    *("refine.fine_tune_epochs=10", "refine.saving_per_round=0.07"),
]
METHODS = {
    "uniform": ["prune.scope=layer", "prune.criterion=magnitude_l1"],
    "global": ["prune.scope=global", "prune.criterion=magnitude_l1"],
    "solver": ["prune.scope=solver", "prune.criterion=obs_gauss_newton"],
    "solver_fisher": ["prune.scope=solver", "prune.criterion=obd_fisher"],
    "digits": ["prune.scope=solver", "prune.criterion=obs_gauss_newton", *REFINED],
    "uniform_digits": ["prune.scope=layer", "prune.criterion=magnitude_l1", *REFINED],
    "global_digits": ["prune.scope=global", "prune.criterion=magnitude_l1", *REFINED],
    "learned": ["prune.scope=learned", "learn.epochs=120", "learn.anneal_epochs=50"],
}
RANKED = ("uniform", "global", "solver", "digits")
"""Methods with 6-bit activations and 5-bit weights, which are compared with each other."""

COMMON = ["prune.first_sparsity=0.75", "prune.epochs_per_round=20", "prune.final_epochs=150"]
QUICK = [
    *("train.epochs=3", "quantize.epochs=1", "baseline.epochs=1", "prune.epochs_per_round=2", "prune.final_epochs=3"),
    *("learn.epochs=4", "learn.anneal_epochs=2"),
]
WORKER = """
import json, sys
from pathlib import Path
from trigger_prune.config.load import load_project
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.models.build import build_model
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.objective import Objective
import torch
project, seed, out, until, settings = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5:]
loaded = load_project(Path(project), settings, seed)
result = run_pipeline(loaded, STAGES, out, until)
if until == "prune":
    events, pruned = result.result("load"), result.result("prune")
    model = build_model(loaded.config.model, events.train.event_shape, events.train.n_classes, loaded.project_dir)
    test = events.test
    x = torch.from_numpy(test.features[:, list(pruned.kept_inputs)].copy())
    y, w = torch.from_numpy(test.labels.astype("int64")), torch.from_numpy(test.weights.astype("float64"))
    judged = evaluate(pruned.network(model), Batches(x, y, w, y, w), "classify", Objective("auc"))
    chosen = next(trial for trial in pruned.trials if trial.chosen)
    # a refinement keeps one record a round, the first of them without training
    epochs = sum(
        loaded.config.refine.fine_tune_epochs * (len(history.epochs) - 1) if trial.phase == "refine" and history.epochs
        else len(history.epochs)
        for trial, history in zip(pruned.trials, pruned.histories, strict=True)
    )
    print(json.dumps({
        "accuracy": judged.accuracy, "auc": judged.merit, "lut": chosen.cost.lut, "rounds": len(pruned.trials),
        "measured_luts": [trial.cost.lut for trial in pruned.trials],
        "nonzeros": chosen.nonzeros, "latency_cycles": chosen.cost.latency_cycles,
        "epochs": epochs, "seconds": result.runs["prune"].seconds, "within": chosen.meets_budget,
        "first_within": next(n for n, trial in enumerate(pruned.trials, 1) if trial.meets_budget),
    }))
"""


def work(seed: int, out: Path, until: str, settings: list[str]) -> str:
    """One pipeline run in a process of its own; the last line that it printed."""
    command = [sys.executable, "-c", WORKER, str(PROJECT), str(seed), str(out), until, *settings]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def run(method: str, seed: int, lut: int, quick: bool, final_epochs: int | None = None) -> dict[str, Any]:
    """Figures of one method and seed; ``final_epochs`` where they are not those of the method."""
    base = PROJECT / "build" / ("budget_loop_quick" if quick else "budget_loop")
    settings = [f"budget.lut={lut}", *COMMON, *(QUICK if quick else []), *METHODS[method]]
    out = base / f"{method}_{lut}_seed{seed}"
    if final_epochs is not None:
        settings.append(f"prune.final_epochs={final_epochs}")
        out = base / f"{method}_{lut}_{final_epochs}_epochs_seed{seed}"
    if not out.exists():
        shutil.copytree(base / f"seed{seed}", out)
    found = json.loads(work(seed, out, "prune", settings))
    print(f"seed {seed} {method:8s} {lut:6d}: " + ", ".join(f"{k} {v}" for k, v in found.items()), flush=True)
    return found


def main() -> None:
    """Run, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seed 1 with few epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--lut", type=int, default=5000)
    parser.add_argument("--methods", nargs="+", default=list(RANKED), choices=list(METHODS))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    seeds = [1] if options.quick else options.seeds
    base = PROJECT / "build" / ("budget_loop_quick" if options.quick else "budget_loop")
    with ThreadPoolExecutor(options.jobs) as pool:
        shared = QUICK if options.quick else []
        list(pool.map(lambda seed: work(seed, base / f"seed{seed}", "sensitivity", shared), seeds))
        jobs = [(method, seed) for seed in seeds for method in options.methods]
        found = dict(zip(jobs, pool.map(lambda job: run(*job, options.lut, options.quick), jobs), strict=True))
    figures: dict[str, float] = {}
    print(f"{'':10s}" + "".join(f"{name:>22s}" for name in ("accuracy", "auc", "lut")))
    for method in options.methods:
        cells = []
        for name in ("accuracy", "auc", "lut", "rounds", "first_within", "epochs", "seconds"):
            values = [float(found[method, seed][name]) for seed in seeds]
            figures[f"{method}_{name}_mean"] = round(statistics.fmean(values), 5)
            error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
            figures[f"{method}_{name}_error"] = round(error, 5)
            figures |= {
                f"{method}_{name}_seed{seed}": round(value, 5) for seed, value in zip(seeds, values, strict=True)
            }
            cells.append(f"{statistics.fmean(values):13.5g} +- {error:6.2g}")
        print(f"{method:10s}" + "".join(cells[:3]))
    pairs = itertools.product(("solver", "digits"), ("uniform", "global"))
    for method, other in pairs if set(RANKED) <= set(options.methods) else ():
        gains = [100 * (found[method, seed]["accuracy"] - found[other, seed]["accuracy"]) for seed in seeds]
        error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
        figures[f"{method}_gain_over_{other}_points"] = round(statistics.fmean(gains), 3)
        figures[f"{method}_gain_over_{other}_points_error"] = round(error, 3)
        print(f"{method} over {other}: {statistics.fmean(gains):+.2f} +- {error:.2f} points of accuracy")
    alone = "_learned" if options.methods == ["learned"] else ""
    budget = "" if options.lut == 5000 else f"_{options.lut}"
    name = f"budget_loop{alone}{budget}{'_quick' if options.quick else ''}"
    packages = ("trigger_prune", "torch", "alkaid", "pyosys")
    write_result(name, figures, packages, cost_stage="rtl_synth", budget_lut=options.lut)


if __name__ == "__main__":
    main()

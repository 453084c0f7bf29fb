"""Which schedule and which regrowth keep the most accuracy of the jet tagger at a given sparsity?

    python benchmarks/schedules.py [--quick] [--seeds 1 2 3] [--epochs 20] [--sparsity 0.9]
                                   [--scope global] [--jets FOLDER]

Stages up to ``quantize`` of hls_projects/jet_tagger (floating point, then quantisation-aware training); from that
network on, every case prunes and fine-tunes for the same number of epochs, the mask changing in the first half.
Criterion magnitude_l1; ``--scope layer`` ranks each layer by itself. ``dead`` counts classes whose output has no weight
left: a global ranking takes the head's weights first, and a class once lost decides the accuracy more than any
schedule; only regrowth can give it back. ``adaptive`` stops where the validation accuracy falls by more than half a
point, so its sparsity is its own. The accuracy is of the test part; a seed decides split, training and draws.
``one_shot_untrained`` is the cut alone, with and without the repair of the kept weights by their layer's Hessian.

Finished (seed, case) are kept in the project's build folder and not repeated. ``--quick`` takes one seed, three epochs
everywhere. Prints a table and writes ``benchmarks/results/schedules_SCOPE.json`` (``schedules_SCOPE_quick.json``).
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from _result import write_json, write_result
from torch import fx

from trigger_prune.config.load import load_project
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.pipeline.stages.goal import goal_of, make_batches
from trigger_prune.pipeline.stages.training import fit_settings, trained_float_model
from trigger_prune.prune.fine_tune import RampPlan, polish, ramp
from trigger_prune.structure.masks import Scope, masked_fraction, prunable_layers
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "hls_projects" / "jet_tagger"
TOLERANCE = 0.005
PLANS: dict[str, dict[str, Any]] = {
    "one_shot": {"schedule": "one_shot"},
    "one_shot_repair": {"schedule": "one_shot", "repair": True},
    "linear": {"schedule": "linear"},
    "geometric": {"schedule": "geometric"},
    "cubic": {"schedule": "cubic"},
    "adaptive": {"schedule": "adaptive", "tolerance": TOLERANCE},
    "one_shot_set": {"schedule": "one_shot", "regrow": "set"},
    "one_shot_rigl": {"schedule": "one_shot", "regrow": "rigl"},
    "cubic_set": {"schedule": "cubic", "regrow": "set"},
    "cubic_rigl": {"schedule": "cubic", "regrow": "rigl"},
}
UNTRAINED = {"one_shot_untrained": "one_shot", "one_shot_repair_untrained": "one_shot_repair"}
CASES = ("polished_dense", *UNTRAINED, *PLANS)


@dataclass(frozen=True)
class Start:
    """What every case of a seed starts from."""

    network: fx.GraphModule
    train: Batches
    validation: Batches
    test: Batches
    settings: FitSettings


def start_of(seed: int, epochs: int, quick: bool, jets: str | None) -> Start:
    """The trained, quantised, unpruned network."""
    overrides = [f"split.seed={seed}", *([f"data.path={jets}"] if jets else [])]
    if quick:
        overrides += ["train.epochs=3", "quantize.epochs=3"]
    project = load_project(PROJECT, overrides, seed)
    run = run_pipeline(project, STAGES, folder(quick) / f"seed{seed}", until="quantize")
    context: Any = SimpleNamespace(config=project.config, result=run.result, project_dir=PROJECT)
    goal, events = goal_of(context), run.result("load")
    parts = [make_batches(events, part, goal) for part in ("train", "validation", "test")]
    network = run.result("quantize").network(trained_float_model(context, events))
    rate = project.config.prune.learning_rate
    return Start(network, *parts, fit_settings(context, events, goal, "prune", epochs, rate))


def folder(quick: bool) -> Path:
    """Of everything that is kept between calls."""
    return PROJECT / "build" / ("schedules_quick" if quick else "schedules")


def measure(start: Start, case: str, sparsity: float, scope: Scope) -> dict[str, float]:
    """Test accuracy, sparsity, classes without a weight and seconds of one case."""
    network, settings = copy.deepcopy(start.network), start.settings
    began = time.perf_counter()
    if case == "polished_dense":
        polish(network, start.train, start.validation, settings)
    else:
        plan = RampPlan(sparsity, scope=scope, **PLANS[UNTRAINED.get(case, case)])
        if case in UNTRAINED:
            # one epoch at a learning rate of next to nothing: what is left is the cut
            settings = replace(settings, epochs=1, learning_rate=1e-12, weight_decay=0.0)
        ramp(network, start.train, start.validation, settings, plan)
    seconds = time.perf_counter() - began
    network.to(settings.device)
    result = evaluate(network, start.test.to(settings.device), settings.task, settings.objective)
    if result.accuracy is None:
        raise SystemExit("the project has no classes")
    head = list(prunable_layers(network).values())[-1]
    dead = float((head.weight_mask.sum(dim=1) == 0).sum())
    return {"accuracy": result.accuracy, "sparsity": masked_fraction(network), "dead": dead, "seconds": seconds}


def main() -> None:
    """Run what is missing, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, three epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=20, help="of pruning and fine-tuning")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--scope", choices=["global", "layer"], default="global")
    parser.add_argument("--jets", help="folder with other jets")
    options = parser.parse_args()
    seeds = options.seeds[:1] if options.quick else options.seeds
    epochs = 3 if options.quick else options.epochs
    measured: dict[str, dict[int, dict[str, float]]] = {case: {} for case in CASES}
    for seed in seeds:
        start: Start | None = None
        for case in CASES:
            path = (
                folder(options.quick) / f"{case}_{options.scope}_{options.sparsity:g}_{epochs}_epochs_seed{seed}.json"
            )
            if not path.exists():
                start = start or start_of(seed, epochs, options.quick, options.jets)
                write_json(path, measure(start, case, options.sparsity, options.scope))
            measured[case][seed] = json.loads(path.read_text(encoding="utf-8"))
            print(f"seed {seed}, {case}: {measured[case][seed]['accuracy']:.4f}", flush=True)
    report(measured, seeds, f"schedules_{options.scope}{'_quick' if options.quick else ''}")


def report(measured: dict[str, dict[int, dict[str, float]]], seeds: list[int], name: str) -> None:
    """Means over the seeds; differences from ``cubic`` are paired, so the seed's own accuracy drops out."""
    figures: dict[str, float] = {}
    print(f"{'case':<28}{'sparsity':>10}{'accuracy':>10}{'- cubic':>10}{'+-':>8}{'dead':>6}{'seconds':>9}")
    for case, by_seed in measured.items():
        row = {
            key: statistics.fmean(by_seed[seed][key] for seed in seeds)
            for key in ("accuracy", "sparsity", "dead", "seconds")
        }
        differences = [by_seed[seed]["accuracy"] - measured["cubic"][seed]["accuracy"] for seed in seeds]
        row["minus_cubic"] = statistics.fmean(differences)
        row["minus_cubic_error"] = statistics.stdev(differences) / len(seeds) ** 0.5 if len(seeds) > 1 else 0.0
        figures |= {f"{case}_{key}": value for key, value in row.items()}
        print(
            f"{case:<28}{row['sparsity']:>10.3f}{row['accuracy']:>10.4f}{row['minus_cubic']:>+10.4f}"
            f"{row['minus_cubic_error']:>8.4f}{row['dead']:>6.1f}{row['seconds']:>9.0f}"
        )
    by_case = {case: {str(seed): values for seed, values in by_seed.items()} for case, by_seed in measured.items()}
    write_result(name, figures, ["torch", "trigger_prune"], cases=by_case)


if __name__ == "__main__":
    main()

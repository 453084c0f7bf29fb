"""Does the smooth surrogate of the signal efficiency at a fixed rate beat cross-entropy?

    python benchmarks/surrogate.py [--quick] [--seeds 1 2 3 4 5] [--level1 FOLDER] [--jets FOLDER]

Stage ``train`` (floating point) of hls_projects/hh4b_trigger and of hls_projects/jet_tagger (top quarks against the
other four classes at 1 % background) with ``train.loss: default`` and ``efficiency_surrogate``, everything else equal:
epochs, seed, batches, objective that selects the epoch. The jets are trained for as many epochs as the project has and
for a third of them: to be there sooner is not to get further. A seed also decides the split, so that the error of the
mean difference (its standard deviation over seeds / sqrt(seeds)) holds both training and events; the parts of different
seeds overlap, which makes it somewhat too small. For HH -> 4b, cross-entropy has a second row in which events count
with their full weights, since the surrogate counts background by its true rate.

Efficiencies are of the test part: at exactly the rate (random tie-breaking), which is what networks are compared
by, and with the threshold from validation. ``--level1`` and ``--jets`` read other events than the projects do.
``--quick`` takes two seeds and three epochs, to see that the benchmark works. Folders of finished seeds are kept.

Prints tables and writes ``benchmarks/results/surrogate.json``.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from _result import write_result
from numpy.typing import NDArray

from trigger_prune.config.load import load_project
from trigger_prune.models.build import build_model
from trigger_prune.physics.rates import find_threshold
from trigger_prune.physics.roc import roc_curve, signal_efficiency_at
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.pipeline.stages.goal import goal_of
from trigger_prune.train.fit import predict
from trigger_prune.train.outputs import output_count

ROOT = Path(__file__).parents[1]
REFERENCE = "cross_entropy"
SURROGATE = "train.loss=efficiency_surrogate"
PLAIN = "train.loss=default"


@dataclass(frozen=True)
class Case:
    """One project: what is set in it, the losses by name, further background fractions relative to the objective's."""

    project: str
    overrides: tuple[str, ...]
    losses: dict[str, tuple[str, ...]]
    fractions: dict[str, float]
    epochs: int


JETS = ("objective=efficiency_at_fpr", "physics.signal=[t]", "physics.false_positive_rate=0.01")
JET_FRACTIONS = {"fpr_1e-2": 1.0, "fpr_1e-3": 0.1}
CASES = {
    "hh4b": Case(
        "hh4b_trigger",
        (),
        {REFERENCE: (PLAIN,), "cross_entropy_full_weights": (PLAIN, "train.weight_power=1"), "surrogate": (SURROGATE,)},
        {"100khz": 1.0, "10khz": 0.1},
        30,
    ),
    "jets": Case("jet_tagger", JETS, {REFERENCE: (PLAIN,), "surrogate": (SURROGATE,)}, JET_FRACTIONS, 60),
    "jets_20_epochs": Case("jet_tagger", JETS, {REFERENCE: (PLAIN,), "surrogate": (SURROGATE,)}, JET_FRACTIONS, 20),
}

Scored = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]


def measure(case: Case, loss: str, seed: int, data: str | None, quick: bool) -> dict[str, float]:
    """Efficiencies of one trained network on the test part."""
    overrides = [*case.overrides, *case.losses[loss], f"split.seed={seed}"]
    overrides += [f"train.epochs={3 if quick else case.epochs}", *([f"data.path={data}"] if data else [])]
    folder = ROOT / "hls_projects" / case.project
    project = load_project(folder, overrides, seed)
    out = folder / "build" / ("surrogate_quick" if quick else "surrogate") / f"seed{seed}"
    run = run_pipeline(project, STAGES, out, until="train")
    config, events, trained = project.config, run.result("load"), run.result("train")
    goal = goal_of(SimpleNamespace(config=config, result=run.result))  # type: ignore[arg-type]
    network = build_model(
        config.model, events.train.event_shape, output_count(events.train, config.task, config.teacher), folder
    )
    network.load_state_dict(trained.state)
    if goal.score is None or goal.objective.background_fraction is None:
        raise SystemExit(f"{case.project} has no score or rate")
    scored: dict[str, Scored] = {}
    for name in ("validation", "test"):
        part = events.parts[name]
        scores = goal.score.of(predict(network, torch.from_numpy(part.features)))
        scored[name] = scores, np.isin(part.labels, goal.signal_classes), part.weights
    curve = roc_curve(*scored["test"])
    figures = {"best_epoch": float(trained.history.best.epoch), "seconds": run.runs["train"].seconds}
    if trained.history.best.validation_accuracy is not None:
        figures["validation_accuracy"] = trained.history.best.validation_accuracy
    for name, factor in case.fractions.items():
        fraction = factor * goal.objective.background_fraction
        figures[f"efficiency_{name}"] = signal_efficiency_at(curve, fraction)
        kept, moved = at_validation_threshold(scored, fraction)
        figures[f"threshold_efficiency_{name}"], figures[f"rate_moved_{name}"] = kept, moved
    return figures


def at_validation_threshold(scored: dict[str, Scored], fraction: float) -> tuple[float, float]:
    """Test efficiency at the threshold from validation, and test rate / wanted rate - 1."""
    scores, signal, weights = scored["validation"]
    background = weights[~signal]
    threshold = find_threshold(scores[~signal], background, fraction * background.sum()).value
    scores, signal, weights = scored["test"]
    passing = weights * (scores >= threshold)
    rate = passing[~signal].sum() / weights[~signal].sum() / fraction
    return float(passing[signal].sum() / weights[signal].sum()), float(rate - 1)


def error(values: list[float]) -> float:
    """Standard error of the mean."""
    return statistics.stdev(values) / len(values) ** 0.5


def compare(name: str, case: Case, rows: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Print the table of one project and return its figures."""
    figures: dict[str, float] = {}
    reference = rows[REFERENCE]
    print(f"\n{name}, {len(reference)} seeds; mean and its error, in brackets the paired difference")
    for loss, runs in rows.items():
        print(f"  {loss}: best epoch {statistics.mean(r['best_epoch'] for r in runs):.0f}")
        for key in runs[0]:
            values = [run[key] for run in runs]
            stem = f"{name}_{loss}_{key}"
            figures[stem] = statistics.mean(values)
            if key in ("best_epoch", "seconds"):
                continue
            figures[f"{stem}_error"] = error(values)
            line = f"    {key:<32} {figures[stem]:8.4f} +- {figures[f'{stem}_error']:.4f}"
            if loss != REFERENCE and not key.startswith("rate"):
                changes = [run[key] - other[key] for run, other in zip(runs, reference, strict=True)]
                figures[f"{stem}_difference"] = statistics.mean(changes)
                figures[f"{stem}_difference_error"] = error(changes)
                line += f"   ({statistics.mean(changes):+.4f} +- {error(changes):.4f})"
            print(line, flush=True)
    return figures


def main() -> None:
    """Run, print tables, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds, three epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--level1", help="folder of level-1 events with HH4b (default: the project's)")
    parser.add_argument("--jets", help="event file of jets (default: the project's)")
    options = parser.parse_args()
    seeds: list[int] = [1, 2] if options.quick else options.seeds
    if len(seeds) < 2:
        parser.error("an error needs two seeds or more")
    data = {"hh4b_trigger": options.level1, "jet_tagger": options.jets}
    figures: dict[str, float] = {"seeds": float(len(seeds))}
    per_seed: dict[str, Any] = {}
    for name, case in CASES.items():
        rows = {
            loss: [measure(case, loss, seed, data[case.project], options.quick) for seed in seeds]
            for loss in case.losses
        }
        figures |= compare(name, case, rows)
        per_seed[name] = rows
    result = "surrogate_quick" if options.quick else "surrogate"
    write_result(result, figures, ("trigger_prune", "torch", "numpy"), seeds=seeds, per_seed=per_seed)


if __name__ == "__main__":
    main()

"""Wall time of lottery tickets against plain training, both in one run, on the jet tagger.

    python benchmarks/lottery.py [--quick]

Plain training is stage `train` of a run without early stopping; it is timed before, between and after the searches, and
its mean counts. Iterative magnitude pruning trains once for the dense network and once per round; an early bird trains
until its mask has settled and then once more. Each is compared with plain training times its number of trainings.
Processor time is given too: other programs on the machine lengthen the wall time of whoever runs beside them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from _result import write_result

from trigger_prune.config.load import load_project
from trigger_prune.models.build import build_model
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.prune.lottery.early_bird import EarlyBirdSearch, find_early_bird
from trigger_prune.prune.lottery.imp import ImpPlan, iterative_magnitude_pruning
from trigger_prune.prune.lottery.training import train_steps
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.objective import Objective

PROJECT = Path(__file__).parent.parent / "hls_projects" / "jet_tagger"
SPARSITY, FRACTION = 0.9, 0.3


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of wall time and of processor time, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a sixth of the epochs")
    quick = parser.parse_args().quick
    project = load_project(PROJECT)
    config = project.config
    epochs = config.train.epochs // 6 if quick else config.train.epochs
    with tempfile.TemporaryDirectory() as folder:
        events = run_pipeline(project, STAGES, Path(folder), until="load").result("load")
    parts = {
        name: Batches(torch.from_numpy(part.features), torch.from_numpy(part.labels), torch.ones(part.n_events))
        for name, part in events.parts.items()
    }
    settings = FitSettings(
        "plain",
        epochs,
        config.train.batch_size,
        config.train.learning_rate,
        config.seed,
        objective=Objective("accuracy"),
        weight_decay=config.train.weight_decay,
        gradient_clip_norm=config.train.gradient_clip_norm,
    )

    def network() -> torch.nn.Module:
        torch.manual_seed(config.seed)
        return build_model(config.model, events.train.event_shape, events.n_outputs, project.project_dir)

    def accuracy(of: torch.nn.Module) -> float:
        return float(evaluate(of, parts["test"], "classify").accuracy or 0.0)

    def plain() -> torch.nn.Module:
        model = network()
        fit(model, parts["train"], parts["validation"], settings)
        return model

    plan = ImpPlan(SPARSITY, FRACTION, config.lottery.rewind_step)

    def full() -> torch.nn.Module:
        model = network()
        iterative_magnitude_pruning(model, parts["train"], settings, plan, judge=lambda of: {"accuracy": accuracy(of)})
        return model

    def early() -> tuple[torch.nn.Module, Any]:
        model = network()
        search = EarlyBirdSearch(SPARSITY)
        bird = find_early_bird(model, parts["train"], settings, search, start_step=plan.rewind_step)
        train_steps(model, parts["train"], settings, masks=bird.ticket.masks, start=plan.rewind_step)
        return model, bird

    plains = [timed(plain)]
    imp_s, imp_cpu_s, ticket = timed(full)
    plains.append(timed(plain))
    bird_s, bird_cpu_s, (bird_network, bird) = timed(early)
    plains.append(timed(plain))
    plain_s, plain_cpu_s = (mean(entry[i] for entry in plains) for i in (0, 1))
    trainings = plan.n_rounds + 1
    figures = {
        "plain_s": plain_s,
        "imp_s": imp_s,
        "imp_trainings": float(trainings),
        "imp_over_plain_times_trainings": imp_s / (plain_s * trainings),
        "imp_over_plain_times_trainings_cpu": imp_cpu_s / (plain_cpu_s * trainings),
        "imp_over_plain_times_pruning_rounds_cpu": imp_cpu_s / (plain_cpu_s * plan.n_rounds),
        "early_bird_s": bird_s,
        "early_bird_over_two_plain": bird_s / (2 * plain_s),
        "early_bird_over_two_plain_cpu": bird_cpu_s / (2 * plain_cpu_s),
        "early_bird_search_epochs": float(bird.epochs),
        "early_bird_over_imp_cpu": bird_cpu_s / imp_cpu_s,
        "epochs": float(epochs),
        "dense_accuracy": accuracy(plains[0][2]),
        "imp_accuracy": accuracy(ticket),
        "early_bird_accuracy": accuracy(bird_network),
    }
    print(f"{epochs} epochs each, sparsity {SPARSITY}, {plan.n_rounds} rounds, rewound to step {plan.rewind_step}")
    print(f"{'':24}{'trainings':>10}{'wall s':>10}{'cpu s':>10}{'/ plain x trainings':>22}{'test accuracy':>16}")
    for name, count, seconds, cpu_seconds, label in (
        ("plain training", 1, plain_s, plain_cpu_s, "dense"),
        ("iterative magnitude", trainings, imp_s, imp_cpu_s, "imp"),
        ("early bird", 2, bird_s, bird_cpu_s, "early_bird"),
    ):
        ratios = f"{seconds / (plain_s * count):.3f}, cpu {cpu_seconds / (plain_cpu_s * count):.3f}"
        merit = figures[f"{label}_accuracy"]
        print(f"{name:24}{count:>10}{seconds:>10.1f}{cpu_seconds:>10.1f}{ratios:>22}{merit:>16.4f}")
    settled = "settled" if bird.settled else "did not settle"
    print(f"the early bird's mask {settled} in {bird.epochs} of {epochs} epochs")
    print("plain trainings: " + ", ".join(f"{wall:.2f} s (cpu {cpu:.2f} s)" for wall, cpu, _ in plains))
    write_result("lottery", figures, ("torch", "numpy"))


if __name__ == "__main__":
    main()

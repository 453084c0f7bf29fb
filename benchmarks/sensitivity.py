"""The sensitivity scan against the plain loop: the same numbers, how much sooner.

    python benchmarks/sensitivity.py [--quick] [--repeats 5]

Jet tagger (4 layers x 10 sparsities x 3 criteria, all events of the test part) and a convolutional network on images.
The plain loop masks a layer, evaluates every event and restores the layer, network by network. Both sides get the same
scores (computed before, in neither time), run in this process on one thread, and take turns; a time is the CPU time of
the best of several turns, of which the first of each is not counted.

Rows: loss and accuracy of all points, the scan's with bootstrap intervals that the plain loop does not have; all four
figures (AUC and signal efficiency too), which the plain loop, too, has from one pass over the events; the
statistical mode, in which a point is done when the interval of its change of accuracy is narrow enough, at two widths.
Fails when a number differs by more than 1e-5 from the plain loop.

The network is trained for a few epochs only. ``--quick``: fewer events, epochs and turns, to see that the benchmark
works. Prints a table and writes ``benchmarks/results/sensitivity.json``.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from _result import write_result
from numpy.typing import NDArray
from torch import Tensor, fx

from trigger_prune.config.load import load_project
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import criterion_by_name
from trigger_prune.importance._base import CriterionData
from trigger_prune.models.build import build_model
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.physics.roc import roc_curve, signal_efficiency_at
from trigger_prune.physics.scores import class_score
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES
from trigger_prune.pipeline.stages.goal import goal_of, make_batches
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.sensitivity.findings import ScanPoint
from trigger_prune.sensitivity.points import scan_points
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.structure.masks import lowest_scores_mask, prunable_layers
from trigger_prune.train.evaluate import Batches, EventSums, evaluate, predict
from trigger_prune.train.objective import Objective

PROJECT = Path(__file__).parents[1] / "hls_projects" / "jet_tagger"
SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
CRITERIA = ("magnitude_l1", "taylor_fisher", "wanda")
WIDTHS = (0.02, 0.01)
ACCURACY = Objective("accuracy")
FRACTION = 0.01
SAME = 1e-5
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

Key = tuple[str, str, float]
Figures = dict[str, float]


@dataclass(frozen=True)
class Known:
    """A criterion whose scores are given."""

    name: str
    scores: dict[str, Tensor]

    def score(self, network: Any, layer_names: Sequence[str], data: CriterionData | None = None) -> dict[str, Tensor]:
        """The scores of the named layers."""
        return {name: self.scores[name] for name in layer_names}


@dataclass(frozen=True)
class Case:
    """A network, the events that judge, and the scores of every criterion."""

    name: str
    network: fx.GraphModule
    batches: Batches
    groups: NDArray[np.int64] | None
    criteria: list[Known]


def jets(quick: bool) -> Case:
    """The jet tagger of the project, after a short training."""
    epochs = (2, 1) if quick else (10, 6)
    project = load_project(PROJECT, [f"train.epochs={epochs[0]}", f"quantize.epochs={epochs[1]}"], 1)
    out = PROJECT / "build" / ("sensitivity_quick" if quick else "sensitivity_benchmark")
    run = run_pipeline(project, STAGES, out, until="quantize")
    events = run.result("load")
    goal = goal_of(SimpleNamespace(config=project.config, result=run.result))  # type: ignore[arg-type]
    network = run.result("quantize").network(build_model(project.config.model, events.train.event_shape, 5))
    batches, groups = make_batches(events, "test", goal, plain_weights=True), events.test.groups
    if quick:
        batches, groups = batches.take(slice(0, 8000)), groups[:8000]
    data = CriterionData(make_batches(events, "train", goal).take(slice(0, 4096)), "classify")
    return Case("jets", network, batches, groups, scored(network, data))


def images(quick: bool) -> Case:
    """A convolutional network with random weights: how long it takes does not depend on what it has learned."""
    torch.manual_seed(1)
    n = 1024 if quick else 4096
    y = torch.randint(0, 3, (n,))
    x = torch.randn(n, 1, 18, 14)
    for event, label in enumerate(y.tolist()):
        x[event, 0, 5 * label : 5 * label + 4, 3:9] += 1.5
    fixed = FixedPoint(8, 4, overflow="AP_SAT")
    x = fixed.fake_quantize(x)
    precision = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    network = quantize_model(Conv2dNet((1, 18, 14), 3, channels=(6, 8), hidden=(16,)), x[:500], fixed, precision)
    batches = Batches(x, y, torch.ones(n), y, torch.ones(n, dtype=torch.float64))
    data = CriterionData(batches.take(slice(0, 512)), "classify")
    return Case("images", network, batches, None, scored(network, data))


def scored(network: fx.GraphModule, data: CriterionData) -> list[Known]:
    """Scores of every criterion."""
    names = list(prunable_layers(network))
    return [Known(name, criterion_by_name(name, with_data=True).score(network, names, data)) for name in CRITERIA]


def plain_loop(case: Case, judge: Callable[[Case], Figures], most: int | None = None) -> dict[Key, Figures]:
    """Prune, evaluate every event, restore; the first ``most`` networks."""
    found: dict[Key, Figures] = {}
    for name, layer in prunable_layers(case.network).items():
        for criterion in case.criteria:
            for sparsity in SPARSITIES:
                if most is not None and len(found) == most:
                    return found
                before = layer.weight_mask.clone()
                layer.weight_mask.copy_(lowest_scores_mask(criterion.scores[name], before, sparsity))
                found[name, criterion.name, sparsity] = judge(case)
                layer.weight_mask.copy_(before)
    return found


def loss_and_accuracy(case: Case) -> Figures:
    """Of the network as it is."""
    found = evaluate(case.network, case.batches, "classify")
    return {"loss": found.loss, "accuracy": float(found.accuracy or 0.0)}


def all_figures(case: Case) -> Figures:
    """Of one pass: loss and accuracy, AUC and efficiency, each class against the rest."""
    logits = predict(case.network, case.batches.features)
    sums = EventSums.zero(case.batches.features.device)
    sums.add(torch.from_numpy(logits).float(), case.batches, "classify")
    found = sums.result("classify", case.batches)
    labels, weights = case.batches.targets.numpy(), np.ones(len(case.batches))
    scores = [class_score(logits, c) for c in range(logits.shape[1])]
    auc = Objective("auc").merit(np.stack(scores, axis=1), labels, weights)
    curves = [roc_curve(score, labels == c, weights) for c, score in enumerate(scores)]
    efficiency = float(np.mean([signal_efficiency_at(curve, FRACTION) for curve in curves]))
    return {"loss": found.loss, "accuracy": float(found.accuracy or 0.0), "auc": auc, "efficiency": efficiency}


def scan(case: Case, figures: tuple[str, ...] | None, width: float | None = None) -> dict[Key, ScanPoint]:
    """The scan of the package."""
    settings = ScanSettings(sparsities=SPARSITIES, figures=figures, interval_width=width, background_fraction=FRACTION)
    found = scan_points(
        case.network,
        case.batches,
        case.criteria,
        "classify",
        objective=ACCURACY,
        settings=settings,
        groups=case.groups,
    )
    return {(str(p.layer), str(p.criterion), p.sparsity): p for p in found.points}


def keep_memory() -> None:
    """Have glibc keep the memory of large arrays for the next ones. As it is set by default it may hand every one back
    to the system, and the plain loop on images then takes twice as long; both sides run with what is best for it."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            libc.mallopt(option, 1 << 30)


def timed(work: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    """CPU seconds of every turn, the first left out, and the last result."""
    times = []
    result = None
    for _ in range(repeats + 1):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return times[1:] or times, result


def worst(points: dict[Key, ScanPoint], truth: dict[Key, Figures]) -> float:
    """Largest difference of any figure; every network of the plain loop must be there."""
    found = max(
        abs(points[key].figures[name].value - value)
        for key, figures in truth.items()
        for name, value in figures.items()
    )
    if not found <= SAME:
        raise SystemExit(f"the scan differs from the plain loop by {found:.2g}")
    return found


def compare(case: Case, repeats: int, quick: bool) -> dict[str, float]:
    """Print the rows of one network and return its figures."""
    figures: dict[str, float] = {}
    plain, fast = [], []
    truth: dict[Key, Figures] = {}
    points: dict[Key, ScanPoint] = {}
    scan(case, ("loss", "accuracy"))
    plain_loop(case, loss_and_accuracy, 20)
    for _ in range(repeats):  # taking turns: load of the machine meets both
        seconds, truth = timed(lambda: plain_loop(case, loss_and_accuracy), 0)
        plain += seconds
        seconds, points = timed(lambda: scan(case, ("loss", "accuracy")), 0)
        fast += seconds
    n = len(truth)
    print(f"\n{case.name}: {n} networks, {len(case.batches)} events; CPU seconds, one thread, best of {repeats}")
    if set(points) != set(truth):
        raise SystemExit("the scan and the plain loop judge different networks")

    def row(name: str, reference: float, seconds: float, more: str) -> None:
        stem = f"{case.name}_{name.replace(' ', '_')}"
        figures.update({f"{stem}_plain_s": reference, f"{stem}_s": seconds, f"{stem}_speedup": reference / seconds})
        print(f"  {name:<24}{reference:>9.2f}{seconds:>9.3f}{reference / seconds:>9.1f} x   {more}", flush=True)

    print(f"  {'':<24}{'plain':>9}{'scan':>9}{'ratio':>9}")
    difference = worst(points, truth)
    figures[f"{case.name}_largest_difference"] = difference
    figures[f"{case.name}_networks"] = n
    figures[f"{case.name}_events"] = len(case.batches)
    row("loss and accuracy", min(plain), min(fast), f"largest difference {difference:.1g}, with intervals")
    for width in WIDTHS:
        seconds, sampled = timed(lambda width=width: scan(case, ("loss", "accuracy"), width), repeats)
        inside = np.mean(
            [
                p.figures["accuracy"].change_low
                <= points[key].figures["accuracy"].change
                <= p.figures["accuracy"].change_high
                for key, p in sampled.items()
            ]
        )
        events = float(np.mean([p.events for p in sampled.values()]))
        figures[f"{case.name}_interval_{width}_mean_events"] = events
        figures[f"{case.name}_interval_{width}_holds_full"] = float(inside)
        holds = f"{events:.0f} events a point, {100 * inside:.0f} % of intervals hold the value on all events"
        row(f"interval of {width:g}", min(plain), min(seconds), holds)
    most = 12 if quick else 40
    plain, fast = [], []
    scan(case, None)
    plain_loop(case, all_figures, 4)
    for _ in range(repeats):
        seconds, truth = timed(lambda: plain_loop(case, all_figures, most), 0)
        plain += seconds
        seconds, points = timed(lambda: scan(case, None), 0)
        fast += seconds
    row(
        "all four figures",
        min(plain) * n / most,
        min(fast),
        f"plain from {most} of {n}; differ by {worst(points, truth):.1g}",
    )
    return figures


def main() -> None:
    """Run, print tables, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer events, epochs and turns")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side")
    options = parser.parse_args()
    repeats = 1 if options.quick else options.repeats
    torch.set_num_threads(1)
    keep_memory()
    figures: dict[str, float] = {}
    for make in (jets, images):
        figures |= compare(make(options.quick), repeats, options.quick)
    name = "sensitivity_quick" if options.quick else "sensitivity"
    write_result(name, {key: round(value, 9) for key, value in figures.items()}, ("trigger_prune", "torch", "numpy"))


if __name__ == "__main__":
    main()

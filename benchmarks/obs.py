"""Does OBS with its compensating update beat magnitude when a network is pruned in one shot?

    python benchmarks/obs.py [--quick] [--seeds 1 2 3 4 5]

The network of hls_projects/jet_tagger (16-64-32-32-5, quantised, trained on the shipped jets) is pruned without any
training after it. A seed decides the split, the training and the events that OBS sees (8192 of the training part).
Losses are those of the quantised network on the test part.

* ``layer_NAME``: that layer alone at 90 %, by magnitude within the layer and by ``prune_with_obs``. The ratio of a
  layer is mean increase by magnitude / mean increase by OBS over the seeds; ``ratio_of_means`` the same over all
  layers, ``mean_of_ratios`` averages the ratios of single layers and seeds.
* ``network_PERCENT``: the whole network at that sparsity. Magnitude by the better of its two scopes, OBS with its own
  shares per layer, and OBS with every layer at the same sparsity.

``--quick`` takes two seeds and a short training, to see that the benchmark works. Trained networks are kept in
``benchmarks/build``. Prints tables and writes ``benchmarks/results/obs.json``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from _prunable import Trained, trained
from _result import write_result
from torch import nn

from trigger_prune.importance import CriterionData, criterion_by_name, prune_with_obs
from trigger_prune.structure.masks import lowest_scores_mask, prunable_layers, raise_sparsity, restored
from trigger_prune.train.evaluate import evaluate

LAYER_SPARSITY = 0.9
NETWORK_SPARSITIES = (0.5, 0.8, 0.9, 0.95)
EVENTS = 8192
GOAL_RATIO = 3.0
QUICK = ("train.epochs=6", "quantize.epochs=3")


def obs_events(case: Trained, seed: int) -> CriterionData:
    """Random training events."""
    used = case.train.take(case.train.weights > 0)
    rows = torch.randperm(len(used), generator=torch.Generator().manual_seed(seed))[:EVENTS]
    return CriterionData(used.take(rows), case.task)


def by_magnitude(network: nn.Module, scope: str, sparsity: float) -> None:
    """Prune the whole network by magnitude."""
    scores = criterion_by_name("magnitude_l1").score(network, list(prunable_layers(network)))
    raise_sparsity(network, scores, sparsity, scope)  # type: ignore[arg-type]


def measure(case: Trained, seed: int) -> dict[str, dict[str, float]]:
    """Increase of the test loss by what was pruned, then by method."""
    data, layers = obs_events(case, seed), prunable_layers(case.network)
    before = evaluate(case.network, case.test, case.task).loss

    def increase(prune: Callable[[], object]) -> float:
        with restored(case.network):
            prune()
            return evaluate(case.network, case.test, case.task).loss - before

    found: dict[str, dict[str, float]] = {"unpruned": {"loss": before}}
    for name, layer in layers.items():

        def mask_small(layer: Any = layer) -> None:
            layer.weight_mask.copy_(lowest_scores_mask(layer.weight.detach().abs(), layer.weight_mask, LAYER_SPARSITY))

        found[f"layer_{name}"] = {
            "magnitude": increase(mask_small),
            "obs": increase(lambda name=name: prune_with_obs(case.network, data, {name: LAYER_SPARSITY})),
        }
    for sparsity in NETWORK_SPARSITIES:
        found[f"network_{round(100 * sparsity)}"] = {
            "magnitude_global": increase(lambda s=sparsity: by_magnitude(case.network, "global", s)),
            "magnitude_layer": increase(lambda s=sparsity: by_magnitude(case.network, "layer", s)),
            "obs": increase(lambda s=sparsity: prune_with_obs(case.network, data, s)),
            "obs_uniform": increase(lambda s=sparsity: prune_with_obs(case.network, data, dict.fromkeys(layers, s))),
        }
    return found


def summary(runs: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Flat figures; prints the tables."""
    figures: dict[str, float] = {"unpruned_loss": statistics.mean(run["unpruned"]["loss"] for run in runs)}
    ratios, means = [], {"magnitude": [], "obs": []}  # type: ignore[var-annotated]
    print(f"\nincrease of the test loss, {len(runs)} seeds; unpruned {figures['unpruned_loss']:.4f}")
    print(f"  {'one layer at 90 %':<18} {'magnitude':>10} {'OBS':>10} {'ratio':>8}   ratios by seed")
    for name in (key for key in runs[0] if key.startswith("layer_")):
        columns = {method: [run[name][method] for run in runs] for method in ("magnitude", "obs")}
        for method, values in columns.items():
            figures[f"{name}_{method}"] = statistics.mean(values)
            means[method].append(figures[f"{name}_{method}"])
        own = [m / o for m, o in zip(columns["magnitude"], columns["obs"], strict=True)]
        ratios += own
        figures[f"{name}_ratio"] = figures[f"{name}_magnitude"] / figures[f"{name}_obs"]
        print(
            f"  {name[6:]:<18} {figures[f'{name}_magnitude']:>10.4f} {figures[f'{name}_obs']:>10.4f} "
            f"{figures[f'{name}_ratio']:>8.2f}   {' '.join(f'{ratio:.1f}' for ratio in own)}"
        )
    figures["ratio_of_means"] = statistics.mean(means["magnitude"]) / statistics.mean(means["obs"])
    figures["mean_of_ratios"] = statistics.mean(ratios)
    figures["smallest_ratio"] = min(ratios)
    reached = figures["ratio_of_means"] >= GOAL_RATIO and figures["mean_of_ratios"] >= GOAL_RATIO
    print(
        f"  ratio of means {figures['ratio_of_means']:.2f}, mean of ratios {figures['mean_of_ratios']:.2f}, smallest "
        f"{figures['smallest_ratio']:.2f}; goal {GOAL_RATIO:g}: {'reached' if reached else 'not reached'}"
    )
    print(f"  {'whole network':<18} {'magnitude':>10} {'OBS':>10} {'OBS unif.':>10} {'ratio':>8}")
    for name in (key for key in runs[0] if key.startswith("network_")):
        for method in runs[0][name]:
            figures[f"{name}_{method}"] = statistics.mean(run[name][method] for run in runs)
        best = min(figures[f"{name}_magnitude_global"], figures[f"{name}_magnitude_layer"])
        figures[f"{name}_ratio"] = best / figures[f"{name}_obs"]
        print(
            f"  {name[8:] + ' %':<18} {best:>10.4f} {figures[f'{name}_obs']:>10.4f} "
            f"{figures[f'{name}_obs_uniform']:>10.4f} {figures[f'{name}_ratio']:>8.2f}"
        )
    return figures


def main() -> None:
    """Run, print tables, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds, short training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    options = parser.parse_args()
    seeds: list[int] = [1, 2] if options.quick else options.seeds
    runs = []
    for seed in seeds:
        folder = "pruning_quick" if options.quick else "pruning"
        runs.append(measure(trained("jet_tagger", seed, QUICK if options.quick else (), folder), seed))
        print(f"seed {seed} done", flush=True)
    write_result(
        "obs_quick" if options.quick else "obs",
        summary(runs),
        ("trigger_prune", "torch", "numpy"),
        seeds=seeds,
        goal_ratio=GOAL_RATIO,
        per_seed=runs,
    )


if __name__ == "__main__":
    main()

"""What pruning is worth on a processor: scattered zeros against neurons that are taken out.

    python benchmarks/runtime.py [--quick] [--threads N] [--provider cpu|cuda]

Random networks of the shape of the jet tagger (16-64-32-32-5) and of a wide one (64-512-256-64-8), quantised to 6 bits:
dense, with zeros scattered at random, and with whole neurons cut out. Every one is measured three times, in turn; a
figure is the median. ``repeat`` is the largest over the smallest of the three, which says how well a figure is known on
this machine.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from itertools import pairwise
from types import SimpleNamespace

import torch
from _result import write_result
from torch import fx, nn

from trigger_prune.cost.report import HardwareReport
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.synthesis.runtime.cost import ProcessorCost
from trigger_prune.synthesis.runtime.timing import Plan
from trigger_prune.target import Target

SHAPES = {"jet": (16, 64, 32, 32, 5), "wide": (64, 512, 256, 64, 8)}
BITS = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
BATCHES = (1, 64, 1024)


def network(widths: tuple[int, ...]) -> fx.GraphModule:
    """A quantised MLP with random weights."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for first, second in pairwise(widths):
        layers += [nn.Linear(first, second), nn.ReLU()]
    return quantize_model(nn.Sequential(*layers[:-1]), torch.randn(500, widths[0]), FixedPoint(10, 4), BITS)


def scattered(widths: tuple[int, ...], sparsity: float) -> fx.GraphModule:
    """The smallest weights of every layer are zero."""
    found = network(widths)
    for layer in weight_layers(found).values():
        cut = torch.quantile(layer.weight.detach().abs().flatten(), sparsity)
        layer.weight_mask.copy_((layer.weight.detach().abs() > cut).float())
    return found


def without_neurons(widths: tuple[int, ...], fraction: float) -> fx.GraphModule:
    """All weights into the last neurons of every hidden layer are zero."""
    found = network(widths)
    for layer in list(weight_layers(found).values())[:-1]:
        layer.weight_mask[round(len(layer.weight_mask) * (1 - fraction)) :] = 0
    return found


def variants(widths: tuple[int, ...]) -> dict[str, fx.GraphModule]:
    """Name -> network."""
    return {
        "dense": network(widths),
        "scattered_80": scattered(widths, 0.8),
        "scattered_95": scattered(widths, 0.95),
        "neurons_50": without_neurons(widths, 0.5),
        "neurons_80": without_neurons(widths, 0.8),
    }


def main() -> None:
    """Measure, print a table, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1 s per measurement instead of 6")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    plan = Plan(seconds=1.0 if options.quick else 6.0)
    model = ProcessorCost(options.provider, options.threads, BATCHES, plan)
    figures: dict[str, float] = {}
    device = ""
    busy = False
    heads = " | ".join(f"{f'batch {batch}: p50, p99 (us)':<25}" for batch in BATCHES)
    print(f"net   variant        zeros  out | {heads}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for shape, widths in SHAPES.items():
            networks = variants(widths)
            reports: dict[str, list[HardwareReport]] = {name: [] for name in networks}
            for _ in range(3):
                for name, found in networks.items():
                    reports[name].append(model.measure(found, Target()))
            for name, measured in reports.items():
                runs = [report.runtime for report in measured if report.runtime is not None]
                device = runs[0].device
                busy = busy or any(report.details["disturbed_batch_sizes"] for report in measured)
                removed = sum(measured[0].details["neurons_removed"].values())
                row = f"{shape:<5} {name:<13} {measured[0].details['zero_weights']:6.1%} {removed:>4}"
                for index, batch in enumerate(BATCHES):
                    times = [run.latency_p50_us[index] for run in runs]
                    tails = [run.latency_p99_us[index] for run in runs]
                    figures[f"{shape}_{name}_batch{batch}_p50_us"] = round(statistics.median(times), 3)
                    figures[f"{shape}_{name}_batch{batch}_p99_us"] = round(statistics.median(tails), 3)
                    figures[f"{shape}_{name}_batch{batch}_repeat"] = round(max(times) / min(times), 3)
                    dense = figures[f"{shape}_dense_batch{batch}_p50_us"]
                    figures[f"{shape}_{name}_batch{batch}_times_faster"] = round(dense / statistics.median(times), 2)
                    row += f" | {statistics.median(times):8.2f} {statistics.median(tails):9.2f}"
                    row += f" {dense / statistics.median(times):5.2f}x"
                figures[f"{shape}_{name}_neurons_removed"] = removed
                print(row)
    print(f"{device}, {options.threads} thread(s){', busy: p99 figures are those of other jobs' if busy else ''}")
    figures["machine_was_busy"] = float(busy)
    write_result(
        "runtime_quick" if options.quick else "runtime",
        figures,
        ("trigger_prune", "onnxruntime", "torch"),
        device=device,
        provider=options.provider,
        threads=options.threads,
    )


if __name__ == "__main__":
    main()

"""What 6 bits cost: dense networks in floating point and after quantisation-aware training, shipped jets.

    python benchmarks/dense_precision.py [--seeds 3] [--bits 6] [--float-epochs 60] [--epochs 60]

MLP 16-64-32-32-5 with batch normalisation; weights and activations of so many bits, no weight pruned. Accuracy and mean
one-versus-rest AUC on test events; the network is chosen by its validation accuracy. Writes
``benchmarks/results/dense_precision.json``.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _result import write_result

from trigger_prune.config.project import DataConfig, InputConfig, SplitConfig
from trigger_prune.data.load import load_sample
from trigger_prune.data.sample import EventSample
from trigger_prune.data.split import split_sample
from trigger_prune.data.transform import InputTransform, fit_input_transform
from trigger_prune.models.mlp import Mlp
from trigger_prune.physics.auc import weighted_auc
from trigger_prune.physics.scores import class_score
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.train.evaluate import Batches, predict
from trigger_prune.train.fit import FitSettings, fit


@dataclass(frozen=True)
class Bits:
    """What ``quantize_model`` reads."""

    weight_bits: int
    activation_bits: int
    rounding: str = "AP_TRN"


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bits", type=int, default=6)
    parser.add_argument("--float-epochs", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    split = split_sample(load_sample(DataConfig(path="builtin:jets16"), Path.cwd()), SplitConfig())
    transform = fit_input_transform(split.train, InputConfig())
    train, validation, test = (_batches(part, transform) for part in (split.train, split.validation, split.test))
    rows = []
    for seed in range(1, arguments.seeds + 1):
        torch.manual_seed(seed)
        model = Mlp((train.features.shape[1],), 5, [64, 32, 32], batch_norm=True)
        fit(model, train, validation, FitSettings("float", arguments.float_epochs, 1024, 4e-3, seed))
        floating = _scores(model, test)
        network = quantize_model(model, train.features[:20_000], transform.fixed, Bits(arguments.bits, arguments.bits))
        fit(network, train, validation, FitSettings("quantised", arguments.epochs, 1024, 2e-3, seed))
        quantised = _scores(network, test)
        rows.append((*floating, *quantised))
        print(
            f"seed {seed}: float {floating[0]:.4f} / {floating[1]:.4f}, {arguments.bits} bits "
            f"{quantised[0]:.4f} / {quantised[1]:.4f}, {100 * (floating[0] - quantised[0]):.2f} points lost",
            flush=True,
        )
    float_accuracy, float_auc, accuracy, auc = (list(column) for column in zip(*rows, strict=True))
    lost = [100 * (a - b) for a, b in zip(float_accuracy, accuracy, strict=True)]
    error = statistics.stdev(lost) / len(lost) ** 0.5 if len(lost) > 1 else float("nan")
    print(f"accuracy lost: {statistics.mean(lost):.2f} ± {error:.2f} points over {len(lost)} seeds")
    write_result(
        "dense_precision",
        {
            "seeds": len(rows),
            "bits": arguments.bits,
            "float_accuracy": statistics.mean(float_accuracy),
            "float_auc": statistics.mean(float_auc),
            "accuracy": statistics.mean(accuracy),
            "auc": statistics.mean(auc),
            "points_lost": statistics.mean(lost),
            "points_lost_error": error,
        },
        ["torch"],
        runs=rows,
    )


def _batches(part: EventSample, transform: InputTransform) -> Batches:
    x, y = torch.from_numpy(transform.apply(part.features)), torch.from_numpy(part.labels)
    ones = torch.ones(len(y))
    return Batches(x, y, ones, y, ones.double())


def _scores(network: torch.nn.Module, test: Batches) -> tuple[float, float]:
    outputs = np.asarray(predict(network.eval(), test.features))
    labels, ones = test.targets.numpy(), np.ones(len(test))
    aucs = [weighted_auc(class_score(outputs, c), labels == c, ones) for c in range(outputs.shape[1])]
    return float((outputs.argmax(1) == labels).mean()), float(np.mean(aucs))


if __name__ == "__main__":
    main()

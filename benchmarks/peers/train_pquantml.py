"""PQuantML: PDP, differentiable soft masks, with fixed-point quantisation of weights and data; one network per job.

Settings: epochs (the pruning stage, after ``pretraining_epochs`` and before ``fine_tuning_epochs``), sparsity,
weight_bits, data_bits, data_integer_bits, learning_rate, batch_size.

Two defaults of the library are changed, because they spoil a network silently: data are clipped to [0, 1), the inputs
too (here the inputs keep the events' type and hidden activations get integer bits), and PDP raises its sparsity by
0.015 of the target per epoch whatever the number of epochs (here it is reached in the middle of the pruning stage).
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pquant
import torch
from in_peer import Job, Networks, cpu_s, mean_auc, read_job
from torch import Tensor, nn


def build(job: Job) -> nn.Module:
    """16-64-32-32-classes with the library's layers."""
    settings, events = job.settings, job.events
    widths = [events.x["train"].shape[1], *settings["hidden"]]
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        modules += [nn.Linear(n_in, n_out), nn.ReLU()]
    model = nn.Sequential(*modules, nn.Linear(widths[-1], job.classes))
    return pquant.add_compression_layers(model, configure(job), input_shape=(1, widths[0]))


def configure(job: Job) -> Any:
    """The library's PDP configuration with this job's settings."""
    settings = job.settings
    config = pquant.pdp_config()
    pruning, quantization, training = (
        config.pruning_parameters,
        config.quantization_parameters,
        config.training_parameters,
    )
    pruning.sparsity = settings["sparsity"]
    pruning.epsilon = 2.0 / settings["epochs"]
    quantization.default_weight_integer_bits = 0.0
    quantization.default_weight_fractional_bits = settings["weight_bits"] - 1.0
    quantization.default_data_keep_negatives = 0.0
    quantization.default_data_integer_bits = float(settings["data_integer_bits"])
    quantization.default_data_fractional_bits = float(settings["data_bits"] - settings["data_integer_bits"])
    sign, integer, fraction = job.events.kif
    quantization.layer_specific = {
        "0": {"input": {"keep_negatives": sign, "integer_bits": integer, "fractional_bits": fraction, "quantize": True}}
    }
    for stage in ("pretraining_epochs", "epochs", "fine_tuning_epochs"):
        setattr(training, stage, settings[stage])
    return config


def batches(job: Job, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of shuffled training events."""
    x, y = (torch.from_numpy(part["train"]) for part in (job.events.x, job.events.y))
    order = torch.randperm(len(x), generator=generator)
    x, y = x[order], y[order]
    size = job.settings["batch_size"]
    for start in range(0, len(x) - size + 1, size):
        yield x[start : start + size], y[start : start + size]


def main() -> None:
    """Train with the library's own loop, make the compression final, trace."""
    torch.set_num_threads(1)
    job = read_job()
    settings = job.settings
    torch.manual_seed(job.seed)
    model = build(job)
    model(torch.from_numpy(job.events.x["train"][:8]))  # the quantisers are built by the first forward pass
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=settings["learning_rate"]
    )
    generator = torch.Generator().manual_seed(job.seed)
    epochs = settings["pretraining_epochs"] + settings["epochs"] + settings["fine_tuning_epochs"]
    total = epochs * (len(job.events.y["train"]) // settings["batch_size"])
    steps = 0

    def train(network: nn.Module, **_: Any) -> None:
        nonlocal steps
        for x, y in batches(job, generator):
            for group in optimizer.param_groups:
                group["lr"] = settings["learning_rate"] * (0.01 + 0.99 * (1 + math.cos(math.pi * steps / total)) / 2)
            optimizer.zero_grad()
            loss = pquant.get_model_losses(network, nn.functional.cross_entropy(network(x), y))
            loss.backward()
            optimizer.step()
            steps += 1

    def predict(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(x)).numpy()

    start = cpu_s()
    pquant.train_model(model, configure(job), train, lambda *_, **__: None)
    train_cpu_s = round(cpu_s() - start, 2)
    model.eval()
    pquant.apply_final_compression(model)
    kept = sum(int(layer._weight.count_nonzero()) for layer in model if isinstance(layer, pquant.layers.PQDense))
    weights = sum(layer._weight.numel() for layer in model if isinstance(layer, pquant.layers.PQDense))
    print(f"trained in {train_cpu_s:.0f} s of CPU, {kept} of {weights} weights kept, validation AUC", end=" ")
    print(round(mean_auc(predict(job.events.x["validation"]), job.events.y["validation"]), 4))
    networks = Networks(job)
    networks.add(
        f"sparsity{settings['sparsity']:g}",
        model,
        "torch",
        predict,
        settings={"zero_weights": round(1 - kept / weights, 4)},
        optimiser_steps=steps,
        train_cpu_s=train_cpu_s,
    )
    networks.write(optimiser_steps=steps, train_cpu_s=train_cpu_s)


if __name__ == "__main__":
    main()

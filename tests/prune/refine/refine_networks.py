"""Small quantised networks and events for the tests of the refinement."""

from __future__ import annotations

import copy
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.structure.masks import prunable_layers, zero_masked
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings, fit

INPUT = FixedPoint(8, 3)
BITS = SimpleNamespace(weight_bits=6, activation_bits=5, rounding="AP_TRN")


class Residual(nn.Module):
    """A sum of two branches, so a wire has two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(7, 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.first(x))
        return self.head(a + self.relu(self.second(a)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 3))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(4, 4, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def images() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3))


MODELS = {
    "mlp": (mlp, (6,)),
    "residual": (Residual, (6,)),
    "conv1d": (convolutions, (2, 6)),
    "conv2d": (images, (1, 4, 4)),
}


def sample(shape: tuple[int, ...], n: int, seed: int) -> Batches:
    """Three overlapping classes that need more than one layer."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=draws)
    flat = x.flatten(1)
    classes = ((flat[:, 0] * flat[:, 1] > 0).long() + (flat[:, 2] + flat[:, 3] > 0.5).long()).clamp(max=2)
    x = torch.from_numpy(INPUT.quantize(x.clamp(INPUT.min_value, INPUT.max_value).numpy())).float()
    weights = torch.rand(n, generator=draws) + 0.5
    return Batches(x, classes, weights, classes, weights.double())


@cache
def _trained(kind: str, seed: int, epochs: int, n: int) -> tuple[fx.GraphModule, Batches, Batches]:
    return _train(kind, seed, epochs, n)


def trained(kind: str, seed: int = 1, epochs: int = 8, n: int = 1500) -> tuple[fx.GraphModule, Batches, Batches]:
    """As ``_train``, a copy of its own every time."""
    network, train, validation = _trained(kind, seed, epochs, n)
    return copy.deepcopy(network), train, validation


def _train(kind: str, seed: int, epochs: int, n: int) -> tuple[fx.GraphModule, Batches, Batches]:
    """A network with a third of its weights masked, after a short training; training and validation events."""
    build, shape = MODELS[kind]
    train, validation = sample(shape, n, seed), sample(shape, n // 2, seed + 100)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = quantize_model(build(), train.features, INPUT, BITS)
    draws = torch.Generator().manual_seed(seed)
    for layer in prunable_layers(network).values():
        layer.weight_mask.copy_((torch.rand(layer.weight.shape, generator=draws) > 0.33).float())
    settings = FitSettings("test", epochs, 128, 1e-2, seed)
    fit(network, train, validation, settings, on_after_step=lambda optimizer: zero_masked(network, optimizer))
    return network.eval(), train, validation

"""The rows of the matrix: seven kinds of network on the events that come with the package.

They are not trained: bits do not depend on it. Weights come from a fixed seed, statistics of batch normalisation and
the binary points from the events, and half of the weights are masked, as pruning leaves them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.config.project import DataConfig, InputConfig
from trigger_prune.data.load import load_sample
from trigger_prune.data.transform import fit_input_transform
from trigger_prune.models.autoencoder import Autoencoder
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import weight_layers

_PRECISION = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
_CALIBRATION_EVENTS = 2000
_BATCH_NORM_PASSES = 20


class Residual(nn.Module):
    """A dense block whose input is added to its output; ``(B, F)`` to logits."""

    def __init__(self, n_inputs: int, n_outputs: int, width: int = 32) -> None:
        super().__init__()
        self.dense1, self.relu1 = nn.Linear(n_inputs, width), nn.ReLU()
        self.dense2, self.relu2 = nn.Linear(width, width), nn.ReLU()
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu1(self.dense1(x))
        logits: Tensor = self.head(self.relu2(self.dense2(first) + first))
        return logits


class TwoInputs(nn.Module):
    """Two ranges of the features, each with a dense layer of its own, then concatenated; ``(B, F)`` to logits."""

    def __init__(self, n_inputs: int, n_outputs: int, width: int = 16) -> None:
        super().__init__()
        self.cut = n_inputs // 2
        self.dense1, self.relu1 = nn.Linear(self.cut, width), nn.ReLU()
        self.dense2, self.relu2 = nn.Linear(n_inputs - self.cut, width), nn.ReLU()
        self.head = nn.Linear(2 * width, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu1(self.dense1(x[:, : self.cut]))
        second = self.relu2(self.dense2(x[:, self.cut :]))
        logits: Tensor = self.head(torch.cat([first, second], dim=1))
        return logits


@dataclass(frozen=True)
class Row:
    """A kind of network: its events, the grid of its inputs, and how it is built from (input shape, outputs)."""

    title: str
    events: DataConfig
    inputs: InputConfig
    build: Callable[[tuple[int, ...], int], nn.Module]


_JETS = DataConfig(path="builtin:jets16")
_CONSTITUENTS = DataConfig(path="builtin:jets16_constituents")
_NARROW = InputConfig(width_bits=8, integer_bits=3)

ROWS: dict[str, Row] = {
    "mlp": Row(
        "MLP 16-64-32-32-5, jets",
        _JETS,
        InputConfig(),
        lambda shape, n: Mlp(shape, n),
    ),
    "conv1d": Row(
        "Conv1d with MaxPool1d, 16 constituents of a jet",
        _CONSTITUENTS,
        _NARROW,
        lambda shape, n: Conv1dNet(shape, n, channels=(8, 4), pool=2, hidden=(16,)),
    ),
    "conv2d": Row(
        "Conv2d with MaxPool2d, 18 x 14 calorimeter regions",
        DataConfig(path="builtin:level1_regions", inputs="regions"),
        InputConfig(width_bits=9, integer_bits=7, offset="none"),
        lambda shape, n: Conv2dNet(shape, 1, channels=(4,), pool=2, hidden=(16,)),
    ),
    "deep_sets": Row(
        "deep sets 16-16-32-5, 16 constituents of a jet",
        _CONSTITUENTS,
        _NARROW,
        lambda shape, n: DeepSets(shape, n, phi=(16, 16), rho=(32,)),
    ),
    "residual": Row(
        "residual block of 32, jets",
        _JETS,
        InputConfig(),
        lambda shape, n: Residual(shape[0], n),
    ),
    "two_inputs": Row(
        "two inputs of 8 features, concatenated, jets",
        _JETS,
        InputConfig(),
        lambda shape, n: TwoInputs(shape[0], n),
    ),
    "autoencoder": Row(
        "autoencoder 57-32-16-8-16-32-57, level-1 objects",
        DataConfig(path="builtin:level1"),
        InputConfig(width_bits=10, integer_bits=6, scale="by_unit", offset="none"),
        lambda shape, n: Autoencoder(shape),
    ),
}  # fmt: skip


def row_network(name: str, n_events: int) -> tuple[fx.GraphModule, NDArray[np.float32]]:
    """The quantised network of a row, half of its weights masked, and ``n_events`` events on its input grid."""
    row = ROWS[name]
    sample = load_sample(row.events, Path())
    features = fit_input_transform(sample, row.inputs).apply(sample.features)
    rows = np.random.default_rng(0).permutation(len(features))
    calibration = torch.from_numpy(features[rows[:_CALIBRATION_EVENTS]])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(len(name))
        model = row.build(tuple(features.shape[1:]), sample.n_classes).train()
        for _ in range(_BATCH_NORM_PASSES):
            model(calibration)
    network = quantize_model(model.eval(), calibration, fit_input_transform(sample, row.inputs).fixed, _PRECISION)
    _mask_half(network)
    return network.eval(), np.ascontiguousarray(features[rows[-n_events:]])


def _mask_half(network: fx.GraphModule) -> None:
    for layer in weight_layers(network).values():
        if layer.weight.requires_grad:
            size = layer.weight.detach().abs()
            layer.weight_mask.copy_((size > size.median()).to(size.dtype))

"""Outputs, loss and accuracy of a network on events held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.train.loss import Task, event_losses


@dataclass(frozen=True)
class Batches:
    """Events as resident tensors; they fit in memory, and slicing them is ten times quicker than a DataLoader.

    features   ``(n, ...)`` floating point
    targets    ``(n,)`` int64 class indices, or for an autoencoder the values to reconstruct, shaped like features
    weights    ``(n,)`` floating point, >= 0
    """

    features: Tensor
    targets: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def to(self, device: torch.device) -> Batches:
        """The same events on ``device``."""
        return Batches(self.features.to(device), self.targets.to(device), self.weights.to(device))

    def take(self, rows: Tensor | slice) -> Batches:
        """The events ``rows``, in that order."""
        return Batches(self.features[rows], self.targets[rows], self.weights[rows])


@dataclass(frozen=True)
class Evaluation:
    """Weighted mean loss and weighted accuracy (None for a task without classes)."""

    loss: float
    accuracy: float | None


@dataclass
class LossSums:
    """Running sums behind an Evaluation, in float64 on the events' device."""

    loss: Tensor
    correct: Tensor
    weight: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> LossSums:
        """Empty sums."""
        return cls(*(torch.zeros((), dtype=torch.float64, device=device) for _ in range(3)))

    def add(self, outputs: Tensor, batches: Batches, task: Task) -> None:
        """Adds events whose network outputs are ``outputs``."""
        weights = batches.weights.double()
        self.loss += (event_losses(outputs, batches.targets, task).double() * weights).sum()
        if task == "classify":
            self.correct += weights[outputs.argmax(dim=1) == batches.targets].sum()
        self.weight += weights.sum()

    def result(self, task: Task) -> Evaluation:
        """Weighted means. Raises ModelError when the total weight is zero."""
        weight = float(self.weight)
        if not weight > 0:
            raise ModelError("the events to evaluate have no weight above zero")
        return Evaluation(float(self.loss) / weight, float(self.correct) / weight if task == "classify" else None)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """``network.eval()`` without gradients; every module's own mode is restored afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def evaluate(network: nn.Module, batches: Batches, task: Task, batch_size: int = 16_384) -> Evaluation:
    """Weighted loss and accuracy. Network and events are on one device. Raises ModelError when all weights are zero."""
    sums = LossSums.zero(batches.features.device)
    with evaluation_mode(network):
        for start in range(0, len(batches), batch_size):
            part = batches.take(slice(start, start + batch_size))
            sums.add(network(part.features), part, task)
    return sums.result(task)


def predict(network: nn.Module, features: Tensor, batch_size: int = 16_384) -> NDArray[np.float64]:
    """Outputs ``(n, n_outputs)`` as float64, computed in the precision and on the device of the network.

    A float32 network's outputs become float64 without change; a float64 network is never narrowed.
    """
    parameter = next(network.parameters(), torch.zeros(()))
    outputs: list[NDArray[np.float64]] = []
    with evaluation_mode(network):
        for start in range(0, len(features), batch_size):
            part = features[start : start + batch_size].to(device=parameter.device, dtype=parameter.dtype)
            outputs.append(network(part).double().cpu().numpy())
    return np.concatenate(outputs)

"""Outputs, loss, accuracy and merit of a network on events held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.train.loss import Task, event_losses, right_decisions
from trigger_prune.train.objective import Objective, as_arrays, check_physical

LOSS = Objective()
"""The objective of whoever asks for none."""


@dataclass(frozen=True)
class Batches:
    """Events as resident tensors; they fit in memory, and slicing them is ten times quicker than a DataLoader.

    features   ``(n, ...)`` floating point
    targets    ``(n,)`` int64 class indices; of a binary task 0 or 1 in floating point; of an autoencoder the values to
               reconstruct, shaped like features; of distillation a teacher's outputs
    weights    ``(n,)`` floating point, >= 0, of the loss
    classes    ``(n,)`` int64 class indices, and ``physical`` ``(n,)`` float64 the weights of the events as physics has
               them: what an objective counts with. None where there is only a loss.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor
    classes: Tensor | None = None
    physical: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def to(self, device: torch.device) -> Batches:
        """The same events on ``device``."""
        return Batches(*(None if x is None else x.to(device) for x in self._tensors()))  # type: ignore[arg-type]

    def take(self, rows: Tensor | slice) -> Batches:
        """The events ``rows``, in that order."""
        return Batches(*(None if x is None else x[rows] for x in self._tensors()))  # type: ignore[arg-type]

    def parts(self, n: int) -> list[Batches]:
        """``n`` parts of near-equal size, in order."""
        columns = [[None] * n if x is None else x.tensor_split(n) for x in self._tensors()]
        return [Batches(*rows) for rows in zip(*columns, strict=True)]

    def with_features(self, features: Tensor) -> Batches:
        """The same events with other inputs."""
        return replace(self, features=features)

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.features, self.targets, self.weights, self.classes, self.physical


@dataclass(frozen=True)
class Evaluation:
    """Weighted mean loss, weighted accuracy (None for a task without classes) and merit; see Objective."""

    loss: float
    accuracy: float | None
    merit: float


@dataclass
class EventSums:
    """What an Evaluation needs, gathered batch by batch: sums in float64 on the events' device, values on the CPU."""

    objective: Objective
    loss: Tensor
    correct: Tensor
    weight: Tensor
    values: list[NDArray[np.float64]] = field(default_factory=list)

    @classmethod
    def zero(cls, device: torch.device, objective: Objective = LOSS) -> EventSums:
        """Empty sums."""
        loss, correct, weight = torch.zeros(3, dtype=torch.float64, device=device)
        return cls(objective, loss, correct, weight)

    def add(self, outputs: Tensor, batches: Batches, task: Task) -> None:
        """Adds events whose network outputs are ``outputs``."""
        weights = batches.weights.double()
        self.loss += (event_losses(outputs, batches.targets, task).double() * weights).sum()
        right = right_decisions(outputs, batches.targets, task)
        if right is not None:
            self.correct += weights[right].sum()
        self.weight += weights.sum()
        if self.objective.uses_outputs:
            self.values.append(self.objective.values(outputs, batches.targets))

    def result(self, task: Task, batches: Batches) -> Evaluation:
        """Of all events added, which together are ``batches``. Raises ModelError when the total weight is zero."""
        weight = float(self.weight)
        if not weight > 0:
            raise ModelError("the events to evaluate have no weight above zero")
        loss = float(self.loss) / weight
        accuracy = float(self.correct) / weight if task in ("classify", "binary") else None
        if self.objective.name == "loss":
            return Evaluation(loss, accuracy, -loss)
        if self.objective.name == "accuracy":
            if accuracy is None:
                raise ModelError(f"objective accuracy: the task {task} has no classes", hint="use objective: loss")
            return Evaluation(loss, accuracy, accuracy)
        values = np.concatenate(self.values)
        if batches.classes is None or batches.physical is None or not np.isfinite(values).all():
            # a training that diverged: its loss says so
            return Evaluation(loss, accuracy, float("nan"))
        return Evaluation(loss, accuracy, self.objective.merit(values, *as_arrays(batches.classes, batches.physical)))


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


def evaluate(
    network: nn.Module, batches: Batches, task: Task, objective: Objective = LOSS, batch_size: int = 16_384
) -> Evaluation:
    """Weighted loss, accuracy and merit. Network and events are on one device.

    Raises ModelError when all weights are zero, DataError when the objective needs what the events do not have.
    """
    check_physical(batches.classes, batches.physical, objective)
    sums = EventSums.zero(batches.features.device, objective)
    with evaluation_mode(network):
        for start in range(0, len(batches), batch_size):
            part = batches.take(slice(start, start + batch_size))
            sums.add(network(part.features), part, task)
    return sums.result(task, batches)


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

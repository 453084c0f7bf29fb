"""What light models are made from: the full model, and the events and settings of the project's trainings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.physics.scores import Score
from trigger_prune.train.evaluate import Batches, predict
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.history import EpochRecord
from trigger_prune.verify.runs._base import torch_outputs

FullScores = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Scores of the full model on the training and on the validation events, ``(events,)`` each."""


@dataclass(frozen=True, eq=False)
class FullModel:
    """Any network of the toolkit, with the features that it reads and the score made of its outputs."""

    network: nn.Module
    kept_inputs: tuple[int, ...]
    score: Score


def full_scores(full: FullModel, features: Tensor) -> NDArray[np.float64]:
    """Scores float64 ``(events,)`` of the full model on events ``(events, features, ...)`` that hold every feature.

    A quantised network runs in float64, where its bits are the firmware's. A reconstruction is compared with every
    feature.
    """
    read = features[:, list(full.kept_inputs)]
    if isinstance(full.network, fx.GraphModule):
        outputs = torch_outputs(full.network, read.cpu().numpy(), double=True)
    else:
        outputs = predict(full.network, read)
    return full.score.of(outputs, features.cpu().numpy() if full.score.kind == "reconstruction" else None)


@dataclass(frozen=True, eq=False)
class LightInputs:
    """Events and settings, the same for all light models.

    train, validation     every feature on the input grid, targets of the project's task, weights of the loss, classes
                          and physical weights
    settings              phase, epochs, task, objective, loss and checkpoints are replaced; the rest holds
    signal_classes        class indices that count as signal
    background_fraction   share of the background's physical weight that the whole trigger may accept
    input_type            type of every input; feature_names one per feature
    rounding              of activations, AP_TRN or AP_RND_CONV
    on_epoch              told of every epoch; ``note`` of what was decided, in sentences

    Raises DataError for events without classes or physical weights, ConfigError where no class is signal and for a
    fraction outside 0 .. 1.
    """

    train: Batches
    validation: Batches
    settings: FitSettings
    signal_classes: tuple[int, ...]
    background_fraction: float
    input_type: FixedPoint
    feature_names: tuple[str, ...]
    rounding: str = "AP_TRN"
    on_epoch: Callable[[EpochRecord, int], None] | None = None
    note: Callable[[str], None] = field(default=lambda _: None)

    def __post_init__(self) -> None:
        for name, part in (("training", self.train), ("validation", self.validation)):
            if part.classes is None or part.physical is None:
                raise DataError(f"light models need {name} events with classes and physical weights")
        if not self.signal_classes:
            raise ConfigError(
                "two stages are a trigger, and no class is signal", hint="name the signal classes in physics.signal"
            )
        if not 0 < self.background_fraction < 1:
            raise ConfigError(f"a trigger that accepts {self.background_fraction:g} of the background decides nothing")


def is_signal(events: Batches, signal_classes: tuple[int, ...]) -> Tensor:
    """Whether each event is of a signal class, bool ``(events,)``."""
    assert events.classes is not None  # LightInputs has looked
    return torch.isin(events.classes, torch.tensor(signal_classes, device=events.classes.device))

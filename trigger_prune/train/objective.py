"""What a network is judged by: one figure on validation events that checkpoints, scans and pruning compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trigger_prune.errors import DataError
from trigger_prune.physics.auc import weighted_auc
from trigger_prune.physics.roc import roc_curve, signal_efficiency_at
from trigger_prune.physics.scores import Score, class_score

ObjectiveName = Literal["loss", "accuracy", "auc", "efficiency_at_rate", "efficiency_at_fpr"]


@dataclass(frozen=True)
class Objective:
    """A figure of merit; larger is better, so a loss counts as its negative.

    score                 the trigger's score; None for ``loss``, ``accuracy`` and the mean one-versus-rest AUC of
                          several classes
    signal_classes        class indices that count as signal, all others are background
    background_fraction   weighted background efficiency at which ``efficiency_*`` is taken: the wanted rate divided by
                          the rate of bunch crossings, or the false-positive rate

    Efficiencies are taken on the line between neighbouring thresholds, as random tie-breaking would give them:
    networks are compared at an equal rate, whatever the step of their integer scores.
    Raises DataError for an efficiency or AUC whose score, classes or fraction are missing.
    """

    name: ObjectiveName = "loss"
    score: Score | None = None
    signal_classes: tuple[int, ...] = ()
    background_fraction: float | None = None
    label: str = ""

    def __post_init__(self) -> None:
        if self.name.startswith("efficiency"):
            if self.score is None or not self.signal_classes or self.background_fraction is None:
                raise DataError(f"objective {self.name} needs a score, signal classes and a background fraction")
            if not 0 < self.background_fraction < 1:
                raise DataError(
                    f"objective {self.name}: a background fraction of {self.background_fraction:g} is not inside 0..1"
                )
        if self.score is not None and not self.signal_classes:
            raise DataError(f"objective {self.name}: a score is given, but no class is signal")

    @property
    def uses_outputs(self) -> bool:
        """Whether the merit needs every event's outputs, and not only sums of losses."""
        return self.name not in ("loss", "accuracy")

    def values(self, outputs: Tensor, targets: Tensor) -> NDArray[np.float64]:
        """What ``merit`` needs of a batch: scores ``(n,)``, or one per class ``(n, classes)`` without a ``score``.

        A reconstruction is compared with all inputs, which are the ``targets``: the network may have lost some.
        """
        if self.score is None:
            logits = outputs.double().cpu().numpy()
            return np.stack([class_score(logits, c) for c in range(logits.shape[1])], axis=1)
        inputs = targets.double() if self.score.kind == "reconstruction" else None
        values: NDArray[np.float64] = self.score.tensor(outputs.double(), inputs).cpu().numpy()
        return values

    def merit(self, values: NDArray[np.float64], classes: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
        """AUC or signal efficiency of events with these ``values``, classes and physical weights.

        Raises DataError when signal or background has no weight.
        """
        if self.score is None:
            each = [weighted_auc(values[:, c], classes == c, weights) for c in range(values.shape[1])]
            return float(np.mean(each))
        signal = np.isin(classes, self.signal_classes)
        if self.name == "auc":
            return weighted_auc(values, signal, weights)
        if self.background_fraction is None:
            raise DataError(f"objective {self.name} is no figure of scores")
        return signal_efficiency_at(roc_curve(values, signal, weights), self.background_fraction)


def check_physical(classes: Tensor | None, physical: Tensor | None, objective: Objective) -> None:
    """Raise DataError when events lack what ``objective`` needs."""
    if objective.uses_outputs and (classes is None or physical is None):
        raise DataError(f"objective {objective.name} needs events with classes and physical weights")


def as_arrays(classes: Tensor, physical: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Classes and physical weights as numpy arrays."""
    return classes.cpu().numpy(), physical.to(torch.float64).cpu().numpy()

"""What a training run leaves behind."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. Losses are means per unit of event weight; accuracy is weighted; None for a task without classes.

    ``validation_merit`` is the objective's figure, larger is better.
    """

    phase: str
    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float | None
    learning_rate: float
    sparsity: float
    seconds: float
    validation_merit: float


@dataclass(frozen=True)
class FitHistory:
    """All epochs in order, and the index (into ``epochs``) of the one whose weights were kept."""

    epochs: tuple[EpochRecord, ...]
    best_index: int

    @property
    def best(self) -> EpochRecord:
        """The epoch whose weights were kept."""
        return self.epochs[self.best_index]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal history."""
        return {"epochs": [asdict(record) for record in self.epochs], "best_index": self.best_index}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> FitHistory:
        """Inverse of ``to_dict``."""
        return cls(tuple(EpochRecord(**record) for record in raw["epochs"]), raw["best_index"])

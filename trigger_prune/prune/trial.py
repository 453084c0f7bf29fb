"""One measured network on the way to the budget."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from trigger_prune.cost.report import HardwareReport
from trigger_prune.target import LayerLayout

Phase = Literal["dense", "ramp", "final", "trim", "refine"]


@dataclass(frozen=True)
class PruneTrial:
    """A fine-tuned network, its validation figures and its measured cost.

    ``sparsity`` is the fraction of zero weights asked for; ``nonzeros`` counts integer weights that are not zero.
    ``validation_merit`` is the objective's figure, larger is better: the chosen trial has the best within the budget.
    ``layer_sparsity`` is the achieved fraction of zero integer weights per layer. ``predicted`` is the cost that the
    solver expected, after the corrections it knew of; ``layouts`` are those of layers that differ from the target.
    """

    round: int
    phase: Phase
    sparsity: float
    nonzeros: int
    layer_sparsity: dict[str, float]
    validation_loss: float
    validation_accuracy: float | None
    validation_merit: float
    cost: HardwareReport
    meets_budget: bool
    chosen: bool = False
    predicted: dict[str, float] = field(default_factory=dict)
    layouts: tuple[LayerLayout, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal trial."""
        return {
            **self.__dict__,
            "cost": json.loads(self.cost.to_json()),
            "layouts": [asdict(layout) for layout in self.layouts],
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> PruneTrial:
        """Inverse of ``to_dict``."""
        layouts = tuple(LayerLayout(**layout) for layout in raw.get("layouts", ()))
        return cls(**{**raw, "cost": HardwareReport.from_json(json.dumps(raw["cost"])), "layouts": layouts})


@dataclass(frozen=True)
class FailedTrial:
    """A fine-tuned network whose cost could not be measured, and why."""

    round: int
    phase: str
    nonzeros: int
    error: str

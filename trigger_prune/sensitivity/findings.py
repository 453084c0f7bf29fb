"""What a sensitivity scan finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class LayerPoint:
    """One layer pruned alone to one sparsity, without fine-tuning.

    ``accuracy_low`` / ``accuracy_high`` is a 68 % interval; the three are None for a task without classes. ``merit`` is
    the project's objective, larger is better.
    """

    layer: str
    criterion: str
    sparsity: float
    loss: float
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    merit: float


@dataclass(frozen=True)
class InputFinding:
    """One input feature.

    kind          ``duplicate`` (equal to ``same_as`` on every training event, after the input transform),
                  ``constant`` (one value on every training event) or ``informative``
    loss_increase, accuracy_drop, merit_drop   when the feature is shuffled among validation events (permutation
                                               importance)
    """

    name: str
    index: int
    kind: Literal["duplicate", "constant", "informative"]
    same_as: str | None
    constant_value: float | None
    loss_increase: float
    accuracy_drop: float | None
    merit_drop: float


@dataclass(frozen=True)
class SensitivityScan:
    """Baseline of the unpruned network, layer curves and input findings; ``objective`` names what ``merit`` is."""

    baseline_loss: float
    baseline_accuracy: float | None
    baseline_merit: float
    objective: str
    events: int
    layers: tuple[LayerPoint, ...]
    inputs: tuple[InputFinding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal scan."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> SensitivityScan:
        """Inverse of ``to_dict``."""
        return cls(
            **{
                **raw,
                "layers": tuple(LayerPoint(**point) for point in raw["layers"]),
                "inputs": tuple(InputFinding(**finding) for finding in raw["inputs"]),
            }
        )

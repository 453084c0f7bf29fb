"""What the comparator behind a network in firmware needs: the score's grid, and thresholds as integers on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trigger_prune.errors import DataError
from trigger_prune.physics.rates import Threshold
from trigger_prune.physics.scores import Score


@dataclass(frozen=True)
class FirmwareScore:
    """A score of a network whose outputs (and inputs) are multiples of powers of two.

    formula                 the score in words
    output_lsb, input_lsb   the network's outputs and inputs are whole multiples of these; outputs None: they are
                            floats, on no grid
    """

    score: Score
    formula: str
    output_lsb: float | None
    input_lsb: float

    @property
    def step(self) -> float | None:
        """Every score is a multiple of it: sums and differences keep the grid, squares square it; None of floats."""
        if self.output_lsb is None:
            return None
        if self.score.kind == "sum_of_squares":
            return self.output_lsb**2
        if self.score.kind == "reconstruction":
            return min(self.output_lsb, self.input_lsb) ** 2
        return self.output_lsb

    def integer(self, threshold: Threshold) -> int | None:
        """``threshold`` in steps: ``score / step >= integer`` decides exactly as ``score >= threshold.value``.

        None for a threshold that nothing passes, and without a grid. Raises DataError when the threshold is not on the
        grid.
        """
        if threshold.passes_nothing or self.step is None:
            return None
        steps = threshold.value / self.step
        if not steps.is_integer():
            raise DataError(f"the threshold {threshold.value!r} is no multiple of the score's step {self.step!r}")
        return int(steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal score."""
        return {
            "score": self.score.to_dict(),
            "formula": self.formula,
            "output_lsb": self.output_lsb,
            "input_lsb": self.input_lsb,
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> FirmwareScore:
        """Inverse of ``to_dict``."""
        return cls(Score.from_dict(raw["score"]), raw["formula"], raw["output_lsb"], raw["input_lsb"])

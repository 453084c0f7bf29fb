"""The protocol every cost backend follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.target import Target

if TYPE_CHECKING:  # cost/ is plain numpy
    from torch import nn


class CostModel(Protocol):
    """Measures or predicts what a quantised network costs on the target."""

    @property
    def name(self) -> str:
        """Name in project.yaml and in progress output."""
        ...

    @property
    def stage(self) -> CostStage:
        """How its numbers are obtained."""
        ...

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Cost of a quantised network (``quantize.convert.quantize_model``'s result).

        Raises CostError, or ToolError when an external tool is missing, fails, or exceeds its limits.
        """
        ...

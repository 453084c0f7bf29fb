"""Magnitude criteria: small weights matter little.

S. Han et al., "Learning both weights and connections for efficient neural networks", NeurIPS 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from trigger_prune.importance._base import CriterionData, named_weight_layers, register


@dataclass(frozen=True)
class Magnitude:
    """``|w| ** power`` of the master weights, the float values behind the quantised ones.

    Master weights, because quantised ones tie in a few values. Within one ranking the powers 1 and 2 order alike;
    they differ as soon as scores of groups of weights are summed.
    """

    power: Literal[1, 2]

    @property
    def name(self) -> str:
        """``magnitude_l1`` or ``magnitude_l2``."""
        return f"magnitude_l{self.power}"

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``."""
        layers = named_weight_layers(network, layer_names)
        return {name: layer.weight.detach().double().abs() ** self.power for name, layer in layers.items()}


MAGNITUDE_L1 = register(Magnitude(1))
MAGNITUDE_L2 = register(Magnitude(2))

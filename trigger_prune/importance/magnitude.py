"""Magnitude criteria: small weights matter little.

S. Han et al., "Learning both weights and connections for efficient neural networks", NeurIPS 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, fx, nn

from trigger_prune.importance._base import CriterionData, kept_weight, named_weight_layers, register
from trigger_prune.structure._base import Groups


@dataclass(frozen=True)
class Magnitude:
    """``|w| ** power`` of the master weights, the float values behind the quantised ones.

    Master weights, because quantised ones tie in a few values. Within one ranking the powers 1 and 2 order alike;
    they differ for groups of weights: the sum of ``|w|``, or the root of the sum of ``w^2``, over the kept ones.
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

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``: the norm of the kept weights."""
        layers = named_weight_layers(network, list(groups.ids))
        sums = groups.sums({name: kept_weight(layer).abs() ** self.power for name, layer in layers.items()})
        return sums.sqrt() if self.power == 2 else sums


MAGNITUDE_L1 = register(Magnitude(1))
MAGNITUDE_L2 = register(Magnitude(2))

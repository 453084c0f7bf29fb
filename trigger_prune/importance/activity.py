"""Criteria of units: how much a neuron or channel does while events pass through.

All weights that feed a unit share its score, so these criteria suit structures; single weights tie. A group scores the
mean of its units.
APoZ: H. Hu et al., "Network trimming", 2016 (arXiv:1607.03250).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx, nn

from trigger_prune.importance._base import (
    CriterionData,
    named_weight_layers,
    register_data_criterion,
    require_data,
    require_finite,
)
from trigger_prune.importance.observed import layer_values, units_first
from trigger_prune.importance.unit_groups import mean_over_units
from trigger_prune.structure._base import Groups


@dataclass(frozen=True)
class ActivityCriterion:
    """A weighted mean over all events (and positions, of a convolution) of a unit's output a.

    apoz                  ``1 - mean(a == 0)``, one minus the average percentage of zeros
    activation            ``mean |a|``
    activation_variance   ``mean a^2 - (mean a)^2``

    a is what the next layer gets: behind ReLU and quantiser. A unit without ReLU, of the last layer say, is judged by
    its own output. Masked weights score 0.
    """

    name: Literal["apoz", "activation", "activation_variance"]

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises DataError without ``data``, ModelError for a layer that is never called."""
        layers = named_weight_layers(network, layer_names)
        units = self.unit_scores(network, layer_names, require_data(self.name, data))
        return require_finite(
            self.name,
            {
                name: units[name].reshape(-1, *[1] * (layer.weight.ndim - 1)) * layer.weight_mask.double()
                for name, layer in layers.items()
            },
        )

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``: the mean over the units that a group has weights of."""
        units = self.unit_scores(network, list(groups.ids), require_data(self.name, data))
        return mean_over_units(network, groups, require_finite(self.name, units))

    def unit_scores(self, network: nn.Module, layer_names: Sequence[str], data: CriterionData) -> dict[str, Tensor]:
        """Score of every unit of the named layers, float64 ``(units,)``."""
        layers = named_weight_layers(network, layer_names)
        # mean of the value that is averaged, and of its square for the variance
        sums = {
            name: torch.zeros(2, len(layer.weight), dtype=torch.float64, device=layer.weight.device)
            for name, layer in layers.items()
        }
        for values, shares in layer_values(network, layer_names, data, side="output"):
            for name, calls in values.items():
                for outputs in calls:
                    a = self._averaged(units_first(layers[name], outputs))
                    for power, total in enumerate(sums[name], start=1):
                        total += torch.tensordot(shares / len(calls), (a**power).mean(dim=2), dims=1)
        if self.name == "activation_variance":
            return {name: (second - first.square()).clamp_min(0) for name, (first, second) in sums.items()}
        return {name: first for name, (first, _) in sums.items()}

    def _averaged(self, a: Tensor) -> Tensor:
        if self.name == "apoz":
            # nothing is added, but a NaN stays one
            return (a != 0) + 0 * a
        return a.abs() if self.name == "activation" else a


APOZ = register_data_criterion(ActivityCriterion("apoz"))
ACTIVATION = register_data_criterion(ActivityCriterion("activation"))
ACTIVATION_VARIANCE = register_data_criterion(ActivityCriterion("activation_variance"))

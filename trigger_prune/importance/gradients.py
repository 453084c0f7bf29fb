"""First-order criteria: what the gradient says about removing a weight.

P. Molchanov et al., "Importance estimation for neural network pruning", CVPR 2019 (arXiv:1906.10771), for the Taylor
forms; N. Lee et al., "SNIP", ICLR 2019 (arXiv:1810.02340), for the same before training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, fx, nn

from trigger_prune.importance._base import (
    CriterionData,
    kept_weight,
    named_weight_layers,
    register_data_criterion,
    require_data,
    require_finite,
)
from trigger_prune.importance.derivatives import Twin, group_moments, mean_gradients, mean_over_events, twin_of
from trigger_prune.structure._base import Groups


@dataclass(frozen=True)
class GradientCriterion:
    """A score of the master weight w and the gradients g of the loss of single events by the quantised weight.

    gradient        ``|w| * E|g|``
    taylor          ``|E[g] * w|``, the first-order change of the loss; it vanishes at a minimum of the loss
    snip            another name of ``taylor``, under which it is known for networks that are not trained yet
    taylor_fisher   ``E[(g * w)^2]``, which does not vanish

    E is the mean weighted by the events' weights. Masked weights score 0. A group scores the change of the loss when
    all of it goes: ``|E[s]|`` or ``E[s^2]`` with s the sum of ``g * w`` over the group, event by event; ``gradient``
    is summed.
    """

    name: Literal["gradient", "taylor", "snip", "taylor_fisher"]

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises DataError without ``data``, ModelError when a score is not finite."""
        means = _MEANS[self.name](twin_of(network, layer_names), require_data(self.name, data))
        power = 2 if self.name == "taylor_fisher" else 1
        layers = named_weight_layers(network, layer_names)
        return require_finite(
            self.name, {name: means[name].abs() * kept_weight(layer).abs() ** power for name, layer in layers.items()}
        )

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``."""
        names = list(groups.ids)
        given = require_data(self.name, data)
        if self.name == "gradient":
            return groups.sums(self.score(network, names, given))
        weights = {name: kept_weight(layer) for name, layer in named_weight_layers(network, names).items()}
        mean, mean_square = group_moments(twin_of(network, names), given, groups, weights)
        scores = mean_square if self.name == "taylor_fisher" else mean.abs()
        return require_finite(self.name, {"of all groups": scores})["of all groups"]


_MEANS: dict[str, Callable[[Twin, CriterionData], dict[str, Tensor]]] = {
    "gradient": lambda twin, data: mean_over_events(twin, data, lambda g: g.abs()),
    "taylor": mean_gradients,
    "snip": mean_gradients,
    "taylor_fisher": lambda twin, data: mean_over_events(twin, data, lambda g: g.square()),
}

GRADIENT = register_data_criterion(GradientCriterion("gradient"))
TAYLOR = register_data_criterion(GradientCriterion("taylor"))
SNIP = register_data_criterion(GradientCriterion("snip"))
TAYLOR_FISHER = register_data_criterion(GradientCriterion("taylor_fisher"))

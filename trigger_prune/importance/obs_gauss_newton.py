"""OBS by the loss itself: every output unit with the Gauss-Newton Hessian of the loss in its own weights.

Criterion ``obs`` (importance/obs_score.py) keeps the outputs of a layer, as if every event and every error counted
alike. Here an event counts by how much the loss cares for that unit's output there. B. Hassibi, D. Stork, NeurIPS 1992;
one block per unit as in S. P. Singh, D. Alistarh, "WoodFisher", NeurIPS 2020 (arXiv:2004.14340), which takes the
gradients of the true labels instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ConfigError
from trigger_prune.importance._base import (
    CriterionData,
    named_weight_layers,
    register_data_criterion,
    require_data,
    require_finite,
)
from trigger_prune.importance.obs import DAMPING
from trigger_prune.importance.obs_blocks import BlockRemoval, InputBlocks
from trigger_prune.importance.row_hessians import row_hessians
from trigger_prune.quantize.layers import QuantWeightLayer
from trigger_prune.structure._base import Groups

_LEAST_CURVATURE = 1e-6
"""Of the mean of the layer: a unit that the loss hardly feels is damped as if it had so much."""


@dataclass(frozen=True)
class ObsGaussNewton:
    """Increase of the loss by a quadratic model of every unit, the other weights of the unit making up for it.

    Weights of a unit go one by one, the one of least ``w_q^2 / (2 [H^-1]_qq)`` first; a weight scores what its own
    removal adds then, so that the scores of the first n of a unit sum up to what removing all n costs. A group of
    several weights scores the error of removing all of it at once, unit by unit.

    damping   lambda of a unit's Hessian as a fraction of its mean diagonal over the weights kept
    block     inputs per block of H, which bounds the time for a wide layer; see ``InputBlocks``
    Masked weights score 0.
    """

    damping: float = DAMPING
    block: int = 256
    name: str = "obs_gauss_newton"

    def __post_init__(self) -> None:
        if not self.damping > 0:
            raise ConfigError(f"criterion {self.name}: damping {self.damping} is not above zero")

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises what ``row_hessians`` raises, DataError without ``data``."""
        layers = named_weight_layers(network, layer_names)
        scores = {name: torch.zeros_like(layer.weight, dtype=torch.float64) for name, layer in layers.items()}
        for name, removal in self._removals(network, layer_names, data).items():
            scores[name] = removal.ladder().reshape(scores[name].shape)
        return require_finite(self.name, scores)

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``."""
        if groups.count == sum(int((ids >= 0).sum()) for ids in groups.ids.values()):  # single weights
            return groups.sums(self.score(network, list(groups.ids), data))
        totals = torch.zeros(groups.count, dtype=torch.float64)
        for name, removal in self._removals(network, list(groups.ids), data).items():
            for row in removal.group_errors(groups.ids[name].flatten(1).to(removal.kept.device)):
                for group, error in row:
                    totals[group] += error
        return require_finite(self.name, {"of all groups": totals})["of all groups"]

    def _removals(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None
    ) -> dict[str, BlockRemoval]:
        """Of the layers that the loss feels at all; nothing is lost by any removal from the others."""
        layers = named_weight_layers(network, layer_names)
        hessians = require_finite(self.name, row_hessians(network, layer_names, require_data(self.name, data)))
        found = {}
        for name, hessian in hessians.items():
            kept = layers[name].weight_mask.flatten(1) != 0
            if damp_rows(hessian, kept, self.damping):
                found[name] = InputBlocks(hessian, kept, self.block).start(quantised_rows(layers[name]))
        return found


def quantised_rows(layer: QuantWeightLayer) -> Tensor:
    """Weights ``(units, inputs)`` as the hardware has them, float64, the bias last where there is one.

    Of few bits, they are what the loss sees: a master weight that rounds to zero is gone already.
    """
    with torch.no_grad():
        weight, bias = layer.quantized_weight().double().flatten(1), layer.quantized_bias()
        return weight if bias is None else torch.cat([weight, bias.double().unsqueeze(1)], dim=1)


def damp_rows(hessians: Tensor, kept: Tensor, damping: float) -> bool:
    """Adds to each diagonal its own lambda, in place; False, and nothing added, where all diagonals are zero.

    hessians   ``(units, inputs, inputs)``; kept bool ``(units, weights)``
    """
    diagonals = hessians.diagonal(dim1=1, dim2=2)
    own = (diagonals[:, : kept.shape[1]] * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
    mean = float(own.mean())
    if not mean > 0:
        return False
    diagonals += (damping * own.clamp(min=_LEAST_CURVATURE * mean)).unsqueeze(1)
    return True


OBS_GAUSS_NEWTON = register_data_criterion(ObsGaussNewton())

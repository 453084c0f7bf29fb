"""Random importance: the baseline every other criterion has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from trigger_prune.importance._base import CriterionData, named_weight_layers, register
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure._base import Groups


@dataclass(frozen=True)
class RandomScore:
    """Uniform in 0..1, fixed by the seed and by the network's layers; masked weights score 0.

    The score of a layer does not depend on which others are asked for, nor on torch's global random state.
    """

    seed: int = 0
    name: str = "random"

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``."""
        layers = named_weight_layers(network, layer_names)
        generator = torch.Generator().manual_seed(self.seed)
        drawn = {
            name: torch.rand(layer.weight.shape, generator=generator, dtype=torch.float64)
            for name, layer in weight_layers(network).items()
        }
        return {name: drawn[name].to(layer.weight.device) * layer.weight_mask for name, layer in layers.items()}

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``: uniform whatever the size of a group; a sum would favour large ones."""
        layers = named_weight_layers(network, list(groups.ids))
        kept = groups.sums({name: layer.weight_mask for name, layer in layers.items()}) > 0
        drawn = torch.rand(groups.count, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)
        return drawn * kept


RANDOM = register(RandomScore())

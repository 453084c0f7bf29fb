"""Random importance: the baseline every other criterion has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trigger_prune.importance._base import CriterionData, named_weight_layers, register
from trigger_prune.quantize.layers import weight_layers


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


RANDOM = register(RandomScore())

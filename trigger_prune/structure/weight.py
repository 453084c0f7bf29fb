"""Single weights: unstructured pruning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.numbering import joined, layers_to_part


@dataclass(frozen=True)
class Weight:
    """Every weight is a group. What saves LUTs where each weight has a multiplier of its own (reuse factor 1)."""

    @property
    def name(self) -> str:
        """``weight``."""
        return "weight"

    def groups(self, network: nn.Module) -> Groups:
        """Numbered by layer, then in the flat order of the weight. Raises ModelError when no layer can be pruned."""
        layers = layers_to_part(self.name, network)
        numbers = {
            name: torch.arange(layer.weight.numel()).reshape(layer.weight.shape) for name, layer in layers.items()
        }
        return Groups(self.name, *joined(numbers))


register_structure("weight", Weight)

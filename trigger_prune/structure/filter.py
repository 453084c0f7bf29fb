"""Filters: the output channels of convolutions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.neuron import unit_groups


@dataclass(frozen=True)
class Filter:
    """Output channels of the convolutions; those that are added to each other are one group.

    A depthwise convolution has the channels of the layer before it: its filter goes with theirs. The channels of each
    group of a grouped convolution go together, on both sides. A neuron of a Linear layer that is added to a flattened
    channel goes with it. What stays in structure ``neuron`` stays here.
    ``groups`` raises ModelError with the reasons when no filter can be removed.
    """

    @property
    def name(self) -> str:
        """``filter``; ``channel`` is another name for it."""
        return "filter"

    def groups(self, network: nn.Module) -> Groups:
        """Numbered in the order of the layers and their channels."""
        return unit_groups(self.name, network, convolutions=True)


register_structure("filter", Filter)
register_structure("channel", Filter)

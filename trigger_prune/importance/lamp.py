"""LAMP: magnitudes that can be compared across layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from trigger_prune.importance._base import CriterionData, kept_weight, named_weight_layers, register
from trigger_prune.structure._base import Groups


class Lamp:
    """``w^2`` divided by the sum of ``w'^2`` over all weights of the layer that are at least as large.

    The largest weight of every layer scores 1, so a global ranking cannot empty a thin layer, as plain magnitudes do.
    Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", ICLR 2021 (arXiv:2010.07611).
    """

    name = "lamp"

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """Masked weights count as zero; equal magnitudes share the sum up to the last of them."""
        return {
            name: _lamp(kept_weight(layer).square())
            for name, layer in named_weight_layers(network, layer_names).items()
        }

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``: the same with the groups' sums of ``w^2``, among those of one layer.

        A group that reaches over several layers counts among those of its first.
        """
        layers = named_weight_layers(network, list(groups.ids))
        sums = groups.sums({name: kept_weight(layer).square() for name, layer in layers.items()})
        homes, result = groups.home(), torch.zeros_like(sums)
        for name in dict.fromkeys(homes):
            mine = torch.tensor([home == name for home in homes])
            result[mine] = _lamp(sums[mine])
        return result


def _lamp(values: Tensor) -> Tensor:
    squares = values.flatten()
    ordered, order = torch.sort(squares)
    # largest-to-smallest running sum, turned round: at each place the sum of everything not smaller
    remaining = ordered.flip(0).cumsum(0).flip(0)
    # of equal weights all get the sum that starts at the first of them
    first = torch.searchsorted(ordered, ordered)
    scores = torch.zeros_like(squares)
    scores[order] = ordered / remaining[first].clamp_min(torch.finfo(torch.float64).tiny)
    return scores.reshape(values.shape)


register(Lamp())

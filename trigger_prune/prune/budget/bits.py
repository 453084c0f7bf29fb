"""One width for all weights, chosen by trying: fewer bits are cheaper, so that more weights stay within a budget."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from torch import fx

from trigger_prune.fixed_point import Rounding
from trigger_prune.quantize.ranges import best_type
from trigger_prune.structure.masks import prunable_layers


def with_weight_bits(network: fx.GraphModule, bits: int) -> fx.GraphModule:
    """A copy whose trained weight layers hold weights of ``bits`` bits, each with the best binary point."""
    result = copy.deepcopy(network)
    for layer in prunable_layers(result).values():
        weight = (layer.weight * layer.weight_mask).detach().double().cpu().numpy()
        layer.weight_type = best_type(weight, bits, signed=True, rounding=Rounding(layer.weight_type.rounding))
    return result


def choose_bits(
    network: fx.GraphModule, choices: Sequence[int], tune: Callable[[fx.GraphModule], float]
) -> tuple[fx.GraphModule, dict[int, float]]:
    """The copy of ``network`` with the best width, unpruned, and the merit of every width.

    tune   prunes a network to the expected budget with a short training, in place, and gives its merit on validation
    Of equal merits the narrower width wins.
    """
    merits = {bits: tune(with_weight_bits(network, bits)) for bits in sorted(set(choices))}
    best = max(merits, key=lambda bits: merits[bits])
    return with_weight_bits(network, best), merits

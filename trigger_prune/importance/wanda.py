"""Wanda: a weight matters as much as what it multiplies.

M. Sun et al., "A simple and effective pruning approach for large language models", ICLR 2024 (arXiv:2306.11695).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad
from torch.nn import functional

from trigger_prune.importance._base import (
    CriterionData,
    kept_weight,
    named_weight_layers,
    register_data_criterion,
    require_data,
    require_finite,
)
from trigger_prune.importance.observed import layer_values
from trigger_prune.quantize.layers import QuantLinear, QuantWeightLayer


@dataclass(frozen=True)
class Wanda:
    """``|w| * ||x||``, x being what the weight multiplies; masked weights score 0.

    ``||x||^2`` is the weighted mean over events of x squared, summed over the positions of a convolution (padding
    counts as zero). The paper ranks each output's weights among themselves: the norms of different layers, and so
    the scores, are not of one scale.
    """

    name: str = "wanda"

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises DataError without ``data``, ModelError for a layer that is never called."""
        layers = named_weight_layers(network, layer_names)
        squares = {name: torch.zeros_like(layer.weight, dtype=torch.float64) for name, layer in layers.items()}
        for values, shares in layer_values(network, layer_names, require_data(self.name, data), side="input"):
            for name, calls in values.items():
                for inputs in calls:
                    squares[name] += mean_squares(layers[name], inputs, shares)
        return require_finite(
            self.name, {name: kept_weight(layer).abs() * squares[name].sqrt() for name, layer in layers.items()}
        )


def mean_squares(layer: QuantWeightLayer, inputs: Tensor, shares: Tensor) -> Tensor:
    """Per weight, the sum over events and positions of shares times squared input: a derivative of the layer itself.

    It is linear in the weight, so the derivative by a weight of its outputs' sum on squared inputs is that sum.
    """

    def weighted_sum(weight: Tensor) -> Tensor:
        linear = isinstance(layer, QuantLinear)
        squared = inputs.square()
        outputs = functional.linear(squared, weight) if linear else layer._conv_forward(squared, weight, None)  # type: ignore[operator]
        return (outputs.flatten(1).sum(dim=1) * shares).sum()

    result: Tensor = grad(weighted_sum)(torch.zeros_like(layer.weight, dtype=torch.float64))
    return result


WANDA = register_data_criterion(Wanda())

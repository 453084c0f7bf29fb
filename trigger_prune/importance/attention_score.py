"""Learned attention of the input features as a criterion of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx, nn

from trigger_prune.importance._base import (
    CriterionData,
    kept_weight,
    named_weight_layers,
    register_data_criterion,
    require_data,
    require_finite,
)
from trigger_prune.importance.attention import AttentionSettings, feature_attention
from trigger_prune.importance.observed import layer_values
from trigger_prune.importance.wanda import mean_squares
from trigger_prune.quantize.graph import is_cat, module_of, trace
from trigger_prune.quantize.layers import QuantWeightLayer
from trigger_prune.train.evaluate import Batches

_PASSED_ON = (nn.Flatten, nn.Identity, nn.Dropout, nn.MaxPool1d, nn.MaxPool2d)
"""Modules behind which a value is still one of the input's."""


@dataclass(frozen=True)
class Attention:
    """``gate * |w|``: gate of the input feature that the weight multiplies, see ``feature_attention``.

    That holds for weights of first layers, which read the network's input. All others have the gate 1, so a global
    ranking compares them by magnitude. Where pooling comes first the gate is the largest of those pooled, and for a
    convolution over several positions their root mean square. Masked weights score 0.
    The gates are learned anew in every call (``settings.steps`` passes over the events, forth and back).
    """

    settings: AttentionSettings = field(default_factory=AttentionSettings)
    name: str = "attention"

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises DataError without ``data``, ModelError when a score is not finite."""
        layers = named_weight_layers(network, layer_names)
        given = require_data(self.name, data)
        scores = {name: kept_weight(layer).abs() for name, layer in layers.items()}
        first = [name for name in first_layers(network) if name in layers]
        if first:
            gates = feature_attention(network, given, self.settings)
            for name, gate in weight_gates(network, first, given, gates).items():
                scores[name] = scores[name] * gate
        return require_finite(self.name, scores)


def first_layers(network: nn.Module) -> list[str]:
    """Names of the weight layers that read nothing but values of the network's input."""
    graph = trace(network)

    def reads_input(node: fx.Node) -> bool:
        if node.op == "placeholder":
            return True
        passes = isinstance(module_of(graph, node), _PASSED_ON) or is_cat(node)
        return passes and all(map(reads_input, node.all_input_nodes))

    calls = [node for node in graph.graph.nodes if isinstance(module_of(graph, node), QuantWeightLayer)]
    inputs = {str(node.target): True for node in calls}
    for node in calls:
        inputs[str(node.target)] &= reads_input(node.all_input_nodes[0])
    return [name for name, reads in inputs.items() if reads]


def weight_gates(
    network: nn.Module, layer_names: Sequence[str], data: CriterionData, gates: Tensor
) -> dict[str, Tensor]:
    """Gate of what each weight of first layers multiplies, shaped like the weight.

    One event whose features are the gates takes the way of all events to the layer; every weight then sees its own.
    """
    shape = data.batches.features.shape[1:]
    event = gates.reshape(1, -1, *[1] * (len(shape) - 1)).expand(1, *shape)
    like = data.batches.take(slice(0, 1))
    alone = replace(data, batches=Batches(event.to(like.features.device), like.targets, torch.ones_like(like.weights)))
    layers = named_weight_layers(network, layer_names)
    totals = {name: torch.zeros_like(layer.weight, dtype=torch.float64) for name, layer in layers.items()}
    counts = {name: torch.zeros_like(layer.weight, dtype=torch.float64) for name, layer in layers.items()}
    for values, shares in layer_values(network, layer_names, alone, side="input"):
        for name, calls in values.items():
            for inputs in calls:
                totals[name] += mean_squares(layers[name], inputs, shares)
                counts[name] += mean_squares(layers[name], torch.ones_like(inputs), shares)
    # padding counts neither as open nor as closed
    return {name: (totals[name] / counts[name].clamp_min(1e-300)).sqrt() for name in layers}


ATTENTION = register_data_criterion(Attention())

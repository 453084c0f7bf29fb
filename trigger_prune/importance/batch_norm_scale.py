"""BatchNorm scale: channels whose normalised output is scaled by a small gamma matter little.

Z. Liu et al., "Learning efficient convolutional networks through network slimming", ICCV 2017 (arXiv:1708.06519).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.importance._base import CriterionData, named_weight_layers
from trigger_prune.quantize.batch_norm import FOLDS_INTO, NORMS
from trigger_prune.quantize.graph import module_of, trace


class BatchNormScale:
    """``|gamma|`` of the BatchNorm behind each layer, read from the float model before it is folded away.

    The quantised network has no BatchNorm left: gamma over the standard deviation is inside its weights. So the
    criterion is made from the model the network was made from, and is not known by name.
    All weights that feed a channel share its score; masked weights score 0.
    """

    name = "batchnorm_scale"

    def __init__(self, model: nn.Module) -> None:
        """model: the float model, with its BatchNorm. Raises ModelError when it cannot be traced or has none."""
        graph = trace(model)
        self._scales: dict[str, Tensor] = {}
        for node in graph.graph.nodes:
            norm = module_of(graph, node)
            if not isinstance(norm, NORMS):
                continue
            source = node.all_input_nodes[0]
            layer = module_of(graph, source)
            if layer is None or not isinstance(norm, FOLDS_INTO.get(type(layer), ())):
                continue
            gamma = norm.weight if norm.affine else torch.ones(norm.num_features)
            self._scales[str(source.target)] = gamma.detach().double().abs()
        if not self._scales:
            raise ModelError(
                f"{type(model).__name__} has no BatchNorm behind a weight layer, so there is no scale to judge by",
                hint="give the float model before quantisation, or use another criterion: magnitude_l1",
            )

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises ModelError for a layer that had no BatchNorm, or another number of units."""
        scores = {}
        for name, layer in named_weight_layers(network, layer_names).items():
            scale = self._scales.get(name)
            if scale is None:
                raise ModelError(
                    f"criterion {self.name}: layer {name!r} had no BatchNorm",
                    hint=f"layers with one: {', '.join(self._scales)}",
                )
            if len(scale) != len(layer.weight):
                raise ModelError(
                    f"criterion {self.name}: layer {name!r} has {len(layer.weight)} units, its BatchNorm {len(scale)}",
                    hint="make the criterion from the model that the network was quantised from",
                )
            channels = scale.to(layer.weight.device).reshape(-1, *[1] * (layer.weight.ndim - 1))
            scores[name] = channels * layer.weight_mask.double()
        return scores

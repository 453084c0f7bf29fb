"""BatchNorm scale: channels whose normalised output is scaled by a small gamma matter little.

Z. Liu et al., "Learning efficient convolutional networks through network slimming", ICCV 2017 (arXiv:1708.06519).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.importance._base import CriterionData, kept_weight, named_weight_layers, register
from trigger_prune.importance.unit_groups import mean_over_units
from trigger_prune.quantize.batch_norm import FOLDS_INTO, NORMS
from trigger_prune.quantize.graph import module_of, trace
from trigger_prune.structure._base import Groups

META_KEY = "batch_norm_scales"
"""Where a quantised network keeps gamma, by name of the layer that the BatchNorm was folded into."""


class BatchNormScale:
    """``|gamma|`` of the BatchNorm behind each layer, of the float model before it is folded away.

    The quantised network has no BatchNorm left: gamma over the standard deviation is inside its weights. By name the
    criterion reads what ``quantize_model`` put down in ``network.meta``; made as ``BatchNormScale(float_model)`` it
    reads the float model. All weights that feed a channel share its score; masked weights score 0.
    Layers without BatchNorm (the last one, say) cannot be compared: they score above all others, by ``|w|`` among
    themselves, so a global ranking takes from them last. A group scores the mean over its channels.
    """

    name = "batchnorm_scale"

    def __init__(self, model: nn.Module | None = None) -> None:
        """model: the float model, with its BatchNorm. Raises ModelError when it cannot be traced or has none."""
        self._scales: dict[str, Tensor] | None = None
        if model is not None:
            self._scales = batch_norm_scales(model)
            if not self._scales:
                raise _without_norm(type(model).__name__)

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises ModelError when no scale is known, or that of another number of units."""
        scales, top = self._known(network)
        scores = {}
        for name, layer in named_weight_layers(network, layer_names).items():
            if name in scales:
                channels = self._of_layer(scales[name], name, len(layer.weight)).to(layer.weight.device)
                values = channels.reshape(-1, *[1] * (layer.weight.ndim - 1)).expand(layer.weight.shape)
            else:
                values = top + kept_weight(layer).abs()
            scores[name] = values * layer.weight_mask.double()
        return scores

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``."""
        scales, top = self._known(network)
        units = {}
        for name, layer in named_weight_layers(network, list(groups.ids)).items():
            known = scales.get(name)
            norms = top + kept_weight(layer).flatten(1).norm(dim=1)
            units[name] = norms if known is None else self._of_layer(known, name, len(layer.weight))
        return mean_over_units(network, groups, units)

    def _known(self, network: nn.Module) -> tuple[Mapping[str, Tensor], float]:
        """The scales by layer, and the largest of all."""
        meta: Any = getattr(network, "meta", {})
        scales: Mapping[str, Tensor] = self._scales if self._scales is not None else meta.get(META_KEY, {})
        if not scales:
            raise _without_norm("the network")
        return scales, max(float(values.detach().abs().max()) for values in scales.values())

    def _of_layer(self, scales: Tensor, name: str, n_units: int) -> Tensor:
        if len(scales) != n_units:
            raise ModelError(
                f"criterion {self.name}: layer {name!r} has {n_units} units, its BatchNorm {len(scales)}",
                hint="make the criterion from the model that the network was quantised from",
            )
        return scales.detach().double().abs()


def batch_norm_scales(model: nn.Module) -> dict[str, Tensor]:
    """gamma ``(units,)`` of each BatchNorm of a float model by the layer in front of it; 1 where it learns none."""
    graph = trace(model)
    scales = {}
    for node in graph.graph.nodes:
        norm = module_of(graph, node)
        if not isinstance(norm, NORMS):
            continue
        source = node.all_input_nodes[0]
        layer = module_of(graph, source)
        if layer is None or not isinstance(norm, FOLDS_INTO.get(type(layer), ())):
            continue
        gamma = norm.weight if norm.affine else torch.ones(norm.num_features)
        scales[str(source.target)] = gamma.detach().double().abs()
    return scales


def _without_norm(what: str) -> ModelError:
    return ModelError(
        f"criterion {BatchNormScale.name}: {what} has no BatchNorm behind a weight layer, no scale to judge by",
        hint="give the model BatchNorm (model.args.batch_norm: true) and quantise it again, from Python pass the float "
        "model: BatchNormScale(model), or use another criterion: magnitude_l1",
    )


BATCH_NORM_SCALE = register(BatchNormScale())

"""What the solver expects of removing a group: how much loss, and how much logic it frees."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, fx

from trigger_prune.importance import CriterionData, criterion_by_name
from trigger_prune.importance.group_scores import score_groups
from trigger_prune.prune.budget.menu import Removal
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure._base import Groups
from trigger_prune.structure.masks import prunable_layers

LOSS_CRITERIA = ("taylor_fisher", "obd", "obd_fisher", "obd_hessian", "obs", "obs_gauss_newton")
"""Criteria whose scores are comparable from layer to layer: each is an increase of the loss up to one factor."""

LOSS_SCALE = "obd_fisher"
"""Says how much a layer is worth where the criterion itself has no scale."""

_SQUARED = ("magnitude_l1", "wanda", "activation")
"""Criteria of the first power of the weight or of what it does; the loss goes with the square."""

_GROWTH_BITS = 2
"""An adder behind an input of w bits has about w + 2."""


def removal_of(network: fx.GraphModule, groups: Groups, criterion: str, data: CriterionData) -> Removal:
    """Predicted loss and freed logic of every group of a quantised network.

    A criterion of ``LOSS_CRITERIA`` gives the loss itself. Any other one only ranks the groups within a layer; all of
    a layer together is then worth what ``LOSS_SCALE`` says.
    """
    scores = score_groups(criterion_by_name(criterion, with_data=True), network, groups, data).clamp(min=0)
    if criterion not in LOSS_CRITERIA:
        scores = scores.square() if criterion in _SQUARED else scores
        scale = score_groups(criterion_by_name(LOSS_SCALE, with_data=True), network, groups, data)
        scores = _with_layer_totals(groups, scores, scale)
    return Removal(_keeping_outputs(network, groups, scores), _prices(network, groups))


def _keeping_outputs(network: fx.GraphModule, groups: Groups, loss: Tensor) -> Tensor:
    """The best group of every output of the last layer is worth as much as all others: a class without weights is
    lost, which no derivative sees."""
    layers = prunable_layers(network)
    last = list(layers)[-1]
    if last not in groups.ids:
        return loss
    result = loss.clone()
    for ids, mask in zip(groups.ids[last].flatten(1).cpu(), layers[last].weight_mask.flatten(1).cpu(), strict=True):
        kept = ids[(mask != 0) & (ids >= 0)]
        if len(kept):
            best = kept[loss[kept].argmax()]
            result[best] = torch.maximum(result[best], loss.sum())
    return result


def _with_layer_totals(groups: Groups, scores: Tensor, scale: Tensor) -> Tensor:
    homes = np.array(groups.home())
    result = scores.clone()
    for name in groups.ids:
        mine = torch.from_numpy(np.flatnonzero(homes == name))
        total = float(scores[mine].sum())
        result[mine] = scores[mine] * (float(scale[mine].sum()) / total if total > 0 else 0.0)
    return result


def _prices(network: fx.GraphModule, groups: Groups) -> Tensor:
    """Bits of the adders behind each group's weights, one adder a weight.

    How many signed digits a weight has changes with every step of a training; to count them made no measurable
    difference on six seeds of the jet tagger.
    """
    spec = describe_network(network)
    bits = {
        layer.name: torch.full(layer.weight.shape, float(layer.input_type.width + _GROWTH_BITS) * layer.positions)
        for layer in spec.layers
    }
    return groups.sums(bits)

"""A single cut after which the kept weights make up for the removed ones, layer by layer."""

from __future__ import annotations

import copy

import torch

from trigger_prune.importance.obs_network import in_order_of_computation, prune_towards
from trigger_prune.prune.schedules._masking import Masking
from trigger_prune.structure.masks import prunable_layers


def repaired_cut(masking: Masking) -> None:
    """Cut to the plan's sparsity by its ranking; kept weights and biases then get the OBS update, in place.

    Every row becomes the one whose outputs are nearest to those of the layer before the cut, on the criterion's events,
    with the given mask and within the range of the layer's types. Under criterion ``obs`` the ranking gives each layer
    its number of single weights, and which go is decided one by one, each with the repair of those before it. Layers go
    in order, each with the inputs that the repaired ones before it give; one that loses nothing stays as it is.
    """
    plan = masking.plan
    one_by_one = plan.criterion == "obs" and plan.groups is None and plan.scores is None
    layers = prunable_layers(masking.network)
    reference = copy.deepcopy(masking.network)
    before = {name: layer.weight_mask.clone() for name, layer in layers.items()}
    masking.raise_to(lambda _, end: end)
    masks = {name: layer.weight_mask.clone() for name, layer in layers.items()}
    if one_by_one:
        for name, layer in layers.items():
            layer.weight_mask.copy_(before[name])
    for name in in_order_of_computation(masking.network):
        if torch.equal(before[name], masks[name]):
            continue
        n_masked = int((masks[name] == 0).sum())
        prune_towards(masking.network, reference, name, masking.data, n_masked).apply(layers[name])

"""What is built of a pruned network whose layers have reuse factors of their own."""

from __future__ import annotations

import copy

from torch import fx

from trigger_prune.cost.hls.fitting_layouts import fitting_layouts
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.shrink.quantised import ShrunkNetwork, shrink_network
from trigger_prune.target import Target


def shrink_laid_out(network: fx.GraphModule, target: Target) -> tuple[ShrunkNetwork, Target]:
    """The network without what has no effect, and ``target`` with layouts that it can be built with.

    A reuse factor has to divide the weights of its layer. Where that does not hold any more once neurons and inputs
    without effect are gone, they stay (their weights are zero, and the firmware's compiler drops what they do); where
    it does not hold then either, every reuse factor moves to the nearest valid one. Raises ConfigError for a layer that
    the network has not.
    """
    shrunk = shrink_network(network)
    if not target.layers:
        return shrunk, target
    fitted = fitting_layouts(describe_network(shrunk.network), target)
    if fitted != target and fitting_layouts(describe_network(network), target) == target:
        features = tuple(range(input_shape_of(network)[0]))
        stays = "neurons and inputs without effect stay: a reuse factor would not divide the weights that are left"
        return ShrunkNetwork(copy.deepcopy(network).cpu(), {}, features, (), (stays,)), target
    return shrunk, fitted

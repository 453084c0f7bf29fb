"""One-shot pruning of a whole network by OBS, layer after layer, each repairing what those before it changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance._base import CriterionData, named_weight_layers
from trigger_prune.importance.obs import DAMPING, PrunedLayer, damp, prune_layer, row_inputs
from trigger_prune.importance.obs_score import Obs
from trigger_prune.importance.observed import layer_values
from trigger_prune.quantize.graph import trace
from trigger_prune.quantize.layers import QuantWeightLayer
from trigger_prune.structure.masks import prunable_layers, raise_sparsity


def prune_with_obs(
    network: nn.Module,
    data: CriterionData,
    sparsity: float | Mapping[str, float],
    *,
    damping: float = DAMPING,
    block: int | None = None,
) -> dict[str, PrunedLayer]:
    """Masks weights and repairs what is left, in place, without training. Returns the layers in the order they went.

    sparsity   a number: fraction of all prunable weights, shared out over the layers by a global ranking of ``Obs``
               scores. By layer name: fraction of that layer's weights; layers that are not named stay as they are
    data       events that inputs are taken from; a few thousand are enough
    block      see ``InputBlocks``

    Layers go in order of computation. Each sees the inputs that the pruned layers before it produce, and aims at the
    outputs that the network had before any pruning: ``min_W E||W x' - (W_0 x + b_0)||^2`` over the weights kept and
    the bias, with lambda pulling towards W_0. So a layer also undoes errors of those before it (as in GPTAQ,
    arXiv:2504.02692), which a repair for its own changed inputs could not. W_0 is the quantised weight, and the new
    values lie on the grid of the layer's fixed-point types, inside their range. Weights already masked stay masked and
    count; a layer sparser than asked for loses nothing more.

    Raises ModelError for a sparsity outside 0..1, an unknown layer, a layer none of whose inputs is ever above zero.
    """
    layers = prunable_layers(network)
    wanted = _counts(network, data, sparsity, damping, block)
    reference = copy.deepcopy(network)
    done = {}
    for name in in_order_of_computation(network):
        if name in wanted:
            done[name] = prune_towards(network, reference, name, data, wanted[name], damping=damping, block=block)
            done[name].apply(layers[name])
    return done


def prune_towards(
    network: nn.Module,
    reference: nn.Module,
    name: str,
    data: CriterionData,
    n_masked: int,
    *,
    damping: float = DAMPING,
    block: int | None = None,
) -> PrunedLayer:
    """One layer with ``n_masked`` weights masked and the others such that it gives what it gives in ``reference``.

    network     with the layers before it as they will be; it is not changed
    reference   the same network before any change, whose quantised weights and inputs of the layer set the aim
    Weights already masked in ``network`` stay masked and count. The values returned are those of the types' grids that
    are nearest to the best ones, whatever the rounding of the types; the error is that before this rounding.
    The rest is as in ``prune_with_obs``, also what is raised.
    """
    layers, originals = named_weight_layers(network, [name]), named_weight_layers(reference, [name])
    hessian, crossed = _moments(network, reference, name, data)
    pull = damp(name, hessian, damping)
    before = _hardware_rows(originals[name])
    # rows of H W*^T = C W_0^T + lambda W_0^T, group by group
    aims = before.reshape(len(hessian), -1, before.shape[1]).transpose(1, 2)
    optimum = torch.linalg.solve(hessian, crossed @ aims + pull * aims).transpose(1, 2).reshape(before.shape)
    layer = layers[name]
    best = prune_layer(layer, hessian, n_masked, optimum=optimum, block=block, within_range=True)
    bias = None if best.bias is None else _nearest(best.bias, layer.bias_type)
    return replace(best, weight=_nearest(best.weight, layer.weight_type), bias=bias)


def _counts(
    network: nn.Module, data: CriterionData, sparsity: float | Mapping[str, float], damping: float, block: int | None
) -> dict[str, int]:
    """Masked weights of each layer that is to be pruned."""
    layers = prunable_layers(network)
    if isinstance(sparsity, Mapping):
        for name, share in sparsity.items():
            if name not in layers:
                raise ModelError(f"{name!r} is no prunable layer", hint=f"prunable layers: {', '.join(layers)}")
            if not 0 <= share <= 1:
                raise ModelError(f"sparsity {share} of layer {name!r} is outside 0..1")
        shares = {name: round(share * layers[name].weight.numel()) for name, share in sparsity.items()}
        return {name: max(count, int((layers[name].weight_mask == 0).sum())) for name, count in shares.items()}
    trial = copy.deepcopy(network)
    raise_sparsity(trial, Obs(damping, block).score(network, list(layers), data), sparsity, "global")
    return {name: int((layer.weight_mask == 0).sum()) for name, layer in prunable_layers(trial).items()}


def _moments(network: nn.Module, reference: nn.Module, name: str, data: CriterionData) -> tuple[Tensor, Tensor]:
    """``2 E[x' x'^T]`` and ``2 E[x' x^T]`` of a layer's inputs, x' in ``network`` and x in ``reference``."""
    layer = named_weight_layers(network, [name])[name]
    own: Tensor | float = 0.0
    crossed: Tensor | float = 0.0
    after = layer_values(network, [name], data, side="input")
    before = layer_values(reference, [name], data, side="input")
    for (new, shares), (old, _) in zip(after, before, strict=True):
        for new_inputs, old_inputs in zip(new[name], old[name], strict=True):
            x, x0 = row_inputs(layer, new_inputs), row_inputs(layer, old_inputs)
            own = own + 2 * torch.einsum("n,ngip,ngjp->gij", shares, x, x)
            crossed = crossed + 2 * torch.einsum("n,ngip,ngjp->gij", shares, x, x0)
    if not isinstance(own, Tensor) or not isinstance(crossed, Tensor):
        raise ModelError(f"layer {name!r} is never called by the network")
    return own, crossed


def _nearest(values: Tensor, fixed: FixedPoint) -> Tensor:
    return (values / fixed.lsb).round().clamp(fixed.min_code, fixed.max_code) * fixed.lsb


def _hardware_rows(layer: QuantWeightLayer) -> Tensor:
    """Quantised weights ``(units, inputs)`` in float64, the bias last where there is one."""
    with torch.no_grad():
        weight, bias = layer.quantized_weight().double().flatten(1), layer.quantized_bias()
    return weight if bias is None else torch.cat([weight, bias.double().unsqueeze(1)], dim=1)


def in_order_of_computation(network: nn.Module) -> list[str]:
    """Names of the prunable layers that the network calls, by their first call."""
    called = [str(node.target) for node in trace(network).graph.nodes if node.op == "call_module"]
    return list(dict.fromkeys(name for name in called if name in prunable_layers(network)))

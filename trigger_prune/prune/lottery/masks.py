"""Masks of a float network: which weights take part, with exact counts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.structure.masks import LAYER_SHARE, Scope, lowest_scores_mask

Masks = Mapping[str, Tensor]
"""By layer name in order of definition: bool, shaped like the weight, True = kept."""

_MASKED = (nn.Linear, nn.Conv1d, nn.Conv2d)


def maskable_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Linear and Conv layers with a trained weight of their own, by name in order of definition.

    A weight shared by two layers counts for the first. Raises ModelError when there is none.
    """
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    for name, module in network.named_modules():
        weight = dict(module.named_parameters(recurse=False)).get("weight")
        if isinstance(module, _MASKED) and weight is not None and weight.requires_grad and id(weight) not in seen:
            seen.add(id(weight))
            found[name] = module
    if not found:
        raise ModelError(
            f"{type(network).__name__} has no Linear or Conv layer with weights to train",
            hint="a lottery ticket is a mask on such weights",
        )
    return found


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """The weights that masks refer to, by layer; the parameters themselves."""
    return {name: layer.get_parameter("weight") for name, layer in maskable_layers(network).items()}


def full_masks(network: nn.Module) -> dict[str, Tensor]:
    """Masks, on the CPU, that keep every weight."""
    return {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in weights_of(network).items()}


def full_masks_like(masks: Masks) -> dict[str, Tensor]:
    """Masks of the same network that keep every weight."""
    return {name: torch.ones_like(mask) for name, mask in masks.items()}


def magnitude_masks(network: nn.Module, masks: Masks, sparsity: float, scope: Scope) -> dict[str, Tensor]:
    """``masks`` without the smallest kept weights: exactly ``round(sparsity * size)`` are masked (on the CPU).

    scope    ``global`` ranks all layers together, but leaves every layer ``LAYER_SHARE`` of the network's density;
             ``layer`` applies the fraction to each layer
    What is masked stays masked; ties go to the lower index, in order of the layers. Raises ModelError for a sparsity
    outside 0..1, for masks of another network and for weights that are not finite.
    """
    if not 0.0 <= sparsity <= 1.0:
        raise ModelError(f"sparsity {sparsity} is outside 0..1")
    weights = weights_of(network)
    check_masks(network, masks)
    scores = {name: weight.detach().abs().cpu() for name, weight in weights.items()}
    for name, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise ModelError(f"a weight of layer {name!r} is not finite", hint="lower the learning rate")
    if scope == "layer":
        return {name: lowest_scores_mask(scores[name], masks[name], sparsity) for name in weights}
    joined = lowest_scores_mask(
        torch.cat([_protected(scores[name], masks[name], sparsity) for name in weights]),
        torch.cat([masks[name].flatten() for name in weights]),
        sparsity,
    )
    parts = torch.split(joined, [weight.numel() for weight in weights.values()])
    return {name: part.reshape(weights[name].shape) for name, part in zip(weights, parts, strict=True)}


def _protected(scores: Tensor, mask: Tensor, sparsity: float) -> Tensor:
    """Flat scores in which the largest kept weights of a layer, its share of the density, are out of reach."""
    flat = scores.flatten().clone()
    kept = mask.flatten().nonzero().flatten()
    share = min(len(kept), math.ceil(LAYER_SHARE * (1.0 - sparsity) * flat.numel()))
    if share:
        order = torch.argsort(flat[kept], stable=True)
        flat[kept[order[len(kept) - share :]]] = torch.inf
    return flat


def random_masks(masks: Masks, seed: int) -> dict[str, Tensor]:
    """Masks that keep as many weights of every layer as ``masks`` do, at random places; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, mask in masks.items():
        order = torch.randperm(mask.numel(), generator=generator)
        result[name] = mask.flatten()[order].reshape(mask.shape)
    return result


def apply_masks(network: nn.Module, masks: Masks) -> None:
    """Set every masked weight to zero, in place. Raises ModelError for masks of another network."""
    check_masks(network, masks)
    with torch.no_grad():
        for name, weight in weights_of(network).items():
            weight.mul_(masks[name].to(weight.device))


def check_masks(network: nn.Module, masks: Masks) -> None:
    """Raise ModelError, naming the layer, unless ``masks`` are of this network."""
    weights = weights_of(network)
    for name in [*masks, *weights]:
        if name not in weights or name not in masks:
            where = "the network has no such layer" if name not in weights else "it has no mask"
            raise ModelError(f"the masks are of another network: layer {name!r}, {where}", hint="transfer the masks")
        if masks[name].shape != weights[name].shape:
            raise ModelError(
                f"the masks are of another network: layer {name!r} has weights {tuple(weights[name].shape)}, its mask "
                f"is {tuple(masks[name].shape)}",
                hint="transfer the masks",
            )


def kept_weights(masks: Masks) -> int:
    """Number of weights that are kept."""
    return sum(int(torch.count_nonzero(mask)) for mask in masks.values())


def sparsity_of(masks: Masks) -> float:
    """Fraction of weights that are masked."""
    return 1.0 - kept_weights(masks) / sum(mask.numel() for mask in masks.values())


def layer_sparsity(masks: Masks) -> dict[str, float]:
    """Fraction of masked weights of each layer."""
    return {name: 1.0 - int(torch.count_nonzero(mask)) / mask.numel() for name, mask in masks.items()}

"""DSP patterns: the weights that one time-multiplexed multiplier of hls4ml's Resource strategy works through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trigger_prune.cost.hls.reuse_factor import check_reuse_factor
from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.quantize.layers import QuantWeightLayer
from trigger_prune.structure._base import Groups, register_structure
from trigger_prune.structure.numbering import joined, layers_to_part

ReuseFactor = int | Mapping[str, int]
"""One reuse factor for all layers, or one by layer name; layers not named have 1, as in hls4ml."""


@dataclass(frozen=True)
class Dsp:
    """The ``reuse_factor`` weights of one multiplier: only when all of them are zero is its DSP block freed.

    hls4ml 1.3.0 (``nnet_dense_resource.h``, conv: ``nnet_conv1d_resource.h``, ``nnet_conv2d_resource.h``) stores the
    weights output by output (``ApplyResourceStrategy`` transposes them), those of a convolution in the order kernel
    places, then input channels, and lets multiplier ``im`` take weight ``ir + reuse_factor * im`` in clock cycle
    ``ir``: a multiplier owns ``reuse_factor`` consecutive weights of that order, for reuse factors below and above the
    number of inputs alike. Its weights lie ``n_in * n_out / reuse_factor`` (the number of multipliers) apart only in
    the memory as it is read cycle by cycle. Strategy ``resource_unrolled`` is what leaves the freed multipliers out.

    reuse_factor   one number for all layers, or by layer name; layers not named have 1: each weight its own multiplier

    ``groups`` raises ConfigError for a reuse factor that a layer cannot have (listing those it can), for a name that is
    no prunable layer, and ModelError for a grouped convolution with a reuse factor above 1, which is not this loop.
    """

    reuse_factor: ReuseFactor

    @property
    def name(self) -> str:
        """``dsp``."""
        return "dsp"

    def groups(self, network: nn.Module) -> Groups:
        """Numbered by layer, then by multiplier."""
        layers = layers_to_part(self.name, network)
        factors = reuse_factors(self.name, layers, self.reuse_factor)
        return Groups(self.name, *joined({name: multipliers(layers[name], factors[name]) for name in layers}))


def multipliers(layer: QuantWeightLayer, reuse_factor: int) -> Tensor:
    """Number of the multiplier that works on each weight, int64, shaped like the weight."""
    weight = layer.weight
    order = torch.arange(weight.numel()).reshape(weight.shape[0], *weight.shape[2:], weight.shape[1])
    return order.movedim(-1, 1).contiguous() // reuse_factor


def reuse_factors(structure: str, layers: Mapping[str, QuantWeightLayer], reuse_factor: ReuseFactor) -> dict[str, int]:
    """The valid reuse factor of every layer; raises as said in ``Dsp``."""
    if isinstance(reuse_factor, Mapping):
        unknown = sorted(set(reuse_factor) - set(layers))
        if unknown:
            raise ConfigError(
                f"structure {structure!r}: there is no prunable layer {unknown[0]!r} to give a reuse factor",
                hint=f"prunable layers: {', '.join(layers)}",
            )
        factors = {name: reuse_factor.get(name, 1) for name in layers}
    else:
        factors = dict.fromkeys(layers, reuse_factor)
    for name, layer in layers.items():
        if factors[name] != 1 and getattr(layer, "groups", 1) != 1:
            raise ModelError(
                f"structure {structure!r}: layer {name!r} is a grouped convolution; its multipliers are not known",
                hint="give it the reuse factor 1",
            )
        n_outputs, n_inputs = layer.weight.flatten(1).shape
        check_reuse_factor(n_inputs, n_outputs, factors[name], name=f"layer {name}")
    return factors


register_structure("dsp", Dsp)

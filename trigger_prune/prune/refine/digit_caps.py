"""Fine-tuning that keeps what a refinement has saved.

Every weight may move to any grid value with at most as many canonical signed digits as it has now, every bias to any
multiple of its present power of two; the gradient passes straight through the projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import fx

from trigger_prune.cost.csd import csd_count
from trigger_prune.prune.refine.codes import Codes, LayerCodes
from trigger_prune.quantize.digit_cap import CoarseBias, DigitCap
from trigger_prune.quantize.layers import QuantWeightLayer, weight_layers
from trigger_prune.structure.masks import prunable_layers


@contextmanager
def digit_caps(network: fx.GraphModule, codes: Codes) -> Iterator[None]:
    """Within, the weights and biases of ``network`` keep the digits and trailing zeros of ``codes``.

    Afterwards the projected values are the master values.
    """
    layers = {name: weight_layers(network)[name] for name in prunable_layers(network)}
    try:
        for name, layer in layers.items():
            _cap(layer, codes[name])
        yield
    finally:
        for layer in layers.values():
            release(layer)


def release(layer: QuantWeightLayer) -> None:
    """Take the caps off; the projected values are the master values from then on."""
    with torch.no_grad():
        layer.weight.copy_(layer.quantized_weight())
        bias = layer.quantized_bias()
        if bias is not None:
            layer.bias.copy_(bias)
    layer.weight_cap = layer.bias_cap = None


def _cap(layer: QuantWeightLayer, codes: LayerCodes) -> None:
    digits = csd_count(codes.weight).reshape(tuple(layer.weight.shape))
    lowest = np.where(codes.bias != 0, codes.bias & -codes.bias, 1).astype(np.float64)
    layer.weight_cap = DigitCap(digits, layer.weight_type)
    layer.bias_cap = CoarseBias(torch.from_numpy(lowest * layer.bias_type.lsb).to(layer.weight))

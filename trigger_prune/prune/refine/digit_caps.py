"""Fine-tuning that keeps what a refinement has saved.

Every weight may move to any grid value with at most as many canonical signed digits as it has now, every bias to any
multiple of its present power of two; the gradient passes straight through the projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.cost.csd import csd_count
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.refine.codes import Codes, LayerCodes
from trigger_prune.quantize.layers import QuantWeightLayer, weight_layers
from trigger_prune.structure.masks import prunable_layers


class DigitCap(nn.Module):
    """Projects weights onto the nearest grid value with at most ``digits`` signed digits each, straight through."""

    def __init__(self, digits: NDArray[np.int64], fixed: FixedPoint) -> None:
        super().__init__()
        self.fixed = fixed
        grid = np.arange(fixed.min_code, fixed.max_code + 1)
        counts = csd_count(grid)
        self.caps = [int(cap) for cap in np.unique(digits) if cap < counts.max()]
        for cap in self.caps:
            allowed = torch.from_numpy(grid[counts <= cap].astype(np.float32))
            self.register_buffer(f"allowed_{cap}", allowed, persistent=False)
            self.register_buffer(f"between_{cap}", (allowed[1:] + allowed[:-1]) / 2, persistent=False)
            self.register_buffer(f"at_{cap}", torch.from_numpy(digits == cap), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        codes = (weight * (1.0 / self.fixed.lsb)).detach()
        projected = codes
        for cap in self.caps:
            allowed, between = self.get_buffer(f"allowed_{cap}"), self.get_buffer(f"between_{cap}")
            projected = torch.where(
                self.get_buffer(f"at_{cap}"), allowed[torch.bucketize(codes, between.to(codes))].to(codes), projected
            )
        return weight + (projected - codes) * self.fixed.lsb


class CoarseBias(nn.Module):
    """Rounds biases to multiples of ``step`` (a value each, 0 = free), straight through."""

    def __init__(self, step: Tensor) -> None:
        super().__init__()
        self.register_buffer("step", step, persistent=False)

    def forward(self, bias: Tensor) -> Tensor:
        step = self.get_buffer("step")
        coarse = torch.round(bias.detach() / step) * step
        return bias + (coarse - bias.detach())


@contextmanager
def digit_caps(network: fx.GraphModule, codes: Codes) -> Iterator[None]:
    """Within, the weights and biases of ``network`` keep the digits and trailing zeros of ``codes``.

    Afterwards the projected values are the master values. The capped methods stand in for those of the layer's class.
    """
    layers = {name: weight_layers(network)[name] for name in prunable_layers(network)}
    try:
        for name, layer in layers.items():
            _cap(layer, codes[name])
        yield
    finally:
        with torch.no_grad():
            for layer in layers.values():
                weight, bias = layer.quantized_weight(), layer.quantized_bias()
                for method in ("quantized_weight", "quantized_bias"):
                    layer.__dict__.pop(method, None)
                layer.weight.copy_(weight)
                if bias is not None:
                    layer.bias.copy_(bias)


def _cap(layer: QuantWeightLayer, codes: LayerCodes) -> None:
    digits = csd_count(codes.weight).reshape(tuple(layer.weight.shape))
    lowest = np.where(codes.bias != 0, codes.bias & -codes.bias, 1).astype(np.float64)
    weight_cap = DigitCap(digits, layer.weight_type)
    bias_cap = CoarseBias(torch.from_numpy(lowest * layer.bias_type.lsb).to(layer.weight))

    def quantized_weight() -> Tensor:
        return layer.weight_type.fake_quantize(weight_cap(layer.weight * layer.weight_mask))

    def quantized_bias() -> Tensor | None:
        return None if layer.bias is None else layer.bias_type.fake_quantize(bias_cap(layer.bias))

    layer.__dict__["quantized_weight"] = quantized_weight
    layer.__dict__["quantized_bias"] = quantized_bias

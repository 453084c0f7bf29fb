"""Float networks with unusual values, and events to run them on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.structure.masks import prunable_layers

INPUT = FixedPoint(8, 3)


def bits(weight: int, activation: int, rounding: str = "AP_TRN") -> SimpleNamespace:
    return SimpleNamespace(weight_bits=weight, activation_bits=activation, rounding=rounding)


def on_grid(n: int, shape: tuple[int, ...], fixed: FixedPoint = INPUT) -> Tensor:
    values = torch.randn(n, *shape, generator=torch.Generator().manual_seed(3))
    return torch.from_numpy(fixed.quantize(values.clamp(fixed.min_value, fixed.max_value).numpy())).float()


def randomised(model: nn.Module) -> nn.Module:
    """Weights, batch statistics and biases that are far from their initial values."""
    generator = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.weight.data, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.3)
            for tensor in (module.bias.data, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model


def as_if_trained(network: fx.GraphModule) -> fx.GraphModule:
    """Master weights that left their grid and their range, and a mask."""
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for layer in prunable_layers(network).values():
            layer.weight *= 1.0 + torch.randn(layer.weight.shape, generator=generator)
            if layer.bias is not None:
                layer.bias += 0.2 * torch.randn(layer.bias.shape, generator=generator)
            layer.weight_mask.copy_((torch.rand(layer.weight.shape, generator=generator) > 0.3).float())
    return network


def extreme_codes(shape: tuple[int, ...], fixed: FixedPoint) -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    low, high = fixed.min_code, fixed.max_code
    return np.concatenate(
        [
            np.stack([np.full(shape, code) for code in (low, high, 0, 1, -1)]),
            rng.choice([low, high], size=(20, *shape)),
            rng.integers(low, high, size=(40, *shape), endpoint=True),
        ]
    )

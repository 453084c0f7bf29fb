"""What every value of a network can be, whatever the event: intervals, and with them the values that never change.

Interval arithmetic is exact here where it matters: a value whose two ends agree is a constant. In a quantised network
the input type bounds the inputs, so that a neuron whose sum cannot become positive is found to be constant as well as
one without weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trigger_prune.fixed_point import FixedPoint, Overflow
from trigger_prune.quantize.layers import WEIGHT_LAYERS, ChannelQuantizer


@dataclass(frozen=True, eq=False)
class Wire:
    """One tensor of the network for one event, all ``(1, ...)``: its lowest and highest values (float64, may be
    infinite) and the number (see Ties) of the neuron, filter or input feature that each element belongs to."""

    low: Tensor
    high: Tensor
    ids: Tensor

    @property
    def constant(self) -> Tensor:
        """Which elements never change."""
        return (self.low == self.high) & self.low.isfinite()


def numbers_of(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias (or None) that a layer computes with, float64 on the CPU: the quantised ones if it has them."""
    quantised = isinstance(layer, WEIGHT_LAYERS)
    weight = layer.quantized_weight() if quantised else layer.weight
    bias = layer.quantized_bias() if quantised else layer.bias
    return weight.detach().double().cpu(), None if bias is None else bias.detach().double().cpu()


def through_layer(layer: Any, wire: Wire) -> tuple[Tensor, Tensor]:
    """Lowest and highest outputs of a Linear or Conv layer."""
    weight, bias = numbers_of(layer)

    def apply(x: Tensor, kernel: Tensor) -> Tensor:
        if isinstance(layer, nn.Linear):
            return nn.functional.linear(x, kernel)
        result: Tensor = layer._conv_forward(x, kernel, None)  # with the layer's padding mode
        return result

    up, down = weight.clamp(min=0), weight.clamp(max=0)
    endless_low, endless_high = wire.low.isinf(), wire.high.isinf()
    low, high = wire.low.masked_fill(endless_low, 0), wire.high.masked_fill(endless_high, 0)
    lowest, highest = apply(low, up) + apply(high, down), apply(high, up) + apply(low, down)
    below, above, rises, falls = (x.double() for x in (endless_low, endless_high, weight > 0, weight < 0))
    lowest[apply(below, rises) + apply(above, falls) > 0] = -torch.inf
    highest[apply(above, rises) + apply(below, falls) > 0] = torch.inf
    changes = apply((~wire.constant).double(), rises + falls) > 0
    highest = torch.where(changes, highest, lowest)
    if bias is not None:
        shape = (-1,) if isinstance(layer, nn.Linear) else (-1, *[1] * (lowest.ndim - 2))
        lowest, highest = lowest + bias.reshape(shape), highest + bias.reshape(shape)
    return lowest, highest


def through_norm(norm: Any, wire: Wire) -> tuple[Tensor, Tensor]:
    """Lowest and highest outputs of a BatchNorm in eval mode."""
    scale, shift = norm_numbers(norm)
    shape = (-1, *[1] * (wire.low.ndim - 2))
    scale, shift = scale.reshape(shape), shift.reshape(shape)
    ends = [torch.where(scale == 0, 0.0, end * scale) + shift for end in (wire.low, wire.high)]
    return torch.minimum(*ends), torch.maximum(*ends)


def norm_numbers(norm: Any) -> tuple[Tensor, Tensor]:
    """Factor and summand per channel, float64 on the CPU."""
    variance, mean = norm.running_var.detach().double().cpu(), norm.running_mean.detach().double().cpu()
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double().cpu()
    bias = 0.0 if norm.bias is None else norm.bias.detach().double().cpu()
    return scale, bias - mean * scale


def through_monotone(function: Callable[[Tensor], Tensor], wire: Wire) -> tuple[Tensor, Tensor]:
    """Ends of a function that only rises or only falls in every element, pooling included."""
    ends = function(wire.low.clone()), function(wire.high.clone())
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    return low.nan_to_num(-torch.inf, torch.inf, -torch.inf), high.nan_to_num(torch.inf, torch.inf, -torch.inf)


def through_elementwise(function: Callable[[Tensor], Tensor], wire: Wire) -> tuple[Tensor, Tensor]:
    """Ends of any function of one element: known where the element is a constant."""
    value = function(torch.where(wire.constant, wire.low, 0.0)).nan_to_num(torch.nan)
    known = wire.constant & value.isfinite()
    return torch.where(known, value, -torch.inf), torch.where(known, value, torch.inf)


def through_quantizer(fixed: FixedPoint, wire: Wire) -> tuple[Tensor, Tensor]:
    """Ends of a conversion to ``fixed``; one that wraps may give anything once its input can leave the range."""
    low, high = fixed.fake_quantize(wire.low), fixed.fake_quantize(wire.high)
    if fixed.overflow in (Overflow.AP_SAT, Overflow.AP_SAT_SYM):
        return low, high
    inside = (wire.low >= fixed.min_value) & (wire.high <= fixed.max_value)
    known = wire.constant | inside
    return torch.where(known, low, fixed.min_value), torch.where(known, high, fixed.max_value)


def through_channels(quantizer: ChannelQuantizer, wire: Wire) -> tuple[Tensor, Tensor]:
    """``through_quantizer``, every channel (axis 1) with its own type; 0 where nothing is left."""
    low, high = torch.zeros_like(wire.low), torch.zeros_like(wire.high)
    for channel, fixed in enumerate(quantizer.types):
        if fixed is not None:
            part = Wire(wire.low[:, channel], wire.high[:, channel], wire.ids[:, channel])
            low[:, channel], high[:, channel] = through_quantizer(fixed, part)
    return low, high


def unknown(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Ends of values of which nothing is known."""
    return torch.full(shape, -torch.inf, dtype=torch.float64), torch.full(shape, torch.inf, dtype=torch.float64)

"""Layers of the quantised network. Each computes in floating point exactly what the integers compute.

Every weight layer holds a float master weight, a 0/1 ``weight_mask`` buffer and the fixed-point types of its weight
and bias. The forward pass uses the masked, quantised weight, so training sees what the hardware will hold; the
gradient passes straight through (FixedPoint.fake_quantize) and reaches kept weights only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trigger_prune.errors import FixedPointError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

Projection = Callable[[Tensor], Tensor]
"""Onto some of the values of a grid, straight through; while a training runs under it."""


class FixedQuantizer(nn.Module):
    """Converts its input to the fixed-point type ``fixed``; any shape."""

    def __init__(self, fixed: FixedPoint) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        return self.fixed.fake_quantize(x)

    def extra_repr(self) -> str:
        return str(self.fixed)


class ChannelQuantizer(nn.Module):
    """Converts every channel (axis 1) of its input to a fixed-point type of its own.

    ``types`` one per channel, all AP_TRN and of one overflow mode; None for a channel of which nothing is left: 0.
    """

    scale: Tensor
    lowest: Tensor
    codes: Tensor

    def __init__(self, types: Sequence[FixedPoint | None]) -> None:
        super().__init__()
        kept = [fixed for fixed in types if fixed is not None]
        if len({fixed.overflow for fixed in kept}) > 1 or any(f.rounding is not Rounding.AP_TRN for f in kept):
            raise FixedPointError("the channels of a wire need AP_TRN and one overflow mode in common")
        self.types = tuple(types)
        self.wraps = bool(kept) and kept[0].overflow is Overflow.AP_WRAP
        if kept and kept[0].overflow not in (Overflow.AP_WRAP, Overflow.AP_SAT):
            raise FixedPointError(f"{kept[0].overflow} is not offered for single channels")
        rows = [
            (fixed.lsb, fixed.min_code, fixed.max_code - fixed.min_code + 1) if fixed else (1.0, 0, 1)
            for fixed in types
        ]
        lsb, lowest, codes = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
        self.register_buffer("scale", 1 / lsb, persistent=False)
        self.register_buffer("lowest", lowest, persistent=False)
        self.register_buffer("codes", codes, persistent=False)

    @property
    def fixed(self) -> FixedPoint:
        """The narrowest type that holds every value of every channel."""
        kept = [fixed for fixed in self.types if fixed is not None]
        if not kept:
            return FixedPoint(1, 1, False, Rounding.AP_TRN, Overflow.AP_SAT)
        signed = any(fixed.signed for fixed in kept)
        integer = max(fixed.integer + (signed and not fixed.signed) for fixed in kept)
        fraction = max(fixed.fraction for fixed in kept)
        return FixedPoint(integer + fraction, integer, signed, Rounding.AP_TRN, kept[0].overflow)

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (x.dim() - 2))
        scale, lowest, codes = (t.to(x.dtype).reshape(shape) for t in (self.scale, self.lowest, self.codes))
        code = torch.floor(x.detach() * scale)
        if self.wraps:
            kept = code - torch.floor((code - lowest) / codes) * codes
        else:
            kept = torch.minimum(torch.maximum(code, lowest), lowest + codes - 1)
        rounded = kept / scale
        return x + (rounded - x).detach() if x.requires_grad else rounded

    def extra_repr(self) -> str:
        return ", ".join("0" if fixed is None else str(fixed) for fixed in self.types)


class _QuantisedWeights(nn.Module):
    """Shared by the three weight layers: mask, types, quantised weight and bias."""

    weight: Tensor
    bias: Any  # nn.Parameter or None; torch declares it differently in each of its layers
    weight_mask: Tensor
    weight_type: FixedPoint
    bias_type: FixedPoint
    weight_cap: Projection | None = None
    bias_cap: Projection | None = None

    def _take_over(self, source: nn.Module, weight_type: FixedPoint, bias_type: FixedPoint) -> None:
        """Values and ``requires_grad`` of the source's parameters, the types, and a mask that keeps every weight."""
        self.weight_type = weight_type
        self.bias_type = bias_type
        values = dict(source.named_parameters(recurse=False))
        with torch.no_grad():
            for name, own in self.named_parameters(recurse=False):
                own.copy_(values[name])
                own.requires_grad_(values[name].requires_grad)
        self.register_buffer("weight_mask", torch.ones_like(self.weight))

    def quantized_weight(self) -> Tensor:
        """Masked weight on its grid, shape of ``weight``."""
        weight = self.weight * self.weight_mask
        return self.weight_type.fake_quantize(weight if self.weight_cap is None else self.weight_cap(weight))

    def quantized_bias(self) -> Tensor | None:
        """Bias on its grid, or None."""
        if self.bias is None:
            return None
        return self.bias_type.fake_quantize(self.bias if self.bias_cap is None else self.bias_cap(self.bias))

    def extra_repr(self) -> str:
        return f"weight {tuple(self.weight.shape)} {self.weight_type}, bias {self.bias_type}"


class QuantLinear(_QuantisedWeights, nn.Linear):
    """``nn.Linear`` with quantised, masked weight and quantised bias."""

    def __init__(self, source: nn.Linear, weight_type: FixedPoint, bias_type: FixedPoint) -> None:
        nn.Linear.__init__(
            self,
            source.in_features,
            source.out_features,
            bias=source.bias is not None,
            device=source.weight.device,
            dtype=source.weight.dtype,
        )
        self._take_over(source, weight_type, bias_type)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.quantized_weight(), self.quantized_bias())


def conv_arguments(source: nn.Conv1d | nn.Conv2d) -> dict[str, Any]:
    """What a twin of a convolution is made with."""
    return {
        "in_channels": source.in_channels,
        "out_channels": source.out_channels,
        "kernel_size": source.kernel_size,
        "stride": source.stride,
        "padding": source.padding,
        "dilation": source.dilation,
        "groups": source.groups,
        "bias": source.bias is not None,
        "padding_mode": source.padding_mode,
        "device": source.weight.device,
        "dtype": source.weight.dtype,
    }


class QuantConv1d(_QuantisedWeights, nn.Conv1d):
    """``nn.Conv1d`` with quantised, masked weight and quantised bias."""

    def __init__(self, source: nn.Conv1d, weight_type: FixedPoint, bias_type: FixedPoint) -> None:
        nn.Conv1d.__init__(self, **conv_arguments(source))
        self._take_over(source, weight_type, bias_type)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self._conv_forward(x, self.quantized_weight(), self.quantized_bias())
        return result


class QuantConv2d(_QuantisedWeights, nn.Conv2d):
    """``nn.Conv2d`` with quantised, masked weight and quantised bias."""

    def __init__(self, source: nn.Conv2d, weight_type: FixedPoint, bias_type: FixedPoint) -> None:
        nn.Conv2d.__init__(self, **conv_arguments(source))
        self._take_over(source, weight_type, bias_type)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self._conv_forward(x, self.quantized_weight(), self.quantized_bias())
        return result


QuantWeightLayer = QuantLinear | QuantConv1d | QuantConv2d
WEIGHT_LAYERS = (QuantLinear, QuantConv1d, QuantConv2d)
QUANTIZERS = (FixedQuantizer, ChannelQuantizer)


def weight_layers(network: nn.Module) -> dict[str, QuantWeightLayer]:
    """The quantised weight layers by name, in order of definition."""
    return {name: module for name, module in network.named_modules() if isinstance(module, WEIGHT_LAYERS)}


def has_channel_types(network: nn.Module) -> bool:
    """Whether any wire has types of single channels, which only the rtl flow and ONNX can express."""
    return any(isinstance(module, ChannelQuantizer) for module in network.modules())

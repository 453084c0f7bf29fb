"""Weight layers and quantisers whose numbers of fraction bits are trained.

They compute with unlimited range: integer bits follow from the values that occur, see ``LearnedQuantizer``.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trigger_prune.quantize.layers import conv_arguments
from trigger_prune.quantize.learned.rounding import learned_round

Granularity = Literal["tensor", "channel", "element"]
"""How many numbers share one trained width: all of a tensor, those of an output channel, or none."""

_RANGE_INTERVAL = 16
"""Training steps between two looks at the ranges; their maxima over batches move slowly."""


class _LearnedWeights(nn.Module):
    """Shared by the weight layers: fraction bits of weight and bias, and the mask.

    ``weight_fraction``  real parameter, broadcasts to the weight; ``bias_fraction`` ``(out,)``
    """

    weight: Tensor
    bias: Any
    weight_mask: Tensor
    weight_fraction: nn.Parameter
    bias_fraction: nn.Parameter

    def _take_over(self, source: nn.Module, bits: int, granularity: Granularity) -> None:
        values = dict(source.named_parameters(recurse=False))
        with torch.no_grad():
            for name, own in self.named_parameters(recurse=False):
                own.copy_(values[name])
                own.requires_grad_(values[name].requires_grad)
        weight = self.weight.detach()
        mask = getattr(source, "weight_mask", None)
        self.register_buffer("weight_mask", torch.ones_like(weight) if mask is None else mask.detach().clone())
        # of ``bits`` bits of the largest weight one is its sign
        start = bits - 1 - torch.floor(torch.log2(weight.abs().amax().clamp_min(1e-9))) - 1
        self.weight_fraction = nn.Parameter(torch.full(_shape(weight, granularity), float(start)))
        self.bias_fraction = nn.Parameter(torch.full((len(weight),), float(start)))

    def quantized_weight(self) -> Tensor:
        """Masked weight on its grids, shape of ``weight``."""
        return learned_round(self.weight * self.weight_mask, self.weight_fraction)

    def quantized_bias(self) -> Tensor | None:
        """Bias on its grids, or None."""
        return None if self.bias is None else learned_round(self.bias, self.bias_fraction)


def _shape(weight: Tensor, granularity: Granularity) -> tuple[int, ...]:
    if granularity == "element":
        return tuple(weight.shape)
    if granularity == "channel":
        return (len(weight), *(1,) * (weight.dim() - 1))
    return (1,) * weight.dim()


class LearnedLinear(_LearnedWeights, nn.Linear):
    """``nn.Linear`` whose weights and biases have trained widths."""

    def __init__(self, source: nn.Linear, bits: int, granularity: Granularity) -> None:
        nn.Linear.__init__(self, source.in_features, source.out_features, bias=source.bias is not None)
        self._take_over(source, bits, granularity)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.quantized_weight(), self.quantized_bias())


class LearnedConv1d(_LearnedWeights, nn.Conv1d):
    """``nn.Conv1d`` whose weights and biases have trained widths."""

    def __init__(self, source: nn.Conv1d, bits: int, granularity: Granularity) -> None:
        nn.Conv1d.__init__(self, **conv_arguments(source))
        self._take_over(source, bits, granularity)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self._conv_forward(x, self.quantized_weight(), self.quantized_bias())
        return result


class LearnedConv2d(_LearnedWeights, nn.Conv2d):
    """``nn.Conv2d`` whose weights and biases have trained widths."""

    def __init__(self, source: nn.Conv2d, bits: int, granularity: Granularity) -> None:
        nn.Conv2d.__init__(self, **conv_arguments(source))
        self._take_over(source, bits, granularity)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self._conv_forward(x, self.quantized_weight(), self.quantized_bias())
        return result


LearnedLayer = LearnedLinear | LearnedConv1d | LearnedConv2d
LEARNED_LAYERS = (LearnedLinear, LearnedConv1d, LearnedConv2d)


class LearnedQuantizer(nn.Module):
    """Rounds a wire to a trained number of fraction bits, one for all or one per channel, and notes the range.

    fraction     real parameter ``(1, channels, 1, ...)`` or all ones
    low, high    smallest and largest rounded value seen, same shape; they hold the integer bits
    signed       whether the wire can be negative
    truncate     round down instead of to nearest: for inputs, before which no bias can add half an LSB
    """

    low: Tensor
    high: Tensor

    def __init__(
        self, values: Tensor, bits: int, *, signed: bool, granularity: Granularity, truncate: bool = False
    ) -> None:
        super().__init__()
        self.signed = signed
        self.truncate = truncate
        shape = [1] * values.dim()
        if granularity == "channel":
            shape[1] = values.shape[1]
        self._axes = [axis for axis, size in enumerate(shape) if size == 1]
        low, high = values.amin(self._axes, keepdim=True), values.amax(self._axes, keepdim=True)
        self.register_buffer("low", low.clone())
        self.register_buffer("high", high.clone())
        integer = integer_bits(low, high).amax()
        self.fraction = nn.Parameter(torch.full(shape, float(bits - int(signed) - integer)))
        self._steps = 0

    def forward(self, x: Tensor) -> Tensor:
        rounded = learned_round(x, self.fraction, truncate=self.truncate)
        if self.training:
            if self._steps % _RANGE_INTERVAL == 0:
                self.note(rounded.detach())
            self._steps += 1
        return rounded

    def restart(self) -> None:
        """Count training steps from 0 again: every ``_RANGE_INTERVAL`` of them the range is noted."""
        self._steps = 0

    def note(self, values: Tensor, memory: float = 0.98) -> None:
        """Widen the range to ``values``; what is not reached any more is forgotten slowly."""
        low, high = values.amin(self._axes, keepdim=True), values.amax(self._axes, keepdim=True)
        torch.minimum(low, self.low * memory, out=self.low)
        torch.maximum(high, self.high * memory, out=self.high)

    def widths(self, log2_size: Tensor | None = None) -> Tensor:
        """Bits of every channel, differentiable, same shape as ``fraction``; 0 where nothing is left.

        log2_size   moves with the logarithm of the values: the integer bits have no gradient of their own
        """
        fraction = self.fraction + (torch.round(self.fraction) - self.fraction).detach()
        integer = integer_bits(self.low, self.high) + int(self.signed)
        if log2_size is not None and self.fraction.numel() > 1:
            integer = integer + log2_size - log2_size.detach()
        return torch.relu(fraction + integer)


def integer_bits(low: Tensor, high: Tensor) -> Tensor:
    """Integer bits, without the sign, that hold values from ``low`` to ``high``; very few where all are zero."""
    largest = torch.maximum(high, -low)
    return torch.where(
        largest > 0, torch.floor(torch.log2(largest.clamp_min(1e-30))) + 1, torch.full_like(largest, -99)
    )

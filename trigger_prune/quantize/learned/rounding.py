"""Rounding to a trained number of fraction bits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_LN2 = math.log(2.0)


class _LearnedRound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, fraction: Tensor, offset: float) -> Tensor:
        scale = torch.exp2(torch.round(fraction))
        rounded = (x * scale).add_(offset).floor_().div_(scale)
        ctx.save_for_backward(x - rounded)
        ctx.fraction_shape = fraction.shape
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (error,) = ctx.saved_tensors
        # the error shrinks like 2**-fraction, so d(rounded)/d(fraction) = ln 2 * error
        return gradient, (gradient * error).sum_to_size(ctx.fraction_shape) * _LN2, None


def learned_round(x: Tensor, fraction: Tensor, *, truncate: bool = False) -> Tensor:
    """``x`` rounded to nearest (ties up), or down, on the grid of 2**-round(fraction), which broadcasts to ``x``.

    The gradient passes straight through to ``x``; that of ``fraction`` takes the rounding error as proportional to
    2**-fraction (arXiv:2405.00645, section 3.2).
    """
    return _LearnedRound.apply(x, fraction, 0.0 if truncate else 0.5)  # type: ignore[no-untyped-call,no-any-return]

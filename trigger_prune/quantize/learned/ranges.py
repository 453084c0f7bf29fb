"""Integer bits of wires that wrap, found anew after their weights have changed."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint, Overflow, bits_for_range
from trigger_prune.quantize.layers import QUANTIZERS, ChannelQuantizer, FixedQuantizer

_CHUNK_EVENTS = 8192


class _Unbounded(nn.Module):
    """Truncates like a quantiser of ``fractions`` (one, or one per channel), and notes the range of what comes out."""

    def __init__(self, fractions: list[int], dead: list[bool]) -> None:
        super().__init__()
        self.scale = 2.0 ** torch.tensor(fractions, dtype=torch.float64)
        self.alive = ~torch.tensor(dead)
        self.low = torch.zeros(len(fractions), dtype=torch.float64)
        self.high = torch.zeros(len(fractions), dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """Values on the grid, any range."""
        shape = (1, -1, *(1,) * (x.dim() - 2))
        scale, alive = self.scale.to(x).reshape(shape), self.alive.reshape(shape)
        rounded = torch.where(alive, torch.floor(x * scale) / scale, torch.zeros((), dtype=x.dtype))
        by_channel = rounded.double().movedim(1, 0).flatten(1)
        if len(self.low) == 1:
            by_channel = by_channel.reshape(1, -1)
        self.low = torch.minimum(self.low, by_channel.amin(1))
        self.high = torch.maximum(self.high, by_channel.amax(1))
        return rounded


def wraps(network: nn.Module) -> bool:
    """Whether any wire drops the bits above its range."""
    return any(_wraps(module) for module in network.modules())


def _wraps(module: nn.Module) -> bool:
    if isinstance(module, ChannelQuantizer):
        return module.wraps
    return isinstance(module, FixedQuantizer) and module.fixed.overflow is Overflow.AP_WRAP


def fit_ranges(network: fx.GraphModule, events: Tensor) -> None:
    """Give every wire that wraps the integer bits that ``events`` (all training events) need, in place.

    Fractions stay, so that outputs change only for events that overflowed before. Wires that saturate are left alone.
    """
    free = copy.deepcopy(network).eval()
    found: dict[str, Any] = {}
    for name, module in list(free.named_modules()):
        if isinstance(module, QUANTIZERS) and _wraps(module):
            types = module.types if isinstance(module, ChannelQuantizer) else (module.fixed,)
            found[name] = _Unbounded([t.fraction if t else 0 for t in types], [t is None for t in types])
            free.set_submodule(name, found[name])
    if not found:
        return
    dtype = next(free.parameters()).dtype
    with torch.no_grad():
        for chunk in torch.split(events, _CHUNK_EVENTS):
            free(chunk.to(dtype))
    for name, unbounded in found.items():
        present: Any = network.get_submodule(name)
        ranges = list(zip(unbounded.low.tolist(), unbounded.high.tolist(), strict=True))
        if isinstance(present, ChannelQuantizer):
            fitted = [None if t is None else _fitted(t, *ends) for t, ends in zip(present.types, ranges, strict=True)]
            network.set_submodule(name, ChannelQuantizer(fitted))
        else:
            network.set_submodule(name, FixedQuantizer(_fitted(present.fixed, *ranges[0])))


def _fitted(fixed: FixedPoint, low: float, high: float) -> FixedPoint:
    """``fixed`` with the integer bits of a range; one bit where only 0 occurs."""
    integer, signed = bits_for_range(low, high) if low != high else (1 - fixed.fraction, False)
    integer = max(integer, 1 - fixed.fraction)
    return replace(fixed, width=integer + fixed.fraction, integer=integer, signed=signed)

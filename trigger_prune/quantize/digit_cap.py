"""Projections of weights and biases onto values that take few adders, straight through, for the time of a training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trigger_prune.cost.csd import csd_count
from trigger_prune.fixed_point import FixedPoint


class DigitCap:
    """Projects weights onto the nearest grid value with at most ``digits`` canonical signed digits each.

    digits   int, shape of the weight
    """

    def __init__(self, digits: NDArray[np.int64], fixed: FixedPoint) -> None:
        self.fixed = fixed
        grid = np.arange(fixed.min_code, fixed.max_code + 1)
        counts = csd_count(grid)
        self._capped: list[tuple[Tensor, Tensor, Tensor]] = []
        for cap in np.unique(digits[digits < counts.max()]):
            allowed = torch.from_numpy(grid[counts <= cap].astype(np.float32))
            between = (allowed[1:] + allowed[:-1]) / 2
            self._capped.append((torch.from_numpy(digits == cap), allowed, between))

    def __call__(self, weight: Tensor) -> Tensor:
        codes = (weight * (1.0 / self.fixed.lsb)).detach()
        projected = codes
        for at, allowed, between in self._capped:
            nearest = allowed.to(codes)[torch.bucketize(codes, between.to(codes))]
            projected = torch.where(at.to(codes.device), nearest, projected)
        return weight + (projected - codes) * self.fixed.lsb


class CoarseBias:
    """Rounds biases to multiples of ``step`` (a value each)."""

    def __init__(self, step: Tensor) -> None:
        self.step = step

    def __call__(self, bias: Tensor) -> Tensor:
        step = self.step.to(bias.device)
        coarse = torch.round(bias.detach() / step) * step
        return bias + (coarse - bias.detach())

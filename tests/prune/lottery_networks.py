"""Small networks and events that the tests of lottery tickets share."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings


def events(n: int = 230, seed: int = 1) -> Batches:
    """Two classes of six features; one event in eleven has no weight."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    weights = 0.5 + torch.rand(n, generator=generator)
    weights[::11] = 0.0
    return Batches(x, (x[:, 0] + 0.5 * x[:, 1] > 0).long(), weights)


def network(seed: int = 0, *, batch_norm: bool = True, dropout: float = 0.0) -> nn.Sequential:
    """``6 -> 12 -> 2``."""
    torch.manual_seed(seed)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["first"] = nn.Linear(6, 12, bias=not batch_norm)
    if batch_norm:
        layers["norm"] = nn.BatchNorm1d(12)
    layers["relu"] = nn.ReLU()
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["second"] = nn.Linear(12, 2)
    return nn.Sequential(layers)


def settings(epochs: int = 3, batch_size: int = 32, seed: int = 4) -> FitSettings:
    """Training of ``network`` on ``events``."""
    return FitSettings("test", epochs, batch_size, 1e-2, seed=seed, weight_decay=0.1, select="last")

"""Learned attention over the input features: how far each can be closed before the loss is felt.

Every feature gets a gate between 0 and 1 that is learned while the network itself stays as it is; a penalty on open
gates makes the useless ones close. The learned counterpart of "concrete" feature selection (A. Abid et al., ICML 2019,
arXiv:1901.09346), without its noise: the result follows from network and events alone.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.importance._base import CriterionData
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import event_losses

GateKind = Literal["sigmoid", "softmax"]

_SHARED = 0.5
"""Attention that the features share under ``softmax``, as a fraction of what opens all gates."""

_START = 0.9
"""Gates start almost open: closed ones would pass no gradient of the features behind them."""


@dataclass(frozen=True)
class AttentionSettings:
    """How gates are learned.

    kind           ``sigmoid``: each gate for itself. ``softmax``: the features compete for an attention that is shared,
                   enough to open half of the gates
    penalty        of the gates' mean, in units of what all features together are worth (loss with all closed less
                   that with all open): a feature closes when it is worth less than this part of an average one
    steps          of Adam, each over all events
    learning_rate  of the gates' logits
    seed           of the small differences that the logits start with, which part features that are exact twins

    Raises ConfigError for a value that makes no sense.
    """

    kind: GateKind = "sigmoid"
    penalty: float = 0.5
    steps: int = 100
    learning_rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("sigmoid", "softmax"):
            raise ConfigError(f"gates of kind {self.kind!r}; there are sigmoid and softmax")
        if self.steps < 1 or not 0 <= self.penalty < math.inf or not 0 < self.learning_rate < math.inf:
            raise ConfigError(
                f"attention with penalty {self.penalty:g}, {self.steps} steps, learning rate {self.learning_rate:g}",
                hint="the penalty is 0 or more, steps at least 1, the learning rate above 0",
            )


def feature_attention(network: nn.Module, data: CriterionData, settings: AttentionSettings | None = None) -> Tensor:
    """Gate of each input feature, float64 ``(F,)`` on the CPU, relative to the most open one (which is 1).

    network   floating-point or quantised; it is not changed
    data      features ``(n, F, ...)``: an entry of the second axis is a feature (a channel of an image)
    A closed gate puts the feature's mean over the events in its place, so a constant offset is never "information".
    The gradient is that of all events in every step: the result does not depend on the batch size.
    Raises ModelError when a gate is not finite.
    """
    chosen = settings or AttentionSettings()
    copied = copy.deepcopy(network).eval().double().requires_grad_(False)
    device = next((tensor.device for tensor in copied.parameters()), data.batches.features.device)
    generator = torch.Generator().manual_seed(chosen.seed)
    n_features = data.batches.features.shape[1]
    # far below what a step moves
    noise = 1e-3 * torch.randn(n_features, generator=generator, dtype=torch.float64)
    start = math.log(_START / (1 - _START)) if chosen.kind == "sigmoid" else 0.0
    logits = (noise + start).to(device).requires_grad_()
    mean = _mean_features(data, device)
    with torch.no_grad():
        worth = float(
            _loss(copied, data, mean, torch.zeros_like(logits)) - _loss(copied, data, mean, torch.ones_like(logits))
        )
    strength = chosen.penalty * max(worth, 0.0)
    optimizer = torch.optim.Adam([logits], lr=chosen.learning_rate)
    for _ in range(chosen.steps):
        optimizer.zero_grad()
        (strength * _gates(logits, chosen.kind).mean()).backward()  # type: ignore[no-untyped-call]
        for part, shares in data.parts(device):
            with torch.enable_grad():
                gates = _gates(logits, chosen.kind)
                _part_loss(copied, data, part, shares, mean, gates).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    gates = _gates(logits.detach(), chosen.kind).cpu()
    if not bool(torch.isfinite(gates).all()):
        raise ModelError(
            "importance criterion 'attention': the learned gate of an input feature is not finite",
            hint="check the features and the weights for NaN and infinity",
        )
    return gates / gates.max()


def _gates(logits: Tensor, kind: GateKind) -> Tensor:
    if kind == "sigmoid":
        return logits.sigmoid()
    return (logits.softmax(dim=0) * (len(logits) * _SHARED)).clamp_max(1.0)


def _part_loss(
    network: nn.Module, data: CriterionData, part: Batches, shares: Tensor, mean: Tensor, gates: Tensor
) -> Tensor:
    shaped = gates.reshape(-1, *[1] * (part.features.ndim - 2))
    outputs = network(mean + shaped * (part.features - mean))
    return (event_losses(outputs, part.targets, data.task) * shares).sum()


def _loss(network: nn.Module, data: CriterionData, mean: Tensor, gates: Tensor) -> Tensor:
    parts = data.parts(mean.device)
    return sum((_part_loss(network, data, *part, mean, gates) for part in parts), start=mean.new_zeros(()))


def _mean_features(data: CriterionData, device: torch.device) -> Tensor:
    return sum(
        (torch.tensordot(shares, part.features, dims=1) for part, shares in data.parts(device)),
        start=torch.zeros(data.batches.features.shape[1:], dtype=torch.float64, device=device),
    )

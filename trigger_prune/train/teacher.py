"""The teacher of task distil: an autoencoder of background events, and what its student has to learn of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trigger_prune.errors import DataError, ModelError
from trigger_prune.models.teacher_autoencoder import TeacherAutoencoder
from trigger_prune.train.evaluate import evaluation_mode

Difference = Literal["squared", "huber"]

_CHUNK_EVENTS = 4096

_ROUNDING = 1e-6
"""Outputs in float32 that differ by less than this part of the largest are equal."""


@dataclass(frozen=True)
class Affine:
    """``(value - offset) / scale``, with ``scale`` > 0: order is kept, so no threshold needs the inverse."""

    offset: float
    scale: float

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Standardised values, float32."""
        return ((values - self.offset) / self.scale).astype(np.float32)


class TeacherLoss(nn.Module):
    """Root of every event's loss, ``(B, 1)``: the fit squares it again, so its squared mean is the loss.

    The loss is ``reconstruction_error + kl_weight * KL``.

    absent   ``(features,)`` value that a feature has where its object is absent; such values do not count. None: all do
    unit     ``(features,)`` in which differences are measured
    """

    absent: Tensor | None
    unit: Tensor

    def __init__(
        self,
        autoencoder: TeacherAutoencoder,
        *,
        unit: Tensor,
        absent: Tensor | None,
        difference: Difference,
        kl_weight: float,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.difference = difference
        self.kl_weight = kl_weight
        self.register_buffer("unit", unit)
        self.register_buffer("absent", absent)

    def reconstruction(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction error ``(B,)`` and Kullback-Leibler divergence ``(B,)`` (0 of a plain autoencoder)."""
        mean, log_variance = self.autoencoder.encode(x)
        restored = self.autoencoder.reconstruct(mean, log_variance)
        error = reconstruction_error(x, restored, self.unit, self.absent, self.difference)
        return error, torch.zeros_like(error) if log_variance is None else kl_to_unit_normal(mean, log_variance)

    def forward(self, x: Tensor) -> Tensor:
        error, divergence = self.reconstruction(x)
        # an event without a single value has no error, and the root no derivative there
        return (error + self.kl_weight * divergence + _SMALLEST_LOSS).sqrt()[:, None]


_SMALLEST_LOSS = 1e-12


def kl_to_unit_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence in nats of independent normal distributions ``(B, k)`` from N(0, 1), ``(B,)``."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)


def reconstruction_error(
    x: Tensor, restored: Tensor, unit: Tensor, absent: Tensor | None, difference: Difference
) -> Tensor:
    """Mean over the values of an event that count of ``((x - restored) / unit) ** 2``, ``(B,)``; 0 when none does.

    ``unit`` and ``absent`` run along axis 1. ``huber`` is linear beyond one unit: ``2 |d| - 1`` instead of ``d ** 2``.
    """
    along = (1, -1, *(1,) * (x.ndim - 2))
    deviation = (restored - x) / unit.reshape(along)
    if difference == "squared":
        each = deviation.square()
    else:
        each = 2.0 * functional.huber_loss(deviation, torch.zeros_like(deviation), reduction="none")
    if absent is None:
        return each.flatten(1).mean(dim=1)
    counted = (x != absent.reshape(along)).to(each.dtype)
    total: Tensor = (each * counted).flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1).clamp_min(1.0)
    return total


def feature_units(features: Tensor, weights: Tensor, absent: Tensor | None) -> Tensor:
    """Weighted standard deviation of each feature (axis 1) over its values that count, float32 ``(features,)``.

    A feature that does not vary gets 1. Raises DataError without any weight.
    """
    if not float(weights.sum()) > 0:
        raise DataError("the teacher has no event with a weight above zero to learn from")
    units = []
    for index in range(features.shape[1]):
        column = features[:, index].double().reshape(len(features), -1)
        used = weights.double()[:, None].expand_as(column)
        if absent is not None:
            used = used * (column != absent[index].double())
        counted = column[used > 0]
        if len(counted) == 0 or bool((counted == counted[0]).all()):
            units.append(1.0)
            continue
        share = used / used.sum()
        mean = (share * column).sum()
        units.append(math.sqrt(float((share * (column - mean).square()).sum())))
    return torch.tensor(units, dtype=torch.float32)


def reconstruction_errors(teacher: TeacherLoss, features: Tensor) -> NDArray[np.float64]:
    """``reconstruction_error`` of events in float64, ``(n,)``."""
    with evaluation_mode(teacher):
        parts = [teacher.reconstruction(chunk)[0].double() for chunk in torch.split(features, _CHUNK_EVENTS)]
    return torch.cat(parts).cpu().numpy()


def standardisation(values: NDArray[np.float64], weights: NDArray[np.float64], *, centre: bool) -> Affine:
    """Weighted mean (0 unless ``centre``) and root of the mean square about it, to the nearest power of two.

    Raises ModelError when the values do not vary: such a teacher has nothing to teach.
    """
    flat = values.reshape(len(values), -1)
    share = weights / weights.sum()
    offset = float(share @ flat.mean(axis=1)) if centre else 0.0
    spread = math.sqrt(float(share @ np.square(flat - offset).mean(axis=1)))
    if not (math.isfinite(spread) and spread > _ROUNDING * float(np.abs(flat).max())):
        raise ModelError(
            f"the teacher's outputs have a spread of {spread}: there is nothing to learn from it",
            hint="lower teacher.kl_weight, and look at the loss in its history",
        )
    return Affine(offset, 2.0 ** round(math.log2(spread)))


def split_means(encoder: dict[str, Tensor], student: nn.Module, latent: int, scale: float) -> dict[str, Tensor]:
    """State of ``student``, a network like the encoder with ``latent`` outputs, that gives the means / ``scale``.

    The encoder of a variational autoencoder has ``2 * latent`` outputs, the means first; a plain one has ``latent``.
    Raises ModelError unless one linear layer alone makes the outputs.
    """
    shapes = {name: tensor.shape for name, tensor in student.state_dict().items()}
    heads = [name for name, module in student.named_modules() if isinstance(module, nn.Linear)]
    head = heads[-1] if heads else ""
    state = {}
    for name, tensor in encoder.items():
        wanted = shapes.get(name)
        at_head = name.rpartition(".")[0] == head and bool(heads)
        kept = tensor[:latent] / scale if at_head else tensor
        if wanted != kept.shape:
            raise ModelError(
                f"the network cannot start from its teacher: {name} has shape {tuple(tensor.shape)} in the encoder and "
                f"{None if wanted is None else tuple(wanted)} in the network, and only the last Linear may differ",
                hint="end the network in one nn.Linear(.., n_outputs), or set teacher.start_from_teacher to false",
            )
        state[name] = kept.clone()
    return state

"""Optimal brain damage: the second-order change of the loss when one weight is set to zero, ``1/2 * H_ii * w^2``.

Y. LeCun, J. Denker, S. Solla, "Optimal brain damage", NeurIPS 1989. The diagonal H_ii of the Hessian is taken in one
of three ways. With ReLU and max-pooling the outputs are piecewise linear in the weights of any one layer, so its
diagonal block of the Hessian is the Gauss-Newton one: never negative, and known without a second derivative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from trigger_prune.errors import ConfigError
from trigger_prune.importance._base import (
    CriterionData,
    kept_weight,
    named_weight_layers,
    register_data_criterion,
    require_data,
    require_finite,
)
from trigger_prune.importance.derivatives import Twin, events_at_once, mean_over_events, twin_of
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.train.loss import Task

_PROBES_AT_ONCE = 16


@dataclass(frozen=True)
class Obd:
    """With the exact Gauss-Newton diagonal: one backward pass per event and output. See the module."""

    name: str = "obd"

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises DataError without ``data``, ModelError when a score is not finite."""
        given = require_data(self.name, data)
        return _saliency(self.name, network, layer_names, gauss_newton_diagonal(twin_of(network, layer_names), given))


@dataclass(frozen=True)
class ObdFisher:
    """With the empirical Fisher diagonal ``E[g^2]`` from gradients g of single events: half of ``taylor_fisher``."""

    name: str = "obd_fisher"

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises DataError without ``data``, ModelError when a score is not finite."""
        given = require_data(self.name, data)
        diagonal = mean_over_events(twin_of(network, layer_names), given, lambda g: g.square())
        return _saliency(self.name, network, layer_names, diagonal)


@dataclass(frozen=True)
class ObdHessian:
    """With Hutchinson's estimate of the Hessian's diagonal, ``E_z[z * Hz]`` over random signs z.

    The signs depend on ``seed`` and the network's layers only; they are the same for every event. A negative estimate
    is noise (see the module) and counts as zero. C. Bekas et al., Appl. Numer. Math. 57 (2007) 1214.
    Raises ConfigError for less than one probe.
    """

    probes: int = 64
    seed: int = 0
    name: str = "obd_hessian"

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise ConfigError(f"criterion {self.name}: {self.probes} probes; at least 1 is needed")

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises DataError without ``data``, ModelError when a score is not finite."""
        given = require_data(self.name, data)
        diagonal = hutchinson_diagonal(twin_of(network, layer_names), given, self.probes, self.seed)
        return _saliency(
            self.name, network, layer_names, {name: values.clamp_min(0) for name, values in diagonal.items()}
        )


def _saliency(
    criterion: str, network: nn.Module, layer_names: Sequence[str], diagonal: dict[str, Tensor]
) -> dict[str, Tensor]:
    layers = named_weight_layers(network, layer_names)
    return require_finite(
        criterion, {name: 0.5 * diagonal[name] * kept_weight(layer).square() for name, layer in layers.items()}
    )


def hutchinson_diagonal(twin: Twin, data: CriterionData, probes: int, seed: int) -> dict[str, Tensor]:
    """Estimated diagonal of the Hessian of the weighted mean loss, by layer name; unbiased.

    The variance of an entry is the sum of the squared other entries of its row over ``probes``. A probe touches one
    layer only: it sees no entries between layers.
    """
    generator = torch.Generator().manual_seed(seed)
    totals = {name: torch.zeros_like(weight) for name, weight in twin.weights.items()}
    # drawn for every layer of the network, so that those of one do not depend on which others are asked for
    signs = {
        name: torch.randint(0, 2, (probes, *layer.weight.shape), generator=generator) * 2.0 - 1.0
        for name, layer in weight_layers(twin.network).items()
    }
    for part, shares in data.parts(twin.device):
        for name, weight in twin.weights.items():
            point = weight.clone().requires_grad_()
            with torch.enable_grad():
                loss = twin.mean_loss({name: point}, part, shares, data.task)
                (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
            if not gradient.requires_grad:  # a loss linear in these weights
                continue
            for start in range(0, probes, _PROBES_AT_ONCE):
                z = signs[name][start : start + _PROBES_AT_ONCE].to(weight)
                (products,) = torch.autograd.grad(
                    gradient, point, z, retain_graph=True, is_grads_batched=True, materialize_grads=True
                )
                totals[name] += (z * products).sum(dim=0) / probes
    return totals


def gauss_newton_diagonal(twin: Twin, data: CriterionData) -> dict[str, Tensor]:
    """Diagonal of ``E[J^T L J]`` by layer name: J the outputs' derivative by the weights, L the loss's Hessian."""
    totals = {name: torch.zeros_like(weight) for name, weight in twin.weights.items()}

    def projected(weights: dict[str, Tensor], features: Tensor, direction: Tensor) -> Tensor:
        outputs = twin.outputs(weights, features.unsqueeze(0))
        along: Tensor = (outputs.flatten() * direction).sum()
        return along

    single = vmap(grad(projected), in_dims=(None, 0, 0))
    for part, shares in data.parts(twin.device, events_at_once(twin)):
        with torch.no_grad():
            roots = loss_roots(twin.outputs(twin.weights, part.features).flatten(1), data.task)
        for k in range(roots.shape[1]):
            gradients = single(twin.weights, part.features, roots[:, k])
            for name, total in totals.items():
                total += torch.tensordot(shares, gradients[name].square(), dims=1)
    return totals


def loss_roots(outputs: Tensor, task: Task) -> Tensor:
    """R ``(n, k, outputs)`` with ``R^T R`` the Hessian of each event's loss by its outputs ``(n, outputs)``."""
    unit = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
    if task == "classify":
        # diag(p) - p p^T = sum over classes k of p_k (e_k - p)(e_k - p)^T
        p = outputs.softmax(dim=1)
        return p.sqrt().unsqueeze(2) * (unit - p.unsqueeze(1))
    if task == "binary":
        p = outputs.sigmoid()
        return (p * (1 - p)).sqrt().unsqueeze(2)
    # mean of squares over d values
    return (unit * math.sqrt(2.0 / outputs.shape[1])).expand(len(outputs), -1, -1)


OBD = register_data_criterion(Obd())
OBD_FISHER = register_data_criterion(ObdFisher())
OBD_HESSIAN = register_data_criterion(ObdHessian())

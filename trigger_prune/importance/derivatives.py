"""Derivatives of the loss by the quantised weights: of single events, of the mean, and second ones.

All are taken on a float64 copy of the network in evaluation mode whose weights are the quantised ones, so the network
itself is never touched and sums over events do not depend on how they were cut into batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint, Overflow, round_to_integers, wrap_or_saturate
from trigger_prune.importance._base import CriterionData, named_weight_layers
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer
from trigger_prune.structure._base import Groups
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import Task, event_losses

_GRADIENT_VALUES = 2**24
"""Largest number of gradient values of single events held at once (128 MiB in float64)."""


class _AsIs(FixedPoint):
    """A type whose values are on its grid already. The gradient is 1, also at a weight that saturates.

    The straight-through gradient of training is 0 there. As an importance that would call the largest weights of a
    layer its least important ones; what counts is the derivative by the weight that the hardware holds.
    """

    def fake_quantize(self, x: Tensor) -> Tensor:
        return x


class _Composed(FixedPoint):
    """``FixedPoint.fake_quantize`` out of plain operations: torch.func cannot look into a custom autograd function."""

    def fake_quantize(self, x: Tensor) -> Tensor:
        code = round_to_integers(x.detach() * (1.0 / self.lsb), self.rounding, torch)
        values: Tensor = wrap_or_saturate(code, self, torch) * self.lsb
        # the difference is exactly zero: it brings the gradient and leaves the value on its grid
        straight = values + (x - x.detach())
        if self.overflow is Overflow.AP_WRAP:
            return straight
        return torch.where((code >= self.min_code) & (code <= self.max_code), straight, values)


def _as(kind: type[FixedPoint], fixed: FixedPoint) -> FixedPoint:
    return kind(*(getattr(fixed, entry.name) for entry in fields(fixed)))


@dataclass(frozen=True)
class Twin:
    """A differentiable float64 copy of a network, and the quantised weights of the layers asked for.

    network   in evaluation mode
    weights   quantised and masked weight of each layer, by the layer's name; the derivative by a masked one is zero
    """

    network: nn.Module
    weights: dict[str, Tensor]

    def outputs(self, weights: dict[str, Tensor], features: Tensor) -> Tensor:
        """Outputs with other weights."""
        named = {f"{name}.weight": weight for name, weight in weights.items()}
        result: Tensor = functional_call(self.network, named, (features,))
        return result

    def mean_loss(self, weights: dict[str, Tensor], part: Batches, shares: Tensor, task: Task) -> Tensor:
        """Sum of the events' losses times their shares, a scalar."""
        return (event_losses(self.outputs(weights, part.features), part.targets, task) * shares).sum()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(iter(self.weights.values())).device


def twin_of(network: nn.Module, layer_names: Sequence[str]) -> Twin:
    """The copy. Raises ModelError for a name that is no quantised weight layer, or when there is no name."""
    named_weight_layers(network, layer_names)
    if not layer_names:
        raise ModelError("no layer was named whose weights are to be scored")
    twin = copy.deepcopy(network).eval().double().requires_grad_(False)
    for module in twin.modules():
        if isinstance(module, WEIGHT_LAYERS):
            with torch.no_grad():
                module.weight.copy_(module.quantized_weight())
                if module.bias is not None:
                    module.bias.copy_(module.quantized_bias())
            module.weight_type = _as(_AsIs, module.weight_type)
            module.bias_type = _as(_AsIs, module.bias_type)
        elif isinstance(module, FixedQuantizer):
            module.fixed = _as(_Composed, module.fixed)
    layers = named_weight_layers(twin, layer_names)
    return Twin(twin, {name: layer.weight.detach() for name, layer in layers.items()})


def mean_gradients(twin: Twin, data: CriterionData) -> dict[str, Tensor]:
    """Gradient of the weighted mean loss by the weights, by layer name."""
    totals = {name: torch.zeros_like(weight) for name, weight in twin.weights.items()}
    for part, shares in data.parts(twin.device):
        gradients = grad(twin.mean_loss)(twin.weights, part, shares, data.task)
        for name, total in totals.items():
            total += gradients[name]
    return totals


def mean_over_events(twin: Twin, data: CriterionData, function: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Weighted mean over the events of ``function(g)``, elementwise, with g the gradient of one event's own loss."""
    totals = {name: torch.zeros_like(weight) for name, weight in twin.weights.items()}
    for gradients, shares in _event_gradients(twin, data):
        for name, total in totals.items():
            total += torch.tensordot(shares, function(gradients[name]), dims=1)
    return totals


def group_moments(twin: Twin, data: CriterionData, groups: Groups, factors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """``E[s]`` and ``E[s^2]`` of every group, ``(count,)`` on the CPU: s is the sum over the group of factor times g.

    factors   one per weight, by layer; g is the gradient of one event's own loss, E the weighted mean over events
    """
    mean = torch.zeros(groups.count, dtype=torch.float64, device=twin.device)
    mean_square = torch.zeros_like(mean)
    for gradients, shares in _event_gradients(twin, data):
        sums = mean.new_zeros(len(shares), groups.count)
        for name, ids in groups.ids.items():
            inside = (ids >= 0).flatten().to(twin.device)
            products = (gradients[name] * factors[name]).flatten(1)[:, inside]
            sums.index_add_(1, ids.flatten().to(twin.device)[inside], products)
        mean += shares @ sums
        mean_square += shares @ sums.square()
    return mean.cpu(), mean_square.cpu()


def _event_gradients(twin: Twin, data: CriterionData) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """For every part of the events the gradients of single events, ``(events, *weight)`` by layer, and the shares."""

    def loss(weights: dict[str, Tensor], features: Tensor, target: Tensor) -> Tensor:
        outputs = twin.outputs(weights, features.unsqueeze(0))
        return event_losses(outputs, target.unsqueeze(0), data.task).sum()

    single = vmap(grad(loss), in_dims=(None, 0, 0))
    for part, shares in data.parts(twin.device, events_at_once(twin)):
        yield single(twin.weights, part.features, part.targets), shares


def events_at_once(twin: Twin) -> int:
    """Events whose single gradients fit in memory together."""
    return max(1, _GRADIENT_VALUES // sum(weight.numel() for weight in twin.weights.values()))

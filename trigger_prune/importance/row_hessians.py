"""The Gauss-Newton Hessian of the loss in the weights of every single output unit.

``E[J^T L J]``: J is the derivative of the network's outputs by the unit's weights and bias, L the Hessian of an event's
loss by those outputs (N. Schraudolph, Neural Computation 14 (2002) 1723). With piecewise linear activations it is the
exact diagonal block of the Hessian of the mean loss; a quantiser counts as what a training takes it for, the identity
inside its range.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.importance._base import CriterionData, named_weight_layers
from trigger_prune.importance.obd import loss_roots
from trigger_prune.importance.obs import row_inputs
from trigger_prune.quantize.layers import QuantLinear, QuantWeightLayer

_HESSIAN_VALUES = 2**27
"""Largest size of the Hessians of a layer's rows (1 GiB)."""

_VALUES_AT_ONCE = 2**24
"""Largest number of derivatives of single events held at once (128 MiB)."""


def row_hessians(network: nn.Module, layer_names: Sequence[str], data: CriterionData) -> dict[str, Tensor]:
    """Of each named layer ``(units, inputs, inputs)`` float64: the inputs of a unit's weights in the order of
    ``weight.flatten(1)``, and last a constant 1 where there is a bias.

    The mean over events is weighted. On a float64 copy in evaluation mode. Raises ModelError for a name that is no
    quantised weight layer, a layer that is never called, and one whose Hessians take more than 1 GiB.
    """
    layers = named_weight_layers(network, layer_names)
    for name, layer in layers.items():
        units, width = len(layer.weight), layer.weight[0].numel() + (layer.bias is not None)
        if units * width**2 > _HESSIAN_VALUES:
            raise ModelError(
                f"layer {name!r} of {units} units of {width} inputs is too large for a Hessian of every unit",
                hint="use criterion obs, which has one for the whole layer, or obd_fisher",
            )
    watched = _Watched(network, layer_names)
    widest = max((layer.weight.numel() for layer in layers.values()), default=1)
    totals: dict[str, Tensor] = {}
    for part, shares in data.parts(watched.device, max(1, _VALUES_AT_ONCE // widest)):
        outputs = watched.run(part.features)
        roots = loss_roots(outputs.detach().flatten(1), data.task).to(outputs)
        directions = [root.reshape(outputs.shape) for root in roots.unbind(1)]
        for name, term in watched.terms(outputs, directions, shares).items():
            totals[name] = totals[name] + term if name in totals else term
    return totals


class _Watched:
    """A copy of a network that keeps the inputs of some layers, and can differentiate by their outputs."""

    def __init__(self, network: nn.Module, layer_names: Sequence[str]) -> None:
        self.network = copy.deepcopy(network).eval().double().requires_grad_(False)
        self.layers = named_weight_layers(self.network, layer_names)
        self.inputs: dict[str, list[Tensor]] = {}
        self.probes: dict[str, list[Tensor]] = {}
        for name, layer in self.layers.items():
            layer.register_forward_hook(self._hook(name))

    @property
    def device(self) -> torch.device:
        return next(iter(self.layers.values())).weight.device

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def keep(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            self.inputs[name].append(inputs[0].detach())
            # zero, and its gradient is that by the output, even where an activation then overwrites the output
            self.probes[name].append(torch.zeros_like(output, requires_grad=True))
            return output + self.probes[name][-1]

        return keep

    def run(self, features: Tensor) -> Tensor:
        """Outputs of the network. Raises ModelError for a layer that is never called."""
        self.inputs = {name: [] for name in self.layers}
        self.probes = {name: [] for name in self.layers}
        with torch.enable_grad():
            outputs: Tensor = self.network(features)
        for name, calls in self.probes.items():
            if not calls:
                raise ModelError(f"layer {name!r} is never called by the network")
        return outputs

    def terms(self, outputs: Tensor, directions: Sequence[Tensor], shares: Tensor) -> dict[str, Tensor]:
        """Sum over events of share times ``d d^T``, d the derivative by a unit's weights along each direction."""
        places = [probe for calls in self.probes.values() for probe in calls]
        per_direction = [
            torch.autograd.grad(
                outputs, places, direction, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for direction in directions
        ]
        found = {}
        start = 0
        for name, layer in self.layers.items():
            stop = start + len(self.probes[name])
            x = [row_inputs(layer, inputs) for inputs in self.inputs[name]]
            up = [[_units_first(layer, each) for each in of_one[start:stop]] for of_one in per_direction]
            found[name] = _single(x[0], up, shares) if _is_single(x) else _several(x, up, shares)
            start = stop
        return found


def _units_first(layer: QuantWeightLayer, gradient: Tensor) -> Tensor:
    """``(events, units, positions)``."""
    moved = gradient.movedim(-1, 1) if isinstance(layer, QuantLinear) else gradient
    return moved.reshape(*moved.shape[:2], -1)


def _is_single(x: Sequence[Tensor]) -> bool:
    return len(x) == 1 and x[0].shape[1] == 1 and x[0].shape[3] == 1


def _single(x: Tensor, up: Sequence[Sequence[Tensor]], shares: Tensor) -> Tensor:
    """A layer called once, at one position: all directions go into one weight per event and unit."""
    inputs = x[:, 0, :, 0]
    heights = sum(each[0][:, :, 0].square() for each in up) * shares[:, None]
    return torch.stack([inputs.t() @ (inputs * height[:, None]) for height in heights.unbind(1)])


def _several(x: Sequence[Tensor], up: Sequence[Sequence[Tensor]], shares: Tensor) -> Tensor:
    """``x`` per call ``(events, groups, inputs, positions)``, ``up`` per direction and call ``(events, units, p)``."""
    total: Tensor | None = None
    for calls in up:
        d = sum(
            torch.einsum("ngup,ngip->ngui", u.reshape(len(u), inputs.shape[1], -1, u.shape[2]), inputs).flatten(1, 2)
            for inputs, u in zip(x, calls, strict=True)
        )
        scaled = (d * shares.sqrt()[:, None, None]).movedim(1, 0)
        term = scaled.transpose(1, 2) @ scaled
        total = term if total is None else total + term
    if total is None:
        raise ModelError("the loss has no direction")
    return total

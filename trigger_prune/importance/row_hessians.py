"""The Gauss-Newton Hessian of the loss in the weights of every single output unit.

``E[J^T L J]``: J is the derivative of the network's outputs by the unit's weights and bias, L the Hessian of an event's
loss by those outputs (N. Schraudolph, Neural Computation 14 (2002) 1723). With piecewise linear activations it is the
exact diagonal block of the Hessian of the mean loss; a quantiser counts as what a training takes it for, the identity
inside its range.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.importance._base import CriterionData, named_weight_layers
from trigger_prune.importance.obd import loss_roots
from trigger_prune.importance.obs import row_inputs
from trigger_prune.importance.observed import units_first
from trigger_prune.importance.probes import Probed

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
    probed = Probed(network, layer_names)
    widest = max((layer.weight.numel() for layer in layers.values()), default=1)
    totals: dict[str, Tensor] = {}
    for part, shares in data.parts(probed.device, max(1, _VALUES_AT_ONCE // widest)):
        outputs = probed.run(part.features)
        roots = loss_roots(outputs.detach().flatten(1), data.task).to(outputs)
        along = [probed.gradients(outputs, root.reshape(outputs.shape)) for root in roots.unbind(1)]
        for name, layer in probed.layers.items():
            x = [row_inputs(layer, inputs) for inputs in probed.inputs[name]]
            up = [[units_first(layer, each) for each in gradients[name]] for gradients in along]
            term = _single(x[0], up, shares) if _is_single(x) else _several(x, up, shares)
            totals[name] = totals[name] + term if name in totals else term
    return totals


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

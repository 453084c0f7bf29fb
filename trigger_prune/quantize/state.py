"""Everything that training may change in a quantised network, as tensors: weights, masks and fixed-point types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.layers import ChannelQuantizer, FixedQuantizer, weight_layers

_TYPES = ".types"
_ROUNDINGS, _OVERFLOWS = list(Rounding), list(Overflow)


def network_state(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the ``state_dict`` of a quantised network, and of its types: int16 ``(types, 5)`` as ``NAME.types``.

    A weight layer has two types (weight, bias), a quantiser one, or one per channel; a row of zeros is a channel of
    which nothing is left.
    """
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    for name, layer in weight_layers(network).items():
        state[name + _TYPES] = _coded([layer.weight_type, layer.bias_type])
    for name, module in network.named_modules():
        if isinstance(module, FixedQuantizer):
            state[name + _TYPES] = _coded([module.fixed])
        elif isinstance(module, ChannelQuantizer):
            state[name + _TYPES] = _coded(module.types)
    return state


def load_network_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Inverse of ``network_state``, in place, for a network of the same graph and shapes.

    Quantisers are replaced where they are of another kind. A state without types leaves them as they are. Raises
    ModelError for a state of another network.
    """
    layers = weight_layers(network)
    quantisers = {
        name for name, module in network.named_modules() if isinstance(module, FixedQuantizer | ChannelQuantizer)
    }
    for key, value in state.items():
        if not key.endswith(_TYPES):
            continue
        name, types = key.removesuffix(_TYPES), _decoded(value)
        if name in layers and len(types) == 2 and types[0] and types[1]:
            layers[name].weight_type, layers[name].bias_type = types[0], types[1]
        elif name in quantisers:
            alone = types[0] if len(types) == 1 else None
            network.set_submodule(name, FixedQuantizer(alone) if alone else ChannelQuantizer(types))
        else:
            raise ModelError(f"the state has types of {name!r}, which the network does not have")
    try:
        network.load_state_dict({key: value for key, value in state.items() if not key.endswith(_TYPES)})
    except RuntimeError as error:
        raise ModelError(f"the state belongs to another network: {error}") from error


def _coded(types: Sequence[FixedPoint | None]) -> Tensor:
    rows = [
        (t.width, t.integer, int(t.signed), _ROUNDINGS.index(t.rounding), _OVERFLOWS.index(t.overflow))
        if t
        else (0,) * 5
        for t in types
    ]
    return torch.tensor(rows, dtype=torch.int16)


def _decoded(rows: Tensor) -> list[FixedPoint | None]:
    return [
        FixedPoint(width, integer, bool(signed), _ROUNDINGS[rounding], _OVERFLOWS[overflow]) if width else None
        for width, integer, signed, rounding, overflow in rows.tolist()
    ]

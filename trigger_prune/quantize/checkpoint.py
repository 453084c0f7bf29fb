"""Quantised networks on disk: weights, masks and every fixed-point type; no pickled code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from trigger_prune.errors import ArtefactError, FixedPointError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import build_structure, input_shape_of, input_type_of
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers

_FORMAT = 1


def save_network(network: fx.GraphModule, path: Path) -> None:
    """Write ``network`` to ``path`` (a torch file of tensors and plain values)."""
    payload = {
        "format": _FORMAT,
        "input_type": str(input_type_of(network)),
        "input_shape": list(input_shape_of(network)),
        "weight_types": {
            name: [str(layer.weight_type), str(layer.bias_type)] for name, layer in weight_layers(network).items()
        },
        "activation_types": {
            name: str(module.fixed) for name, module in network.named_modules() if isinstance(module, FixedQuantizer)
        },
        "frozen": [name for name, layer in weight_layers(network).items() if not layer.weight.requires_grad],
        "state": network.state_dict(),
    }
    torch.save(payload, path)


def load_network(path: Path, model: nn.Module) -> fx.GraphModule:
    """Inverse of ``save_network``. ``model`` is the float model the network was made from (its weights do not matter).

    Input features dropped since then are taken over from the stored shapes. Raises ArtefactError when the file is
    damaged or belongs to another model.
    """
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if payload["format"] != _FORMAT:
            raise ArtefactError(f"{path} has format {payload['format']}, not {_FORMAT}")
        state = payload["state"]
        weights = {
            name: (FixedPoint.parse(weight), FixedPoint.parse(bias))
            for name, (weight, bias) in payload["weight_types"].items()
        }
        activations = {name: FixedPoint.parse(text) for name, text in payload["activation_types"].items()}
        network = build_structure(model, FixedPoint.parse(payload["input_type"]), tuple(payload["input_shape"]))
    except (OSError, RuntimeError, KeyError, ValueError, FixedPointError, EOFError) as error:
        raise ArtefactError(f"{path} is not a readable network: {error}", hint="run the stage again with --from") from error
    for name, fixed in activations.items():
        network.set_submodule(name, FixedQuantizer(fixed))
    try:
        _set_weight_layers(network, weights, set(payload["frozen"]), state)
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, KeyError) as error:
        raise ArtefactError(f"{path} belongs to another model than {type(model).__name__}: {error}") from error
    return network


def _set_weight_layers(
    network: fx.GraphModule, types: dict[str, tuple[FixedPoint, FixedPoint]], frozen: set[str], state: dict[str, Any]
) -> None:
    from trigger_prune.quantize.convert import QUANTISED
    from trigger_prune.structure.resize import resize_inputs

    for name, (weight_type, bias_type) in types.items():
        source = network.get_submodule(name)
        stored = state[f"{name}.weight"]
        if stored.shape[1] != source.weight.shape[1]:  # type: ignore[union-attr,index]
            resize_inputs(source, list(range(stored.shape[1])))
        twin = QUANTISED[type(source)](source, weight_type, bias_type)  # type: ignore[index]
        twin.weight.requires_grad_(name not in frozen)
        network.set_submodule(name, twin)

"""Quantised networks on disk: weights, masks and every fixed-point type; no pickled code."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ArtefactError, FixedPointError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import QUANTISED, build_structure, input_shape_of, input_type_of
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers

_FORMAT = 2


def save_network(network: fx.GraphModule, path: Path) -> None:
    """Write ``network`` to ``path`` (a torch file of tensors and plain values), under a temporary name first."""
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
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
        "state": state,
        "digest": _digest(state),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(payload, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_network(path: Path, model: nn.Module) -> fx.GraphModule:
    """Inverse of ``save_network``. ``model`` is the float model the network was made from (its weights do not matter).

    Input features dropped since then are taken over from the stored shapes. Raises ArtefactError when the file is
    missing, damaged or belongs to another model, and what ``quantize_model`` raises for a model it cannot take.
    """
    stored = _read(path)
    network = build_structure(model, stored["input_type"], stored["input_shape"])
    try:
        _fill(network, stored)
    except (RuntimeError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"{path} belongs to another model than this {type(model).__name__}: {error}",
            hint="run the stage again with --from",
        ) from error
    return network


def _read(path: Path) -> dict[str, Any]:
    """The payload with its types parsed."""
    try:
        payload: Any = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(payload, dict):
            raise TypeError(f"it holds a {type(payload).__name__}")
        if payload["format"] != _FORMAT:
            raise ValueError(f"its format is {payload['format']}, not {_FORMAT}")
        if payload["digest"] != _digest(payload["state"]):
            raise ValueError("its weights are not the ones that were written")
        return {
            "input_type": FixedPoint.parse(payload["input_type"]),
            "input_shape": tuple(payload["input_shape"]),
            "weight_types": {
                name: (FixedPoint.parse(weight), FixedPoint.parse(bias))
                for name, (weight, bias) in payload["weight_types"].items()
            },
            "activation_types": {name: FixedPoint.parse(text) for name, text in payload["activation_types"].items()},
            "frozen": set(payload["frozen"]),
            "state": payload["state"],
        }
    except (
        OSError,
        EOFError,
        RuntimeError,
        pickle.UnpicklingError,
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
        FixedPointError,
    ) as error:
        raise ArtefactError(
            f"{path} is not a readable network: {error}", hint="run the stage again with --from"
        ) from error


def _fill(network: fx.GraphModule, stored: dict[str, Any]) -> None:
    """Quantisers, quantised layers and weights into the bare structure, in place. Raises ValueError for a misfit."""
    modules = dict(network.named_modules())
    wires = {name for name, module in modules.items() if isinstance(module, nn.Identity)}
    layers = {name for name, module in modules.items() if type(module) in QUANTISED}
    for what, own, given in (
        ("activation quantisers", wires, stored["activation_types"]),
        ("weight layers", layers, stored["weight_types"]),
    ):
        if own != set(given):
            raise ValueError(f"{what} {sorted(given)} in the file, {sorted(own)} in the model")
    for name, fixed in stored["activation_types"].items():
        network.set_submodule(name, FixedQuantizer(fixed))
    for name, (weight_type, bias_type) in stored["weight_types"].items():
        twin = QUANTISED[type(modules[name])](modules[name], weight_type, bias_type)
        twin.weight.requires_grad_(name not in stored["frozen"])
        network.set_submodule(name, twin)
    _take_over_dropped_inputs(network, stored)
    network.load_state_dict(stored["state"])


def _take_over_dropped_inputs(network: fx.GraphModule, stored: dict[str, Any]) -> None:
    from trigger_prune.structure.resize import input_layers, resize_inputs

    for layer in input_layers(network) or []:
        n_inputs = stored["input_shape"][0]
        if n_inputs < layer.weight.shape[1]:
            resize_inputs(layer, list(range(n_inputs)))


def _digest(state: dict[str, Tensor]) -> str:
    """SHA-256 (hex) of all tensors: torch does not notice a flipped bit."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()

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
from trigger_prune.quantize.convert import (
    INPUT_QUANTIZER,
    QUANTISED,
    build_structure,
    input_shape_of,
    input_type_of,
    insert_input_quantizer,
)
from trigger_prune.quantize.layers import QUANTIZERS, ChannelQuantizer, FixedQuantizer, weight_layers
from trigger_prune.quantize.weights_only import head_counts, is_weights_only, rebuilt

_FORMAT = 4
_READABLE = (2, 3, _FORMAT)
"""Format 2 knows nothing of shapes: only input features can be gone there. Format 3 has one type per wire."""


def save_network(network: nn.Module, path: Path) -> None:
    """Write ``network`` to ``path`` (a torch file of tensors and plain values), under a temporary name first."""
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    payload = {
        "format": _FORMAT,
        "input_type": str(input_type_of(network)),
        "input_shape": list(input_shape_of(network)),
        "weight_types": {
            name: [str(layer.weight_type), str(layer.bias_type)] for name, layer in weight_layers(network).items()
        },
        "groups": {name: getattr(layer, "groups", 1) for name, layer in weight_layers(network).items()},
        "full_shapes": {name: list(shape) for name, shape in _full_shapes(network).items()},
        "activation_types": {
            name: _type_texts(module) for name, module in network.named_modules() if isinstance(module, QUANTIZERS)
        },
        "frozen": [name for name, layer in weight_layers(network).items() if not layer.weight.requires_grad],
        "batch_norm_scales": {name: v.cpu() for name, v in _scales(network).items()},
        "heads": head_counts(network) if is_weights_only(network) else None,
        "state": state,
        "digest": _digest(state),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(payload, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_network(path: Path, model: nn.Module) -> Any:
    """Inverse of ``save_network``. ``model`` is the float model the network was made from (its weights do not matter).

    The network is an ``fx.GraphModule``, or a module of the model's class where only weights are quantised. Heads,
    neurons and input features removed since then are taken over from the stored shapes. Raises ArtefactError when the
    file is missing, damaged or belongs to another model, and what ``quantize_model`` raises for a model it cannot take.
    """
    stored = _read(path)
    network: nn.Module | None = None
    if stored["heads"] is None:
        network = build_structure(model, stored["input_type"], stored["input_shape"])
    try:
        if isinstance(network, fx.GraphModule):
            network.meta["batch_norm_scales"] = stored["batch_norm_scales"]
            if INPUT_QUANTIZER in stored["activation_types"]:
                insert_input_quantizer(network)
            _fill(network, stored)
        else:
            network = rebuilt(model, stored, _take_over_shape)
        _require_that_it_runs(network)
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
        if payload["format"] not in _READABLE:
            raise ValueError(f"its format is {payload['format']}, not one of {_READABLE}")
        if payload["digest"] != _digest(payload["state"]):
            raise ValueError("its weights are not the ones that were written")
        return {
            "input_type": FixedPoint.parse(payload["input_type"]),
            "input_shape": tuple(payload["input_shape"]),
            "weight_types": {
                name: (FixedPoint.parse(weight), FixedPoint.parse(bias))
                for name, (weight, bias) in payload["weight_types"].items()
            },
            "activation_types": {name: _parsed(text) for name, text in payload["activation_types"].items()},
            "frozen": set(payload["frozen"]),
            "groups": {} if payload["format"] == 2 else dict(payload["groups"]),
            "full_shapes": {} if payload["format"] == 2 else dict(payload["full_shapes"]),
            "batch_norm_scales": dict(payload.get("batch_norm_scales", {})),
            "heads": payload.get("heads"),
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


def _type_texts(quantizer: nn.Module) -> str | list[str | None]:
    """One type, or one per channel (None: nothing is left of it)."""
    if isinstance(quantizer, ChannelQuantizer):
        return [None if fixed is None else str(fixed) for fixed in quantizer.types]
    return str(quantizer.fixed)


def _parsed(text: str | list[str | None]) -> FixedPoint | list[FixedPoint | None]:
    if isinstance(text, str):
        return FixedPoint.parse(text)
    return [None if each is None else FixedPoint.parse(each) for each in text]


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
    for name, types in stored["activation_types"].items():
        network.set_submodule(name, ChannelQuantizer(types) if isinstance(types, list) else FixedQuantizer(types))
    for name, (weight_type, bias_type) in stored["weight_types"].items():
        twin = QUANTISED[type(modules[name])](modules[name], weight_type, bias_type)
        twin.weight.requires_grad_(name not in stored["frozen"])
        _take_over_shape(twin, name, stored)
        network.set_submodule(name, twin)
    network.load_state_dict(stored["state"])
    shapes = {name: tuple(shape) for name, shape in stored["full_shapes"].items()}
    if shapes and shapes != {name: tuple(layer.weight.shape) for name, layer in weight_layers(network).items()}:
        network.meta["full_shapes"] = shapes


def _take_over_shape(layer: Any, name: str, stored: dict[str, Any]) -> None:
    """Bring a layer of the whole network to the stored shape. Raises ValueError where it was no part of the layer."""
    state, own = stored["state"], layer.weight.shape
    full = tuple(stored["full_shapes"].get(name, own))
    if tuple(own) != full:
        raise ValueError(f"layer {name!r} had weights of shape {full}, in the model they have {tuple(own)}")
    shape = state[f"{name}.weight"].shape
    if shape[2:] != own[2:] or shape[0] > own[0] or (not stored["full_shapes"] and shape[0] != own[0]):
        raise ValueError(f"layer {name!r} has weights of shape {tuple(shape)}, in the model {tuple(own)}")
    groups = stored["groups"].get(name, getattr(layer, "groups", 1))
    for parameter in ("weight", "bias"):
        value = state.get(f"{name}.{parameter}")
        if value is not None:
            old = getattr(layer, parameter)
            trained = layer.weight.requires_grad if old is None else old.requires_grad
            setattr(layer, parameter, nn.Parameter(torch.empty_like(value), requires_grad=trained))
    layer.register_buffer("weight_mask", torch.empty_like(state[f"{name}.weight_mask"]))
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    else:
        layer.out_channels, layer.in_channels, layer.groups = shape[0], shape[1] * groups, groups


def _require_that_it_runs(network: nn.Module) -> None:
    """Shapes of the file that do not fit each other show when one event goes through. Raises RuntimeError then."""
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros((1, *input_shape_of(network))))
    network.train(training)


def _scales(network: nn.Module) -> dict[str, Tensor]:
    """What ``quantize.batch_norm`` noted of the norms that it folded."""
    meta: dict[str, Any] = getattr(network, "meta", {})
    noted: dict[str, Tensor] = meta.get("batch_norm_scales", {})
    return noted


def _full_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Weight shapes before anything was removed (structure.shrink notes them)."""
    now = {name: tuple(layer.weight.shape) for name, layer in weight_layers(network).items()}
    meta: Any = network.meta
    noted: dict[str, tuple[int, ...]] = meta.get("full_shapes", now)
    return noted


def _digest(state: dict[str, Tensor]) -> str:
    """SHA-256 (hex) of all tensors: torch does not notice a flipped bit."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()

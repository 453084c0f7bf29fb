"""Networks of which only the weights are quantised, for models that have no fixed-point form.

They run on processors (``cost.backend: runtime``). Criteria, masks, structures that need no graph and training treat
them like fixed-point networks, because they hold the same weight layers; activations stay floating point, so nothing
about such a network is bit-exact.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trigger_prune.errors import ModelError, UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding, bits_for_range
from trigger_prune.quantize.batch_norm import NORMS
from trigger_prune.quantize.convert import QUANTISED
from trigger_prune.quantize.layers import WEIGHT_LAYERS, weight_layers
from trigger_prune.quantize.ranges import best_type

_MARK = "weights_only"
_BIAS_BITS = 32
_BIAS_RANGE = 8.0
"""Biases are added to floats, so their grid is finer than what float32 resolves; a small one may grow to this."""


@dataclass(frozen=True)
class WeightCount:
    """Weights of one layer, zeros included, and those that are not zero once masked and quantised."""

    weights: int
    nonzeros: int


def quantize_weights(
    model: nn.Module, weight_bits: int, *, input_type: FixedPoint, input_shape: tuple[int, ...]
) -> nn.Module:
    """Copy of ``model``, of the same class, whose Linear, Conv1d and Conv2d layers are the quantised, masked twins.

    weight_bits    bits of a weight, sign included; every layer has a binary point of its own
    input_type     grid of the events it will read; ``input_shape`` is one event without the batch axis
    Everything else (activations, normalisations, parameters outside these layers, subclasses of them) stays float.
    Raises ModelError when there is no such layer or the model cannot be copied, UnsupportedLayerError for two layers
    that share one weight.
    """
    network = _copied(model)
    owners: dict[int, str] = {}
    twins: dict[int, nn.Module] = {}
    # a module that is registered under two names gets one twin under both
    for name, layer in list(network.named_modules(remove_duplicate=False)):
        if type(layer) not in QUANTISED:
            continue
        if id(layer) not in twins:
            weight: Any = layer.weight
            if owners.setdefault(id(weight), name) != name:
                raise UnsupportedLayerError(
                    f"layers {owners[id(weight)]!r} and {name!r} share one weight", hint="give each a weight of its own"
                )
            twins[id(layer)] = _twin(layer, weight_bits)
        if not name:
            return _marked(twins[id(layer)], input_type, input_shape)
        network.set_submodule(name, twins[id(layer)])
    if not twins:
        raise ModelError(
            f"{type(model).__name__} has no Linear, Conv1d or Conv2d layer whose weights could be quantised",
            hint="layers that were quantised before, and subclasses, are left alone",
        )
    return _marked(network, input_type, input_shape).train()


def is_weights_only(network: nn.Module) -> bool:
    """Whether ``network`` comes from ``quantize_weights``."""
    meta: Any = getattr(network, "meta", None)
    return isinstance(meta, dict) and _MARK in meta


def weight_counts(network: nn.Module) -> dict[str, WeightCount]:
    """By layer, of any quantised network, in order of definition."""
    with torch.no_grad():
        return {
            name: WeightCount(layer.weight.numel(), int(torch.count_nonzero(layer.quantized_weight())))
            for name, layer in weight_layers(network).items()
        }


def content_hash(network: nn.Module) -> str:
    """SHA-256 (hex) of everything a weights-only network computes with: types, quantised weights, float parameters."""
    meta = _meta(network)
    digest = hashlib.sha256(repr((meta["input_type"], meta["input_shape"], head_counts(network))).encode())
    layers = weight_layers(network)
    for name, layer in layers.items():
        digest.update(f"{name} {layer.weight_type} {layer.bias_type}".encode())
        with torch.no_grad():
            # + 0.0 turns -0.0, a masked negative weight, into 0.0
            digest.update((layer.quantized_weight() + 0.0).cpu().numpy().tobytes())
            bias = layer.quantized_bias()
            digest.update(b"" if bias is None else bias.cpu().numpy().tobytes())
    inside = tuple(f"{name}." for name in layers)
    for name, value in sorted(network.state_dict().items()):
        if not name.startswith(inside):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def output_count(network: nn.Module) -> int:
    """Outputs per event."""
    parameter = next(network.parameters())
    training = network.training
    with torch.no_grad():
        shape = (1, *_meta(network)["input_shape"])
        result = network.eval()(torch.zeros(shape, dtype=parameter.dtype, device=parameter.device))
    network.train(training)
    return int(result.numel())


def head_counts(network: nn.Module) -> dict[str, int]:
    """``n_heads`` of every module that has it, by name: heads can have been cut out."""
    counts = {name: getattr(module, "n_heads", None) for name, module in network.named_modules()}
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def rebuilt(model: nn.Module, stored: Mapping[str, Any], take_over_shape: Callable[..., None]) -> nn.Module:
    """The weights-only network of a file (see quantize.checkpoint) from the float model it was made of.

    take_over_shape   brings a layer, given its name and the file's content, to the stored shape
    Raises ValueError or RuntimeError for a file that does not fit the model.
    """
    network = quantize_weights(model, 8, input_type=stored["input_type"], input_shape=stored["input_shape"])
    layers, types, state = weight_layers(network), stored["weight_types"], stored["state"]
    if set(layers) != set(types):
        raise ValueError(f"weight layers {sorted(types)} in the file, {sorted(layers)} in the model")
    if set(head_counts(network)) != set(stored["heads"]):
        raise ValueError(f"attention blocks {sorted(stored['heads'])} in the file")
    for name, layer in layers.items():
        layer.weight_type, layer.bias_type = types[name]
        take_over_shape(layer, name, stored)
        layer.weight.requires_grad_(name not in stored["frozen"])
    for name, module in network.named_modules():
        if name in stored["heads"]:
            module.n_heads = stored["heads"][name]
        if isinstance(module, NORMS) and f"{name}.running_mean" in state:
            _take_over_channels(module, len(state[f"{name}.running_mean"]))
    network.load_state_dict(state)
    shapes = {name: tuple(shape) for name, shape in stored["full_shapes"].items()}
    if shapes != {name: tuple(layer.weight.shape) for name, layer in layers.items()}:
        _meta(network)["full_shapes"] = shapes
    return network


def _take_over_channels(norm: Any, channels: int) -> None:
    if channels == norm.num_features:
        return
    norm.num_features = channels
    for name in ("weight", "bias"):
        if getattr(norm, name) is not None:
            setattr(norm, name, nn.Parameter(getattr(norm, name).detach()[:channels].clone()))
    for name in ("running_mean", "running_var"):
        norm.register_buffer(name, norm.get_buffer(name)[:channels].clone())


def float_bias_type(largest: float) -> FixedPoint:
    """Type of biases up to ``largest`` in magnitude, with room to grow by a factor four."""
    reach = max(_BIAS_RANGE, 4.0 * largest)
    return FixedPoint(_BIAS_BITS, bits_for_range(-reach, reach)[0], True, Rounding.AP_RND_CONV, Overflow.AP_SAT)


def _meta(network: nn.Module) -> dict[str, Any]:
    if not is_weights_only(network):
        raise ModelError(f"{type(network).__name__} is no weights-only network", hint="call quantize_weights first")
    meta: Any = network.meta
    return meta  # type: ignore[no-any-return]


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied: {error}",
            hint="make weight normalisation and torch.nn.utils.prune masks permanent (remove_weight_norm, remove)",
        ) from error


def _marked(network: nn.Module, input_type: FixedPoint, input_shape: tuple[int, ...]) -> nn.Module:
    meta: Any = getattr(network, "meta", {})
    if not isinstance(meta, dict):
        raise ModelError(f"{type(network).__name__} has an attribute 'meta', which quantised networks need themselves")
    network.meta = {**meta, "input_type": input_type, "input_shape": tuple(input_shape), _MARK: True}  # type: ignore[assignment]
    return network


def _twin(layer: Any, weight_bits: int) -> nn.Module:
    weight = layer.weight.detach().double().cpu().numpy()
    weight_type = best_type(weight, weight_bits, signed=True, rounding=Rounding.AP_RND_CONV)
    largest = 0.0 if layer.bias is None else float(layer.bias.detach().abs().max())
    twin: nn.Module = QUANTISED[type(layer)](layer, weight_type, float_bias_type(largest))
    assert isinstance(twin, WEIGHT_LAYERS)
    return twin

"""A ``NetworkSpec`` as JSON text: the integers that a stored synthesis belongs to."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from trigger_prune.cost.network import NetworkSpec, PoolLayer, WeightLayer
from trigger_prune.errors import ArtefactError, FixedPointError
from trigger_prune.fixed_point import FixedPoint

_SIZES = ("input_size", "output_size", "stride")
_TYPES = ("weight_type", "bias_type", "input_type", "output_type")
_CHANNELS = ("input_channels", "output_channels")
"""Written only where they are not empty."""


def network_to_json(spec: NetworkSpec) -> str:
    """JSON text; ``network_from_json`` restores a network with the same content hash."""
    return json.dumps(
        {
            "input_type": str(spec.input_type),
            "input_shape": list(spec.input_shape),
            "n_outputs": spec.n_outputs,
            "layers": [_layer_values(layer) for layer in spec.layers],
            "pools": [{**vars(pool), "value_type": str(pool.value_type)} for pool in spec.pools],
        },
        separators=(",", ":"),
    )


def network_from_json(text: str) -> NetworkSpec:
    """Inverse of ``network_to_json``. Raises ArtefactError on anything else."""
    try:
        raw = json.loads(text)
        layers = tuple(_layer(entry) for entry in raw["layers"])
        shape = tuple(int(size) for size in raw["input_shape"])
        pools = tuple(_pool(entry) for entry in raw["pools"])
        return NetworkSpec(layers, FixedPoint.parse(raw["input_type"]), shape, int(raw["n_outputs"]), pools)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, FixedPointError) as error:
        raise ArtefactError(f"not a stored network: {error}") from None


def _layer_values(layer: WeightLayer) -> dict[str, Any]:
    types = {name: getattr(layer, name) for name in _TYPES}
    return {
        "name": layer.name,
        "kind": layer.kind,
        "shape": list(layer.weight.shape),
        "weight": layer.weight.ravel().tolist(),
        "bias": layer.bias.tolist(),
        **{name: None if fixed is None else str(fixed) for name, fixed in types.items()},
        "relu": bool(layer.relu),
        "positions": int(layer.positions),
        "groups": int(layer.groups),
        **{name: list(getattr(layer, name)) for name in _SIZES},
        **{
            name: [None if fixed is None else str(fixed) for fixed in getattr(layer, name)]
            for name in _CHANNELS
            if getattr(layer, name)
        },
    }


def _layer(raw: dict[str, Any]) -> WeightLayer:
    types: dict[str, Any] = {name: None if raw[name] is None else FixedPoint.parse(raw[name]) for name in _TYPES}
    sizes: dict[str, Any] = {name: _whole(raw[name]) for name in _SIZES}
    channels: dict[str, Any] = {
        name: tuple(None if text is None else FixedPoint.parse(text) for text in raw.get(name, ()))
        for name in _CHANNELS
    }
    weight = np.array(raw["weight"], dtype=np.int64).reshape(raw["shape"])
    bias = np.array(raw["bias"], dtype=np.int64)
    return WeightLayer(
        name=raw["name"],
        kind=raw["kind"],
        weight=weight,
        bias=bias,
        relu=raw["relu"],
        positions=raw["positions"],
        groups=raw["groups"],
        **sizes,
        **channels,
        **types,  # only output_type may be None; content_hash is compared by the reader
    )


def _pool(raw: dict[str, Any]) -> PoolLayer:
    sizes = {name: _whole(raw[name]) for name in (*_SIZES, "kernel")}
    return PoolLayer(**{**raw, **sizes, "value_type": FixedPoint.parse(raw["value_type"])})


def _whole(values: list[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)

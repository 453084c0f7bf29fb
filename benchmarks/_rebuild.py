"""Rebuilds the networks of ``_trigger_networks.py`` from their weight arrays, and makes events for them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from _firmware import Arrays, Codes, FirmwareLayer, TriggerNetwork, literal_codes
from numpy.typing import NDArray
from torch import fx

from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.from_integers import from_integers
from trigger_prune.quantize.integer_layers import (
    FlattenLayer,
    IntegerLayer,
    Layer,
    average_layer,
    channels_first_columns,
    codes_on_grid,
    conv_from_hls,
    dense_from_hls,
    scale_layer,
)


def load_arrays(folder: Path, network: TriggerNetwork) -> dict[str, NDArray[np.float64]]:
    """The arrays of one network, checked against ``index.csv``. Raises DataError naming what is missing or differs."""
    hint = "give the folder with --models; it holds NETWORK.npz files and index.csv"
    path, index = folder / f"{network.file}.npz", folder / "index.csv"
    for needed in (index, path):
        if not needed.is_file():
            raise DataError(f"{needed} does not exist", hint=hint)
    with index.open(newline="") as file:
        stated = {row["array"]: row for row in csv.DictReader(file) if row["dir"].strip("/") == network.file}
    arrays = {}
    with np.load(path, allow_pickle=False) as stored:
        for layer in network.layers:
            for name in filter(None, (layer.weight, layer.bias)):
                if name not in stored or name not in stated:
                    raise DataError(f"{network.file}: array {name!r} is not in {path.name} or not in index.csv")
                values, row = np.asarray(stored[name], dtype=np.float64).ravel(), stated[name]
                if (values.size, values.min(), values.max()) != (int(row["n"]), float(row["min"]), float(row["max"])):
                    raise DataError(f"{network.file}: array {name!r} has not the size or range that index.csv states")
                arrays[name] = values
    return arrays


def build(network: TriggerNetwork, arrays: Arrays) -> fx.GraphModule:
    """The quantised network. Raises ModelError or FixedPointError for arrays that do not fit the declaration."""
    *positions, channels = network.input_shape
    wire = FixedPoint.parse(network.input_type)
    layers: list[Layer] = []
    for number, layer in enumerate(network.layers):
        name = f"layer{number}"
        if layer.kind == "dense" and positions:
            layers.append(FlattenLayer(f"flatten{number}"))
        layers.append(_integer_layer(layer, name, arrays, wire, positions, channels))
        if layer.kind == "dense":
            positions = []
        elif layer.kind == "average":
            positions = [1]
        elif layer.kind == "conv2d":
            positions = [(n - k) // layer.stride + 1 for n, k in zip(positions, layer.kernel, strict=True)]
        wire, channels = layer.final, layer.n_out
    shape = (network.input_shape[-1], *network.input_shape[:-1])
    return from_integers(layers, FixedPoint.parse(network.input_type), shape)


def _integer_layer(
    layer: FirmwareLayer, name: str, arrays: Arrays, wire: FixedPoint, positions: list[int], channels: int
) -> IntegerLayer:
    if layer.kind == "average":
        return average_layer(name, layer.n_in, layer.length, wire, layer.final)
    weight_type, bias_type = FixedPoint.parse(layer.weight_type), FixedPoint.parse(layer.bias_type)
    values, offsets = arrays[layer.weight], arrays[layer.bias]
    if layer.kind == "scale":
        # written as decimals, which the compiler rounds; every other weight must be on its grid
        codes, bias = literal_codes(values, weight_type), literal_codes(offsets, bias_type)
        return scale_layer(
            name,
            codes,
            weight_type,
            bias,
            bias_type,
            axes=len(positions),
            relu=layer.relu,
            output_type=layer.final,
        )
    if layer.kind == "dense":
        weight = dense_from_hls(values, layer.n_in, layer.n_out, name, transposed=layer.transposed)
        if positions:
            weight = channels_first_columns(weight, positions, channels)
    else:
        kernel = layer.kernel if layer.kind == "conv2d" else (1,)
        weight = conv_from_hls(values, kernel, layer.n_in, layer.n_out, name, transposed=layer.transposed)
    return IntegerLayer(
        name,
        {"pointwise": "conv1d", "conv2d": "conv2d"}.get(layer.kind, "dense"),  # type: ignore[arg-type]
        codes_on_grid(weight, weight_type, f"{name}, {layer.weight}"),
        weight_type,
        codes_on_grid(offsets, bias_type, f"{name}, {layer.bias}"),
        bias_type,
        relu=layer.relu,
        output_type=layer.final,
        stride=layer.stride,
    )


def make_events(network: TriggerNetwork, n: int, seed: int = 0) -> Codes:
    """Input codes ``(n, *input_shape)``: corners, then uniform, small and sparse events in turn."""
    fixed, shape = FixedPoint.parse(network.input_type), network.input_shape
    rng = np.random.default_rng(seed)
    low, high = fixed.min_code, fixed.max_code
    constant = np.stack([np.full(shape, code) for code in (low, high, 0, 1, max(low, -1))])
    corners = rng.choice([low, high], size=(max(n // 10, 1), *shape))
    random = rng.integers(low, high, size=(max(n - len(constant) - len(corners), 0), *shape), endpoint=True)
    broad = (1,) * len(shape)
    small = random >> rng.integers(0, fixed.width, size=(len(random), *broad))
    sparse = random * (rng.random(random.shape) < rng.random((len(random), *broad)) ** 2)
    turn = np.arange(len(random)).reshape(-1, *broad) % 3
    mixed = np.where(turn == 0, random, np.where(turn == 1, small, sparse))
    return np.concatenate([constant, corners, mixed])[:n].astype(np.int64)


def features_of(network: TriggerNetwork, codes: Codes) -> NDArray[np.float32]:
    """Events in torch's order, channels first."""
    values = codes * FixedPoint.parse(network.input_type).lsb
    return np.ascontiguousarray(np.moveaxis(values, -1, 1)).astype(np.float32)

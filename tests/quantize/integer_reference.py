"""A quantised chain of layers computed with integers only, from nothing but its NetworkSpec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.fixed_point import FixedPoint, Rounding

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Geometry:
    """What a NetworkSpec does not say about a convolution, and the pooling behind it."""

    stride: int = 1
    padding: int = 0
    dilation: int = 1
    pool: int = 1


def run(spec: NetworkSpec, codes: Codes, geometry: Mapping[str, Geometry]) -> NDArray[np.float64]:
    """Outputs as float64 (exact) of events given as integer codes of the input type."""
    x = codes.astype(np.int64)
    fraction = spec.input_type.fraction
    for layer in spec.layers:
        assert layer.input_type.fraction == fraction
        shape = geometry.get(layer.name, Geometry())
        x, fraction = convert(*accumulate(layer, x, shape), layer)
        x = pooled(x, shape.pool)
    return np.ldexp(x.reshape(len(x), -1).astype(np.float64), -fraction)


def accumulate(layer: WeightLayer, x: Codes, shape: Geometry) -> tuple[Codes, int]:
    sums = x.reshape(len(x), -1) @ layer.weight.T if layer.kind == "dense" else convolution(layer, x, shape)
    product = layer.input_type.fraction + layer.weight_type.fraction
    fraction = max(product, layer.bias_type.fraction)
    bias = layer.bias.reshape(1, -1, *[1] * (sums.ndim - 2))
    return (sums << (fraction - product)) + (bias << (fraction - layer.bias_type.fraction)), fraction


def convolution(layer: WeightLayer, x: Codes, shape: Geometry) -> Codes:
    axes = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(shape.padding, shape.padding)] * axes])
    kernel = layer.weight.shape[2:]
    sizes = [(n - shape.dilation * (k - 1) - 1) // shape.stride + 1 for n, k in zip(x.shape[2:], kernel, strict=True)]
    out = np.zeros((len(x), len(layer.weight), *sizes), dtype=np.int64)
    per_group_out, per_group_in = len(layer.weight) // layer.groups, layer.weight.shape[1]
    for o in range(len(layer.weight)):
        first = o // per_group_out * per_group_in
        for position in np.ndindex(*sizes):
            for tap in np.ndindex(*kernel):
                at = tuple(p * shape.stride + t * shape.dilation for p, t in zip(position, tap, strict=True))
                pixels = x[(slice(None), slice(first, first + per_group_in), *at)]
                out[(slice(None), o, *position)] += pixels @ layer.weight[(o, slice(None), *tap)]
    return out


def convert(sums: Codes, fraction: int, layer: WeightLayer) -> tuple[Codes, int]:
    if layer.relu:
        sums = np.maximum(sums, 0)
    if layer.output_type is None:
        return sums, fraction
    return to_type(sums, fraction, layer.output_type), layer.output_type.fraction


def to_type(sums: Codes, fraction: int, fixed: FixedPoint) -> Codes:
    dropped = fraction - fixed.fraction
    if dropped <= 0:
        codes = sums << -dropped
    elif fixed.rounding is Rounding.AP_TRN:
        codes = sums >> dropped
    else:
        assert fixed.rounding is Rounding.AP_RND_CONV
        whole, rest, half = sums >> dropped, sums & ((1 << dropped) - 1), 1 << (dropped - 1)
        codes = whole + ((rest > half) | ((rest == half) & (whole & 1 == 1)))
    return np.clip(codes, fixed.min_code, fixed.max_code)


def pooled(x: Codes, size: int) -> Codes:
    if size == 1:
        return x
    sizes = [n // size for n in x.shape[2:]]
    out = np.zeros((*x.shape[:2], *sizes), dtype=np.int64)
    for position in np.ndindex(*sizes):
        window = x[(slice(None), slice(None), *[slice(p * size, (p + 1) * size) for p in position])]
        out[(slice(None), slice(None), *position)] = window.reshape(*x.shape[:2], -1).max(axis=2)
    return out

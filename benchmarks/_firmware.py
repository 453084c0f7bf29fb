"""What an hls4ml firmware states about its layers, and its arithmetic in plain integers.

``integer_outputs`` shares nothing with the package but the parsed type names: weights are read from the flat arrays in
hls4ml's own order (channels last) and every sum, rounding and overflow is written out here. With ``exact_sums`` the
accumulators hold everything; without, every product and every partial sum goes through the declared accumulator type,
in the order of hls4ml's loops, as in the firmware itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

Codes = NDArray[np.int64]
Arrays = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class FirmwareLayer:
    """One layer as ``parameters.h`` and ``defines.h`` state it.

    weight, bias     names of the arrays (bias "" = none); of a scale: its factors and offsets
    n_in, n_out      channels in and out
    accum, result    accumulator and result type; output is what the activation behind converts to ("" = no activation).
                     With exact sums the result type is passed over where there is an output type.
    kernel, stride   of a convolution; ``length`` of an average: its positions
    transposed       weights lie outputs first (Resource strategy)
    """

    kind: Literal["dense", "pointwise", "conv2d", "scale", "average"]
    n_in: int
    n_out: int
    weight: str = ""
    weight_type: str = ""
    bias: str = ""
    bias_type: str = ""
    accum: str = ""
    result: str = ""
    relu: bool = False
    output: str = ""
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    length: int = 1
    transposed: bool = False

    @property
    def final(self) -> FixedPoint:
        """Type of the wire behind the layer and its activation."""
        return FixedPoint.parse(self.output or self.result)


@dataclass(frozen=True)
class TriggerNetwork:
    """One network of a public firmware.

    file          array file without suffix; several networks may share one
    input_shape   of one event in the firmware's order, channels last
    reuse_factor  the largest of its layers
    source        where the types come from
    reference     published latency or resources, cited
    assumed       what is not taken from the firmware, or differs from it
    """

    name: str
    file: str
    input_type: str
    input_shape: tuple[int, ...]
    layers: tuple[FirmwareLayer, ...]
    reuse_factor: int
    source: str
    reference: str = ""
    assumed: tuple[str, ...] = ()


def integer_outputs(network: TriggerNetwork, arrays: Arrays, codes: Codes, *, exact_sums: bool) -> tuple[Codes, int]:
    """Output codes ``(events, outputs)`` and their fraction bits. ``codes``: inputs ``(events, *input_shape)``."""
    x = codes.astype(np.int64)
    fraction = FixedPoint.parse(network.input_type).fraction
    for layer in network.layers:
        if layer.kind == "average":
            x, fraction = _average(layer, x, fraction, exact_sums)
        else:
            x, fraction = _weighted(layer, arrays, x, fraction, exact_sums)
        if layer.relu:
            x = np.maximum(x, 0)
        x, fraction = convert(x, fraction, layer.final), layer.final.fraction
    return x.reshape(len(x), -1), fraction


def inexact_layers(network: TriggerNetwork, arrays: Arrays) -> list[str]:
    """Why exact sums may differ from the firmware's, layer by layer; [] proves that they agree for every input."""
    reasons: list[str] = []
    wire = FixedPoint.parse(network.input_type)
    for number, layer in enumerate(network.layers):
        where, result = f"layer {number} ({layer.kind})", FixedPoint.parse(layer.result)
        largest = max(wire.max_code, -wire.min_code)
        if layer.kind == "average":
            accum = FixedPoint.parse(layer.accum)
            if accum.fraction < wire.fraction or result.fraction > accum.fraction:
                reasons.append(f"{where}: its accumulator drops bits")
            if layer.length * largest * wire.lsb > accum.max_value:
                reasons.append(f"{where}: its accumulator can overflow")
        else:
            reasons += _inexact_sums(layer, arrays, wire, where)
        wire = layer.final
    return reasons


def _inexact_sums(layer: FirmwareLayer, arrays: Arrays, wire: FixedPoint, where: str) -> list[str]:
    result, weight_type = FixedPoint.parse(layer.result), FixedPoint.parse(layer.weight_type)
    weight = literal_codes(arrays[layer.weight], weight_type) * weight_type.lsb
    bias = literal_codes(arrays[layer.bias], FixedPoint.parse(layer.bias_type)) * FixedPoint.parse(layer.bias_type).lsb
    fraction = max(wire.fraction + weight_type.fraction, FixedPoint.parse(layer.bias_type).fraction)
    largest = max(wire.max_value, -wire.min_value)
    if layer.kind == "scale":
        same = result.fraction == layer.final.fraction and result.rounding is layer.final.rounding
        covers = result.max_value >= layer.final.max_value and result.overflow is Overflow.AP_SAT
        return [] if same and covers else [f"{where}: its result is converted twice"]
    rows = np.abs(weight.reshape(layer.n_out, -1) if layer.transposed else weight.reshape(-1, layer.n_out).T)
    bound = float((rows.sum(axis=1) * largest + np.abs(bias)).max())
    accum = FixedPoint.parse(layer.accum)
    reasons = []
    if accum.fraction < fraction:
        reasons.append(f"{where}: every product loses {fraction - accum.fraction} bits in {layer.accum}")
    if bound > accum.max_value:
        reasons.append(f"{where}: sums up to {bound:g} do not fit {layer.accum}")
    if layer.output and (result.fraction < min(fraction, accum.fraction) or bound > result.max_value):
        reasons.append(f"{where}: the result type {layer.result} is narrower than the sums")
    return reasons


def convert(codes: Codes, fraction: int, fixed: FixedPoint) -> Codes:
    """Codes with ``fraction`` fraction bits in another type: round, then wrap or saturate."""
    dropped = fraction - fixed.fraction
    if dropped <= 0:
        kept = codes << -dropped
    elif fixed.rounding is Rounding.AP_TRN:
        kept = codes >> dropped
    elif fixed.rounding is Rounding.AP_RND:
        kept = (codes + (1 << (dropped - 1))) >> dropped
    else:
        assert fixed.rounding is Rounding.AP_RND_CONV
        kept, rest, half = codes >> dropped, codes & ((1 << dropped) - 1), 1 << (dropped - 1)
        kept = kept + ((rest > half) | ((rest == half) & (kept & 1 == 1)))
    lowest, span = (-(1 << (fixed.width - 1)) if fixed.signed else 0), 1 << fixed.width
    if fixed.overflow is Overflow.AP_WRAP:
        return (kept - lowest) % span + lowest
    return np.clip(kept, lowest, lowest + span - 1)


def literal_codes(values: NDArray[np.float64], fixed: FixedPoint) -> Codes:
    """What a C++ compiler stores for the decimal numbers of a weight header: the type's own rounding."""
    scaled = values * 2.0**fixed.fraction
    codes = np.floor(scaled) if fixed.rounding is Rounding.AP_TRN else np.floor(scaled + 0.5)
    return codes.astype(np.int64)


def _weighted(layer: FirmwareLayer, arrays: Arrays, x: Codes, fraction: int, exact_sums: bool) -> tuple[Codes, int]:
    weight_type = FixedPoint.parse(layer.weight_type)
    weight = literal_codes(arrays[layer.weight], weight_type)
    product = fraction + weight_type.fraction
    bias, bias_fraction = np.zeros(layer.n_out, dtype=np.int64), product
    if layer.bias:
        bias_type = FixedPoint.parse(layer.bias_type)
        bias, bias_fraction = literal_codes(arrays[layer.bias], bias_type), bias_type.fraction
    common = max(product, bias_fraction)
    if layer.kind == "scale":
        sums = ((x * weight) << (common - product)) + (bias << (common - bias_fraction))
        return (sums, common) if exact_sums else (_result(layer, sums, common))
    columns = _columns(layer, x)
    matrix = weight.reshape(layer.n_out, -1).T if layer.transposed else weight.reshape(-1, layer.n_out)
    if exact_sums:
        return ((columns @ matrix) << (common - product)) + (bias << (common - bias_fraction)), common
    accum = FixedPoint.parse(layer.accum)
    sums = np.broadcast_to(convert(bias, bias_fraction, accum), (*columns.shape[:-1], layer.n_out))
    for row in range(len(matrix)):
        sums = convert(sums + convert(columns[..., row, None] * matrix[row], product, accum), accum.fraction, accum)
    return _result(layer, sums, accum.fraction)


def _result(layer: FirmwareLayer, sums: Codes, fraction: int) -> tuple[Codes, int]:
    result = FixedPoint.parse(layer.result)
    return convert(sums, fraction, result), result.fraction


def _columns(layer: FirmwareLayer, x: Codes) -> Codes:
    """Inputs of every sum in the order of the weights, ``(events, *positions, inputs)``."""
    if layer.kind == "dense":
        return x.reshape(len(x), layer.n_in)
    if layer.kind == "pointwise":
        return x
    (rows, columns), step = layer.kernel, layer.stride
    heights, widths = (x.shape[1] - rows) // step + 1, (x.shape[2] - columns) // step + 1
    patches = [
        [x[:, i * step : i * step + rows, j * step : j * step + columns].reshape(len(x), -1) for j in range(widths)]
        for i in range(heights)
    ]
    return np.stack([np.stack(line, axis=1) for line in patches], axis=1)


def _average(layer: FirmwareLayer, x: Codes, fraction: int, exact_sums: bool) -> tuple[Codes, int]:
    """Mean over the positions, its quotient truncated (the sums are never negative here)."""
    result = FixedPoint.parse(layer.result)
    if exact_sums:
        total, shift = x.sum(axis=1), result.fraction - fraction
        quotient = (total << shift) // layer.length if shift >= 0 else total // (layer.length << -shift)
        return convert(quotient, result.fraction, result), result.fraction
    accum = FixedPoint.parse(layer.accum)
    common = max(accum.fraction, fraction)
    total = np.zeros((len(x), x.shape[2]), dtype=np.int64)
    for position in range(x.shape[1]):
        total = convert((total << (common - accum.fraction)) + (x[:, position] << (common - fraction)), common, accum)
    return _result(
        layer, convert(np.sign(total) * (np.abs(total) // layer.length), accum.fraction, accum), accum.fraction
    )

"""Layers as firmware holds them: integer weight codes and ap_fixed types, for ``from_integers``.

The constructors here read what hls4ml writes into ``firmware/weights`` (flat arrays, channels last, inputs before
outputs) and turn it into torch's order. Weights are never rounded: a value off its grid is an error that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trigger_prune.errors import FixedPointError, ModelError
from trigger_prune.fixed_point import FixedPoint

Codes = NDArray[np.int64]
IntegerLayerKind = Literal["dense", "conv1d", "conv2d"]

_MAX_AVERAGE_BITS = 24
"""Bits of the constant that replaces a division; float32 holds every code of so many."""


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One layer with weights, the ReLU behind it and the conversion of its result.

    weight        integer codes, dense ``(out, in)``, conv1d ``(out, in / groups, k)``, conv2d ``(.., .., kh, kw)``
    weight_type   value = code * weight_type.lsb
    bias          integer codes ``(out,)`` of ``bias_type``, or None for both
    output_type   the type the sum (after the ReLU) is converted to; None passes the full accumulator on, which only the
                  last layer may do
    frozen        weights that no training may change (averages, normalisation constants)
    """

    name: str
    kind: IntegerLayerKind
    weight: Codes
    weight_type: FixedPoint
    bias: Codes | None = None
    bias_type: FixedPoint | None = None
    relu: bool = False
    output_type: FixedPoint | None = None
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    frozen: bool = False


@dataclass(frozen=True)
class FlattenLayer:
    """``(channels, ...)`` to one vector per event, channels slowest (torch's order)."""

    name: str


@dataclass(frozen=True)
class MaxPoolLayer:
    """Maximum over windows of ``kernel`` positions, as many axes as ``kernel`` has; the stride is the kernel."""

    name: str
    kernel: tuple[int, ...]


Layer = IntegerLayer | FlattenLayer | MaxPoolLayer


def codes_on_grid(values: ArrayLike, fixed: FixedPoint, where: str) -> Codes:
    """Integer codes of values that must be exactly representable in ``fixed``, same shape.

    Raises FixedPointError naming ``where``, the first value that is not on the grid (or not in range), and its index.
    """
    array = np.asarray(values, dtype=np.float64)
    wrong = np.argwhere(~(fixed.contains(array) & np.isfinite(array)))
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise FixedPointError(
            f"{where}: {len(wrong)} of {array.size} values are not on the grid of {fixed}; "
            f"first: {float(array[index])!r} at index {list(index)}",
            hint="give the type the firmware declares, or convert the values first (FixedPoint.quantize) if the "
            "compiler rounds them",
        )
    return fixed.to_code(array)


def narrowest_type(values: ArrayLike, where: str) -> FixedPoint:
    """The signed type of fewest bits (at least two) that holds every value exactly.

    For weights whose declared type is not known. Raises FixedPointError, naming ``where``, when 52 bits do not do.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    largest = max(float(np.abs(array).max(initial=0.0)), 2.0**-30)
    for fraction in range(-8, 53):
        scaled = np.ldexp(array, fraction)
        if np.all(scaled == np.rint(scaled)):
            low, high = int(scaled.min(initial=0)), int(scaled.max(initial=0))
            width = max(2, 1 + max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0))
            if width <= 52:
                return FixedPoint(width, width - fraction)
    raise FixedPointError(
        f"{where}: no fixed-point type of up to 52 bits holds values up to {largest:g} exactly",
        hint="the values were written as decimals of another type: convert them with FixedPoint.quantize first",
    )


def dense_from_hls(
    flat: ArrayLike, n_in: int, n_out: int, where: str, *, transposed: bool = False
) -> NDArray[np.float64]:
    """Weights ``(out, in)`` from hls4ml's flat array.

    transposed   the array lies outputs first, as hls4ml writes it for the Resource strategy
    """
    array = _of_size(flat, n_in * n_out, where)
    return array.reshape(n_out, n_in) if transposed else np.ascontiguousarray(array.reshape(n_in, n_out).T)


def conv_from_hls(
    flat: ArrayLike, kernel: Sequence[int], n_channels: int, n_filters: int, where: str, *, transposed: bool = False
) -> NDArray[np.float64]:
    """Weights ``(filters, channels, *kernel)`` from hls4ml's flat array (kernel, channel, filter).

    transposed   filter, kernel, channel, as hls4ml writes it for the Resource strategy
    """
    axes = len(kernel)
    array = _of_size(flat, int(np.prod(kernel)) * n_channels * n_filters, where)
    if transposed:
        array = np.moveaxis(array.reshape(n_filters, *kernel, n_channels), -1, 1)
    else:
        array = array.reshape(*kernel, n_channels, n_filters).transpose(axes + 1, axes, *range(axes))
    return np.ascontiguousarray(array)


def channels_first_columns(
    weight: NDArray[np.float64], positions: Sequence[int], n_channels: int
) -> NDArray[np.float64]:
    """Columns of a dense layer behind a flattened channels-last array ``(*positions, channels)``, in torch's order.

    weight   ``(out, positions x channels)``. Raises ModelError when the columns are not so many.
    """
    n_in = int(np.prod(positions)) * n_channels
    if weight.shape[1] != n_in:
        raise ModelError(f"the weight has {weight.shape[1]} columns, {tuple(positions)} x {n_channels} are {n_in}")
    return np.ascontiguousarray(
        np.moveaxis(weight.reshape(len(weight), *positions, n_channels), -1, 1).reshape(len(weight), n_in)
    )


def scale_layer(
    name: str,
    scale: Codes,
    scale_type: FixedPoint,
    bias: Codes | None,
    bias_type: FixedPoint | None,
    *,
    axes: int = 0,
    relu: bool = False,
    output_type: FixedPoint | None = None,
) -> IntegerLayer:
    """A normalisation ``x * scale + bias`` per feature (axes = 0) or per channel of ``axes`` spatial axes, frozen.

    It becomes a diagonal dense layer or a depthwise convolution with a kernel of one position: one multiplier for each
    value, as in hls4ml's ``normalize``, where folding it into the layer before would widen all of that layer's weights.
    """
    codes = np.asarray(scale, dtype=np.int64).ravel()
    kinds: tuple[IntegerLayerKind, ...] = ("dense", "conv1d", "conv2d")
    weight = np.diag(codes) if axes == 0 else codes.reshape(-1, *[1] * (axes + 1))
    return IntegerLayer(
        name,
        kinds[axes],
        weight,
        scale_type,
        bias,
        bias_type,
        relu=relu,
        output_type=output_type,
        groups=1 if axes == 0 else len(codes),
        frozen=True,
    )


def average_layer(
    name: str, n_channels: int, length: int, input_type: FixedPoint, output_type: FixedPoint
) -> IntegerLayer:
    """Mean over the ``length`` positions of ``(channels, length)``, truncated to ``output_type``, frozen.

    The division is a multiplication by a constant just above 1 / length that gives the truncated quotient for every sum
    that ``input_type`` allows (each one is tried); a power of two needs one bit. The result has one position.

    Raises ModelError for signed inputs (compilers truncate a negative quotient towards zero) and when no constant of
    24 bits does it.
    """
    if input_type.signed:
        raise ModelError(
            f"layer {name!r} averages signed values of {input_type}", hint="put a ReLU with an unsigned type before it"
        )
    shift = output_type.fraction - input_type.fraction
    sums = np.arange(length * input_type.max_code + 1, dtype=np.int64)
    wanted = (sums << shift) // length if shift >= 0 else sums // (length << -shift)
    for bits in range(_MAX_AVERAGE_BITS + 1):
        factor = -(-(1 << bits) // length)
        dropped = bits - shift
        if dropped >= 0 and np.array_equal((sums * factor) >> dropped, wanted):
            width = 1 + factor.bit_length()
            weight = np.full((n_channels, 1, length), factor, dtype=np.int64)
            return IntegerLayer(
                name,
                "conv1d",
                weight,
                FixedPoint(width, width - bits),
                output_type=output_type,
                groups=n_channels,
                frozen=True,
            )
    raise ModelError(f"layer {name!r}: no constant of {_MAX_AVERAGE_BITS} bits divides every sum by {length} exactly")


def _of_size(flat: ArrayLike, size: int, where: str) -> NDArray[np.float64]:
    array = np.asarray(flat, dtype=np.float64).ravel()
    if array.size != size:
        raise ModelError(f"{where}: the array holds {array.size} values, the layer has {size} weights")
    return array

"""A quantised network from integers: the weights, types and layers of an existing firmware.

The result is what ``quantize_model`` returns, so that it can be described, costed, exported, verified and pruned. Sums
are exact: an accumulator type that drops bits or wraps is not part of it (the caller who has one must know).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from trigger_prune.errors import FixedPointError, ModelError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.graph import trace
from trigger_prune.quantize.integer_layers import Codes, FlattenLayer, IntegerLayer, Layer, MaxPoolLayer
from trigger_prune.quantize.layers import FixedQuantizer, QuantConv1d, QuantConv2d, QuantLinear

_AXES = {"dense": 0, "conv1d": 1, "conv2d": 2}
_FLOAT64_BITS = 53


@dataclass(frozen=True)
class _Wire:
    shape: tuple[int, ...]
    fixed: FixedPoint


def from_integers(layers: Sequence[Layer], input_type: FixedPoint, input_shape: tuple[int, ...]) -> fx.GraphModule:
    """The chain ``layers`` as a quantised network, weights on their grids.

    input_type    of every input; events must be on its grid already
    input_shape   of one event, without batch axis, channels first

    Types are written so that every exporter can express them, with the same bits for every input:

    * an overflow mode that can never act (from the weights and the range of the inputs) becomes AP_SAT;
    * AP_RND becomes AP_TRN with half an LSB in the bias; a rounding that has nothing to drop becomes AP_TRN;
    * weights and biases are on their grids, so their modes become AP_RND_CONV, AP_SAT; unsigned ones get a sign bit;
    * a bias of zeros is left out.

    An AP_WRAP that can act stays: such a network runs in torch and in Verilog, and ``to_qonnx`` refuses it.

    Raises ModelError (shapes, names, a missing type, sums beyond 53 bits) or FixedPointError (a code outside its type,
    or one that float32 does not hold), naming the layer.
    """
    if not any(isinstance(layer, IntegerLayer) for layer in layers):
        raise ModelError("the network has no layer with weights")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    wire: _Wire | None = _Wire(tuple(input_shape), input_type)
    for layer in layers:
        if wire is None:
            raise ModelError(
                f"layer {layer.name!r} follows a full accumulator",
                hint="give the layer before it an output_type; only the last one may pass its sum on",
            )
        for name, module in _modules(layer, wire):
            if name in modules or not name.isidentifier():
                raise ModelError(f"{name!r} cannot name a layer", hint="names are unique Python identifiers")
            modules[name] = module
        wire = _output_wire(layer, wire)
    network = trace(nn.Sequential(modules))
    network.meta["input_type"] = input_type
    network.meta["input_shape"] = tuple(input_shape)
    return network.train()


def _modules(layer: Layer, wire: _Wire) -> list[tuple[str, nn.Module]]:
    if isinstance(layer, FlattenLayer):
        return [(layer.name, nn.Flatten())]
    if isinstance(layer, MaxPoolLayer):
        return [(layer.name, _pool(layer, wire))]
    _check(layer, wire)
    layer = _deployable(layer, wire.fixed)
    found: list[tuple[str, nn.Module]] = [(layer.name, _weight_module(layer))]
    if layer.relu:
        found.append((f"{layer.name}_relu", nn.ReLU()))
    if layer.output_type is not None:
        found.append((f"{layer.name}_quant", FixedQuantizer(layer.output_type)))
    return found


def _pool(layer: MaxPoolLayer, wire: _Wire) -> nn.Module:
    if len(layer.kernel) not in (1, 2) or len(wire.shape) != 1 + len(layer.kernel):
        raise ModelError(f"layer {layer.name!r} pools {len(layer.kernel)} axes of events of shape {wire.shape}")
    return nn.MaxPool1d(layer.kernel[0]) if len(layer.kernel) == 1 else nn.MaxPool2d(layer.kernel)


def _check(layer: IntegerLayer, wire: _Wire) -> None:
    axes = _AXES.get(layer.kind)
    if axes is None:
        raise ModelError(f"layer {layer.name!r} is of unknown kind {layer.kind!r}", hint="dense, conv1d or conv2d")
    weight = np.asarray(layer.weight)
    if weight.ndim != 2 + axes:
        raise ModelError(f"layer {layer.name!r}: a {layer.kind} weight has {2 + axes} axes, not {weight.ndim}")
    if len(wire.shape) != 1 + axes:
        raise ModelError(
            f"layer {layer.name!r} is {layer.kind} and reads events of shape {wire.shape}",
            hint="put a FlattenLayer before a dense layer",
        )
    n_in = weight.shape[1] * layer.groups
    if wire.shape[0] != n_in or len(weight) % layer.groups:
        raise ModelError(
            f"layer {layer.name!r} with weight {weight.shape} in {layer.groups} groups reads {n_in} channels; it gets "
            f"events of shape {wire.shape}"
        )
    if (layer.bias is None) != (layer.bias_type is None):
        raise ModelError(f"layer {layer.name!r}: bias and bias_type go together")
    _check_codes(weight, layer.weight_type, f"layer {layer.name!r}, weight")
    if layer.bias is not None and layer.bias_type is not None:
        if np.shape(layer.bias) != (len(weight),):
            raise ModelError(f"layer {layer.name!r}: {np.shape(layer.bias)} biases for {len(weight)} outputs")
        _check_codes(np.asarray(layer.bias), layer.bias_type, f"layer {layer.name!r}, bias")


def _check_codes(codes: NDArray[Any], fixed: FixedPoint, where: str) -> None:
    if codes.dtype.kind not in "iu":
        raise FixedPointError(
            f"{where}: {codes.dtype} instead of integer codes", hint="codes_on_grid turns values into codes"
        )
    wrong = np.argwhere((codes < fixed.min_code) | (codes > fixed.max_code))
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise FixedPointError(
            f"{where}: {len(wrong)} of {codes.size} codes do not fit {fixed} ({fixed.min_code} to {fixed.max_code}); "
            f"first: {int(codes[index])} at index {list(index)}"
        )
    values = codes * fixed.lsb
    if np.any(values.astype(np.float32) != values):
        raise FixedPointError(
            f"{where}: a code of {fixed} needs more than the 24 bits that float32 holds",
            hint="split the constant, or move the common power of two into the type",
        )


def _deployable(layer: IntegerLayer, input_type: FixedPoint) -> IntegerLayer:
    """The same layer, bit for bit, in types that every exporter has."""
    bias, bias_type = layer.bias, layer.bias_type
    if bias is None or bias_type is None or not np.any(bias):
        bias, bias_type = None, None
    output = layer.output_type
    product = input_type.fraction + layer.weight_type.fraction
    if output is not None:
        fraction = product if bias_type is None else max(product, bias_type.fraction)
        if fraction <= output.fraction or (output.rounding is Rounding.AP_TRN_ZERO and layer.relu):
            output = replace(output, rounding=Rounding.AP_TRN)
        elif output.rounding is Rounding.AP_RND:
            bias, bias_type = _with_half_lsb(len(layer.weight), bias, bias_type, output)
            output = replace(output, rounding=Rounding.AP_TRN)
    low, high, fraction = _range(layer, bias, bias_type, input_type)
    if max(abs(low), abs(high)).bit_length() > _FLOAT64_BITS:
        raise ModelError(
            f"layer {layer.name!r}: its sums need {max(abs(low), abs(high)).bit_length()} bits, float64 is exact up to "
            f"{_FLOAT64_BITS}"
        )
    if output is not None and _never_overflows(low, high, fraction, output):
        output = replace(output, overflow=Overflow.AP_SAT)
    return replace(
        layer,
        weight=np.asarray(layer.weight, dtype=np.int64),
        weight_type=_stored(layer.weight_type),
        bias=bias,
        bias_type=None if bias_type is None else _stored(bias_type),
        output_type=output,
    )


def _with_half_lsb(
    n_out: int, bias: Codes | None, bias_type: FixedPoint | None, output: FixedPoint
) -> tuple[Codes, FixedPoint]:
    """The bias plus half an LSB of ``output``, in a type that holds it."""
    fraction = output.fraction + 1 if bias_type is None else max(output.fraction + 1, bias_type.fraction)
    codes = np.zeros(n_out, dtype=np.int64)
    if bias is not None and bias_type is not None:
        codes = np.asarray(bias, dtype=np.int64) << (fraction - bias_type.fraction)
    codes = codes + (1 << (fraction - output.fraction - 1))
    width = 2 + int(np.abs(codes).max()).bit_length()
    return codes, FixedPoint(width, width - fraction)


def _range(
    layer: IntegerLayer, bias: Codes | None, bias_type: FixedPoint | None, input_type: FixedPoint
) -> tuple[int, int, int]:
    """Lowest and highest sum after the ReLU over all outputs (padding adds zeros), and the fraction they count in."""
    product = input_type.fraction + layer.weight_type.fraction
    fraction = product if bias_type is None else max(product, bias_type.fraction)
    lows, highs = [], []
    smallest, largest = min(input_type.min_code, 0), max(input_type.max_code, 0)
    for output, row in enumerate(np.asarray(layer.weight).reshape(len(layer.weight), -1)):
        up, down = sum(w for w in row.tolist() if w > 0), sum(w for w in row.tolist() if w < 0)
        offset = 0 if bias is None or bias_type is None else int(bias[output]) << (fraction - bias_type.fraction)
        lows.append(((up * smallest + down * largest) << (fraction - product)) + offset)
        highs.append(((up * largest + down * smallest) << (fraction - product)) + offset)
    low, high = min(lows), max(highs)
    return (max(low, 0), max(high, 0), fraction) if layer.relu else (low, high, fraction)


def _never_overflows(low: int, high: int, fraction: int, output: FixedPoint) -> bool:
    """True when no rounding mode takes a sum between ``low`` and ``high`` out of the codes of ``output``."""
    dropped = fraction - output.fraction
    if dropped <= 0:
        lowest, highest = low << -dropped, high << -dropped
    else:
        lowest = low >> dropped
        highest = (high >> dropped) if output.rounding is Rounding.AP_TRN else -(-high >> dropped)
    return output.min_code <= lowest and highest <= output.max_code


def _stored(fixed: FixedPoint) -> FixedPoint:
    extra = 0 if fixed.signed else 1
    width = max(2, fixed.width + extra)
    return FixedPoint(width, width - fixed.fraction, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)


def _weight_module(layer: IntegerLayer) -> nn.Module:
    n_out = len(layer.weight)
    source: Any
    if layer.kind == "dense":
        source = nn.Linear(layer.weight.shape[1], n_out, bias=layer.bias is not None)
    else:
        kind: Any = nn.Conv1d if layer.kind == "conv1d" else nn.Conv2d
        source = kind(
            layer.weight.shape[1] * layer.groups,
            n_out,
            layer.weight.shape[2:],
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias is not None,
        )
    # Without a bias the type is never used; it is that of the weights, so that it can be exported.
    bias_type = layer.bias_type or layer.weight_type
    with torch.no_grad():
        source.weight.copy_(torch.from_numpy(layer.weight * layer.weight_type.lsb))
        if layer.bias is not None:
            source.bias.copy_(torch.from_numpy(layer.bias * bias_type.lsb))
    source.weight.requires_grad_(not layer.frozen)
    if source.bias is not None:
        source.bias.requires_grad_(not layer.frozen)
    if isinstance(source, nn.Linear):
        return QuantLinear(source, layer.weight_type, bias_type)
    twin: Any = QuantConv1d if isinstance(source, nn.Conv1d) else QuantConv2d
    convolution: nn.Module = twin(source, layer.weight_type, bias_type)
    return convolution


def _output_wire(layer: Layer, wire: _Wire) -> _Wire | None:
    if isinstance(layer, FlattenLayer):
        return _Wire((math.prod(wire.shape),), wire.fixed)
    if isinstance(layer, MaxPoolLayer):
        sizes = tuple(size // kernel for size, kernel in zip(wire.shape[1:], layer.kernel, strict=True))
        return _Wire((wire.shape[0], *sizes), wire.fixed)
    if layer.output_type is None:
        return None
    return _Wire((len(layer.weight), *_positions(layer, wire.shape[1:])), layer.output_type)


def _positions(layer: IntegerLayer, sizes: tuple[int, ...]) -> tuple[int, ...]:
    found = []
    for axis, (size, kernel) in enumerate(zip(sizes, np.shape(layer.weight)[2:], strict=True)):
        stride, padding, dilation = (
            value if isinstance(value, int) else value[axis] for value in (layer.stride, layer.padding, layer.dilation)
        )
        positions = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        if positions < 1:
            raise ModelError(f"layer {layer.name!r}: a kernel of {kernel} positions does not fit on {size}")
        found.append(positions)
    return tuple(found)

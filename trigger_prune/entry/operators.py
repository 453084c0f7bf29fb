"""What each ONNX operator becomes. ``OPERATORS`` is the table; everything else is refused by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray

from trigger_prune.entry.entered import refusal
from trigger_prune.entry.onnx_constants import Constant, layer_name
from trigger_prune.entry.operators_on_positions import average, concat, max_pool, moved
from trigger_prune.entry.quant_nodes import attribute, exponent_of, wire_type
from trigger_prune.entry.walk import Inputs, Walk
from trigger_prune.entry.wires import CONV_KINDS, Sum, Tensor, Wire, new_sum
from trigger_prune.fixed_point import Rounding

Handler = Callable[[Walk, onnx.NodeProto, Inputs], Tensor]
_MULTIPLY_HINT = (
    "a multiplication by a constant must be by a power of two, or be part of the weights before they are quantised"
)


def _quant(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    if not walk.build.exact:
        raise refusal(node, "a float model has no Quant nodes", "enter the file as QONNX (--kind qonnx)")
    data = inputs[0]
    parameters = [entry.values if isinstance(entry, Constant) else None for entry in inputs[1:]]
    if isinstance(data, Sum):
        fixed = wire_type(node, parameters, not_negative=data.relu, nearest=walk.nearest)
        return walk.build.finished(data, fixed)
    wire = walk.wire(node, data)
    fixed = wire_type(node, parameters, not_negative=wire.not_negative, nearest=walk.nearest)
    if walk.build.is_untyped_input(wire):
        if not (wire.sole and walk.single(node.input[0])):
            raise refusal(
                node,
                "the network's input is read here and elsewhere: the file does not say its type",
                "say it with --input-type",
            )
        walk.build.input_type = fixed
        return replace(wire, fixed=fixed, not_negative=not fixed.signed)
    if fixed.rounding is Rounding.AP_RND and (wire.fixed is None or wire.fixed.fraction > fixed.fraction):
        raise refusal(node, "rounding mode HALF_UP needs a layer with weights before it", "use ROUND or FLOOR")
    return walk.build.quantised(wire, layer_name(node, walk.build.taken), fixed)


def _matmul(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    data, weight = inputs[0], inputs[1]
    if not isinstance(weight, Constant) or isinstance(data, Constant):
        raise refusal(
            node,
            "a product of two tensors that depend on the events, or of a constant from the left",
            "attention has no fixed-point form here; write x @ constant",
        )
    if weight.values.ndim != 2:
        raise refusal(node, f"its weight has shape {weight.values.shape}", "two axes are needed: inputs, outputs")
    return _dense(walk, node, walk.wire(node, data), weight.values.astype(np.float64).T, weight)


def _dense(walk: Walk, node: onnx.NodeProto, data: Wire, weight: NDArray[np.float64], source: Constant) -> Sum:
    name = layer_name(node, walk.build.taken)
    if data.shape[-1] != weight.shape[1]:
        raise refusal(node, f"events of shape {data.shape} meet a weight for {weight.shape[1]} inputs", "repair it")
    if len(data.shape) == 1:
        return new_sum(name, "dense", data, weight, (len(weight),), declared=source.declared)
    swapped = replace(data, index=np.moveaxis(data.index, -1, 0))
    if len(data.shape) != 2 or not swapped.plain:
        raise refusal(
            node,
            f"it reads events of shape {data.shape}, one vector per position",
            "use a convolution with kernel size 1 on (channels, positions), or flatten the events first",
        )
    layer = new_sum(name, "conv1d", swapped, weight[:, :, None], (len(weight), data.shape[0]), declared=source.declared)
    return layer.behind(lambda wire: replace(wire, index=np.moveaxis(wire.index, 0, -1)))


def _gemm(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    weight = inputs[1]
    if attribute(node, "transA", 0) or not isinstance(weight, Constant) or isinstance(inputs[0], Constant):
        raise refusal(node, "only events times a constant matrix is supported", "write x @ constant + constant")
    values = weight.values.astype(np.float64)
    data = walk.wire(node, inputs[0])
    layer = _dense(walk, node, data, values if attribute(node, "transB", 0) else values.T, weight)
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    if alpha != 1.0:
        layer = layer.scaled(_factors(walk, node, np.full(len(layer.weight), float(alpha))))
    if len(inputs) < 3 or inputs[2] is None or beta == 0:
        return layer
    if not isinstance(inputs[2], Constant):
        raise refusal(node, "its bias depends on the events", "write the sum as an Add")
    bias = inputs[2]
    return _shifted(walk, node, layer, bias if beta == 1.0 else Constant(bias.values * float(beta)))


def _conv(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    weight = inputs[1]
    if not isinstance(weight, Constant):
        raise refusal(node, "its weight depends on the events", "only constant weights can be deployed")
    data = walk.wire(node, inputs[0])
    axes = weight.values.ndim - 2
    if axes not in (1, 2):
        raise refusal(node, f"a convolution over {axes} axes", "one or two axes are supported")
    groups = int(attribute(node, "group", 1))
    if len(data.shape) != axes + 1 or data.shape[0] != weight.values.shape[1] * groups:
        raise refusal(node, f"events of shape {data.shape} meet a weight of {weight.values.shape}", "repair it")
    kernel = weight.values.shape[2:]
    stride = tuple(attribute(node, "strides", [1] * axes))
    dilation = tuple(attribute(node, "dilations", [1] * axes))
    padding = _padding(node, data.shape[1:], kernel, stride, dilation)
    sizes = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(data.shape[1:], padding, dilation, kernel, stride, strict=True)
    )
    if min(sizes) < 1:
        raise refusal(node, f"a kernel of {kernel} does not fit on {data.shape[1:]}", "repair it")
    layer = new_sum(
        layer_name(node, walk.build.taken),
        CONV_KINDS[axes],
        data,
        weight.values.astype(np.float64),
        (len(weight.values), *sizes),
        declared=weight.declared,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    if len(inputs) < 3 or inputs[2] is None:
        return layer
    if not isinstance(inputs[2], Constant):
        raise refusal(node, "its bias depends on the events", "write the sum as an Add")
    bias = inputs[2].values
    return _shifted(walk, node, layer, Constant(bias.reshape(1, -1, *[1] * axes), inputs[2].declared))


def _padding(
    node: onnx.NodeProto,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    axes = len(sizes)
    automatic = attribute(node, "auto_pad", "NOTSET")
    pads = list(attribute(node, "pads", [0] * 2 * axes))
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
        ]
        pads = [value // 2 for value in total] + [value - value // 2 for value in total]
    elif automatic == "VALID":
        pads = [0] * 2 * axes
    if pads[:axes] != pads[axes:]:
        raise refusal(node, f"its padding {pads} differs between the two ends", "pad both ends by the same amount")
    return tuple(int(value) for value in pads[:axes])


def _add(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    first, second = inputs[0], inputs[1]
    if isinstance(first, Constant):
        first, second = second, first
    if isinstance(second, Constant):
        return _shifted(walk, node, _as_sum(walk, node, first), second)
    wires = [walk.build.settled(walk.wire(node, tensor)) for tensor in (first, second)]
    if wires[0] is None or wires[1] is None or wires[0].shape != wires[1].shape:
        raise refusal(node, "it adds tensors of different shape or order", "add tensors of equal shape")
    return walk.build.joined([wire for wire in wires if wire is not None], operator.add)


def _sub(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    if not isinstance(inputs[1], Constant):
        raise refusal(node, "a difference of two tensors", "put the minus sign into the weights before, and add")
    declared = inputs[1].declared
    return _shifted(walk, node, _as_sum(walk, node, inputs[0]), Constant(-inputs[1].values, declared and None))


def _mul(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    first, second = inputs[0], inputs[1]
    if isinstance(first, Constant):
        first, second = second, first
    if not isinstance(second, Constant):
        raise refusal(node, "a product of two tensors that depend on the events", "it has no fixed-point form here")
    return _multiplied(walk, node, first, second.values.astype(np.float64))


def _div(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    if not isinstance(inputs[1], Constant):
        raise refusal(node, "a division by a tensor that depends on the events", "it has no fixed-point form here")
    return _multiplied(walk, node, inputs[0], 1.0 / inputs[1].values.astype(np.float64))


def _batch_norm(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    found = [entry.values.astype(np.float64) for entry in inputs[1:5] if isinstance(entry, Constant)]
    if len(found) != 4:
        raise refusal(node, "its parameters depend on the events", "export the model in evaluation mode")
    scale, offset, mean, variance = found
    factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    layer = _as_sum(walk, node, inputs[0])
    across = (1, -1, *[1] * (len(layer.view.shape) - 1))
    layer = _multiplied(walk, node, layer, factor.reshape(across))
    return _shifted(walk, node, layer, Constant((offset - mean * factor).reshape(across)))


def _as_sum(walk: Walk, node: onnx.NodeProto, tensor: Tensor | None) -> Sum:
    """The layer before, when its constants can still change; else a layer of its own that multiplies by one."""
    if isinstance(tensor, Sum) and not tensor.relu:
        return tensor
    wire = walk.wire(node, tensor)
    settled = walk.build.settled(wire)
    if settled is None or len(settled.shape) > 3:
        raise refusal(node, "it follows a transposition", "move it in front of the transposition")
    channels, axes = settled.shape[0], len(settled.shape) - 1
    weight = np.eye(channels) if axes == 0 else np.ones((channels, *[1] * (axes + 1)))
    name = layer_name(node, walk.build.taken)
    groups = 1 if axes == 0 else channels
    # frozen weights are quantised to 8 bits whatever the user asks for, so those of a float model are not
    frozen = walk.build.exact
    return new_sum(name, CONV_KINDS[axes], settled, weight, settled.shape, groups=groups, frozen=frozen)


def _multiplied(walk: Walk, node: onnx.NodeProto, tensor: Tensor | None, values: NDArray[np.float64]) -> Sum:
    # a factor that is not negative may be moved across a ReLU
    through = isinstance(tensor, Sum) and bool((values >= 0).all())
    layer = tensor if isinstance(tensor, Sum) and through else _as_sum(walk, node, tensor)
    factor = _by_channel(node, layer, values)
    if (factor < 0).any() and layer.then:
        raise refusal(node, "a negative factor behind a pool", "move the sign into the weights")
    return layer.scaled(_factors(walk, node, factor))


def _factors(walk: Walk, node: onnx.NodeProto, factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Refuses factors of a quantised layer that are no powers of two, or takes the nearest ones where allowed."""
    if not walk.build.exact:
        return factor
    wrong = [value for value in np.unique(np.abs(factor[factor != 0])) if math.frexp(value)[0] != 0.5]
    if not wrong:
        return factor
    if walk.nearest is None:
        raise refusal(node, f"it multiplies by {wrong[0]:.9g}, which is no power of two", _MULTIPLY_HINT)
    exponents = [exponent_of(node, abs(value), walk.nearest) if value else 0 for value in factor]
    return np.asarray(np.sign(factor) * np.exp2(exponents))


def _shifted(walk: Walk, node: onnx.NodeProto, layer: Sum, constant: Constant) -> Sum:
    return layer.shifted(_by_channel(node, layer, constant.values.astype(np.float64)), constant.declared)


def _by_channel(node: onnx.NodeProto, layer: Sum, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A constant that is combined with a layer's result, one value per channel."""
    shape = layer.view.shape
    try:
        whole = np.broadcast_to(values, (1, *shape))[0]
    except ValueError:
        raise refusal(node, f"a constant of shape {values.shape} meets events of shape {shape}", "repair it") from None
    found = layer.view.per_channel(whole)
    if found is None:
        raise refusal(node, "its constant differs between positions of a channel", "use one value per channel")
    return found


def _relu(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    if isinstance(inputs[0], Sum):
        return replace(inputs[0], relu=True)
    return walk.build.relu(walk.wire(node, inputs[0]), layer_name(node, walk.build.taken))


def _clip(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    limits = [*(entry.values if isinstance(entry, Constant) else None for entry in inputs[1:]), None, None][:2]
    if limits[0] is None or np.any(limits[0]) or limits[1] is not None:
        raise refusal(node, "a clip with other limits than 0 and infinity", "let the Quant node behind it saturate")
    return _relu(walk, node, inputs)


def _passed(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    tensor = inputs[0]
    assert tensor is not None
    if isinstance(tensor, Wire):
        return replace(tensor, sole=tensor.sole and walk.single(node.input[0]))
    return tensor


OPERATORS: Mapping[str, Handler] = MappingProxyType(
    {
        **dict.fromkeys(("Quant", "IntQuant", "BipolarQuant"), _quant),
        "MatMul": _matmul,
        "Gemm": _gemm,
        "Conv": _conv,
        "Add": _add,
        "Sub": _sub,
        "Mul": _mul,
        "Div": _div,
        "BatchNormalization": _batch_norm,
        "Relu": _relu,
        "Clip": _clip,
        "MaxPool": max_pool,
        **dict.fromkeys(("GlobalAveragePool", "AveragePool", "ReduceMean"), average),
        **dict.fromkeys(("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"), moved),
        "Concat": concat,
        **dict.fromkeys(("Identity", "Dropout", "Cast"), _passed),
    }
)
"""ONNX operator -> what it becomes."""

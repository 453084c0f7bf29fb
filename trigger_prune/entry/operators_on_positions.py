"""ONNX operators on positions: pools, means, reshapes and concatenations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from trigger_prune.entry.entered import refusal
from trigger_prune.entry.onnx_constants import Constant, layer_name
from trigger_prune.entry.quant_nodes import attribute
from trigger_prune.entry.walk import Inputs, Walk
from trigger_prune.entry.wires import CONV_KINDS, Sum, Tensor, Wire, new_sum


def max_pool(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    """Maximum over windows; a conversion to fixed point may be moved in front of it."""
    kernel = tuple(int(value) for value in attribute(node, "kernel_shape"))
    stride = tuple(int(value) for value in attribute(node, "strides", [1] * len(kernel)))
    if any(attribute(node, "pads", [])) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise refusal(node, "a pool with padding", "choose sizes that the windows fill")
    if any(value != 1 for value in attribute(node, "dilations", [1])) or len(node.output) > 1:
        raise refusal(node, "a pool with dilation or indices", "use a plain maximum over windows")
    tensor = inputs[0]
    before = tensor.view.shape if isinstance(tensor, Sum) else walk.wire(node, tensor).shape
    if len(kernel) not in (1, 2) or len(before) != 1 + len(kernel):
        raise refusal(node, f"it pools {len(kernel)} axes of events of shape {before}", "one or two axes")
    left = [(size - k) % s for size, k, s in zip(before[1:], kernel, stride, strict=True)]
    if attribute(node, "ceil_mode", 0) and any(left):
        raise refusal(node, "ceil_mode with windows that reach beyond the end", "choose sizes that the windows fill")
    name = layer_name(node, walk.build.taken)
    sizes = ((size - k) // s + 1 for size, k, s in zip(before[1:], kernel, stride, strict=True))
    shape = (before[0], *sizes)

    def pooled(wire: Wire) -> Wire:
        settled = walk.build.settled(wire)
        if settled is None:
            raise refusal(node, "it follows a transposition", "pool (channels, positions)")
        if settled.node is None:
            return replace(settled, node_shape=shape, index=np.arange(math.prod(shape)).reshape(shape))
        if walk.build.exact and settled.fixed is None:
            raise refusal(node, "it pools full sums", "put a Quant node before or right behind the pool")
        pool = nn.MaxPool1d(kernel[0], stride[0]) if len(kernel) == 1 else nn.MaxPool2d(kernel, stride)
        return walk.build.call(settled, f"{name}_pool", pool, shape)

    return tensor.behind(pooled) if isinstance(tensor, Sum) else pooled(walk.wire(node, tensor))


def average(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    """Means over positions become frozen depthwise convolutions."""
    wire = walk.build.settled(walk.wire(node, inputs[0]))
    if wire is None or len(wire.shape) not in (2, 3):
        raise refusal(node, "it averages something else than positions of channels", "average (channels, positions)")
    axes = len(wire.shape) - 1
    kernel = wire.shape[1:]
    stride, keep = kernel, True
    if node.op_type == "AveragePool":
        kernel = tuple(int(value) for value in attribute(node, "kernel_shape"))
        stride = tuple(int(value) for value in attribute(node, "strides", [1] * axes))
        if any(attribute(node, "pads", [])) or attribute(node, "ceil_mode", 0) or len(kernel) != axes:
            raise refusal(node, "an average with padding", "choose sizes that the windows fill")
    elif node.op_type == "ReduceMean":
        given = inputs[1].values if len(inputs) > 1 and isinstance(inputs[1], Constant) else attribute(node, "axes", [])
        rank = axes + 2
        if sorted(int(axis) % rank for axis in given) != list(range(2, rank)):
            raise refusal(node, f"a mean over axes {list(given)}", "average over all positions, not over channels")
        keep = bool(attribute(node, "keepdims", 1))
    count = math.prod(kernel)
    if walk.build.exact and count & (count - 1):
        raise refusal(
            node, f"a mean of {count} values divides by no power of two", "average over a power of two of positions"
        )
    channels = wire.shape[0]
    sizes = tuple((n - k) // s + 1 for n, k, s in zip(wire.shape[1:], kernel, stride, strict=True))
    layer = new_sum(
        layer_name(node, walk.build.taken),
        CONV_KINDS[axes],
        wire,
        np.full((channels, 1, *kernel), 1.0 / count),
        (channels, *sizes),
        stride=stride,
        groups=channels,
        frozen=True,
    )
    return layer if keep else layer.behind(lambda found: replace(found, index=found.index.reshape(-1)))


def moved(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    """Reshape, Transpose and their kind: nothing is computed, later layers read other columns."""
    tensor = inputs[0]

    def move(array: NDArray[np.int64]) -> NDArray[np.int64]:
        if node.op_type == "Flatten":
            axis = int(attribute(node, "axis", 1)) % (array.ndim + 1)
            return array.reshape(math.prod(array.shape[:axis]), -1)
        if node.op_type == "Transpose":
            return array.transpose(attribute(node, "perm", tuple(reversed(range(array.ndim)))))
        given = inputs[1].values if len(inputs) > 1 and isinstance(inputs[1], Constant) else None
        if node.op_type == "Reshape":
            if given is None:
                raise refusal(node, "its shape depends on the events", "use fixed shapes")
            wanted = [array.shape[i] if size == 0 else int(size) for i, size in enumerate(given.tolist())]
            return array.reshape(wanted)
        axes = given.tolist() if given is not None else attribute(node, "axes", None)
        if node.op_type == "Squeeze":
            return array.squeeze(None if axes is None else tuple(int(axis) for axis in axes))
        return np.expand_dims(array, tuple(int(axis) for axis in axes or ()))

    def move_wire(wire: Wire) -> Wire:
        try:
            found = wire.moved(walk.batch, move)
        except (ValueError, IndexError) as error:
            raise refusal(node, f"events of shape {wire.shape} do not fit: {error}", "repair it") from error
        if found is None:
            raise refusal(node, "it mixes the batch axis with the others", "leave the first axis alone")
        return replace(found, sole=wire.sole and walk.single(node.input[0]))

    if isinstance(tensor, Sum):
        return tensor.behind(move_wire)
    return move_wire(walk.wire(node, tensor))


def concat(walk: Walk, node: onnx.NodeProto, inputs: Inputs) -> Tensor:
    """Channels of several tensors, one behind the other."""
    wires = [walk.build.settled(walk.wire(node, tensor)) for tensor in inputs]
    found = [wire for wire in wires if wire is not None]
    rank = len(found[0].shape) + 1 if found else 0
    if len(found) != len(inputs) or int(attribute(node, "axis")) % rank != 1:
        raise refusal(node, "only channels of plain tensors can be joined", "concatenate along axis 1")
    return walk.build.joined(found, torch.cat)

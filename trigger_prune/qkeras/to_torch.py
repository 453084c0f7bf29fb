"""A description -> a quantised torch network, new or the one that the model was made from."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.qkeras.description import KerasDescription, Node, PlainNode, QuantNode, WeightNode
from trigger_prune.qkeras.from_torch import describe_with_positions, flat_order
from trigger_prune.qkeras.rounding import without_ties
from trigger_prune.quantize.from_integers import from_integers
from trigger_prune.quantize.integer_layers import FlattenLayer, IntegerLayer, Layer, MaxPoolLayer
from trigger_prune.quantize.layers import QuantWeightLayer, weight_layers

_HEADS = ("softmax", "sigmoid")


def network_from(description: KerasDescription, *, strip_head: bool = False) -> fx.GraphModule:
    """The chain of layers as a quantised network with pruned weights masked, channels first.

    strip_head   leave out a softmax or sigmoid at the end, so that the network returns logits
    A rounding that never meets a tie becomes truncation, as quantised networks have it here. Raises ModelError, naming
    the layer: no input type, a branch, a head that is to stay, padding that torch writes otherwise.
    """
    chain = _chain(description, strip_head)
    first = chain[0] if chain and isinstance(chain[0], QuantNode) else None
    if first is not None:
        chain = chain[1:]
    input_type = first.fixed if first is not None else description.input_type
    if input_type is None:
        raise ModelError(
            "a QKeras model does not say what type its inputs have",
            hint="give it (--input-type 'ap_fixed<16,6>'), or begin the model with QActivation(quantized_bits(...))",
        )
    shape = (description.input_shape[-1], *description.input_shape[:-1])
    layers, masks = _layers(chain, input_type, shape)
    network = from_integers(layers, input_type, shape)
    with torch.no_grad():
        for name, mask in masks.items():
            weight_layers(network)[name].weight_mask.copy_(torch.from_numpy(mask.astype(np.float32)))
    return network


def updated_network(network: fx.GraphModule, description: KerasDescription) -> fx.GraphModule:
    """A copy of ``network`` with the weights of ``description``, which was made from it and trained in Keras.

    Raises ModelError when the description is not of this network, or a pruned weight is not zero.
    """
    own, positions = describe_with_positions(network)
    after = {node.source: node for node in description.weights}
    if {node.source for node in own.weights} != set(after):
        raise ModelError(
            f"the model has the layers {', '.join(sorted(after))}, "
            f"the network {', '.join(sorted(node.source for node in own.weights))}"
        )
    result = copy.deepcopy(network)
    for old in own.weights:
        new = after[old.source]
        if old.kernel.shape != new.kernel.shape:
            raise ModelError(f"layer {new.source!r} has a kernel {new.kernel.shape} instead of {old.kernel.shape}")
        if np.any(new.kernel[~old.mask]):
            raise ModelError(
                f"layer {new.source!r}: {np.count_nonzero(new.kernel[~old.mask])} pruned weights are not zero",
                hint="train it with trigger-prune qkeras finetune, which keeps the masks",
            )
        _take_over(weight_layers(result)[old.source], old, new, positions[old.source])
    return result


@torch.no_grad()
def _take_over(layer: QuantWeightLayer, old: WeightNode, new: WeightNode, positions: NDArray[np.int64]) -> None:
    """Codes of ``new`` into ``layer``; entry ``positions - 1`` of its weight, and 0 for none."""
    codes = np.zeros(layer.weight.numel() + 1, dtype=np.int64)
    codes[positions.ravel()] = new.kernel.ravel()
    weight = torch.from_numpy(codes[1:] * layer.weight_type.lsb).reshape(layer.weight.shape).to(layer.weight)
    layer.weight.copy_(torch.where(layer.weight_mask.bool(), weight, layer.weight))
    bias = layer.quantized_bias()
    if bias is None or old.bias is None or new.bias is None or old.bias_type is None:
        return
    # what rounding needs is in both; the difference is what training did
    moved = bias.double().cpu().numpy() + (new.bias - old.bias) * old.bias_type.lsb
    while not layer.bias_type.contains(moved).all():
        layer.bias_type = replace(layer.bias_type, width=layer.bias_type.width + 1, integer=layer.bias_type.integer + 1)
    layer.bias.copy_(torch.from_numpy(moved))


def _chain(description: KerasDescription, strip_head: bool) -> list[Node]:
    """The nodes in order, without a head that is to be left out."""
    chain: list[Node] = []
    last = description.input_name
    for node in description.nodes:
        if node.inputs != (last,):
            raise ModelError(
                f"layer {node.name!r} reads {', '.join(node.inputs)}: only a chain of layers comes back to torch",
                hint="build the model in torch and take over its weights layer by layer",
            )
        last = node.name
        chain.append(node)
    if description.output != last:
        raise ModelError(f"the model's output is layer {description.output!r}, its last layer {last!r}")
    if chain and isinstance(chain[-1], PlainNode) and chain[-1].kind in _HEADS:
        if not strip_head:
            raise ModelError(
                f"layer {chain[-1].name!r} is a {chain[-1].kind}, which has no fixed-point counterpart",
                hint="--strip-head leaves it out: arg max and thresholds are taken from the logits",
            )
        chain.pop()
    return chain


def _layers(
    chain: list[Node], input_type: FixedPoint, shape: tuple[int, ...]
) -> tuple[list[Layer], dict[str, NDArray[np.bool_]]]:
    """Layers for ``from_integers`` and the masks of those with weights; ``shape`` is torch's."""
    layers: list[Layer] = []
    masks: dict[str, NDArray[np.bool_]] = {}
    fixed = input_type
    order: NDArray[np.int64] | None = None
    before = (0,) * (len(shape) - 1)
    rest = list(chain)
    while rest:
        node = rest.pop(0)
        if isinstance(node, PlainNode) and node.kind == "zero_pad" and rest and isinstance(rest[0], WeightNode):
            before = node.size
        elif isinstance(node, PlainNode) and node.kind == "flatten":
            # behind the last sums it changes nothing but the shape of the outputs
            if len(shape) > 1 and rest:
                order = flat_order(shape)
                shape = (int(np.prod(shape)),)
                layers.append(FlattenLayer(_identifier(node.name)))
        elif isinstance(node, PlainNode) and node.kind == "max_pool":
            if node.size != node.stride:
                raise ModelError(f"layer {node.name!r} pools windows of {node.size} at every {node.stride}th place")
            layers.append(MaxPoolLayer(_identifier(node.name), node.size))
            shape = (shape[0], *(size // window for size, window in zip(shape[1:], node.size, strict=True)))
        elif isinstance(node, WeightNode):
            relu = bool(rest) and isinstance(rest[0], PlainNode) and rest[0].kind == "relu"
            if relu:
                rest.pop(0)
            quantizer = rest.pop(0) if rest and isinstance(rest[0], QuantNode) else None
            output = quantizer.fixed if isinstance(quantizer, QuantNode) else None
            layer = _weights(node, relu, output, before, order, fixed)
            layers.append(layer)
            masks[layer.name] = _torch_weight(node.mask, order)
            shape = _shape_behind(layer, shape)
            before, order = (0,) * (len(shape) - 1), None
            fixed = output or fixed
        else:
            what = node.kind if isinstance(node, PlainNode) else f"QActivation({node.fixed})"
            raise ModelError(
                f"layer {node.name!r} ({what}) does not directly follow a layer with weights",
                hint="put QActivation behind QDense, QConv1D or QConv2D and before pooling",
            )
    return layers, masks


def _weights(
    node: WeightNode,
    relu: bool,
    output: FixedPoint | None,
    before: tuple[int, ...],
    order: NDArray[np.int64] | None,
    source: FixedPoint,
) -> IntegerLayer:
    padding = () if node.kind == "dense" else before
    if node.padding == "same":
        reach = [step * (size - 1) for size, step in zip(node.kernel.shape[:-2], node.dilation, strict=True)]
        if set(node.stride) != {1} or any(size % 2 for size in reach):
            raise ModelError(
                f"layer {node.name!r} has padding 'same' with strides {node.stride} and kernel "
                f"{node.kernel.shape[:-2]}: Keras pads unevenly there",
                hint="use an odd kernel and stride 1, or padding 'valid' behind ZeroPadding",
            )
        padding = tuple(size // 2 for size in reach)
    bias, bias_type = node.bias, node.bias_type
    relu = relu or (output is not None and not output.signed)
    if output is not None:
        plain = without_ties(bias, bias_type, output, source.fraction + node.kernel_type.fraction)
        if plain is not None:
            bias, bias_type, output = plain
    return IntegerLayer(
        _identifier(node.name),
        node.kind,
        _torch_weight(node.kernel, order),
        node.kernel_type,
        bias,
        bias_type,
        relu,
        output,
        node.stride or 1,
        padding or 0,
        node.dilation or 1,
        frozen=not node.trainable,
    )


def _torch_weight(kernel: NDArray[Any], order: NDArray[np.int64] | None) -> NDArray[Any]:
    """Keras's ``(..., in, out)`` as torch's ``(out, in, ...)``; the inverse of ``keras_kernel``."""
    rows = kernel if order is None else kernel[np.argsort(order)]
    return np.ascontiguousarray(np.moveaxis(rows, (-1, -2), (0, 1)))


def _shape_behind(layer: IntegerLayer, shape: tuple[int, ...]) -> tuple[int, ...]:
    kernel = layer.weight.shape[2:]
    values = (_per_axis(value, len(kernel)) for value in (layer.stride, layer.padding, layer.dilation))
    sizes = zip(shape[1:], kernel, *values, strict=True)
    return (
        len(layer.weight),
        *((size + 2 * pad - step * (k - 1) - 1) // stride + 1 for size, k, stride, pad, step in sizes),
    )


def _per_axis(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else value


def _identifier(name: str) -> str:
    text = re.sub(r"\W", "_", name)
    return text if text.isidentifier() else f"layer_{text}"

"""A quantised torch network -> the description of the QKeras model with the same bits."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn

from trigger_prune.cost.network import WeightLayer
from trigger_prune.errors import ExportError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.qkeras.description import Codes, KerasDescription, Node, PlainNode, QuantNode, WeightNode
from trigger_prune.qkeras.rounding import bias_offset, qkeras_type
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.graph import is_add, is_cat, module_of
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer, QuantWeightLayer
from trigger_prune.quantize.wires import require_type, wire_types

FLOAT32_BITS = 24
"""QKeras holds weights and biases as float32."""

INPUT_NAME = "events"

Order = NDArray[np.int64]


def describe_for_qkeras(network: fx.GraphModule) -> KerasDescription:
    """The QKeras model that computes what ``network`` computes, bit for bit, channels last.

    Batch normalisation is folded in ``network`` already. Raises ExportError, naming layer and remedy, for what QKeras
    cannot express with the same bits.
    """
    return describe_with_positions(network)[0]


def describe_with_positions(network: fx.GraphModule) -> tuple[KerasDescription, dict[str, NDArray[np.int64]]]:
    """The description, and for every torch layer where the entries of the Keras kernel come from.

    Positions have the shape of the kernel and count the entries of torch's flattened weight from 1; 0 is none of them.
    """
    builder = _Builder(network)
    return builder.describe(), builder.positions


def flat_order(shape: tuple[int, ...]) -> Order:
    """Torch index of every element of a flattened channels-last array; ``shape`` is torch's ``(channels, ...)``."""
    return np.moveaxis(np.arange(np.prod(shape, dtype=np.int64)).reshape(shape), 0, -1).ravel()


def keras_kernel(weight: NDArray[Any], order: Order | None) -> NDArray[Any]:
    """Torch's ``(out, in, ...)`` as Keras's ``(..., in, out)``; ``order`` of the inputs of a dense layer."""
    kernel = np.moveaxis(weight, (0, 1), (-1, -2))
    return np.ascontiguousarray(kernel if order is None else kernel[order])


def without_groups(weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """A grouped weight ``(out, in / groups, ...)`` as one over all inputs, zero outside the groups."""
    if groups == 1:
        return weight
    n_out, n_in = weight.shape[0] // groups, weight.shape[1]
    full = np.zeros((weight.shape[0], n_in * groups, *weight.shape[2:]), dtype=weight.dtype)
    for group in range(groups):
        rows = slice(group * n_out, (group + 1) * n_out)
        full[rows, group * n_in : (group + 1) * n_in] = weight[rows]
    return full


class _Builder:
    """Walks the graph once; ``names`` maps its nodes to those of the Keras model."""

    def __init__(self, network: fx.GraphModule) -> None:
        self.network = network
        self.layers = {layer.name: layer for layer in describe_network(network).layers}
        self.types = wire_types(network)
        self.names: dict[fx.Node, str] = {}
        self.orders: dict[fx.Node, Order | None] = {}
        self.relus: set[fx.Node] = set()
        self.taken = {INPUT_NAME}
        self.nodes: list[Node] = []
        self.positions: dict[str, NDArray[np.int64]] = {}

    def describe(self) -> KerasDescription:
        shape = input_shape_of(self.network)
        output = ""
        output_order: Order | None = None
        for node in self.network.graph.nodes:
            if node.op == "placeholder":
                self.names[node], self.orders[node] = INPUT_NAME, None
            elif node.op == "output":
                source: Any = node.args[0]
                output, output_order = self.names[source], self.orders[source]
                last = tuple(source.meta["tensor_meta"].shape[1:])
                if len(last) > 1:
                    output_order = flat_order(last)
            else:
                self._add(node)
        return KerasDescription(
            INPUT_NAME,
            (*shape[1:], shape[0]),
            input_type_of(self.network),
            tuple(self.nodes),
            output,
            None if output_order is None else tuple(np.argsort(output_order).tolist()),
        )

    def _add(self, node: fx.Node) -> None:
        module = module_of(self.network, node)
        sources = node.all_input_nodes
        self.orders[node] = self._common_order(node, sources)
        if isinstance(module, WEIGHT_LAYERS):
            self._add_weights(node, module, sources[0])
            self.orders[node] = None
        elif isinstance(module, FixedQuantizer):
            self._add_quantizer(node, module.fixed, sources[0])
        elif isinstance(module, nn.ReLU):
            self._add_relu(node, sources[0])
        elif isinstance(module, nn.Flatten):
            shape = tuple(sources[0].meta["tensor_meta"].shape[1:])
            if len(shape) > 1:
                self.orders[node] = flat_order(shape)
            self._plain(node, "flatten")
        elif isinstance(module, nn.MaxPool1d | nn.MaxPool2d):
            self._add_pool(node, module)
        elif is_add(node):
            self._plain(node, "add")
        elif is_cat(node):
            self._plain(node, "concatenate")
        else:
            what = type(module).__name__ if module is not None else str(node.target)
            raise ExportError(f"layer {node.target!r} is a {what}, which has no counterpart in QKeras here")

    def _common_order(self, node: fx.Node, sources: list[fx.Node]) -> Order | None:
        """Order of the elements of a wire that is not permuted by the layer itself."""
        orders = [self.orders[source] for source in sources]
        if all(order is None for order in orders):
            return None
        full = [
            np.arange(source.meta["tensor_meta"].shape[1:].numel()) if order is None else order
            for source, order in zip(sources, orders, strict=True)
        ]
        if is_cat(node):
            starts = np.cumsum([0, *(len(order) for order in full[:-1])])
            return np.concatenate([order + start for order, start in zip(full, starts, strict=True)])
        if any(not np.array_equal(order, full[0]) for order in full):
            raise ExportError(
                f"{node.name}: a flattened wire is added to one of another order", hint="flatten the sum instead"
            )
        return full[0]

    def _name(self, wish: str) -> str:
        stem = re.sub(r"\W", "_", wish)
        stem = stem if stem[0].isalpha() else f"layer_{stem}"
        name, number = stem, 0
        while name in self.taken:
            number += 1
            name = f"{stem}_{number}"
        self.taken.add(name)
        return name

    def _inputs(self, node: fx.Node) -> tuple[str, ...]:
        sources: Any = node.args[0] if is_cat(node) else node.args
        return tuple(self.names[source] for source in sources if isinstance(source, fx.Node))

    def _plain(
        self,
        node: fx.Node,
        kind: Literal["relu", "flatten", "max_pool", "add", "concatenate"],
        size: tuple[int, ...] = (),
        stride: tuple[int, ...] = (),
    ) -> None:
        name = self._name(str(node.target) if node.op == "call_module" else node.name)
        self.nodes.append(PlainNode(name, self._inputs(node), kind, size, stride, self.types.get(node)))
        self.names[node] = name

    def _add_relu(self, node: fx.Node, source: fx.Node) -> None:
        users = list(node.users)
        if len(users) == 1 and isinstance(module_of(self.network, users[0]), FixedQuantizer):
            # quantized_relu does both
            self.names[node] = self.names[source]
            self.relus.add(node)
        else:
            self._plain(node, "relu")

    def _add_pool(self, node: fx.Node, pool: nn.MaxPool1d | nn.MaxPool2d) -> None:
        rank = 1 if isinstance(pool, nn.MaxPool1d) else 2
        size, stride, padding, dilation = (
            _per_axis(value, rank) for value in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
        )
        if any(padding) or set(dilation) != {1} or pool.ceil_mode:
            raise ExportError(
                f"layer {node.target!r} pools with padding, dilation or ceil_mode",
                hint="MaxPool with kernel and stride only has a counterpart in Keras",
            )
        self._plain(node, "max_pool", size, stride)

    def _add_quantizer(self, node: fx.Node, fixed: FixedPoint, source: fx.Node) -> None:
        where = f"layer {node.target!r}"
        relu = source in self.relus
        kept = qkeras_type(fixed, relu, where)
        origin = source.args[0] if relu else source
        assert isinstance(origin, fx.Node)
        if not isinstance(module_of(self.network, origin), WEIGHT_LAYERS):
            # no bias takes an offset there
            fraction = require_type(self.types, origin).fraction
            if bias_offset(replace(kept, rounding=fixed.rounding), fraction, where):
                raise ExportError(
                    f"{where}: QKeras cannot round a sum of wires like {fixed}",
                    hint="use quantize.rounding: AP_RND_CONV",
                )
        name = self._name(str(node.target))
        self.nodes.append(QuantNode(name, (self.names[source],), kept))
        self.names[node] = name

    def _add_weights(self, node: fx.Node, module: QuantWeightLayer, source: fx.Node) -> None:
        layer = self.layers[str(node.target)]
        where = f"layer {layer.name!r}"
        kernel_type = _stored_type(layer.weight_type, where)
        bias, bias_type, offset = self._bias(node, module, layer)
        name = self._name(layer.name)
        spatial = len(layer.weight.shape) - 2
        stride, dilation = (
            _per_axis(value, spatial) for value in (getattr(module, "stride", 1), getattr(module, "dilation", 1))
        )
        padding, before = self._padding(node, module, name, spatial, stride)
        mask = module.weight_mask.detach().cpu().numpy().astype(bool)
        order = self.orders[source]
        numbers = np.arange(1, layer.weight.size + 1).reshape(layer.weight.shape)
        self.positions[layer.name] = keras_kernel(without_groups(numbers, layer.groups), order)
        self.nodes.append(
            WeightNode(
                name,
                (before or self.names[source],),
                layer.kind,
                keras_kernel(without_groups(layer.weight, layer.groups), order),
                kernel_type,
                keras_kernel(without_groups(mask, layer.groups), order),
                bias,
                bias_type,
                stride,
                dilation,
                padding,
                module.weight.requires_grad,
                offset % 2 == 1,
                module.bias is None,
                layer.name,
            )
        )
        self.names[node] = name

    def _padding(
        self, node: fx.Node, module: QuantWeightLayer, name: str, spatial: int, stride: tuple[int, ...]
    ) -> tuple[Literal["valid", "same"], str | None]:
        """Keras's padding, and the name of the layer of zeros before it where there must be one."""
        if spatial == 0:
            return "valid", None
        layer: Any = module
        if isinstance(layer.padding, str):
            raise ExportError(f"layer {name!r} has padding {layer.padding!r}", hint="give the padding as a number")
        padding, kernel = _per_axis(layer.padding, spatial), layer.kernel_size
        if not any(padding):
            return "valid", None
        dilation = _per_axis(layer.dilation, spatial)
        if set(stride) == {1} and all(
            2 * pad == reach * (size - 1) for pad, size, reach in zip(padding, kernel, dilation, strict=True)
        ):
            return "same", None
        zeros = self._name(f"{name}_pad")
        self.nodes.append(
            PlainNode(zeros, self._inputs(node), "zero_pad", padding, (), self.types.get(node.all_input_nodes[0]))
        )
        return "valid", zeros

    def _bias(
        self, node: fx.Node, module: QuantWeightLayer, layer: WeightLayer
    ) -> tuple[Codes | None, FixedPoint | None, int]:
        """Bias with what QKeras's rounding needs, its type, and what was added in units of its LSB."""
        output = self._output_type(node, layer)
        product = layer.input_type.fraction + layer.weight_type.fraction
        fraction = product if module.bias is None else max(product, layer.bias_type.fraction)
        offset = 0 if output is None else bias_offset(output, fraction, f"layer {layer.name!r}")
        if offset == 0 and module.bias is None:
            return None, None, 0
        own = layer.bias_type.fraction if module.bias is not None else fraction
        grid = fraction + 1 if offset else own
        codes = offset + (layer.bias << (grid - own))
        width = 1 + max(1, int(codes.max()).bit_length(), int(-codes.min() - 1).bit_length())
        if width > FLOAT32_BITS:
            raise ExportError(
                f"layer {layer.name!r}: a bias needs {width} bits, QKeras holds {FLOAT32_BITS}",
                hint="use fewer bits for inputs or weights, or quantize.rounding: AP_RND_CONV, which needs no offset",
            )
        if module.bias is not None:
            # as much room to grow as the bias has in torch
            width = min(FLOAT32_BITS, max(width, layer.bias_type.integer + grid))
        return codes, FixedPoint(width, width - grid, True, Rounding.AP_RND_CONV, Overflow.AP_SAT), offset

    def _output_type(self, node: fx.Node, layer: WeightLayer) -> FixedPoint | None:
        """The type that the sums are converted to, as QKeras writes it but with torch's rounding."""
        if layer.output_type is not None:
            kept = qkeras_type(layer.output_type, layer.relu, f"layer {layer.name!r}")
            return replace(kept, rounding=layer.output_type.rounding)
        reached = [user for user in node.users if isinstance(module_of(self.network, user), nn.ReLU)]
        for user in (*node.users, *(behind for relu in reached for behind in relu.users)):
            if isinstance(module_of(self.network, user), FixedQuantizer):
                raise ExportError(
                    f"layer {layer.name!r}: its sums are converted and used as they are as well",
                    hint="give every use of the layer the same quantiser",
                )
        return None


def _stored_type(fixed: FixedPoint, where: str) -> FixedPoint:
    if not fixed.signed:
        raise ExportError(f"{where}: weights of {fixed}; QKeras has signed ones", hint="use a signed weight type")
    if fixed.width > FLOAT32_BITS:
        raise ExportError(f"{where}: weights of {fixed.width} bits, QKeras holds {FLOAT32_BITS}")
    return qkeras_type(fixed, False, where)


def _per_axis(value: Any, rank: int) -> tuple[int, ...]:
    return (int(value),) * rank if isinstance(value, int) else tuple(map(int, value))[:rank]

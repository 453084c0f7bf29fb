"""What a tensor of an ONNX graph is while the graph is taken over: a wire of the new network, or an unfinished sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from trigger_prune.entry.onnx_constants import Constant
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.integer_layers import IntegerLayerKind

CONV_KINDS: tuple[IntegerLayerKind, ...] = ("dense", "conv1d", "conv2d")
"""Kind of layer by the number of axes of positions."""


@dataclass(frozen=True, eq=False)
class Wire:
    """A node of the new network, seen through reshapes and transpositions.

    node          None while it is the view of a sum that is not written yet
    node_shape    shape of one event at ``node``
    index         ``index[i, j, ...]`` is where the element of the tensor lies in the node's flattened event; its shape
                  is the tensor's without the batch axis
    fixed         type of every value; None for a full sum, and everywhere in a float network
    not_negative  no event makes it negative
    sole          nothing else reads what it was made from, back to the network's input or the last layer
    """

    node: fx.Node | None
    node_shape: tuple[int, ...]
    index: NDArray[np.int64]
    fixed: FixedPoint | None
    not_negative: bool = False
    sole: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event of the tensor."""
        return self.index.shape

    @property
    def plain(self) -> bool:
        """The tensor is the node's own output: nothing was reshaped or moved."""
        return self.shape == self.node_shape and bool(np.array_equal(self.index.ravel(), np.arange(self.index.size)))

    def per_channel(self, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """``(channels,)`` of values of the tensor's shape; None where they differ within a channel of the node."""
        flat = np.empty(self.index.size)
        flat[self.index.ravel()] = values.ravel()
        table = flat.reshape(self.node_shape[0], -1)
        return table[:, 0] if (table == table[:, :1]).all() else None

    def moved(self, batch: int, move: Callable[[NDArray[Any]], NDArray[Any]]) -> Wire | None:
        """The wire behind ``move``, a reshape or transposition of arrays with a batch axis; None when that is mixed.

        batch   size of the batch axis in the file, which fixed shapes in the graph refer to
        """
        size = self.index.size
        stacked = np.stack([self.index + size * event for event in range(batch)])
        result = move(stacked)
        if result.ndim < 2 or result.shape[0] != batch:
            return None
        each = result - (size * np.arange(batch)).reshape(batch, *[1] * (result.ndim - 1))
        if (each < 0).any() or (each >= size).any() or not (each == each[0]).all():
            return None
        return replace(self, index=each[0])


def wire_of(
    node: fx.Node | None, shape: tuple[int, ...], fixed: FixedPoint | None, *, not_negative: bool = False
) -> Wire:
    """The output of a node, as it is."""
    return Wire(node, shape, np.arange(math.prod(shape)).reshape(shape), fixed, not_negative)


@dataclass(frozen=True, eq=False)
class Sum:
    """A weight layer that is not written yet, because what follows decides its bias, ReLU and output type.

    shape         of one event, of its own output
    weight, bias  float64, in torch's order; ``declared`` types hold while nothing was multiplied in
    view          the tensor behind ``then``, as far as shapes go
    then          reshapes and pools behind it: a conversion to fixed point may be moved in front of them
    """

    name: str
    kind: IntegerLayerKind
    source: Wire
    weight: NDArray[np.float64]
    shape: tuple[int, ...]
    view: Wire
    bias: NDArray[np.float64] | None = None
    declared: FixedPoint | None = None
    declared_bias: FixedPoint | None = None
    relu: bool = False
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    frozen: bool = False
    then: tuple[Callable[[Wire], Wire], ...] = field(default=())

    def behind(self, move: Callable[[Wire], Wire]) -> Sum:
        """The sum with one more reshape or pool behind it."""
        return replace(self, view=move(self.view), then=(*self.then, move))

    def scaled(self, factor: NDArray[np.float64]) -> Sum:
        """Every output times its factor ``(outputs,)`` or ``(1,)``; negative ones only in front of a ReLU."""
        across = factor.reshape(-1, *[1] * (self.weight.ndim - 1))
        bias = None if self.bias is None else self.bias * factor
        return replace(self, weight=self.weight * across, bias=bias, declared=None, declared_bias=None)

    def shifted(self, offset: NDArray[np.float64], declared: FixedPoint | None) -> Sum:
        """Every output plus its offset ``(outputs,)``."""
        if self.bias is None:
            return replace(self, bias=offset, declared_bias=declared)
        return replace(self, bias=self.bias + offset, declared_bias=None)


def new_sum(
    name: str,
    kind: IntegerLayerKind,
    source: Wire,
    weight: NDArray[np.float64],
    shape: tuple[int, ...],
    **options: Any,
) -> Sum:
    """A layer nothing follows yet."""
    return Sum(name, kind, source, np.asarray(weight, np.float64), shape, wire_of(None, shape, None), **options)


Tensor = Constant | Wire | Sum

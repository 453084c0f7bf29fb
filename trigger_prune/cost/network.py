"""``NetworkSpec``: the network as integers, the form in which cost models and verifiers see it.

It holds what the hardware holds: integer weight codes, the fixed-point type of every wire, and the graph.
It is plain numpy, so that a cost can be predicted without importing torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.fixed_point import FixedPoint

LayerKind = Literal["dense", "conv1d", "conv2d"]


@dataclass(frozen=True)
class WeightLayer:
    """One layer with weights, computed exactly: accumulators are wide enough by construction.

    weight        int64 codes ``(out, in)`` for dense, ``(out, in / groups, k)`` conv1d, ``(out, in / groups, kh, kw)``
    weight_type   value = code * weight_type.lsb
    bias          int64 codes ``(out,)`` (zeros when the layer has none); bias_type likewise
    input_type    type of every element of the layer's input
    output_type   the type the result is converted to by the activation quantiser that follows, or None when the
                  full accumulator is passed on (logits)
    relu          whether a ReLU sits between the sum and the conversion
    positions     how many output positions are computed in parallel (1 for dense, out_length for conv)
    """

    name: str
    kind: LayerKind
    weight: NDArray[np.int64]
    weight_type: FixedPoint
    bias: NDArray[np.int64]
    bias_type: FixedPoint
    input_type: FixedPoint
    output_type: FixedPoint | None
    relu: bool
    positions: int
    groups: int = 1

    @property
    def n_weights(self) -> int:
        """Weights, zeros included."""
        return int(self.weight.size)

    @property
    def nonzeros(self) -> int:
        """Weights whose integer code is not zero."""
        return int(np.count_nonzero(self.weight))

    @property
    def accumulator_bound(self) -> int:
        """Largest magnitude the accumulator's code can reach, in units of its own LSB.

        The LSB is the finer of (input LSB x weight LSB) and the bias LSB. Below 2**24 every partial sum is exact
        in float32, in any order of summation; below 2**53 in float64.
        """
        largest_input = max(abs(self.input_type.min_code), self.input_type.max_code)
        product_fraction = self.input_type.fraction + self.weight_type.fraction
        fraction = max(product_fraction, self.bias_type.fraction if np.any(self.bias) else product_fraction)
        sums = np.abs(self.weight).reshape(len(self.weight), -1).sum(axis=1) * largest_input
        scaled = [int(s) << (fraction - product_fraction) for s in sums]
        shift = fraction - self.bias_type.fraction
        biases = [abs(int(b)) << shift if b else 0 for b in self.bias]
        return max(s + b for s, b in zip(scaled, biases, strict=True))


@dataclass(frozen=True)
class NetworkSpec:
    """The weight layers in order of computation, and the network's borders."""

    layers: tuple[WeightLayer, ...]
    input_type: FixedPoint
    input_shape: tuple[int, ...]
    n_outputs: int

    @property
    def nonzeros(self) -> int:
        """Non-zero integer weights of the whole network."""
        return sum(layer.nonzeros for layer in self.layers)

    @property
    def n_weights(self) -> int:
        """All weights of the network, zeros included."""
        return sum(layer.n_weights for layer in self.layers)

    @property
    def accumulator_bound(self) -> int:
        """Largest accumulator bound of any layer; decides between float32 and float64."""
        return max(layer.accumulator_bound for layer in self.layers)

    def content_hash(self) -> str:
        """SHA-256 (hex) of everything that reaches the hardware."""
        digest = hashlib.sha256()
        digest.update(repr((self.input_type, self.input_shape, self.n_outputs)).encode())
        for layer in self.layers:
            digest.update(
                repr((layer.name, layer.kind, layer.weight.shape, layer.weight_type, layer.bias_type)).encode()
            )
            digest.update(repr((layer.input_type, layer.output_type, layer.relu, layer.positions)).encode())
            digest.update(np.ascontiguousarray(layer.weight, dtype="<i8").tobytes())
            digest.update(np.ascontiguousarray(layer.bias, dtype="<i8").tobytes())
        return digest.hexdigest()

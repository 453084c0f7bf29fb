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


@dataclass(frozen=True, eq=False)
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
    input_size, output_size, stride     spatial, of a convolution; () = not known (and for dense)
    input_channels, output_channels     types of the single channels where they differ (None: always 0), of which
                  input_type and output_type are the hull; () otherwise
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
    input_size: tuple[int, ...] = ()
    output_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    input_channels: tuple[FixedPoint | None, ...] = ()
    output_channels: tuple[FixedPoint | None, ...] = ()

    @property
    def n_weights(self) -> int:
        """Weights, zeros included."""
        return int(self.weight.size)

    @property
    def nonzeros(self) -> int:
        """Weights whose integer code is not zero."""
        return int(np.count_nonzero(self.weight))

    @property
    def widest_weight_bits(self) -> int:
        """Bits of the widest weight that occurs, sign included (0 when all are zero)."""
        low, high = int(self.weight.min(initial=0)), int(self.weight.max(initial=0))
        return max(high.bit_length() + 1 if high else 0, (-low - 1).bit_length() + 1 if low else 0)

    @property
    def accumulator_fraction(self) -> int:
        """Fraction bits of the accumulator: the finer of (input LSB x weight LSB) and the LSB of a bias, if any."""
        product = self.input_type.fraction + self.weight_type.fraction
        return max(product, self.bias_type.fraction) if np.any(self.bias) else product

    @property
    def accumulator_bound(self) -> int:
        """Largest magnitude that any partial sum of an accumulator can reach, in units of the accumulator's LSB.

        A partial sum may leave out any products and the bias, so it is the same for every order of summation. Below
        2**24 every one of them is exact in float32; below 2**53 in float64.
        """
        lowest, highest = min(self.input_type.min_code, 0), max(self.input_type.max_code, 0)
        shift = self.accumulator_fraction - self.input_type.fraction - self.weight_type.fraction
        bias_shift = self.accumulator_fraction - self.bias_type.fraction
        bound = 0
        for weights, bias in zip(self.weight.reshape(len(self.weight), -1), self.bias.tolist(), strict=True):
            up, down = int(weights[weights > 0].sum()), -int(weights[weights < 0].sum())
            offset = bias << bias_shift if bias else 0
            bound = max(
                bound,
                ((up * highest - down * lowest) << shift) + max(offset, 0),
                ((down * highest - up * lowest) << shift) - min(offset, 0),
            )
        return bound


@dataclass(frozen=True)
class PoolLayer:
    """A maximum over windows. ``after`` is how many weight layers are computed before it; sizes are spatial."""

    name: str
    after: int
    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    input_size: tuple[int, ...]
    output_size: tuple[int, ...]
    value_type: FixedPoint


@dataclass(frozen=True)
class NetworkSpec:
    """The weight layers in order of computation, the pooling between them, and the network's borders."""

    layers: tuple[WeightLayer, ...]
    input_type: FixedPoint
    input_shape: tuple[int, ...]
    n_outputs: int
    pools: tuple[PoolLayer, ...] = ()

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
        return max((layer.accumulator_bound for layer in self.layers), default=0)

    def content_hash(self) -> str:
        """SHA-256 (hex) of everything that reaches the hardware."""
        digest = hashlib.sha256()
        digest.update(repr((self.input_type, self.input_shape, self.n_outputs)).encode())
        for layer in self.layers:
            digest.update(
                repr((layer.name, layer.kind, layer.weight.shape, layer.weight_type, layer.bias_type)).encode()
            )
            digest.update(
                repr((layer.input_type, layer.output_type, layer.relu, layer.positions, layer.groups)).encode()
            )
            if layer.input_channels or layer.output_channels:
                digest.update(repr((layer.input_channels, layer.output_channels)).encode())
            digest.update(np.ascontiguousarray(layer.weight, dtype="<i8").tobytes())
            digest.update(np.ascontiguousarray(layer.bias, dtype="<i8").tobytes())
        if self.pools:
            digest.update(repr(self.pools).encode())
        return digest.hexdigest()

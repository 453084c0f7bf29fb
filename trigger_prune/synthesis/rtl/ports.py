"""Events as the bits on the design's ports, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trigger_prune.errors import FixedPointError


@dataclass(frozen=True)
class PortType:
    """Fixed-point type of one value on a port; ``width`` 0 = a constant that has no bits there."""

    signed: bool
    width: int
    fraction: int


def port_types(comb: Any) -> tuple[tuple[PortType, ...], tuple[PortType, ...]]:
    """Types of the traced network's inputs and outputs, in port order (alkaid's sign, integer, fraction bits)."""

    def types(kifs: Any) -> tuple[PortType, ...]:
        return tuple(PortType(bool(k), max(int(k) + int(i) + int(f), 0), int(f)) for k, i, f in zip(*kifs, strict=True))

    return types(comb.inp_kifs), types(comb.out_kifs)


def pack(values: ArrayLike, types: tuple[PortType, ...]) -> NDArray[np.uint32]:
    """Port words ``(n, ceil(bits / 32))``, least significant first, of values ``(n, len(types))``.

    Bits above a value's type are dropped, as the port does: an input that the design uses only a few bits of has a
    port of these bits. Raises FixedPointError for a value finer than its type, or a wrong number of values.
    """
    events = np.asarray(values, dtype=np.float64)
    if events.ndim != 2 or events.shape[1] != len(types):
        raise FixedPointError(f"events of shape {events.shape} for a port of {len(types)} values")
    bits = []
    for column, kind in enumerate(types):
        if kind.width == 0:
            continue
        scaled = np.ldexp(events[:, column], kind.fraction)
        codes = np.floor(scaled)
        wrong = np.flatnonzero(codes != scaled)
        if len(wrong):
            raise FixedPointError(
                f"input {column} of event {wrong[0]} is {events[wrong[0], column]}, finer than "
                f"{kind.fraction} fraction bits",
                hint="quantise the events to the network's input type first",
            )
        bits.append((codes.astype(np.int64)[:, None] >> np.arange(kind.width)) & 1)
    total = sum(kind.width for kind in types)
    padded = np.zeros((len(events), -(-total // 32) * 32), dtype=np.uint8)
    if bits:
        padded[:, :total] = np.concatenate(bits, axis=1)
    return np.packbits(padded, axis=1, bitorder="little").view("<u4").astype(np.uint32)


def unpack(words: NDArray[np.uint32], types: tuple[PortType, ...]) -> NDArray[np.float64]:
    """Values ``(n, len(types))`` of port words ``(n, ceil(bits / 32))``; a value without bits is 0."""
    bits = np.unpackbits(np.ascontiguousarray(words, dtype="<u4").view(np.uint8), axis=1, bitorder="little")
    values = np.zeros((len(words), len(types)))
    start = 0
    for column, kind in enumerate(types):
        field = bits[:, start : start + kind.width].astype(np.int64)
        codes = field @ (np.int64(1) << np.arange(kind.width, dtype=np.int64))
        if kind.signed and kind.width:
            codes -= field[:, -1] << kind.width
        values[:, column] = np.ldexp(codes.astype(np.float64), -kind.fraction)
        start += kind.width
    return values

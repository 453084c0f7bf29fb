"""Columns of numbers as 16-bit integers with a power-of-two step and an offset per column.

This is how the shipped events are stored. Every decoded value is ``(code + offset) * 2**-exponent`` and exactly
representable in float32. The two bytes of the codes are stored in separate planes, because the high bytes compress
and the low bytes hardly do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError

_MAX_CODE = 0xFFFF


@dataclass(frozen=True, eq=False)
class PackedColumns:
    """``(columns, 2, rows)`` uint8 planes (high byte, low byte), and ``(columns,)`` exponents and offsets."""

    planes: NDArray[np.uint8]
    exponents: NDArray[np.int8]
    offsets: NDArray[np.int32]

    @property
    def steps(self) -> NDArray[np.float64]:
        """Grid spacing of each column."""
        return np.ldexp(1.0, -self.exponents.astype(np.int64))

    def to_arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """The arrays to put into an npz file."""
        return {
            f"{prefix}_planes": self.planes,
            f"{prefix}_exponents": self.exponents,
            f"{prefix}_offsets": self.offsets,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> PackedColumns:
        """Inverse of ``to_arrays``."""
        planes, exponents, offsets = (arrays[f"{prefix}_{part}"] for part in ("planes", "exponents", "offsets"))
        return cls(planes.astype(np.uint8), exponents.astype(np.int8), offsets.astype(np.int32))


def pack_columns(values: NDArray[np.floating], exponents: Sequence[int] | None = None) -> PackedColumns:
    """Round ``values`` ``(rows, columns)`` to 16-bit codes, nearest, with the finest step that fits each column.

    A column of integers keeps step 1 when it fits. ``exponents`` fixes the steps (``2**-exponent``) instead, for
    values that crowd around zero. Raises DataError when a column does not fit 16 bits.
    """
    planes = np.empty((values.shape[1], 2, len(values)), dtype=np.uint8)
    chosen = np.empty(values.shape[1], dtype=np.int8)
    offsets = np.empty(values.shape[1], dtype=np.int32)
    for i in range(values.shape[1]):
        column = values[:, i].astype(np.float64)
        exponent = _finest_exponent(column) if exponents is None else exponents[i]
        code = np.floor(np.ldexp(column, exponent) + 0.5)
        offset = code.min() if exponents is None else _offset_around_zero(code.min())
        code -= offset
        if code.max() > _MAX_CODE:
            raise DataError(f"column {i} needs codes up to {code.max():.0f} at a step of 2**{-exponent}")
        planes[i, 0], planes[i, 1] = code.astype(np.uint16) >> 8, code.astype(np.uint16) & 0xFF
        chosen[i], offsets[i] = exponent, offset
    return PackedColumns(planes, chosen, offsets)


def unpack_columns(packed: PackedColumns) -> NDArray[np.float32]:
    """The values, float32 ``(rows, columns)``."""
    values = np.empty((packed.planes.shape[2], packed.planes.shape[0]), dtype=np.float32)
    for i, (high, low) in enumerate(packed.planes):
        code = (high.astype(np.int32) << 8) + low + packed.offsets[i]
        values[:, i] = code.astype(np.float32) * np.float32(packed.steps[i])
    return values


def _offset_around_zero(smallest_code: float) -> float:
    """The largest offset that puts zero in the middle of a high byte's range.

    Values that crowd around zero then share one high byte, which compresses to nothing.
    """
    return math.floor((smallest_code - 128) / 256) * 256.0 + 128


def _finest_exponent(column: NDArray[np.float64]) -> int:
    extent = float(column.max() - column.min())
    if extent <= _MAX_CODE and np.array_equal(column, np.floor(column)):
        return 0
    # One code is kept free for the rounding of both ends.
    return math.floor(math.log2((_MAX_CODE - 1) / extent))

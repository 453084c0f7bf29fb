"""Exact ``ap_fixed<W, I, Q, O>`` arithmetic, in numpy and (for training) in torch.

A value of the type is ``code * 2**-fraction`` with an integer ``code`` of ``width`` bits, two's complement
when signed. ``integer`` counts the bits left of the binary point, the sign bit included; it may be negative
or larger than ``width``. Conversion from a real number first rounds onto the grid (``Q``), then handles what
does not fit (``O``), which is the order of the AMD/Xilinx ``ap_fixed`` reference implementation.

Source of the semantics: AMD UG1399 (Vitis HLS user guide), "Arbitrary precision fixed-point data types"; the
tests compare every code of small widths with the C++ headers that hls4ml ships.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trigger_prune.errors import FixedPointError

if TYPE_CHECKING:
    from torch import Tensor


class Rounding(StrEnum):
    """Quantisation modes of ap_fixed."""

    AP_RND = "AP_RND"  # nearest, ties towards +infinity
    AP_RND_ZERO = "AP_RND_ZERO"  # nearest, ties towards zero
    AP_RND_MIN_INF = "AP_RND_MIN_INF"  # nearest, ties towards -infinity
    AP_RND_INF = "AP_RND_INF"  # nearest, ties away from zero
    AP_RND_CONV = "AP_RND_CONV"  # nearest, ties to even
    AP_TRN = "AP_TRN"  # towards -infinity (drop the bits); the default of ap_fixed
    AP_TRN_ZERO = "AP_TRN_ZERO"  # towards zero


class Overflow(StrEnum):
    """Overflow modes of ap_fixed (sign-magnitude wrap, AP_WRAP_SM, is not offered: no HLS flow here emits it)."""

    AP_SAT = "AP_SAT"  # to the nearest representable value
    AP_SAT_ZERO = "AP_SAT_ZERO"  # to zero
    AP_SAT_SYM = "AP_SAT_SYM"  # to the nearest of -max .. max
    AP_WRAP = "AP_WRAP"  # modulo 2**width; the default of ap_fixed


_MAX_WIDTH = 52
"""Codes are carried in float64, which is exact up to 53 bits."""

_HUGE = 2.0**900

_MAX_INTEGER = 64
"""Keeps every scale factor a normal number, in float32 too."""

_TYPE_TEXT = re.compile(
    r"^(?:ap_)?(u?)fixed<\s*(-?\d+)\s*,\s*(-?\d+)\s*(?:,\s*(?:AP_)?(\w+)\s*)?(?:,\s*(?:AP_)?(\w+)\s*)?(?:,\s*0\s*)?>$"
)


@dataclass(frozen=True)
class FixedPoint:
    """The type ``ap_[u]fixed<width, integer, rounding, overflow>``.

    Raises FixedPointError for a width outside 1..52 (codes are computed in float64), an integer part outside
    -64..64 bits, or an unknown mode.
    """

    width: int
    integer: int
    signed: bool = True
    rounding: Rounding = Rounding.AP_TRN
    overflow: Overflow = Overflow.AP_WRAP

    def __post_init__(self) -> None:
        try:
            # numpy integers would overflow in 2**width, and would change the repr that content hashes rest on
            object.__setattr__(self, "width", operator.index(self.width))
            object.__setattr__(self, "integer", operator.index(self.integer))
            object.__setattr__(self, "signed", bool(self.signed))
        except TypeError as error:
            raise FixedPointError(
                f"width {self.width!r}, integer {self.integer!r} of a fixed-point type: {error}"
            ) from None
        if not 1 <= self.width <= _MAX_WIDTH:
            raise FixedPointError(f"width {self.width} is outside 1..{_MAX_WIDTH} bits")
        if abs(self.integer) > _MAX_INTEGER:
            raise FixedPointError(f"{self.integer} integer bits are outside -{_MAX_INTEGER}..{_MAX_INTEGER}")
        try:
            object.__setattr__(self, "rounding", Rounding(self.rounding))
            object.__setattr__(self, "overflow", Overflow(self.overflow))
        except ValueError as error:
            raise FixedPointError(
                f"{error} of a fixed-point type",
                hint=f"rounding is one of {', '.join(Rounding)}; overflow one of {', '.join(Overflow)}",
            ) from None

    @property
    def fraction(self) -> int:
        """Bits right of the binary point (may be negative)."""
        return self.width - self.integer

    @property
    def lsb(self) -> float:
        """Grid spacing, 2**-fraction."""
        return math.ldexp(1.0, -self.fraction)

    @property
    def min_code(self) -> int:
        """Smallest code; with AP_SAT_SYM the one code below -max is never produced."""
        if not self.signed:
            return 0
        lowest = -(1 << (self.width - 1))
        return lowest + 1 if self.overflow is Overflow.AP_SAT_SYM and self.width > 1 else lowest

    @property
    def max_code(self) -> int:
        """Largest code."""
        return (1 << (self.width - self.signed)) - 1

    @property
    def min_value(self) -> float:
        """Smallest value."""
        return self.min_code * self.lsb

    @property
    def max_value(self) -> float:
        """Largest value."""
        return self.max_code * self.lsb

    def to_code(self, values: ArrayLike) -> NDArray[np.int64]:
        """Integer codes of real values, any shape. Raises FixedPointError on NaN or infinity."""
        x = np.asarray(values, dtype=np.float64)
        if not np.isfinite(x).all():
            where = np.argwhere(~np.isfinite(x))[0].tolist()
            raise FixedPointError(f"value {x[tuple(where)]} at index {where} has no fixed-point code")
        # Beyond 2**900 a double saturates, or is a multiple of 2**width LSBs, just as 2**900 itself; this keeps the
        # scaling below from overflowing.
        scaled = np.ldexp(np.clip(x, -_HUGE, _HUGE), self.fraction)
        codes: NDArray[np.float64] = wrap_or_saturate(round_to_integers(scaled, self.rounding, np), self, np)
        return codes.astype(np.int64)

    def quantize(self, values: ArrayLike) -> NDArray[np.float64]:
        """Values on the grid, as float64 (exact), any shape."""
        return np.ldexp(self.to_code(values).astype(np.float64), -self.fraction)

    def contains(self, values: ArrayLike) -> NDArray[np.bool_]:
        """True where a value is exactly representable, same shape as ``values``."""
        scaled = np.ldexp(np.clip(np.asarray(values, dtype=np.float64), -_HUGE, _HUGE), self.fraction)
        on_grid: NDArray[np.bool_] = (
            (scaled == np.floor(scaled)) & (scaled >= self.min_code) & (scaled <= self.max_code)
        )
        return on_grid

    def fake_quantize(self, x: Tensor) -> Tensor:
        """Values on the grid as a torch tensor of ``x``'s dtype, with a straight-through gradient.

        The gradient is 1 inside the representable range and 0 where the value saturates; with AP_WRAP it is 1
        everywhere (Bengio et al. 2013, arXiv:1308.3432; clipped as in Hubara et al. 2016, arXiv:1602.02830).
        Exact as long as the codes fit the mantissa of ``x``'s dtype (24 bits for float32).
        """
        return _FakeQuantize.apply(x, self)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return f"ap_{'' if self.signed else 'u'}fixed<{self.width},{self.integer},{self.rounding},{self.overflow}>"

    @classmethod
    def parse(cls, text: str) -> FixedPoint:
        """Read ``ap_fixed<16,6>``, ``ufixed<8,3,AP_RND,AP_SAT>`` or hls4ml's ``fixed<16,6,TRN,WRAP,0>``.

        The inverse of ``str``. Raises FixedPointError on anything else, saturation bits other than 0 included.
        """
        match = _TYPE_TEXT.match(text.strip())
        if match is None:
            raise FixedPointError(f"{text!r} is not a fixed-point type", hint="write e.g. ap_ufixed<8,3,AP_TRN,AP_SAT>")
        unsigned, width, integer, rounding, overflow = match.groups()
        return cls(
            int(width),
            int(integer),
            not unsigned,
            f"AP_{rounding or 'TRN'}",  # type: ignore[arg-type]
            f"AP_{overflow or 'WRAP'}",  # type: ignore[arg-type]
        )


def bits_for_range(low: float, high: float) -> tuple[int, bool]:
    """Integer bits (sign included) and signedness that hold every grid value in [low, high].

    ``high`` is allowed to equal a power of two minus any grid step; ``2**n`` itself takes n + 1 bits. Never fewer than
    -64 bits. Raises FixedPointError unless low <= high, both finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise FixedPointError(f"no fixed-point type holds the range from {low} to {high}")
    signed = low < 0
    magnitude_bits = -_MAX_INTEGER
    if high > 0:
        magnitude_bits = max(magnitude_bits, math.frexp(high)[1])
    if signed:
        mantissa, exponent = math.frexp(-low)
        magnitude_bits = max(magnitude_bits, exponent - (mantissa == 0.5))
    return magnitude_bits + int(signed), signed


def round_to_integers(scaled: Any, mode: Rounding, xp: Any) -> Any:
    """Round onto integers. ``xp`` is numpy or torch: both offer the same few functions."""
    if mode is Rounding.AP_TRN:
        return xp.floor(scaled)
    if mode is Rounding.AP_TRN_ZERO:
        return xp.trunc(scaled)
    if mode is Rounding.AP_RND_CONV:
        return xp.round(scaled)
    # floor(x + 1/2), and x - floor(x) for a small negative x, are themselves rounded in floating point; the distance
    # to the truncated value never is.
    whole = xp.trunc(scaled)
    rest = scaled - whole
    tie_up = mode in (Rounding.AP_RND, Rounding.AP_RND_INF)
    tie_down = mode in (Rounding.AP_RND_MIN_INF, Rounding.AP_RND_INF)
    up = rest >= 0.5 if tie_up else rest > 0.5
    down = rest <= -0.5 if tie_down else rest < -0.5
    return xp.where(up, whole + 1, xp.where(down, whole - 1, whole))


def wrap_or_saturate(code: Any, fixed: FixedPoint, xp: Any) -> Any:
    """Codes within the range of ``fixed``, by its overflow mode. ``xp`` is numpy or torch."""
    low, high = fixed.min_code, fixed.max_code
    if fixed.overflow is Overflow.AP_WRAP:
        # In turns of the circle: a division by a power of two and the distance to the truncated value are exact,
        # where code - low would be rounded for a code far outside the range.
        span = float(2**fixed.width)
        turns = code / span
        rest = turns - xp.trunc(turns)
        lowest, beyond = low / span, (high + 1) / span
        return xp.where(rest >= beyond, rest - 1, xp.where(rest < lowest, rest + 1, rest)) * span
    if fixed.overflow is Overflow.AP_SAT_ZERO:
        return xp.where((code < low) | (code > high), xp.zeros_like(code), code)
    return xp.clip(code, low, high)


def _fake_quantize_class() -> Any:
    import torch

    class FakeQuantize(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, fixed: FixedPoint) -> Tensor:
            # A multiplication by a power of two is exact, and much faster than torch.ldexp.
            scaled = x * (1.0 / fixed.lsb)
            code = round_to_integers(scaled, fixed.rounding, torch)
            if fixed.overflow is not Overflow.AP_WRAP:
                ctx.save_for_backward((code >= fixed.min_code) & (code <= fixed.max_code))
            quantized: Tensor = wrap_or_saturate(code, fixed, torch) * fixed.lsb
            return quantized

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
            if not ctx.saved_tensors:
                return grad, None
            return grad * ctx.saved_tensors[0], None

        @staticmethod
        def symbolic(g: Any, x: Any, fixed: FixedPoint) -> Any:
            from trigger_prune.export.quant_node import quant_node

            return quant_node(g, x, fixed)

    return FakeQuantize


class _LazyFakeQuantize:
    """Builds the autograd function on first use, so that numpy users never import torch."""

    _function: Any = None

    def apply(self, x: Tensor, fixed: FixedPoint) -> Any:
        if self._function is None:
            type(self)._function = _fake_quantize_class()
        return self._function.apply(x, fixed)


_FakeQuantize = _LazyFakeQuantize()

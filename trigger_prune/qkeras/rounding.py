"""Every rounding mode by the one that QKeras has, with the same bits.

QKeras rounds activations to nearest, ties to even. A sum is a multiple of the accumulator's LSB; with half of that LSB
added it never lies half-way between two codes, so that rounding to nearest needs no rule for ties. Moving the bias by
an odd multiple of half an accumulator LSB therefore turns truncation into rounding to nearest:

    floor(x) = nearest(x - 1/2 + 2 ** -(dropped + 1)),   x a multiple of 2 ** -dropped, in output LSBs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ExportError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

_DOWN = (Rounding.AP_TRN,)
_TIES_UP = (Rounding.AP_RND,)
_TIES_DOWN = (Rounding.AP_RND_MIN_INF,)
_OF_POSITIVE = {
    Rounding.AP_TRN_ZERO: Rounding.AP_TRN,
    Rounding.AP_RND_ZERO: Rounding.AP_RND_MIN_INF,
    Rounding.AP_RND_INF: Rounding.AP_RND,
}
"""What modes that look at the sign do where only values from zero upwards count."""


def bias_offset(output: FixedPoint, sum_fraction: int, where: str) -> int:
    """What is added to a bias, in units of ``2 ** -(sum_fraction + 1)``, so that QKeras's rounding gives ``output``.

    sum_fraction   fraction bits of the sums that are converted to ``output``, its former bias included
    0 when nothing is to be added, and always odd otherwise. Raises ExportError, naming ``where``, for a mode that no
    offset gives.
    """
    dropped = sum_fraction - output.fraction
    mode = output.rounding if output.signed else _OF_POSITIVE.get(output.rounding, output.rounding)
    if dropped <= 0 or mode is Rounding.AP_RND_CONV:
        return 0
    if mode in _DOWN:
        return 1 - (1 << dropped)
    if mode in _TIES_UP:
        return 1
    if mode in _TIES_DOWN:
        return -1
    raise ExportError(
        f"{where}: QKeras cannot round like {output}",
        hint="use AP_TRN, AP_RND or AP_RND_CONV for signed activations (quantize.rounding)",
    )


def qkeras_type(fixed: FixedPoint, relu: bool, where: str) -> FixedPoint:
    """The type of the QActivation that stands for ``fixed``, behind a ReLU or not; rounding AP_RND_CONV.

    A signed type behind a ReLU loses the sign bit, which is always zero. Raises ExportError, naming ``where``, for a
    type that wraps around or has a lone sign bit.
    """
    if fixed.overflow not in (Overflow.AP_SAT, Overflow.AP_SAT_SYM):
        raise ExportError(
            f"{where}: QKeras saturates, {fixed} does not", hint="use overflow AP_SAT for activations and weights"
        )
    if fixed.signed and fixed.width == 1:
        raise ExportError(f"{where}: QKeras reads the lone sign bit of {fixed} as -1 and +1", hint="use two bits")
    if not fixed.signed or relu:
        width, integer = fixed.width - fixed.signed, fixed.integer - fixed.signed
        return FixedPoint(width, integer, False, Rounding.AP_RND_CONV, Overflow.AP_SAT)
    return replace(fixed, rounding=Rounding.AP_RND_CONV)


def without_ties(
    bias: NDArray[np.int64] | None, bias_type: FixedPoint | None, output: FixedPoint, product_fraction: int
) -> tuple[NDArray[np.int64], FixedPoint, FixedPoint] | None:
    """Bias, its type and the output type with truncation in place of AP_RND_CONV, or None where ties can occur.

    product_fraction   fraction bits of the products that the bias is added to
    The inverse of ``bias_offset``: truncation takes no logic, and every exporter has it.
    """
    if bias is None or bias_type is None or output.rounding is not Rounding.AP_RND_CONV:
        return None
    fraction = bias_type.fraction
    if fraction <= product_fraction or fraction < output.fraction + 2 or not np.all(bias % 2 == 1):
        return None
    # nearest(x) = floor(x + 1/2); the last bit of x, always one, can be dropped before
    codes = (bias - 1) // 2 + (1 << (fraction - 2 - output.fraction))
    width = 1 + max(1, int(codes.max(initial=0)).bit_length(), int(-codes.min(initial=0) - 1).bit_length())
    return (
        codes,
        FixedPoint(width, width - (fraction - 1), True, Rounding.AP_RND_CONV, Overflow.AP_SAT),
        replace(output, rounding=Rounding.AP_TRN),
    )

"""The offset of the bias against fixed_point, which knows every rounding mode, for all sums there can be."""

from __future__ import annotations

import numpy as np
import pytest

from trigger_prune.errors import ExportError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.qkeras.rounding import bias_offset, qkeras_type, without_ties


def as_qkeras(sums: np.ndarray, fraction: int, fixed: FixedPoint, relu: bool) -> np.ndarray:
    """The formula of QKeras on integer sums of ``fraction`` bits, with the offset in the bias."""
    kept = qkeras_type(fixed, relu, "here")
    wanted = FixedPoint(kept.width, kept.integer, kept.signed, fixed.rounding, kept.overflow)
    moved = 2 * sums + bias_offset(wanted, fraction, "here")
    scaled = np.round(moved * 2.0 ** (kept.fraction - fraction - 1))
    return np.clip(scaled, kept.min_code, kept.max_code) * kept.lsb


@pytest.mark.parametrize("fraction", [1, 2, 3, 5])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_every_sum_gets_the_code_of_the_type(fraction: int, relu: bool, signed: bool, rounding: Rounding) -> None:
    fixed = FixedPoint(4, 2, signed, rounding, Overflow.AP_SAT)
    sums = np.arange(-(8 << fraction), 8 << fraction)
    values = sums * 2.0**-fraction
    expected = fixed.quantize(np.maximum(values, 0) if relu else values)
    looks_at_the_sign = rounding in (Rounding.AP_RND_ZERO, Rounding.AP_RND_INF, Rounding.AP_TRN_ZERO)
    if signed and not relu and looks_at_the_sign and fraction > fixed.fraction:
        with pytest.raises(ExportError, match="cannot round like"):
            as_qkeras(sums, fraction, fixed, relu)
        return
    np.testing.assert_array_equal(as_qkeras(sums, fraction, fixed, relu), expected)


def test_a_symmetric_type_stays_symmetric() -> None:
    fixed = FixedPoint(4, 2, True, Rounding.AP_TRN, Overflow.AP_SAT_SYM)
    sums = np.arange(-64, 64)
    np.testing.assert_array_equal(as_qkeras(sums, 4, fixed, False), fixed.quantize(sums / 16))
    assert as_qkeras(sums, 4, fixed, False).min() == -1.75


@pytest.mark.parametrize("fixed", [FixedPoint(6, 3), FixedPoint(1, 1, True, Rounding.AP_TRN, Overflow.AP_SAT)])
def test_what_qkeras_cannot_hold_is_refused_by_name(fixed: FixedPoint) -> None:
    with pytest.raises(ExportError, match="layer 'x'"):
        qkeras_type(fixed, False, "layer 'x'")


@pytest.mark.parametrize("output_fraction", [-1, 0, 2])
@pytest.mark.parametrize("dropped", [1, 2, 4])
def test_truncation_comes_back_with_the_bias_that_it_had(output_fraction: int, dropped: int) -> None:
    rng = np.random.default_rng(0)
    fraction = output_fraction + dropped
    bias = rng.integers(-50, 50, size=20)
    output = FixedPoint(6, 6 - output_fraction, False, Rounding.AP_TRN, Overflow.AP_SAT)
    odd = 2 * bias + bias_offset(output, fraction, "here")
    nearest = FixedPoint(6, 6 - output_fraction, False, Rounding.AP_RND_CONV, Overflow.AP_SAT)
    found = without_ties(odd, FixedPoint(16, 16 - fraction - 1), nearest, fraction)
    assert found is not None
    np.testing.assert_array_equal(found[0], bias)
    assert found[1].fraction == fraction
    assert found[1].contains(bias * 2.0**-fraction).all()
    assert found[2] == output


def test_a_bias_that_allows_ties_keeps_its_rounding() -> None:
    nearest = FixedPoint(6, 4, False, Rounding.AP_RND_CONV, Overflow.AP_SAT)
    assert without_ties(np.array([1, 3, 2]), FixedPoint(12, 5), nearest, 6) is None
    # all sums lie half-way: one dropped bit, always set
    assert without_ties(np.array([1, 3]), FixedPoint(12, 9), nearest, 2) is None
    # the products are finer than the bias
    assert without_ties(np.array([1, 3]), FixedPoint(12, 5), nearest, 7) is None

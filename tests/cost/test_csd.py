"""Canonical signed digits against a slow recoding and brute force."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trigger_prune.cost.csd import csd_count, csd_digits

INT64 = st.integers(-(2**63), 2**63 - 1)


def slow_digits(n: int) -> list[int]:
    """Textbook recoding from the right: a run of ones becomes +1 above it and -1 at its end."""
    digits = []
    while n:
        digit = 0 if n % 2 == 0 else 2 - n % 4
        digits.append(digit)
        n = (n - digit) // 2
    return digits


@given(st.lists(INT64, min_size=1, max_size=20))
@settings(deadline=None, derandomize=True)
def test_digits_equal_the_slow_recoding(codes):
    digits = csd_digits(np.array(codes, dtype=np.int64))
    counts = csd_count(np.array(codes, dtype=np.int64))
    for code, found, count in zip(codes, digits.tolist(), counts.tolist(), strict=True):
        expected = slow_digits(code)
        assert found == expected + [0] * (len(found) - len(expected))
        assert count == sum(map(abs, expected))


def test_the_ends_of_int64():
    ends = [-(2**63), 2**63 - 1, -(2**63) + 1, -1, 0, 1]
    assert csd_count(ends).tolist() == [1, 2, 2, 1, 0, 1]
    assert csd_digits(ends).shape == (6, 64)


def test_no_signed_sum_of_powers_is_shorter():
    fewest: dict[int, int] = {}
    for digits in product((-1, 0, 1), repeat=9):
        value = sum(digit << place for place, digit in enumerate(digits))
        fewest[value] = min(fewest.get(value, 99), sum(map(abs, digits)))
    codes = np.arange(-255, 256)
    assert csd_count(codes).tolist() == [fewest[code] for code in codes.tolist()]


@given(st.lists(st.integers(-(2**52), 2**52), min_size=1, max_size=20))
@settings(deadline=None, derandomize=True)
def test_digits_add_up_and_never_touch(codes):
    digits = csd_digits(codes).astype(np.int64)
    assert (digits @ (np.int64(1) << np.arange(digits.shape[1]))).tolist() == codes
    assert not (digits[:, :-1] * digits[:, 1:]).any()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4)])
def test_any_shape(shape):
    codes = np.arange(np.prod(shape, dtype=int)).reshape(shape) + 11
    assert csd_count(codes).shape == shape
    assert csd_digits(codes).shape[:-1] == shape
    assert np.array_equal(np.abs(csd_digits(codes)).sum(axis=-1), csd_count(codes))

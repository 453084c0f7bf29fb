"""FixedPoint against the ap_fixed headers that hls4ml ships, code by code, and its own promises."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trigger_prune.errors import FixedPointError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding, bits_for_range

ROUNDINGS = (
    Rounding.AP_RND,
    Rounding.AP_RND_ZERO,
    Rounding.AP_RND_MIN_INF,
    Rounding.AP_RND_INF,
    Rounding.AP_RND_CONV,
    Rounding.AP_TRN,
    Rounding.AP_TRN_ZERO,
)
OVERFLOWS = (Overflow.AP_SAT, Overflow.AP_SAT_ZERO, Overflow.AP_SAT_SYM, Overflow.AP_WRAP)
MODES = [(rounding, overflow) for rounding in ROUNDINGS for overflow in OVERFLOWS]
"""In the order of convert.cpp."""

REPEATABLE = settings(deadline=None, derandomize=True, max_examples=300)


class Case(NamedTuple):
    """One target shape and the type its inputs come from; ``source`` None = the table of doubles."""

    width: int
    integer: int
    signed: bool
    source: tuple[int, int, bool] | None

    def call(self) -> str:
        numbers = [self.width, self.integer, self.signed, *(self.source or ())]
        how = "FromCodes" if self.source else "FromDoubles"
        return f"all_modes<{how}, {', '.join(str(n).lower() for n in numbers)}>();"

    def inputs(self) -> np.ndarray:
        if self.source is None:
            return DOUBLES
        width, integer, signed = self.source
        first = -(2 ** (width - 1)) if signed else 0
        return np.ldexp(np.arange(first, first + 2**width, dtype=np.float64), integer - width)


def _cases() -> list[Case]:
    cases = []
    for width in range(1, 7):
        inside = {0, width // 2} if width % 2 else {1, width}
        for integer in sorted({-2, width + 2} | inside):
            for signed in (True, False):
                # Three bits more on either side: ties, both overflows, and overflow caused by the rounding itself.
                cases.append(Case(width, integer, signed, (width + 6, integer + 3, True)))
    for signed in (True, False):
        cases += [
            Case(3, 1, signed, (9, 4, False)),  # unsigned source
            Case(3, 1, signed, (8, -2, True)),  # all within half an LSB (the headers abort further below)
            Case(3, 1, signed, (8, 12, True)),  # all but zero are beyond the target's range
            Case(6, 3, signed, (4, 2, True)),  # everything fits
            Case(5, 2, signed, None),
            Case(1, 1, signed, None),
        ]
    return cases


def _doubles() -> np.ndarray:
    rng = np.random.default_rng(4)
    grid = np.arange(-80, 81) / 32  # every eighth and tie around the range of <5,2>
    near = np.concatenate([np.nextafter(grid, np.inf), np.nextafter(grid, -np.inf)])
    near = near[np.abs(near) > 1e-300]  # the headers read a denormal number as a normal one
    huge = np.ldexp(rng.uniform(-1, 1, 200), rng.integers(-60, 200, 200))
    return np.concatenate([grid, near, huge, [2.0**31, -(2.0**31), 2.0**53 - 1, -(2.0**53) + 1, 1e300, -1e300]])


DOUBLES = _doubles()
CASES = _cases()


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Case, Rounding, Overflow], np.ndarray]:
    """Codes given by the C++ headers for every case and mode, in the order of ``Case.inputs``."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # one compilation for all workers
    with (root / "ap_types.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        parts = [root / f"ap_types_{i}.bin" for i in range(2)]
        if not all(part.exists() for part in parts):
            _run_oracle(root, parts)
    raw = {}
    for i, part in enumerate(parts):
        data, start = np.frombuffer(part.read_bytes(), dtype=np.uint8).astype(np.int64), 0
        for case in CASES[i :: len(parts)]:
            for rounding, overflow in MODES:
                codes = data[start : start + len(case.inputs())]
                start += len(codes)
                negative = case.signed & (codes >= 2 ** (case.width - 1))
                raw[case, rounding, overflow] = np.where(negative, codes - 2**case.width, codes)
        assert start == len(data)
    return raw


def _run_oracle(root: Path, parts: list[Path]) -> None:
    hls4ml = find_spec("hls4ml")
    assert hls4ml is not None
    assert hls4ml.origin is not None
    headers = Path(hls4ml.origin).parent / "templates" / "vivado" / "ap_types"
    source = Path(__file__).parent / "ap_types_oracle" / "convert.cpp"
    (root / "doubles.bin").write_bytes(DOUBLES.tobytes())
    compilers = []
    for i in range(len(parts)):
        calls = root / f"calls_{i}.inc"
        calls.write_text("\n".join(case.call() for case in CASES[i :: len(parts)]))
        command = ["g++", "-std=c++14", "-O0", "-w", f"-I{headers}", f'-DCALLS_FILE="{calls}"', str(source)]
        compilers.append(subprocess.Popen([*command, "-o", str(root / f"oracle_{i}")]))
    assert [compiler.wait() for compiler in compilers] == [0] * len(parts)
    for i, part in enumerate(parts):
        done = subprocess.run([root / f"oracle_{i}", root / "doubles.bin"], capture_output=True, check=True)
        part.write_bytes(done.stdout)


def _comparisons(case: Case, fixed: FixedPoint) -> Iterator[tuple[str, np.ndarray]]:
    """Codes of every implementation; float32 only where it holds the inputs exactly."""
    x = case.inputs()
    yield "to_code", fixed.to_code(x)
    yield "quantize", fixed.quantize(x) / fixed.lsb
    for dtype in (torch.float64, torch.float32):
        inputs = torch.tensor(x, dtype=dtype)
        if np.array_equal(inputs.double().numpy(), x):
            yield f"fake_quantize {dtype}", fixed.fake_quantize(inputs).double().numpy() / fixed.lsb


@pytest.mark.slow
@pytest.mark.parametrize(("rounding", "overflow"), MODES)
def test_every_code_equals_the_ap_fixed_headers(oracle, rounding, overflow):
    for case in CASES:
        fixed = FixedPoint(case.width, case.integer, case.signed, rounding, overflow)
        expected = oracle[case, rounding, overflow]
        for how, codes in _comparisons(case, fixed):
            wrong = np.flatnonzero(codes != expected)
            assert wrong.size == 0, (
                f"{how} of {fixed}: {wrong.size} of {expected.size} codes differ, first at value "
                f"{case.inputs()[wrong[0]]!r}: {codes[wrong[0]]} instead of {expected[wrong[0]]}"
            )


def exact_code(value: float, fixed: FixedPoint) -> int:
    """The definition in rational arithmetic, slow: round onto the grid, then bring into range."""
    scaled = Fraction(value) * Fraction(2) ** fixed.fraction
    below = scaled.numerator // scaled.denominator
    rest = scaled - below
    half = Fraction(1, 2)
    tie_goes_up = {
        Rounding.AP_RND: True,
        Rounding.AP_RND_INF: scaled > 0,
        Rounding.AP_RND_ZERO: scaled < 0,
        Rounding.AP_RND_MIN_INF: False,
        Rounding.AP_RND_CONV: below % 2 == 1,
    }
    if fixed.rounding is Rounding.AP_TRN:
        up = False
    elif fixed.rounding is Rounding.AP_TRN_ZERO:
        up = scaled < 0 and rest > 0
    else:
        up = rest > half or (rest == half and tie_goes_up[fixed.rounding])
    code = below + up
    low = -(2 ** (fixed.width - 1)) if fixed.signed else 0
    high = low + 2**fixed.width - 1
    if fixed.overflow is Overflow.AP_WRAP:
        return (code - low) % 2**fixed.width + low
    if fixed.overflow is Overflow.AP_SAT_ZERO:
        return code if low <= code <= high else 0
    if fixed.overflow is Overflow.AP_SAT_SYM and fixed.signed and fixed.width > 1:
        low += 1
    return min(max(code, low), high)


types = st.builds(
    FixedPoint,
    st.integers(1, 52),
    st.integers(-64, 64),
    st.booleans(),
    st.sampled_from(ROUNDINGS),
    st.sampled_from(OVERFLOWS),
)
narrow_types = st.builds(
    FixedPoint,
    st.integers(1, 22),
    st.integers(-8, 24),
    st.booleans(),
    st.sampled_from(ROUNDINGS),
    st.sampled_from(OVERFLOWS),
)


@st.composite
def types_and_values(draw: st.DrawFn, width: int = 64, kinds: st.SearchStrategy[FixedPoint] = types):
    """A type and values that matter to it: a few codes around its range, in quarters of its LSB, and any float."""
    fixed = draw(kinds)
    quarters = st.integers(-6 * 2**fixed.width, 6 * 2**fixed.width).map(lambda n: n * fixed.lsb / 4)
    anything = st.floats(allow_nan=False, allow_infinity=False, width=width)
    if width == 32:  # beyond these a float32 cannot be scaled onto the grid
        anything = st.floats(-(2.0**64), 2.0**64, width=32)
        quarters = quarters.map(lambda x: float(np.float32(x)))
    return fixed, draw(st.lists(quarters | anything, min_size=1, max_size=8))


@given(types_and_values())
@REPEATABLE
def test_any_double_and_any_type_follow_the_definition(drawn):
    fixed, values = drawn
    expected = [exact_code(value, fixed) for value in values]
    assert fixed.to_code(values).tolist() == expected
    assert [Fraction(v) for v in fixed.quantize(values).tolist()] == [
        Fraction(code) / Fraction(2) ** fixed.fraction for code in expected
    ]


@given(types_and_values(width=32, kinds=narrow_types))
@REPEATABLE
def test_torch_float32_follows_the_definition(drawn):
    fixed, values = drawn
    quantized = fixed.fake_quantize(torch.tensor(values, dtype=torch.float32))
    assert quantized.dtype is torch.float32
    assert (quantized.double() / fixed.lsb).tolist() == [exact_code(value, fixed) for value in values]


@given(types_and_values())
@REPEATABLE
def test_quantised_values_are_on_the_grid_and_stay(drawn):
    fixed, values = drawn
    once = fixed.quantize(values)
    assert fixed.contains(once).all()
    assert np.array_equal(fixed.quantize(once), once)


@given(types_and_values())
@REPEATABLE
def test_saturation_keeps_the_order(drawn):
    fixed, values = drawn
    codes = FixedPoint(fixed.width, fixed.integer, fixed.signed, fixed.rounding, Overflow.AP_SAT).to_code(
        sorted(values)
    )
    assert (np.diff(codes) >= 0).all()


@given(types_and_values())
@REPEATABLE
def test_rounding_error_inside_the_range(drawn):
    fixed, values = drawn
    inside = [value for value in values if fixed.min_value <= value <= fixed.max_value]
    nearest = fixed.rounding.startswith("AP_RND")
    for value, quantized in zip(inside, fixed.quantize(inside).tolist(), strict=True):
        error = abs(Fraction(quantized) - Fraction(value)) / Fraction(fixed.lsb)
        assert error <= Fraction(1, 2) if nearest else error < 1


def test_wrap_of_huge_float32_values():
    """code - min_code would be rounded here: 2**24 + 2 modulo 2 came out as -2 of ap_fixed<1,1>."""
    fixed = FixedPoint(1, 1)
    assert fixed.fake_quantize(torch.tensor([2.0**24 + 2, 2.0**60, -(2.0**24) - 2])).tolist() == [0, 0, 0]


def test_negative_fraction_is_exact():
    fixed = FixedPoint(4, 7, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)
    assert fixed.lsb == 8.0
    assert (fixed.min_value, fixed.max_value) == (-64.0, 56.0)
    assert fixed.quantize([3.9, 4.0, 4.1, 12.0, -12.0, 60.0, -200.0]).tolist() == [0, 0, 8, 16, -16, 56, -64]


@pytest.mark.parametrize(
    ("overflow", "expected"),
    [(Overflow.AP_SAT, [0, 1, 1, 0]), (Overflow.AP_SAT_ZERO, [0, 1, 1, 0]), (Overflow.AP_WRAP, [1, 1, 1, 1])],
)
def test_straight_through_gradient(overflow, expected):
    fixed = FixedPoint(4, 2, True, Rounding.AP_RND, overflow)  # -2 .. 1.75 in steps of 1/4
    x = torch.tensor([-2.2, -2.1, 1.8, 2.0], requires_grad=True)  # -2.1 and 1.8 round into the range
    fixed.fake_quantize(x).backward(torch.ones(4))
    assert x.grad is not None
    assert x.grad.tolist() == expected


def test_incoming_gradient_is_passed_on_unchanged():
    x = torch.tensor([0.3, 9.0, -0.7], dtype=torch.float64, requires_grad=True)
    FixedPoint(6, 2, overflow=Overflow.AP_SAT).fake_quantize(x).backward(torch.tensor([5.0, 7.0, -3.0]).double())
    assert x.grad is not None
    assert x.grad.tolist() == [5.0, 0.0, -3.0]


@given(types)
@REPEATABLE
def test_text_round_trip(fixed):
    assert FixedPoint.parse(str(fixed)) == fixed
    assert FixedPoint.parse(str(fixed).removeprefix("ap_").replace("AP_", "").replace(">", ", 0>")) == fixed


def test_parse_of_short_forms():
    assert FixedPoint.parse(" ap_fixed<16, 6> ") == FixedPoint(16, 6, True, Rounding.AP_TRN, Overflow.AP_WRAP)
    assert FixedPoint.parse("ufixed<8,-3,AP_RND_CONV>") == FixedPoint(8, -3, False, Rounding.AP_RND_CONV)


@pytest.mark.parametrize(
    "text",
    ["", "float", "ap_fixed<16>", "fixed<8,3,AP_SAT>", "fixed<8,3,RND,WRAP_SM>", "fixed<8,3,TRN,WRAP,1>", "fixed<0,0>"],
)
def test_parse_refuses(text):
    with pytest.raises(FixedPointError):
        FixedPoint.parse(text)


@pytest.mark.parametrize("arguments", [(0, 0), (53, 3), (8.5, 3), (8, 65), (8, -65), (8, 3, True, "ROUND")])
def test_impossible_types(arguments):
    with pytest.raises(FixedPointError):
        FixedPoint(*arguments)


def test_numpy_integers_make_the_same_type():
    """2**int8(8 - 1) would overflow, and the repr enters content hashes."""
    fixed = FixedPoint(np.int8(8), np.int8(3), np.bool_(False))
    assert repr(fixed) == repr(FixedPoint(8, 3, False))
    assert fixed.max_code == 255


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_without_a_code_are_named(bad):
    with pytest.raises(FixedPointError, match=r"index \[1, 0\]"):
        FixedPoint(8, 3).to_code([[0.0, 1.0], [bad, 2.0]])
    with pytest.raises(FixedPointError):
        FixedPoint(8, 3).to_code(bad)


def test_contains_lists_exactly_the_grid():
    for fixed in (FixedPoint(4, 2), FixedPoint(3, 5, False), FixedPoint(3, -1, True, overflow=Overflow.AP_SAT_SYM)):
        grid = {code * fixed.lsb for code in range(fixed.min_code, fixed.max_code + 1)}
        candidates = np.arange(-200, 200) * fixed.lsb / 4
        assert fixed.contains(candidates).tolist() == [value in grid for value in candidates]
    assert FixedPoint(4, 2).contains([np.nan, np.inf, 1e300, -1e300]).tolist() == [False] * 4


def test_bits_for_range_is_the_smallest_type_that_holds_the_grid():
    steps = np.arange(-72, 73) / 8
    for low in steps:
        for high in steps[steps >= low]:
            if low == high == 0:
                continue
            integer, signed = bits_for_range(low, high)
            assert signed == (low < 0)
            grid = np.arange(low, high + 1 / 16, 1 / 8)
            assert FixedPoint(integer + 3 if integer > -3 else 1, integer, signed).contains([low, high]).all(), (
                low,
                high,
            )
            if integer + 2 >= 1:
                assert not FixedPoint(integer + 2, integer - 1, signed).contains(grid).all(), (low, high)


def test_bits_for_range_at_powers_of_two():
    assert bits_for_range(0.0, 8.0) == (4, False)
    assert bits_for_range(0.0, 8.0 - 2.0**-49) == (3, False)  # log2 of it rounds to 3.0
    assert bits_for_range(-8.0, 7.0) == (4, True)
    assert bits_for_range(-8.0 - 2.0**-49, 7.0) == (5, True)
    assert bits_for_range(-0.25, 0.0) == (-1, True)
    assert bits_for_range(0.0, 0.0) == (-64, False)
    assert bits_for_range(0.0, 1e-300) == (-64, False)


@pytest.mark.parametrize("borders", [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_bits_for_range_refuses(borders):
    with pytest.raises(FixedPointError):
        bits_for_range(*borders)

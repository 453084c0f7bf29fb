"""Integer bits from events: against counting every value, the closed form of the binomial, and its own coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.ptq.ranges import EventRange, Exposure, integer_bits, overflow_limit


def _event_range(values: np.ndarray) -> EventRange:
    return EventRange(values.min(axis=1), values.max(axis=1))


def _overflows_by_hand(value: float, fixed: FixedPoint) -> bool:
    """Whether converting one value without any limit on the range gives another code than the type's own."""
    free = FixedPoint(48, 48 - fixed.fraction, True, fixed.rounding, Overflow.AP_SAT)
    return int(free.to_code(value)) != int(fixed.to_code(value))


@pytest.mark.parametrize("rounding", [Rounding.AP_TRN, Rounding.AP_RND_CONV, Rounding.AP_RND])
@pytest.mark.parametrize("signed", [True, False])
def test_overflowing_events_are_those_with_any_value_outside(rounding: Rounding, signed: bool) -> None:
    generator = np.random.default_rng(3)
    # a grid of quarters hits the borders of the type and its half steps
    values = generator.integers(-40 if signed else 0, 40, (400, 3)) / 4
    fixed = FixedPoint(4, 3 + signed, signed, rounding, Overflow.AP_SAT)
    by_hand = [any(_overflows_by_hand(float(v), fixed) for v in row) for row in values]
    np.testing.assert_array_equal(_event_range(values).overflows(fixed), by_hand)
    assert 0 < sum(by_hand) < len(by_hand)


@pytest.mark.parametrize(("passed", "total"), [(0, 50), (1, 50), (7, 300), (50, 50)])
def test_upper_limit_is_where_so_few_overflows_have_become_unlikely(passed: int, total: int) -> None:
    hits = np.arange(total) < passed
    limit = overflow_limit(hits, 0.95)
    assert (limit.events, limit.n_events, limit.probability) == (passed, total, passed / total)
    if passed < total:
        assert binom.cdf(passed, total, limit.upper) == pytest.approx(0.05, rel=1e-9)
    else:
        assert limit.upper == 1.0
    assert limit.provable == pytest.approx(1 - 0.05 ** (1 / total), rel=1e-9)  # the rule of three, exactly
    assert limit.provable == pytest.approx(3 / total, rel=0.04)


def test_rows_of_one_collision_count_once() -> None:
    groups = np.repeat(np.arange(40), 5)
    hits = np.zeros(200, dtype=bool)
    hits[[0, 1, 2, 3, 17]] = True  # two collisions
    limit = overflow_limit(hits, 0.9, Exposure(groups=groups))
    assert limit.probability == 5 / 200
    assert binom.cdf(2, 40, limit.upper) == pytest.approx(0.1, rel=1e-9)
    alone = overflow_limit(hits, 0.9, Exposure(groups=np.arange(200)))
    assert alone.upper == overflow_limit(hits, 0.9).upper


def test_events_without_weight_say_nothing_and_unequal_weights_are_worth_fewer_events() -> None:
    hits = np.array([True] + [False] * 99)
    weights = np.ones(100)
    weights[0] = 0.0
    limit = overflow_limit(hits, 0.95, Exposure(weights=weights))
    assert (limit.events, limit.probability) == (0, 0.0)
    assert limit.upper == pytest.approx(1 - 0.05 ** (1 / 99))
    weights = np.r_[np.full(50, 1.0), np.full(50, 9.0)]
    effective = weights.sum() ** 2 / np.square(weights).sum()
    assert overflow_limit(np.zeros(100, bool), 0.95, Exposure(weights=weights)).upper == pytest.approx(
        1 - 0.05 ** (1 / effective)
    )


@pytest.mark.parametrize("rounding", [Rounding.AP_TRN, Rounding.AP_RND_CONV])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("probability", [0.3, 0.05, 0.01])
def test_chosen_bits_are_the_fewest_that_are_proven(rounding: Rounding, signed: bool, probability: float) -> None:
    generator = np.random.default_rng(8)
    values = generator.standard_t(2.5, (2000, 4))
    values = values if signed else np.abs(values)
    found = integer_bits(
        _event_range(values), 7, signed=signed, rounding=rounding, probability=probability, confidence=0.9
    )
    # brute force: every range, every value
    proven = {}
    for integer in range(-3, 14):
        fixed = FixedPoint(7, integer, signed, rounding, Overflow.AP_SAT)
        free = FixedPoint(50, 50 - fixed.fraction, True, rounding, Overflow.AP_SAT)
        events = int((free.to_code(values) != fixed.to_code(values)).any(axis=1).sum())
        proven[integer] = binom.cdf(events, 2000, probability) <= 0.1 and events < 2000
    fewest = min(bits for bits in proven if all(proven[more] for more in range(bits, 14)))
    assert found.proven
    assert found.integer == fewest
    assert found.limit.upper <= probability


def test_a_sample_that_is_too_small_says_so_and_still_covers_what_it_saw() -> None:
    values = np.linspace(0.1, 5.9, 100)[:, None]
    found = integer_bits(
        _event_range(values), 6, signed=False, rounding=Rounding.AP_TRN, probability=1e-3, confidence=0.95
    )
    assert not found.proven
    assert found.integer == 3
    assert found.limit.events == 0
    assert found.limit.upper == found.limit.provable > 1e-3
    fewer = math.ceil(math.log(0.05) / math.log(1 - 1e-3))
    enough = np.resize(values, (fewer, 1))
    assert integer_bits(
        _event_range(enough), 6, signed=False, rounding=Rounding.AP_TRN, probability=1e-3, confidence=0.95
    ).proven


def test_the_stated_probability_holds_for_new_events() -> None:
    """In 200 repetitions the true probability exceeds the stated one no more often than the confidence allows."""
    wrong = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        scale = 2.0 ** generator.uniform(-1, 1)
        sample = scale * generator.exponential(1.0, (1500, 1))
        found = integer_bits(
            _event_range(sample), 8, signed=False, rounding=Rounding.AP_TRN, probability=0.02, confidence=0.9
        )
        true = math.exp(-(2.0**found.integer) / scale)
        wrong += true > 0.02
    assert wrong <= binom.ppf(0.999, 200, 0.1)


def test_wires_that_carry_nothing_and_bad_requests() -> None:
    zeros = EventRange(np.zeros(5000), np.zeros(5000))
    found = integer_bits(zeros, 5, signed=True, rounding=Rounding.AP_TRN, probability=1e-3)
    assert (found.integer, found.proven) == (0, True)
    with pytest.raises(DataError, match="probability of 1"):
        integer_bits(zeros, 5, signed=True, rounding=Rounding.AP_TRN, probability=1.0)
    with pytest.raises(DataError, match=r"confidence of 0\.5"):
        overflow_limit(np.zeros(3, bool), 0.5)
    with pytest.raises(DataError, match="no events"):
        overflow_limit(np.zeros(0, bool), 0.9)
    with pytest.raises(DataError, match="one pair per event"):
        EventRange(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(("signed", "integer"), [(False, 3), (True, 4)])
def test_a_range_that_rounding_up_leaves_gets_another_bit(signed: bool, integer: int) -> None:
    values = EventRange(np.full(10, 0.5), np.full(10, 3.99))  # 3.99 becomes 4.0, which two bits do not hold
    found = integer_bits(values, 4, signed=signed, rounding=Rounding.AP_RND_CONV, probability=1e-3)
    assert (found.integer, found.limit.events, found.proven) == (integer, 0, False)
    truncated = integer_bits(values, 4, signed=signed, rounding=Rounding.AP_TRN, probability=1e-3)
    assert (truncated.integer, truncated.limit.events) == (integer - 1, 0)

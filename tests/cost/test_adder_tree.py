"""Adder trees and dataflow against brute force on small integers."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from trigger_prune.cost.adder_tree import Ranges, bit_widths, build_trees
from trigger_prune.cost.csd import csd_count
from trigger_prune.cost.dataflow import live_layers
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding


def ranges(*pairs):
    low, high = np.array(pairs, dtype=np.int64).T
    return Ranges(low, high)


def trees(weight, bias, inputs):
    return build_trees(np.array(weight), np.array(bias), inputs)


def test_widths_by_counting_bits():
    for low, high in product(range(-40, 41), repeat=2):
        if low > high:
            continue
        if low < 0:
            bits = next(n for n in range(1, 10) if -(2 ** (n - 1)) <= low and high < 2 ** (n - 1))
        else:
            bits = high.bit_length()
        assert bit_widths(np.array([low]), np.array([high])).tolist() == [bits], (low, high)


def test_one_adder_by_hand():
    """x + 4y of 3-bit inputs reaches 35, 6 bits; the 2 low bits of x pass, so the adder has 4."""
    found = trees([[1, 4]], [0], ranges((0, 7), (0, 7)))
    assert (found.adder_bits, found.terms, found.inputs, found.depth) == (4, 2, 2, 1)
    assert (found.sums.low.tolist(), found.sums.high.tolist()) == ([0], [35])
    assert found.live_bits == (6, 6)
    assert found.level_bits == (4,)


def test_seven_is_eight_minus_one():
    """7x = 8x - x of a 4-bit x ranges from -15 to 120 if the two were independent: 8 bits, less 3 that pass."""
    found = trees([[7]], [0], ranges((0, 15)))
    assert (found.terms, found.adder_bits) == (2, 5)


def test_a_power_of_two_needs_no_adder():
    found = trees([[8, 0], [0, -4]], [0, 0], ranges((-4, 3), (-4, 3)))
    assert (found.adder_bits, found.depth) == (0, 0)


def test_a_zero_row_is_its_bias():
    found = trees([[0, 0], [1, 1]], [5, 0], ranges((0, 3), (0, 3)))
    assert found.sums.constant.tolist() == [True, False]
    assert found.sums.low[0] == 5
    assert found.terms == 2


def test_a_constant_input_joins_the_bias():
    found = trees([[3, 2, 5]], [1], ranges((0, 7), (4, 4), (-1, -1)))
    same = trees([[3]], [1 + 2 * 4 - 5], ranges((0, 7)))
    assert (found.adder_bits, found.terms, found.inputs) == (same.adder_bits, same.terms, 1)
    assert (found.sums.low[0], found.sums.high[0]) == (same.sums.low[0], same.sums.high[0])


def test_terms_depth_and_reachable_sums():
    rng = np.random.default_rng(3)
    for _ in range(30):
        weight = rng.integers(-9, 10, (4, 3)) * (rng.random((4, 3)) < 0.7)
        bias = rng.integers(-6, 7, 4)
        low = rng.integers(-3, 1, 3)
        high = low + rng.integers(1, 5, 3)
        found = build_trees(weight, bias, Ranges(low, high))
        inputs = np.array(list(product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
        sums = inputs @ weight.T + bias
        # Digits of one weight are bounded as if independent, so the range may be wider than what is reached.
        assert (found.sums.low <= sums.min(axis=0)).all()
        assert (found.sums.high >= sums.max(axis=0)).all()
        power_rows = (csd_count(weight) <= 1).all(axis=1)
        assert (found.sums.low == sums.min(axis=0))[power_rows].all()
        assert (found.sums.high == sums.max(axis=0))[power_rows].all()
        terms = csd_count(weight).sum(axis=1)
        with_bias = np.where(terms > 0, terms + (bias != 0), 0)
        assert found.terms == with_bias.sum()
        assert found.depth == int(np.ceil(np.log2(max(with_bias.max(), 1))))
        assert len(found.live_bits) == found.depth + 1


def test_sharing_the_same_range_per_output_or_per_weight_is_equal():
    rng = np.random.default_rng(8)
    weight, low, high = rng.integers(-20, 20, (5, 6)), rng.integers(-9, 0, 6), rng.integers(1, 9, 6)
    per_input = build_trees(weight, np.arange(5), Ranges(low, high))
    per_weight = build_trees(weight, np.arange(5), Ranges(np.tile(low, (5, 1)), np.tile(high, (5, 1))))
    assert (per_input.adder_bits, per_input.live_bits) == (per_weight.adder_bits, per_weight.live_bits)


def test_accumulators_beyond_exact_widths_are_refused():
    with pytest.raises(CostError, match="big"):
        build_trees(np.array([[2**30]]), np.array([0]), ranges((0, 2**23)), "big")


WEIGHT = FixedPoint(6, 6)
ACT = FixedPoint(4, 4, False, Rounding.AP_TRN, Overflow.AP_SAT)


def dense(weight, bias, input_type, output_type, relu=True):
    codes = np.array(weight)
    return WeightLayer("fc", "dense", codes, WEIGHT, np.array(bias), WEIGHT, input_type, output_type, relu, 1)


def test_outputs_that_nothing_uses_are_not_built():
    first = dense([[3, 5], [7, 9], [11, 13]], [0, 0, 0], ACT, ACT)
    second = dense([[1, 0, 5], [0, 0, 0]], [0, 1], ACT, None, relu=False)
    built = live_layers(NetworkSpec((first, second), ACT, (2,), 2))
    assert built[0].alive.tolist() == [True, False, True]
    without = live_layers(NetworkSpec((dense([[3, 5], [11, 13]], [0, 0], ACT, ACT),), ACT, (2,), 2))
    assert built[0].trees.adder_bits == without[0].trees.adder_bits


def test_death_spreads_backwards():
    chain = (
        dense([[3], [5]], [0, 0], ACT, ACT),
        dense([[7, 0], [0, 7]], [0, 0], ACT, ACT),
        dense([[1, 0]], [0], ACT, None, relu=False),
    )
    assert [layer.alive.tolist() for layer in live_layers(NetworkSpec(chain, ACT, (1,), 1))] == [
        [True, False],
        [True, False],
        [True],
    ]


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("overflow", list(Overflow))
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("output", [(3, 3, True), (3, 2, False), (6, 4, True), (2, 4, False), (8, 3, True)])
def test_output_ranges_hold_everything_that_occurs(rounding, overflow, relu, output):
    width, integer, signed = output
    fixed = FixedPoint(width, integer, signed, rounding, overflow)
    source = FixedPoint(3, 2, True)
    layer = dense([[1, 2], [-4, 0], [0, 0], [2, -8]], [1, -3, 6, 0], source, fixed, relu)
    found = live_layers(NetworkSpec((layer,), source, (2,), 4))[0].outputs
    values = np.array(list(product(range(-4, 4), repeat=2))) * source.lsb
    sums = values @ layer.weight.T + layer.bias
    codes = fixed.to_code(np.maximum(sums, 0) if relu else sums)
    assert (found.low <= codes.min(axis=0)).all()
    assert (found.high >= codes.max(axis=0)).all()
    if overflow in (Overflow.AP_SAT, Overflow.AP_SAT_SYM):  # then nothing more than what occurs
        assert found.low.tolist() == codes.min(axis=0).tolist()
        assert found.high.tolist() == codes.max(axis=0).tolist()


def conv(weight, groups=1, positions=1, output_type=ACT):
    codes = np.array(weight)
    zeros = np.zeros(len(codes), dtype=np.int64)
    return WeightLayer("cv", "conv1d", codes, WEIGHT, zeros, WEIGHT, ACT, output_type, True, positions, groups)


def test_channels_and_flattened_convolutions_pass_their_use_on():
    rng = np.random.default_rng(2)
    first = conv(rng.integers(1, 9, (4, 2, 3)), positions=6)
    middle = conv(rng.integers(1, 9, (4, 2, 1)), groups=2, positions=6)
    flat = rng.integers(1, 9, (3, 4, 6))
    flat[:, 1:3] = 0  # the dense layer sees channels 0 and 3 only
    last = dense(flat.reshape(3, 24), [0] * 3, ACT, None, relu=False)
    built = live_layers(NetworkSpec((first, middle, last), ACT, (2, 8), 3))
    assert built[1].alive.tolist() == [True, False, False, True]
    # channels 0, 1 feed group 0 and 2, 3 group 1; each group has one live output that uses both
    assert built[0].alive.tolist() == [True] * 4
    depthwise = conv(rng.integers(1, 9, (4, 1, 1)), groups=4, positions=6)
    assert live_layers(NetworkSpec((first, depthwise, last), ACT, (2, 8), 3))[0].alive.tolist() == [
        True,
        False,
        False,
        True,
    ]


def test_unknown_connections_count_everything_as_used():
    first = dense([[3], [5]], [0, 0], ACT, ACT)
    concatenated = dense([[1, 0, 0]], [0], ACT, None, relu=False)
    assert live_layers(NetworkSpec((first, concatenated), ACT, (1,), 1))[0].alive.all()


def test_an_output_that_always_converts_to_the_same_value_is_not_built():
    coarse = FixedPoint(4, 12, False, Rounding.AP_TRN, Overflow.AP_SAT)  # LSB 256; the sums end below 200
    first = dense([[3, 5], [7, 6]], [0, 0], ACT, coarse)
    second = replace(dense([[1, 0], [1, 1]], [0, 1], coarse, None, relu=False), input_type=coarse)
    built = live_layers(NetworkSpec((first, second), ACT, (2,), 2))
    assert [layer.trees.terms for layer in built] == [0, 0]
    assert built[1].outputs.low.tolist() == [0, 1]
    assert built[1].outputs.constant.all()


def test_what_only_feeds_constants_is_not_built():
    first = dense([[3], [5]], [0, 0], ACT, ACT)
    second = dense([[-7, 0], [0, 7]], [0, 0], ACT, ACT)  # the ReLU of the first output is always 0
    last = dense([[1, 1]], [0], ACT, None, relu=False)
    built = live_layers(NetworkSpec((first, second, last), ACT, (1,), 1))
    assert [layer.alive.tolist() for layer in built] == [[False, True], [False, True], [True]]
    assert built[2].trees.inputs == 1

"""NetworkSpec: accumulator bounds against brute force, and the content hash."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding


def layer(weight, bias, input_type, bias_type=None, **changes):
    weight_type = FixedPoint(6, 2, True)
    made = WeightLayer(
        "fc",
        "dense",
        np.array(weight),
        weight_type,
        np.array(bias),
        bias_type or weight_type,
        input_type,
        None,
        False,
        1,
    )
    return replace(made, **changes)


def partial_sums(one: WeightLayer):
    """Magnitudes of every partial sum, over every input and order, in accumulator LSBs as floats."""
    codes = range(one.input_type.min_code, one.input_type.max_code + 1)
    lsb = one.input_type.lsb * one.weight_type.lsb
    unit = min(lsb, one.bias_type.lsb) if one.bias.any() else lsb
    largest = 0.0
    for row, bias in zip(one.weight, one.bias, strict=True):
        for x in product(codes, repeat=len(row)):
            terms = [*(w * c * lsb / unit for w, c in zip(row, x, strict=True)), bias * one.bias_type.lsb / unit]
            for order in permutations(terms):
                largest = max(largest, float(np.abs(np.cumsum(order)).max()))
    return largest


@pytest.mark.parametrize("input_type", [FixedPoint(3, 1, True), FixedPoint(3, 2, False), FixedPoint(2, 2, True)])
@pytest.mark.parametrize("bias_type", [FixedPoint(6, 2), FixedPoint(9, 1), FixedPoint(4, 4)])
@pytest.mark.parametrize(
    ("weight", "bias"),
    [([[3, -5, 0], [-7, -7, 1]], [4, -3]), ([[31, 30, 29], [0, 0, 0]], [-6, 0]), ([[-32, 1, -1]], [0])],
)
def test_bound_is_the_largest_partial_sum(weight, bias, input_type, bias_type):
    one = layer(weight, bias, input_type, bias_type)
    assert one.accumulator_bound == partial_sums(one)


def test_bound_over_random_inputs_of_a_wide_layer():
    rng = np.random.default_rng(5)
    kinds = [FixedPoint(8, 3, True), FixedPoint(8, 3, False), FixedPoint(8, 3, True, overflow=Overflow.AP_SAT_SYM)]
    for fixed in kinds:
        one = layer(rng.integers(-32, 32, (20, 30)), rng.integers(-32, 32, 20), fixed)
        bias = one.bias << (one.accumulator_fraction - one.bias_type.fraction)
        x = rng.integers(fixed.min_code, fixed.max_code + 1, (2000, 30))
        up = np.where(one.weight > 0, fixed.max_code, fixed.min_code)  # the inputs that drive each output highest,
        down = np.where(one.weight > 0, fixed.min_code, fixed.max_code)  # and lowest
        sums = np.concatenate([x, up, down]) @ one.weight.T
        assert np.abs(sums[:2000] + bias).max() < one.accumulator_bound
        assert one.accumulator_bound == max(
            (sums + np.maximum(bias, 0)).max(), -(sums + np.minimum(bias, 0)).min(), np.abs(sums).max()
        )


def test_bound_beyond_64_bits_does_not_wrap():
    one = layer(np.full((1, 64), 2**40), [0], FixedPoint(40, 10, False), weight_type=FixedPoint(42, 2))
    assert one.accumulator_bound == 64 * 2**40 * (2**40 - 1)


def test_bound_of_convolutions_counts_every_kernel_element():
    rng = np.random.default_rng(6)
    fixed = FixedPoint(4, 2, False)
    weight = rng.integers(-32, 32, (4, 2, 3))
    conv = layer(weight, [0] * 4, fixed, kind="conv1d", positions=5, groups=2)
    assert conv.accumulator_bound == layer(weight.reshape(4, 6), [0] * 4, fixed).accumulator_bound
    network = NetworkSpec((layer([[1]], [0], fixed), conv), fixed, (4, 7), 4)
    assert network.accumulator_bound == conv.accumulator_bound
    assert (network.n_weights, network.nonzeros) == (25, 1 + np.count_nonzero(weight))


FIXED = FixedPoint(8, 3, False, Rounding.AP_RND, Overflow.AP_SAT)
LAYER = layer([[3, -5], [0, 7]], [1, 2], FIXED, output_type=FIXED)
SPEC = NetworkSpec((LAYER,), FIXED, (2,), 2)


def test_hash_is_of_the_content():
    again = replace(LAYER, weight=np.asfortranarray(LAYER.weight.astype(np.int32)))
    assert replace(SPEC, layers=(again,)).content_hash() == SPEC.content_hash()
    # fixed for good: stored reports are found by it
    assert (
        NetworkSpec((), FixedPoint(8, 3), (2,), 2).content_hash()
        == "7a5c5fd519df679dac77729b8eabfd859acd8868f5eec72995695ed78ed3ce79"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"weight": np.array([[3, -5], [0, 8]])},
        {"weight": np.array([[3, 0], [-5, 7]])},
        {"weight": np.array([[3, -5, 0, 7]])},
        {"bias": np.array([1, 3])},
        {"weight_type": FixedPoint(6, 1)},
        {"bias_type": FixedPoint(7, 2)},
        {"input_type": FixedPoint(8, 3, True, Rounding.AP_RND, Overflow.AP_SAT)},
        {"output_type": None},
        {"output_type": FixedPoint(8, 3, False, Rounding.AP_TRN, Overflow.AP_SAT)},
        {"output_type": FixedPoint(8, 3, False, Rounding.AP_RND, Overflow.AP_WRAP)},
        {"relu": True},
        {"positions": 2},
        {"groups": 2},
        {"kind": "conv1d"},
        {"name": "other"},
    ],
)
def test_hash_changes_with_every_part_of_a_layer(change):
    assert replace(SPEC, layers=(replace(LAYER, **change),)).content_hash() != SPEC.content_hash()


def test_hash_changes_with_the_borders():
    changed = [
        replace(SPEC, input_type=FixedPoint(9, 3)),
        replace(SPEC, input_shape=(1, 2)),
        replace(SPEC, n_outputs=1),
        replace(SPEC, layers=(LAYER, LAYER)),
    ]
    assert len({SPEC.content_hash(), *(spec.content_hash() for spec in changed)}) == 5


@pytest.mark.parametrize("codes", [[0], [1], [-1], [2], [-2], [3, -4], [-5], [0, 7, 8], [-8, 7], [-9]])
def test_widest_weight_fits_its_bits_and_not_one_less(codes):
    bits = layer([codes], [0], FixedPoint(4, 4, True)).widest_weight_bits
    if any(codes):
        assert all(-(2 ** (bits - 1)) <= code < 2 ** (bits - 1) for code in codes)
        assert not all(-(2 ** (bits - 2)) <= code < 2 ** (bits - 2) for code in codes) or bits == 1
    else:
        assert bits == 0

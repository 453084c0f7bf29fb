"""Counts of constants and adders against sets, strings of digits and lists."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.cost.hls.design import HlsLayer
from trigger_prune.cost.hls.features import (
    FEATURE_NAMES,
    WeightFeatures,
    counts_from_features,
    term_counts,
    weight_features,
    weight_table,
)
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint


def dense(weight: np.ndarray, bias: np.ndarray | None = None, accumulator: FixedPoint | None = None) -> HlsLayer:
    """8-bit inputs of 4 fraction bits, 8-bit weights of 4."""
    outs, ins = weight.shape
    return HlsLayer(
        name="d",
        kind="dense",
        n_in=ins,
        n_out=outs,
        input_type=FixedPoint(8, 4),
        output_type=FixedPoint(16, 8),
        accum_type=accumulator or FixedPoint(20, 12),
        weight=weight.astype(np.int64),
        weight_type=FixedPoint(8, 4),
        bias=None if bias is None else bias.astype(np.int64),
        bias_type=FixedPoint(8, 4),
    )


def digits(code: int) -> int:
    """Non-zero digits of the non-adjacent form, by the textbook loop."""
    count, value = 0, abs(code)
    while value:
        if value % 2:
            digit = 2 - value % 4
            value -= digit
            count += 1
        value //= 2
    return count


def tree_by_lists(widths: list[int], cap: int) -> tuple[int, int]:
    adders = bits = 0
    while len(widths) > 1:
        pairs = [widths[i : i + 2] for i in range(0, len(widths), 2)]
        sums = [min(max(pair) + 1, cap) if len(pair) == 2 else pair[0] for pair in pairs]
        adders += sum(len(pair) == 2 for pair in pairs)
        bits += sum(total for total, pair in zip(sums, pairs, strict=True) if len(pair) == 2)
        widths = sums
    return adders, bits


def test_one_layer_by_hand() -> None:
    # input 0: 3 = 4 - 1 (adder), 3 again (the same product), 11 = 8 + 2 + 1 (multiplier); input 1: -4 (negation), 2, 0
    weight = np.array([[3, -4], [3, 2], [11, 0], [0, 0]])
    features = weight_features(dense(weight, np.array([1, 0, 5, 7])))
    assert (features.nonzeros, features.nonzeros_with_bias) == (5, 7)  # the bias of the empty output is no term
    assert (features.u3, features.u2, features.u1neg) == (1, 1, 1)
    assert (features.fan_in, features.used_inputs, features.alive_outputs) == (3, 2, 3)
    # products are 8 + bit length wide, 4 + 4 - 8 fraction bits dropped: 0
    assert features.tree_adders == 4
    assert features.tree_bits == (12 + 20) + 11 + 20
    assert features.csd_bits == 10
    assert features.negation_bits == 9
    assert features.product_bits == 12


@pytest.mark.parametrize("seed", range(20))
def test_counts_are_those_of_sets_and_lists(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outs, ins = int(rng.integers(1, 12)), int(rng.integers(1, 30))
    weight = rng.integers(-128, 128, (outs, ins)) * (rng.random((outs, ins)) < rng.random())
    bias = rng.integers(-2, 3, outs)
    accumulator = FixedPoint(int(rng.integers(9, 20)), 5)
    features = weight_features(dense(weight, bias, accumulator))
    pairs = {(i, int(weight[o, i])) for o in range(outs) for i in range(ins) if weight[o, i]}
    assert features.u3 == sum(digits(code) >= 3 for _, code in pairs)
    assert features.u2 == sum(digits(code) == 2 for _, code in pairs)
    assert features.u1neg == sum(digits(code) == 1 and code < 0 for _, code in pairs)
    assert features.csd_bits == sum(8 + abs(code).bit_length() for _, code in pairs if digits(code) == 2)
    dropped = max(8 - accumulator.fraction, 0)
    adders = bits = 0
    for row, shift in zip(weight, bias, strict=True):
        terms = [min(max(8 + int(abs(c)).bit_length() - dropped, 1), accumulator.width) for c in row if c]
        if not terms:
            continue
        own_adders, own_bits = tree_by_lists(terms, accumulator.width)
        adders, bits = adders + own_adders, bits + own_bits
        if shift:  # added last, at the accumulator's width
            adders, bits = adders + 1, bits + accumulator.width
    assert (features.tree_adders, features.tree_bits) == (adders, bits)


def test_masks_count_like_the_masked_weights() -> None:
    rng = np.random.default_rng(3)
    weight, bias = rng.integers(-128, 128, (6, 9)), rng.integers(-1, 2, 6)
    masks = rng.random((40, 6, 9)) < rng.random((40, 1, 1))
    counts = term_counts(weight_table(dense(weight, bias)), masks.reshape(40, -1))
    for index, mask in enumerate(masks):
        alone = term_counts(weight_table(dense(np.where(mask, weight, 0), bias)))
        for name in ("terms", "multipliers", "adders", "widest"):
            assert np.array_equal(getattr(counts, name)[index], getattr(alone, name)[0])
        for name in ("shared_multipliers", "shared_adders", "negations", "tree_bits", "product_bits", "used_inputs"):
            assert getattr(counts, name)[index] == getattr(alone, name)[0]


def test_features_stand_in_for_unknown_weights() -> None:
    rng = np.random.default_rng(5)
    layer = dense(rng.integers(-128, 128, (16, 24)), rng.integers(1, 5, 16))
    features = weight_features(layer)
    counts = counts_from_features(features, layer)
    assert counts.terms.max() == features.fan_in
    assert abs(int(counts.terms.sum()) - features.nonzeros_with_bias) <= 16
    assert abs(int(counts.multipliers.sum()) - features.multiplier_weights) <= 16
    assert int(counts.adder_bits[0]) == features.tree_bits + features.csd_bits + features.negation_bits


def test_carried_features_are_used_only_without_weights() -> None:
    layer = dense(np.ones((2, 2)))
    assert weight_features(layer).nonzeros == 4
    carried = WeightFeatures(1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1)
    unknown = HlsLayer("u", "dense", 2, 2, FixedPoint(8, 4), FixedPoint(8, 4), features=carried)
    assert weight_features(unknown) is carried
    with pytest.raises(CostError, match=r"'u'.*weights are not known"):
        weight_features(HlsLayer("u", "dense", 2, 2, FixedPoint(8, 4), FixedPoint(8, 4)))


def test_an_empty_layer_has_nothing() -> None:
    features = weight_features(dense(np.zeros((3, 4)), np.ones(3)))
    assert features == WeightFeatures(*([0] * len(FEATURE_NAMES)))  # type: ignore[arg-type]


TABLES = Path(__file__).parents[4] / "shared" / "synthesis"
REPORTS = TABLES.parent / "hls_reports"
COLUMNS = {
    "nonzeros": "nnz",
    "u3": "u3",
    "u2": "u2",
    "u1neg": "u1neg",
    "fan_in": "an_fanin",
    "alive_outputs": "an_alive_out",
}


@pytest.mark.skipif(not TABLES.is_dir(), reason="the public synthesis tables are not beside the checkout")
def test_features_are_those_of_the_public_tables() -> None:
    """Counts exactly; widths of the trees to 6 %, where the tables round products differently."""
    from trigger_prune.synthesis.calibration.collect import collect_samples

    with (TABLES / "layers.csv").open() as file:
        rows = {
            tuple(row[name] for name in ("nnz", "u3", "u2", "u1neg", "csd")): row
            for row in csv.DictReader(file)
            if row["an_tree_bits"]
        }
    checked = 0
    for sample in collect_samples([TABLES, REPORTS]).layers:
        layer = sample.layer
        if layer.kind != "dense" or layer.strategy != "latency" or layer.weight is None:
            continue
        features = weight_features(layer)
        digits_used = sum(digits(int(code)) for code in layer.weight.ravel())
        key = tuple(f"{float(v)}" for v in (features.nonzeros, features.u3, features.u2, features.u1neg, digits_used))
        row = rows.get(key)
        if row is None:  # its tree is not in the table
            continue
        for name, column in COLUMNS.items():
            assert getattr(features, name) == float(row[column]), (layer.name, name)
        assert features.tree_bits == pytest.approx(float(row["an_tree_bits"]), rel=0.06)
        checked += 1
    assert checked >= 100

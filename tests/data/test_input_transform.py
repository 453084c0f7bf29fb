"""The input transform against plain Python arithmetic."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from trigger_prune.config.project import InputConfig
from trigger_prune.data.sample import EventSample
from trigger_prune.data.transform import InputTransform, fit_input_transform
from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding

RNG = np.random.default_rng(8)


def sample_of(features: np.ndarray, weights: np.ndarray | None = None) -> EventSample:
    n, n_features = features.shape[:2]
    names = tuple(f"f{i}" for i in range(n_features))
    weights = np.ones(n) if weights is None else weights
    return EventSample(features.astype(np.float32), np.arange(n) % 2, weights, np.arange(n), names, ("a", "b"), "made")


def by_hand(x: float, offset: float, scale: float, width: int, integer: int) -> float:
    """Round to nearest (ties up) and saturate, in exact rational arithmetic after the float64 division."""
    step = Fraction(2) ** (integer - width)
    code = math.floor(Fraction((float(x) - offset) / scale) / step + Fraction(1, 2))
    return float(min(max(code, -(2 ** (width - 1))), 2 ** (width - 1) - 1) * step)


@pytest.mark.parametrize("shape", [(300, 3), (100, 3, 5), (40, 3, 2, 3)])
@pytest.mark.parametrize("scale", ["exact", "power_of_two"])
@pytest.mark.parametrize(("width", "integer"), [(10, 4), (4, 2), (8, 0), (24, 6)])
def test_values_and_fit_agree_with_exact_arithmetic(
    shape: tuple[int, ...], scale: str, width: int, integer: int
) -> None:
    spread = np.array([0.01, 3.0, 500.0]).reshape(3, *(1,) * (len(shape) - 2))
    weights = RNG.uniform(0, 5, shape[0]) * (RNG.random(shape[0]) > 0.2)
    sample = sample_of(RNG.normal(size=shape) * spread + 7, weights)
    transform = fit_input_transform(sample, InputConfig(width_bits=width, integer_bits=integer, scale=scale))
    for i in range(3):
        flat = sample.features[:, i].reshape(shape[0], -1).astype(float)
        pairs = [(float(w), x) for w, row in zip(weights, flat.tolist(), strict=True) for x in row]
        total = math.fsum(w for w, _ in pairs)
        mean = math.fsum(w * x for w, x in pairs) / total
        sd = math.sqrt(math.fsum(w * (x - mean) ** 2 for w, x in pairs) / total)
        assert transform.offset[i] == pytest.approx(mean, rel=1e-12)
        if scale == "exact":
            assert transform.scale[i] == pytest.approx(sd, rel=1e-12)
        else:
            assert math.frexp(transform.scale[i])[0] == 0.5
            assert 2**-0.5 <= transform.scale[i] / sd <= 2**0.5
    got = transform.apply(sample.features)
    assert got.dtype == np.float32 and got.shape == sample.features.shape
    for index in np.ndindex(*shape):
        i = index[1]
        expected = by_hand(sample.features[index], transform.offset[i], transform.scale[i], width, integer)
        assert float(got[index]) == expected
    codes = transform.fixed.to_code(got)
    np.testing.assert_array_equal(codes * transform.fixed.lsb, got)


def test_ties_round_up_and_the_ends_saturate() -> None:
    fixed = FixedPoint(4, 4, True, Rounding.AP_RND, Overflow.AP_SAT)
    transform = InputTransform(("a",), np.array([1.0]), np.array([2.0]), fixed)
    # (x - 1) / 2 = -8.5 is a tie that rounds up to -8, still in range; 7.5 rounds to 8 and saturates to 7.
    x = np.array([[-16.0], [-16.1], [-100.0], [16.0], [15.9], [2.0], [0.0], [1.9]], dtype=np.float32)
    assert transform.apply(x).ravel().tolist() == [-8, -8, -8, 7, 7, 1, 0, 0]
    assert transform.saturated_fraction(x).tolist() == [3 / 8]


def test_saturated_fraction_counts_codes_outside_the_range() -> None:
    features = RNG.standard_t(2, size=(5000, 2, 3)).astype(np.float32)
    narrow = FixedPoint(6, 2, True, Rounding.AP_RND, Overflow.AP_SAT)
    wide = FixedPoint(40, 36, True, Rounding.AP_RND, Overflow.AP_SAT)
    transform = InputTransform(("a", "b"), np.array([0.5, -1.0]), np.array([1.0, 0.25]), narrow)
    codes = wide.to_code((features - np.array([0.5, -1.0])[:, None]) / np.array([1.0, 0.25])[:, None])
    outside = (codes < narrow.min_code) | (codes > narrow.max_code)
    got = transform.saturated_fraction(features)
    assert got.tolist() == [outside[:, i].sum() / 15000 for i in range(2)]
    assert 0 < got[0] < got[1] < 1


def test_chunks_do_not_show() -> None:
    features = RNG.normal(size=(3_000, 2, 400)).astype(np.float32)  # 2.4 million values: three chunks
    fixed = FixedPoint(8, 3, True, Rounding.AP_RND, Overflow.AP_SAT)
    transform = InputTransform(("a", "b"), np.array([0.1, -0.2]), np.array([1.5, 0.5]), fixed)
    whole = (features.astype(np.float64) - np.array([[0.1], [-0.2]])) / np.array([[1.5], [0.5]])
    np.testing.assert_array_equal(transform.apply(features), fixed.quantize(whole).astype(np.float32))


def test_equal_columns_get_equal_transforms_and_constants_stay_put() -> None:
    column = RNG.normal(size=4001).astype(np.float32) * 3 + 0.1
    constant = np.full(4001, 0.1, dtype=np.float32)
    features = np.stack([column, constant, RNG.normal(size=4001).astype(np.float32), column], axis=1)
    for scale in ("exact", "power_of_two"):
        sample = sample_of(features, RNG.uniform(0, 1, 4001))
        transform = fit_input_transform(sample, InputConfig(scale=scale))
        assert transform.offset[0] == transform.offset[3] and transform.scale[0] == transform.scale[3]
        assert transform.scale[1] == 1.0 and transform.offset[1] == float(np.float32(0.1))
        codes = transform.apply(features)
        assert (codes[:, 1] == 0).all()
        np.testing.assert_array_equal(codes[:, 0], codes[:, 3])


def test_rows_of_weight_zero_have_no_say() -> None:
    features = RNG.normal(size=(100, 1)).astype(np.float32)
    weights = np.ones(100)
    weights[50:] = 0
    full = fit_input_transform(sample_of(features, weights), InputConfig(scale="exact"))
    half = fit_input_transform(sample_of(features[:50]), InputConfig(scale="exact"))
    assert full.to_dict() == half.to_dict()
    one_value = np.where(weights[:, None] > 0, np.float32(3), features)
    constant = fit_input_transform(sample_of(one_value, weights), InputConfig(scale="exact"))
    assert (constant.offset[0], constant.scale[0]) == (3.0, 1.0)
    # Doubling a weight is repeating the row; the unit of the weights does not matter.
    doubled = fit_input_transform(sample_of(features[:50], np.full(50, 2e200)), InputConfig(scale="exact"))
    assert doubled.offset[0] == pytest.approx(half.offset[0], rel=1e-12)
    assert doubled.scale[0] == pytest.approx(half.scale[0], rel=1e-12)


def test_json_restores_the_last_bit_and_select_reorders() -> None:
    sample = sample_of(RNG.normal(size=(500, 4)) * np.pi)
    transform = fit_input_transform(sample, InputConfig(scale="exact", width_bits=12, integer_bits=5))
    restored = InputTransform.from_dict(json.loads(json.dumps(transform.to_dict())))
    np.testing.assert_array_equal(restored.apply(sample.features), transform.apply(sample.features))
    assert restored.to_dict() == transform.to_dict()
    assert restored.fixed == FixedPoint(12, 5, True, Rounding.AP_RND, Overflow.AP_SAT)
    selected = transform.select([3, 1])
    assert selected.feature_names == ("f3", "f1")
    np.testing.assert_array_equal(
        selected.apply(sample.features[:, [3, 1]]), transform.apply(sample.features)[:, [3, 1]]
    )


def test_what_a_transform_refuses() -> None:
    fixed = FixedPoint(10, 4, True, Rounding.AP_RND, Overflow.AP_SAT)
    good = InputTransform(("a", "b"), np.zeros(2), np.ones(2), fixed)
    with pytest.raises(DataError, match=r"\(5, 3\), expected \(events, 2"):
        good.apply(np.zeros((5, 3), np.float32))
    with pytest.raises(DataError, match=r"index 2 is outside 0\.\.1"):
        good.select([0, 2])
    with pytest.raises(DataError, match=r"'b' has offset 0\.0, scale 0\.0"):
        InputTransform(("a", "b"), np.zeros(2), np.array([1.0, 0.0]), fixed)
    with pytest.raises(DataError, match="24 bits"):
        InputTransform(("a",), np.zeros(1), np.ones(1), FixedPoint(25, 4))
    with pytest.raises(DataError, match="'scale' is missing"):
        InputTransform.from_dict({"feature_names": ["a"], "offset": [0.0]})


def hardware_integers(n: int = 2000) -> EventSample:
    columns = [RNG.poisson(60, n), RNG.integers(-57, 58, n), RNG.integers(0, 2048, n), np.full(n, 3)]
    sample = sample_of(np.stack(columns, axis=1))
    lsb, units = (0.5, 0.0435, 0.5, 1.0), ("GeV", "", "GeV", "")
    return EventSample(**{**vars(sample), "feature_lsb": lsb, "feature_units": units})


@pytest.mark.parametrize("offset", ["integer", "none"])
def test_hardware_integers_become_shifted_bits_without_arithmetic_on_fractions(offset: str) -> None:
    sample = hardware_integers()
    config = InputConfig(width_bits=20, integer_bits=9, offset=offset)
    transform = fit_input_transform(sample, config)
    assert (transform.offset == np.round(transform.offset)).all()
    if offset == "none":
        assert transform.offset.tolist() == [0, 0, 0, 3]
    else:
        means = sample.features.astype(float).mean(axis=0)
        assert np.abs(transform.offset - means).max() <= 0.5
    assert (np.frexp(transform.scale)[0] == 0.5).all()
    # enough bits on both sides: nothing is rounded, the integer comes back
    back = transform.apply(sample.features) * transform.scale + transform.offset
    assert (back == sample.features).all()


def test_the_size_of_a_step_travels_with_the_transform() -> None:
    transform = fit_input_transform(hardware_integers(), InputConfig(offset="integer"))
    again = InputTransform.from_dict(json.loads(json.dumps(transform.to_dict())))
    assert again.lsb == (0.5, 0.0435, 0.5, 1.0)
    assert again.select((2, 0)).units == ("GeV", "GeV")
    assert again.select((1,)).lsb == (0.0435,)


def test_by_unit_keeps_equal_momenta_equal_whatever_their_step() -> None:
    n = 4000
    jet, muon = RNG.exponential(60, n), RNG.exponential(9, n) * (RNG.random(n) < 0.05)
    eta = RNG.integers(-57, 58, n)
    features = np.stack([np.round(jet / 0.5), np.round(muon / 0.25), eta, np.full(n, 7)], axis=1)
    sample = sample_of(features)
    units = {"feature_lsb": (0.5, 0.25, 0.0435, 0.5), "feature_units": ("GeV", "GeV", "", "GeV")}
    transform = fit_input_transform(EventSample(**{**vars(sample), **units}), InputConfig(scale="by_unit"))
    # steps of 0.25 GeV need twice the scale of steps of 0.5 GeV; the muons alone would have asked for far less
    assert transform.scale[1] == 2 * transform.scale[0]
    assert 2**-0.5 <= transform.scale[0] / features[:, 0].std() <= 2**0.5
    assert 2**-0.5 <= transform.scale[2] / eta.std() <= 2**0.5
    assert transform.scale[3] == 1.0
    with pytest.raises(DataError, match="by_unit needs features of known step"):
        fit_input_transform(sample, InputConfig(scale="by_unit"))

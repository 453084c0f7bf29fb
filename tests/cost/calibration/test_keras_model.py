from __future__ import annotations

import numpy as np

from trigger_prune.synthesis.calibration.keras_model import quantized, weight_scale


def bits(**config: object) -> dict[str, object]:
    return {"class_name": "quantized_bits", "config": {"bits": 4, "integer": 1, "keep_negative": True, **config}}


def test_quantized_bits_by_hand() -> None:
    values = np.array([-5.0, -2.0, -0.13, -0.12, 0.0, 0.12, 0.38, 1.7, 5.0])
    # 4 bits, sign and one integer bit: steps of 1/4 from -2 to 1.75.
    expected = [-2.0, -2.0, -0.25, 0.0, 0.0, 0.0, 0.5, 1.75, 1.75]
    np.testing.assert_array_equal(quantized(values, bits(alpha=1)), expected)
    # A symmetric quantiser leaves out the lowest step; an unsigned one everything below zero.
    assert quantized(values, bits(symmetric=1)).min() == -1.75  # type: ignore[union-attr]
    assert quantized(values, bits(keep_negative=False)).min() == 0.0  # type: ignore[union-attr]


def test_scale_is_left_to_a_layer_of_its_own() -> None:
    values = np.array([0.25, -0.5])
    np.testing.assert_array_equal(quantized(values, bits(alpha=2)), values)
    assert weight_scale(bits(alpha=2)) == 2.0
    assert weight_scale(bits(alpha=1)) is None
    assert weight_scale(bits(alpha="auto")) is None
    assert weight_scale(None) is None


def test_unknown_quantisers_give_no_weights() -> None:
    values = np.array([0.25, -0.5])
    assert quantized(values, bits(alpha="auto_po2")) is None
    assert quantized(values, {"class_name": "ternary", "config": {}}) is None
    np.testing.assert_array_equal(quantized(values, None), values)

from __future__ import annotations

import numpy as np
import pytest

from trigger_prune.synthesis.calibration.drafts import drafts_from_keras
from trigger_prune.synthesis.calibration.keras_model import KerasLayer, quantized, weight_scale
from trigger_prune.synthesis.calibration.project_config import ProjectConfig


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


@pytest.mark.parametrize(
    ("io_type", "elements", "positions"), [("io_stream", 4, (10,)), ("io_parallel", 40, ())], ids=["stream", "parallel"]
)
def test_activations_behind_a_convolution(io_type: str, elements: int, positions: tuple[int, ...]) -> None:
    layers = (
        KerasLayer("in", "InputLayer", 1, {"batch_input_shape": [None, 12, 3]}),
        KerasLayer("conv", "Conv1D", 2, {"kernel_size": [3], "strides": [1]}, np.ones((3, 3, 4)), np.zeros(4)),
        KerasLayer("act", "Activation", 3, {"activation": "relu"}),
        KerasLayer("flat", "Flatten", 4, {}),
        KerasLayer("fc", "Dense", 5, {"units": 2}),
        KerasLayer("out", "Softmax", 6, {}),
    )
    named = {"conv": {"ParallelizationFactor": 5}}
    config = ProjectConfig("toy", "Vitis", None, None, io_type, {"Precision": "fixed<16,6>"}, named)
    conv, act, fc, out = (draft.layer for draft in drafts_from_keras(layers, config, None))
    assert (conv.output_size, conv.parallelization_factor) == ((10,), 5)
    assert (act.n_in, act.n_out, act.output_size) == (elements, elements, positions)
    assert (fc.n_in, fc.n_out, fc.parallelization_factor) == (40, 2, 1)
    assert (out.n_out, out.output_size) == (2, ())

from __future__ import annotations

import pytest

from trigger_prune.cost.calibration.module_names import is_hls4mls_own, kind_of, parse_module, parse_template
from trigger_prune.fixed_point import FixedPoint

WIDE, PLAIN = FixedPoint(16, 4), FixedPoint(8, 2)
POSITIVE = FixedPoint(6, 0, False, "AP_RND_CONV", "AP_SAT")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "function", "input_type", "output_type", "config"),
    [
        ("dense_latency_ap_fixed_8_2_5_3_0_ap_fixed_16_4_5_3_0_config12_s", "dense_latency", PLAIN, WIDE, "config12"),
        ("relu_ap_fixed_16_4_5_3_0_ap_ufixed_6_0_4_0_0_relu_config4", "relu", WIDE, POSITIVE, "relu_config4"),
        (
            "softmax_stable_ap_fixed_ap_fixed_16_4_5_3_0_softmax_config7_s",
            "softmax_stable",
            None,
            WIDE,
            "softmax_config7",
        ),
        ("dense_latency_0_0_0_0_0_0_1", "dense_latency", None, None, None),
        ("zeropad2d_cl_me_ap_fixed_ap_fixed_config5", "zeropad2d_cl_me", None, None, "config5"),
        ("sigmoid_ap_fixed_ap_fixed_sigmoid_config2_recr", "sigmoid", None, None, "sigmoid_config2_recr"),
        ("dense_array_ap_fixed_16u_array_ap_fixed_16_4_5_3_0_5u_config10", "dense", None, WIDE, "config10"),
        # wider than any type: not known, and the other keeps its place
        ("dense_wrapper_ap_fixed_8_2_5_3_0_ap_fixed_60_33_5_3_0_config4", "dense_wrapper", PLAIN, None, "config4"),
    ],
)
def test_module_names(
    name: str, function: str, input_type: FixedPoint | None, output_type: FixedPoint | None, config: str | None
) -> None:
    found = parse_module(name)
    assert (found.function, found.input_type, found.output_type, found.config) == (
        function,
        input_type,
        output_type,
        config,
    )


def test_templates_of_logs() -> None:
    wide, positive = "ap_fixed<16, 4, (ap_q_mode)5, (ap_o_mode)3, 0>", "ap_ufixed<6, 0, (ap_q_mode)4, (ap_o_mode)0, 0>"
    text = f"nnet::relu<{wide}, {positive}, relu_config4>"
    found = parse_template(text)
    assert (found.function, found.input_type, found.output_type, found.config) == (
        "relu",
        WIDE,
        POSITIVE,
        "relu_config4",
    )
    assert parse_template("relu<ap_fixed<16, 4, 5, 3, 0>, ap_ufixed<6, 0, 4, 0, 0>, relu_config4>") == found


def test_kinds() -> None:
    names = ("dense_resource_rf_gt_nin_rem0", "conv_2d_cl_me", "normalize", "pooling2d_cl", "lstm_stack", "Loop_1_proc")
    assert [kind_of(name) for name in names] == ["dense", "conv2d", "batchnorm", "max_pool", "other", "other"]


def test_variants_that_a_project_made_are_told_from_hls4mls_own() -> None:
    own = ("conv_2d_cl", "conv_1d_latency_cl", "pointwise_conv_2d_cl", "pooling2d_cl", "global_pooling1d_cl")
    own += ("zeropad1d_cl", "leaky_relu", "dense_latency", "relu", "softmax_stable", "conv_2d_resource_cl")
    assert all(is_hls4mls_own(name) for name in own)
    others = ("conv_2d_cl_me", "pooling2d_large_cl_nopad_pad_me", "zeropad2d_cl_me", "leaky_relu_me", "my_conv_2d_cl")
    assert not any(is_hls4mls_own(name) for name in others)

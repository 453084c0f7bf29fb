"""Networks from integer weights, against rational arithmetic written out here."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import integer_reference
import numpy as np
import onnx
import pytest
import torch
from integer_reference import Geometry
from torch import fx

from trigger_prune.errors import ExportError, FixedPointError, ModelError
from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.from_integers import from_integers
from trigger_prune.quantize.integer_layers import (
    FlattenLayer,
    IntegerLayer,
    Layer,
    MaxPoolLayer,
    average_layer,
    channels_first_columns,
    codes_on_grid,
    conv_from_hls,
    dense_from_hls,
    narrowest_type,
    scale_layer,
)
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.target import Target
from trigger_prune.verify.representations import Exported, torch_outputs, verify_network, write_lowered

P = FixedPoint.parse
INPUT = P("fixed<6,3>")
WEIGHT = P("fixed<5,2>")
BIAS = P("fixed<7,3>")


def _converted(value: Fraction, fixed: FixedPoint) -> Fraction:
    """ap_fixed conversion by its definition."""
    scaled = value * Fraction(2) ** fixed.fraction
    code = {
        Rounding.AP_TRN: math.floor(scaled),
        Rounding.AP_TRN_ZERO: math.trunc(scaled),
        Rounding.AP_RND: math.floor(scaled + Fraction(1, 2)),
        Rounding.AP_RND_CONV: round(scaled),
        Rounding.AP_RND_INF: int(math.copysign(math.floor(abs(scaled) + Fraction(1, 2)), scaled)),
    }[fixed.rounding]
    span = 1 << fixed.width
    low = -(span >> 1) if fixed.signed else 0
    high = low + span - 1
    code = (code - low) % span + low if fixed.overflow is Overflow.AP_WRAP else min(max(code, low), high)
    return code / Fraction(2) ** fixed.fraction


def _dense(layers: list[IntegerLayer], event: np.ndarray) -> list[Fraction]:
    x = [Fraction(float(value)) for value in event]
    for layer in layers:
        lsb = Fraction(1) / Fraction(2) ** layer.weight_type.fraction
        sums = [sum((int(w) * lsb * v for w, v in zip(row, x, strict=True)), Fraction(0)) for row in layer.weight]
        if layer.bias is not None and layer.bias_type is not None:
            step = Fraction(1) / Fraction(2) ** layer.bias_type.fraction
            sums = [s + int(b) * step for s, b in zip(sums, layer.bias, strict=True)]
        x = [max(s, Fraction(0)) for s in sums] if layer.relu else sums
        if layer.output_type is not None:
            x = [_converted(value, layer.output_type) for value in x]
    return x


def _events(fixed: FixedPoint, shape: tuple[int, ...], n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(4)
    codes = rng.integers(fixed.min_code, fixed.max_code, (n, *shape), endpoint=True)
    codes[: n // 4] = rng.choice([fixed.min_code, fixed.max_code], (n // 4, *shape))
    return (codes * fixed.lsb).astype(np.float32)


def _layer(n_out: int, n_in: int, seed: int = 0, **more: object) -> IntegerLayer:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-16, 16, (n_out, n_in))
    weight[rng.random(weight.shape) < 0.3] = 0
    made = IntegerLayer(f"dense{seed}", "dense", weight, WEIGHT, rng.integers(-64, 64, n_out), BIAS)
    return replace(made, **more)  # type: ignore[arg-type]


def _outputs(network: fx.GraphModule, events: np.ndarray) -> np.ndarray:
    return torch_outputs(network, events, double=True)


_MODES = list(
    itertools.product(("AP_TRN", "AP_TRN_ZERO", "AP_RND", "AP_RND_CONV", "AP_RND_INF"), ("AP_SAT", "AP_WRAP"))
)


@pytest.mark.parametrize(("rounding", "overflow"), _MODES)
@pytest.mark.parametrize("wire", ["ufixed<5,3", "fixed<5,2", "ufixed<12,8", "fixed<4,6", "fixed<14,8"])
@pytest.mark.parametrize("relu", [True, False])
def test_outputs_are_those_of_rational_arithmetic(rounding: str, overflow: str, wire: str, relu: bool) -> None:
    fixed = P(f"{wire},{rounding},{overflow}>")
    last = _layer(3, 5, seed=1, output_type=P(f"fixed<7,4,{rounding},{overflow}>"))
    layers = [_layer(5, 7, relu=relu, output_type=fixed), last]
    events = _events(INPUT, (7,))
    expected = np.array([[float(v) for v in _dense(layers, event)] for event in events])
    np.testing.assert_array_equal(_outputs(from_integers(layers, INPUT, (7,)), events), expected)


def test_full_accumulator_of_the_last_layer_is_passed_on() -> None:
    layers = [_layer(4, 6)]
    events = _events(INPUT, (6,))
    expected = np.array([[float(v) for v in _dense(layers, event)] for event in events])
    np.testing.assert_array_equal(_outputs(from_integers(layers, INPUT, (6,)), events), expected)


def test_the_described_network_holds_the_given_codes() -> None:
    layers = [_layer(5, 7, relu=True, output_type=P("ufixed<5,3,RND_CONV,SAT>")), _layer(3, 5, seed=1)]
    spec = describe_network(from_integers(layers, INPUT, (7,)))
    for described, given in zip(spec.layers, layers, strict=True):
        np.testing.assert_array_equal(described.weight, given.weight)
        np.testing.assert_array_equal(described.bias * described.bias_type.lsb, given.bias * BIAS.lsb)
        assert (described.weight_type.width, described.weight_type.integer) == (5, 2)
    assert spec.layers[0].output_type == P("ufixed<5,3,RND_CONV,SAT>")
    assert spec.layers[0].relu and not spec.layers[1].relu


def test_half_an_lsb_in_the_bias_replaces_rounding_up() -> None:
    layer = _layer(4, 6, relu=True, output_type=P("ufixed<5,3,RND,SAT>"))
    described = describe_network(from_integers([layer], INPUT, (6,))).layers[0]
    np.testing.assert_array_equal(described.bias * described.bias_type.lsb, layer.bias * BIAS.lsb + 2.0**-3)
    assert described.output_type == P("ufixed<5,3,TRN,SAT>")


@pytest.mark.parametrize(
    ("bias", "output", "wraps"),
    [
        # the largest sum is 7 + bias / 16; fixed<8,4> ends at 7 + 15 / 16, fixed<7,4> at 7 + 14 / 16
        (15, "fixed<8,4,TRN,WRAP>", False),
        (16, "fixed<8,4,TRN,WRAP>", True),
        (15, "fixed<7,4,TRN,WRAP>", False),
        (15, "fixed<7,4,RND,WRAP>", True),
        (15, "fixed<7,4,RND_CONV,WRAP>", True),
        (14, "fixed<7,4,RND_CONV,WRAP>", False),
        (16, "ufixed<8,4,TRN,WRAP>", False),
        (-1, "ufixed<8,4,TRN,WRAP>", True),
    ],
)
def test_a_wrap_that_cannot_act_is_exported_and_one_that_can_is_refused(bias: int, output: str, wraps: bool) -> None:
    layer = IntegerLayer("d", "dense", np.array([[8]]), P("fixed<6,3>"), np.array([bias]), P("fixed<8,4>"))
    network = from_integers([replace(layer, output_type=P(output))], P("ufixed<3,3>"), (1,))
    described = describe_network(network).layers[0].output_type
    assert described is not None and (described.overflow is Overflow.AP_WRAP) == wraps
    events = np.arange(8, dtype=np.float32).reshape(-1, 1)
    expected = [float(_converted(int(x[0]) + Fraction(bias, 16), P(output))) for x in events]
    np.testing.assert_array_equal(_outputs(network, events).ravel(), expected)
    if wraps:
        with pytest.raises(ExportError, match="d_quant"):
            to_qonnx(network)
    else:
        to_qonnx(network)


def test_a_relu_keeps_an_unsigned_type_from_wrapping() -> None:
    layer = IntegerLayer("d", "dense", np.array([[-8], [8]]), P("fixed<6,3>"), relu=True, output_type=P("ufixed<4,4>"))
    described = describe_network(from_integers([layer], P("ufixed<3,3>"), (1,))).layers[0]
    assert described.output_type == P("ufixed<4,4,TRN,SAT>")
    unprotected = describe_network(from_integers([replace(layer, relu=False)], P("ufixed<3,3>"), (1,))).layers[0]
    assert unprotected.output_type == P("ufixed<4,4,TRN,WRAP>")


def test_a_rounding_that_drops_nothing_is_exported() -> None:
    layer = _layer(2, 2, output_type=P("fixed<20,10,RND_INF,SAT>"))
    network = from_integers([layer], INPUT, (2,))
    assert describe_network(network).layers[0].output_type == P("fixed<20,10,TRN,SAT>")
    to_qonnx(network)


def test_unsigned_weights_and_biases_keep_their_largest_codes() -> None:
    layer = IntegerLayer("d", "dense", np.array([[15, 8]]), P("ufixed<4,2>"), np.array([1]), P("ufixed<1,1>"))
    network = from_integers([layer], INPUT, (2,))
    assert _outputs(network, np.array([[1, 2]], dtype=np.float32)) == 15 / 4 + 2 * 2 + 1
    described = describe_network(network).layers[0]
    assert described.weight.tolist() == [[15, 8]]
    assert (described.weight_type.width, described.weight_type.signed) == (5, True)


def test_pruning_and_frozen_weights() -> None:
    layers: list[Layer] = [
        _layer(5, 7, relu=True, output_type=P("ufixed<5,3,TRN,SAT>")),
        scale_layer("norm", np.arange(1, 6), WEIGHT, None, None, output_type=P("fixed<9,5,TRN,SAT>")),
        _layer(3, 5, seed=1),
    ]
    network = from_integers(layers, INPUT, (7,))
    found = weight_layers(network)
    assert [layer.weight.requires_grad for layer in found.values()] == [True, False, True]
    before = describe_network(network).layers[0].nonzeros
    with torch.no_grad():
        found["dense0"].weight_mask[0] = 0
    assert describe_network(network).layers[0].nonzeros == before - np.count_nonzero(layers[0].weight[0])  # type: ignore[union-attr]


# --- constructors ---------------------------------------------------------------------------------------------------


def test_dense_weights_lie_input_by_input_in_hls4ml() -> None:
    flat = np.arange(12.0)
    weight = dense_from_hls(flat, 4, 3, "w")
    assert all(weight[j, i] == flat[i * 3 + j] for i in range(4) for j in range(3))
    assert all(
        dense_from_hls(flat, 4, 3, "w", transposed=True)[j, i] == flat[j * 4 + i] for i in range(4) for j in range(3)
    )
    with pytest.raises(ModelError, match="w2: the array holds 12 values, the layer has 15"):
        dense_from_hls(flat, 5, 3, "w2")


def test_convolution_weights_lie_channels_last_in_hls4ml() -> None:
    h, w, c, f = 2, 3, 4, 5
    flat = np.arange(float(h * w * c * f))
    plain = conv_from_hls(flat, (h, w), c, f, "w")
    resource = conv_from_hls(flat, (h, w), c, f, "w", transposed=True)
    for a, b, i, o in itertools.product(range(h), range(w), range(c), range(f)):
        assert plain[o, i, a, b] == flat[((a * w + b) * c + i) * f + o]
        assert resource[o, i, a, b] == flat[((o * h + a) * w + b) * c + i]


def test_columns_behind_a_flattened_image() -> None:
    weight = np.arange(2.0 * 24).reshape(2, 24)
    found = channels_first_columns(weight, (2, 3), 4)
    for o, a, b, i in itertools.product(range(2), range(2), range(3), range(4)):
        assert found[o, (i * 2 + a) * 3 + b] == weight[o, (a * 3 + b) * 4 + i]
    with pytest.raises(ModelError, match="24 columns"):
        channels_first_columns(weight, (2, 3), 5)


@pytest.mark.parametrize("axes", [0, 1, 2])
def test_a_scale_acts_on_each_channel(axes: int) -> None:
    scale, offset = np.array([3, -7, 11]), np.array([5, 0, -9])
    layer = scale_layer("s", scale, WEIGHT, offset, BIAS, axes=axes)
    shape = (3, 4, 5)[: 1 + axes]
    events = _events(INPUT, shape)
    broadcast = (3, *[1] * axes)
    expected = events * (scale * WEIGHT.lsb).reshape(broadcast) + (offset * BIAS.lsb).reshape(broadcast)
    np.testing.assert_array_equal(
        _outputs(from_integers([layer], INPUT, shape), events), expected.reshape(len(events), -1)
    )


@pytest.mark.parametrize("length", [2, 3, 5, 7, 10, 16, 50])
@pytest.mark.parametrize("target", ["fixed<16,6>", "ufixed<5,2>", "ufixed<9,4>"])
def test_an_average_truncates_the_exact_quotient(length: int, target: str) -> None:
    source, fixed = P("ufixed<4,2>"), P(target)
    layer = average_layer("mean", 1, length, source, fixed)
    sums = np.arange(15 * length + 1)
    events = np.zeros((len(sums), 1, length), dtype=np.float32)
    for event, total in zip(events, sums, strict=True):
        event[0, : total // 15] = 15 * source.lsb
        if total % 15:
            event[0, total // 15] = total % 15 * source.lsb
    expected = [math.floor(Fraction(int(t), 4 * length) * 2**fixed.fraction) * fixed.lsb for t in sums]
    network = from_integers([layer], source, (1, length))
    np.testing.assert_array_equal(_outputs(network, events).ravel(), expected)


def test_an_average_of_signed_values_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'mean' averages signed values"):
        average_layer("mean", 2, 3, P("fixed<4,2>"), P("fixed<8,4>"))


def test_the_narrowest_type_holds_everything_and_one_bit_less_does_not() -> None:
    rng = np.random.default_rng(9)
    for _ in range(200):
        values = rng.integers(-40, 40, 5) * 2.0 ** int(rng.integers(-6, 6)) * (rng.random(5) < 0.8)
        found = narrowest_type(values, "w")
        assert found.contains(values).all()
        if found.width > 2:
            smaller = [FixedPoint(found.width - 1, integer) for integer in range(-20, 20)]
            assert not any(fixed.contains(values).all() for fixed in smaller)
    with pytest.raises(FixedPointError, match="w7: no fixed-point type"):
        narrowest_type([0.1, 1.0 / 3.0, 2.0**40], "w7")


# --- errors ---------------------------------------------------------------------------------------------------------


def test_a_value_off_its_grid_is_named() -> None:
    with pytest.raises(FixedPointError, match=r"w2: 2 of 6 values .* first: 0\.3 at index \[0, 2\]"):
        codes_on_grid([[0.25, -2.0, 0.3], [1.75, 2.0, 0.0]], P("fixed<4,2>"), "w2")
    with pytest.raises(FixedPointError, match="nan"):
        codes_on_grid([0.0, np.nan], P("fixed<4,2>"), "w2")


_WIDE = np.array([[2**24 + 1]])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "no layer with weights"),
        ([FlattenLayer("f")], "no layer with weights"),
        ([_layer(2, 7), _layer(2, 2, seed=1)], "'dense1' follows a full accumulator"),
        ([_layer(2, 6)], r"'dense0' .* reads 6 channels; it gets events of shape \(7,\)"),
        ([_layer(2, 7, kind="conv1d")], "conv1d weight has 3 axes, not 2"),
        ([_layer(2, 7, kind="conv3d")], "unknown kind 'conv3d'"),
        ([_layer(2, 7, bias_type=None)], "bias and bias_type go together"),
        ([_layer(2, 7, bias=np.array([1]))], r"\(1,\) biases for 2 outputs"),
        ([_layer(2, 7, name="a b")], "'a b' cannot name a layer"),
        ([_layer(7, 7, output_type=INPUT)] * 2, "'dense0' cannot name a layer"),
        ([MaxPoolLayer("p", (2,)), _layer(2, 7)], r"'p' pools 1 axes of events of shape \(7,\)"),
    ],
)
def test_what_does_not_fit_together(layers: list[Layer], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        from_integers(layers, INPUT, (7,))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": np.array([[16, 0]])}, r"'d', weight: 1 of 2 codes do not fit .* first: 16 at index \[0, 0\]"),
        ({"weight": np.array([[0.5, 0.0]])}, "'d', weight: float64 instead of integer codes"),
        ({"bias": np.array([-65])}, "'d', bias: 1 of 1 codes"),
        ({"weight": np.array([[2**24 + 1, 0]]), "weight_type": P("fixed<30,4>")}, "24 bits that float32 holds"),
    ],
)
def test_codes_that_do_not_fit_their_type(changed: dict[str, object], message: str) -> None:
    layer = replace(IntegerLayer("d", "dense", np.array([[1, 2]]), WEIGHT, np.array([3]), BIAS), **changed)  # type: ignore[arg-type]
    with pytest.raises(FixedPointError, match=message):
        from_integers([layer], INPUT, (2,))


def test_a_kernel_larger_than_its_input_and_sums_beyond_float64() -> None:
    conv = IntegerLayer("c", "conv1d", np.ones((1, 1, 5), dtype=int), WEIGHT, output_type=INPUT)
    with pytest.raises(ModelError, match="'c': a kernel of 5 positions does not fit on 4"):
        from_integers([conv], INPUT, (1, 4))
    wide = IntegerLayer("w", "dense", np.full((1, 4), 2**22), P("fixed<24,4>"))
    with pytest.raises(ModelError, match=r"'w': its sums need 5\d bits"):
        from_integers([wide], P("fixed<32,8>"), (4,))


def test_padded_dilated_strided_convolutions_and_pooling_against_integer_loops() -> None:
    rng = np.random.default_rng(3)
    activation = P("ufixed<6,3,RND_CONV,SAT>")
    layers: list[Layer] = [
        IntegerLayer("a", "conv2d", rng.integers(-16, 16, (4, 1, 3, 3)), WEIGHT, rng.integers(-64, 64, 4), BIAS,
                     relu=True, output_type=activation, padding=1, groups=2),
        MaxPoolLayer("pool", (2, 2)),
        IntegerLayer("b", "conv2d", rng.integers(-16, 16, (3, 4, 2, 2)), WEIGHT, relu=True, output_type=activation,
                     stride=2, dilation=2),
        FlattenLayer("flatten"),
        _layer(2, 3 * 1 * 2),
    ]  # fmt: skip
    network = from_integers(layers, INPUT, (2, 7, 12))
    codes = rng.integers(INPUT.min_code, INPUT.max_code, (20, 2, 7, 12), endpoint=True)
    geometry = {"a": Geometry(padding=1, pool=2), "b": Geometry(stride=2, dilation=2)}
    expected = integer_reference.run(describe_network(network), codes, geometry)
    np.testing.assert_array_equal(_outputs(network, (codes * INPUT.lsb).astype(np.float32)), expected)


# --- every exporter ---------------------------------------------------------------------------------------------------


def test_all_representations_of_a_convolution_with_scale_and_average_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    activation = P("ufixed<7,2,RND_CONV,SAT>")
    layers: list[Layer] = [
        scale_layer("norm", np.array([9, -5, 30]), P("fixed<8,3>"), np.array([3, 0, -7]), P("fixed<8,5>"), axes=1,
                    output_type=P("fixed<9,5,RND,SAT>")),
        IntegerLayer("conv", "conv1d", rng.integers(-16, 16, (4, 3, 1)), WEIGHT, rng.integers(-64, 64, 4), BIAS,
                     relu=True, output_type=activation),
        average_layer("mean", 4, 5, activation, P("fixed<10,4>")),
        FlattenLayer("flatten"),
        _layer(3, 4, relu=True, output_type=P("ufixed<9,4,RND_CONV,SAT>")),
    ]  # fmt: skip
    network = from_integers(layers, INPUT, (3, 5))
    model = to_qonnx(network)
    files = Exported(tmp_path / "model.onnx", tmp_path / "lowered.onnx", tmp_path / "project")
    onnx.save(model, str(files.qonnx_model))
    onnx.save(write_lowered(model, network), str(files.lowered_model))
    write_hls4ml_project(network, files.hls4ml_project, Target(), "net")
    verdict = verify_network(network, files, _events(INPUT, (3, 5), 200), qonnx_events=20)
    assert [(pair.name, pair.mismatches, pair.failure) for pair in verdict.pairs] == [
        (name, 0, None) for name in ("torch_float32", "qonnx", "onnxruntime", "hls4ml_csim", "alkaid")
    ]

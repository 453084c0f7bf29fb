"""Torch networks as descriptions, evaluated by numpy alone, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bridge_networks import INPUT, MODELS, evaluate_description, events, network
from torch import nn

from trigger_prune.errors import ArtefactError, ExportError, ModelError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.qkeras.arithmetic import float_bits
from trigger_prune.qkeras.binary_points import expressible
from trigger_prune.qkeras.bridge import keras_order, qkeras_description, torch_order
from trigger_prune.qkeras.description import (
    PlainNode,
    QuantNode,
    WeightNode,
    completed,
    description_file,
    load_description,
    save_description,
)
from trigger_prune.qkeras.from_torch import describe_for_qkeras
from trigger_prune.qkeras.to_torch import network_from, updated_network
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.graph import is_add
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers
from trigger_prune.verify.representations import accumulator_bits, torch_outputs

CASES = [(name, rounding) for name in MODELS for rounding in ("AP_TRN", "AP_RND_CONV")]
CHAINS = ("mlp", "conv1d", "conv2d", "strided", "signed")


@pytest.mark.parametrize(("name", "rounding"), CASES)
def test_the_description_gives_the_outputs_of_the_network(name: str, rounding: str) -> None:
    torch_network = network(name, rounding)
    features = events(400, MODELS[name][1])
    found = describe_for_qkeras(torch_network)
    expected = torch_outputs(torch_network, features, double=True)
    got = torch_order(evaluate_description(found, keras_order(features)), found)
    np.testing.assert_array_equal(got, expected)
    assert len(np.unique(expected)) > 50
    moved = expressible(found)
    np.testing.assert_array_equal(torch_order(evaluate_description(moved, keras_order(features)), moved), expected)


@pytest.mark.parametrize("name", ["mlp", "conv2d", "deep_sets"])
def test_pruned_weights_and_only_they_are_masked(name: str) -> None:
    torch_network = network(name)
    layers = weight_layers(torch_network)
    for node in describe_for_qkeras(torch_network).weights:
        layer = layers[node.source]
        assert int(node.mask.sum()) == int(layer.weight_mask.sum())
        assert not node.kernel[~node.mask].any()
        assert node.trainable == layer.weight.requires_grad


def test_truncation_of_a_sum_of_wires_is_refused() -> None:
    torch_network = network("residual", "AP_TRN")
    (join,) = [node for node in torch_network.graph.nodes if is_add(node)]
    name = str(next(iter(next(iter(join.users)).users)).target)
    coarse = FixedPoint(4, 4, False, Rounding.AP_TRN, Overflow.AP_SAT)
    torch_network.set_submodule(name, FixedQuantizer(coarse))
    with pytest.raises(ExportError, match="AP_RND_CONV"):
        describe_for_qkeras(torch_network)
    torch_network.set_submodule(name, FixedQuantizer(replace(coarse, rounding=Rounding.AP_RND_CONV)))
    assert describe_for_qkeras(torch_network).weights


def test_a_type_that_wraps_is_refused_by_the_name_of_its_layer() -> None:
    torch_network = network("mlp")
    torch_network.set_submodule("relu1_quant", FixedQuantizer(FixedPoint(6, 2, False)))
    with pytest.raises(ExportError, match="'dense1'"):
        describe_for_qkeras(torch_network)


def test_an_unknown_module_is_refused_by_name() -> None:
    torch_network = network("mlp")

    class Other(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch_network.set_submodule("relu2", Other())
    with pytest.raises(ExportError, match=r"'relu2'.*Other"):
        describe_for_qkeras(torch_network)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("rounding", ["AP_TRN", "AP_RND_CONV"])
def test_a_chain_comes_back_with_its_outputs_masks_and_rounding(name: str, rounding: str) -> None:
    torch_network = network(name, rounding)
    features = events(300, MODELS[name][1])
    back = network_from(qkeras_description(torch_network))
    expected = torch_outputs(torch_network, features, double=True)
    np.testing.assert_array_equal(torch_outputs(back, features, double=True), expected)
    before, after = describe_network(torch_network), describe_network(back)
    for old, new in zip(before.layers, after.layers, strict=True):
        np.testing.assert_array_equal(new.weight, old.weight)
        assert (new.output_type is None) == (old.output_type is None)
        if old.output_type is not None and new.output_type is not None:
            assert new.output_type.rounding == old.output_type.rounding
            assert new.output_type.width == old.output_type.width
    masks = [layer.weight_mask for layer in weight_layers(torch_network).values()]
    for old_mask, layer in zip(masks, weight_layers(back).values(), strict=True):
        assert torch.equal(old_mask, layer.weight_mask)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_new_codes_reach_their_place_in_the_network(name: str) -> None:
    torch_network = network(name, "AP_RND_CONV" if name == "residual" else "AP_TRN")
    description = qkeras_description(torch_network)
    rng = np.random.default_rng(1)

    def trained(node: WeightNode) -> WeightNode:
        codes = rng.integers(node.kernel_type.min_code, node.kernel_type.max_code, size=node.kernel.shape) * node.mask
        bias = node.bias
        if bias is not None and not node.bias_fixed:
            bias = bias + 2 * rng.integers(-3, 4, size=bias.shape)
        return replace(node, kernel=codes if node.trainable else node.kernel, bias=bias)

    nodes = tuple(trained(node) if isinstance(node, WeightNode) else node for node in description.nodes)
    changed = replace(description, nodes=nodes)
    features = events(300, MODELS[name][1])
    expected = torch_order(evaluate_description(changed, keras_order(features)), changed)
    result = updated_network(torch_network, changed)
    np.testing.assert_array_equal(torch_outputs(result, features, double=True), expected)
    assert not np.array_equal(expected, torch_outputs(torch_network, features, double=True))


def test_a_pruned_weight_that_grew_is_refused() -> None:
    torch_network = network("mlp")
    description = qkeras_description(torch_network)
    first = description.weights[0]
    grown = replace(first, kernel=np.where(first.mask, first.kernel, 1))
    changed = replace(description, nodes=(grown, *description.nodes[1:]))
    with pytest.raises(ModelError, match=r"'dense1'.*not zero"):
        updated_network(torch_network, changed)
    with pytest.raises(ModelError, match="layers"):
        updated_network(network("conv1d"), description)


def test_binary_points_left_of_zero_are_moved_into_the_weights() -> None:
    torch_network = network("mlp")
    spec = describe_network(torch_network)
    fixed = spec.layers[0].output_type
    assert fixed is not None
    small = FixedPoint(6, -2, False, Rounding.AP_TRN, Overflow.AP_SAT)
    torch_network.set_submodule("relu1_quant", FixedQuantizer(small))
    large = FixedPoint(6, 9, False, Rounding.AP_TRN, Overflow.AP_SAT)
    torch_network.set_submodule("relu2_quant", FixedQuantizer(large))
    features = events(300, (7,))
    description = qkeras_description(torch_network)
    found = torch_order(evaluate_description(description, features), description)
    np.testing.assert_array_equal(found, torch_outputs(torch_network, features, double=True))
    types = [node.fixed for node in description.nodes if isinstance(node, QuantNode)]
    assert [kept.integer for kept in types] == [0, 5]
    for node, layer in zip(description.weights, spec.layers, strict=True):
        np.testing.assert_array_equal(node.kernel.T, layer.weight)


def test_a_small_activation_at_the_output_cannot_be_moved() -> None:
    description = describe_for_qkeras(network("mlp"))
    head = description.weights[-1]
    last = QuantNode("last", (head.name,), FixedPoint(6, -1, True, Rounding.AP_RND_CONV, Overflow.AP_SAT))
    with pytest.raises(ExportError, match="'last'"):
        expressible(replace(description, nodes=(*description.nodes, last), output="last"))


def test_the_bits_of_the_arithmetic_cover_those_of_the_network() -> None:
    for name in CHAINS:
        torch_network = network(name)
        bits = float_bits(qkeras_description(torch_network))
        assert bits is not None
        # half an accumulator LSB more, and the code that is subtracted
        assert accumulator_bits(torch_network) <= bits <= accumulator_bits(torch_network) + 6
    unknown = replace(qkeras_description(network("mlp")), input_type=None)
    assert float_bits(unknown) is None


@pytest.mark.parametrize("name", ["conv2d", "deep_sets"])
def test_a_stored_description_is_the_same(name: str, tmp_path: Path) -> None:
    description = qkeras_description(network(name))
    save_description(description, tmp_path / "net.bridge.npz")
    found = load_description(tmp_path / "net.bridge.npz")
    features = keras_order(events(50, MODELS[name][1]))
    np.testing.assert_array_equal(evaluate_description(found, features), evaluate_description(description, features))
    for old, new in zip(description.nodes, found.nodes, strict=True):
        plain = {key: value for key, value in vars(old).items() if not isinstance(value, np.ndarray)}
        assert plain == {key: value for key, value in vars(new).items() if not isinstance(value, np.ndarray)}
    assert (found.input_type, found.output_order) == (description.input_type, description.output_order)


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.bridge.npz"
    save_description(qkeras_description(network("mlp")), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ArtefactError, match=r"net\.bridge\.npz"):
        load_description(path)


def test_a_description_beside_the_model_adds_what_the_model_does_not_say(tmp_path: Path) -> None:
    known = qkeras_description(network("mlp"))
    model = tmp_path / "net.h5"
    save_description(known, description_file(model))
    wide = replace(known.weights[0], kernel_type=FixedPoint(20, 15), mask=known.weights[0].kernel != 0, source="")
    wide = replace(wide, kernel_type=FixedPoint(20, 20 - known.weights[0].kernel_type.fraction))
    found = completed(replace(known, nodes=(wide, *known.nodes[1:]), input_type=None), model)
    assert found.input_type == INPUT
    assert found.weights[0].kernel_type == known.weights[0].kernel_type
    np.testing.assert_array_equal(found.weights[0].mask, known.weights[0].mask)
    save_description(qkeras_description(network("conv1d")), description_file(model))
    with pytest.raises(ArtefactError, match="another model"):
        completed(known, model)


def test_what_does_not_come_back_is_named() -> None:
    description = qkeras_description(network("mlp"))
    with pytest.raises(ModelError, match="--input-type"):
        network_from(replace(description, input_type=None))
    softmax = PlainNode("softmax", (description.output,), "softmax")
    headed = replace(description, nodes=(*description.nodes, softmax), output="softmax")
    with pytest.raises(ModelError, match="--strip-head"):
        network_from(headed)
    features = events(100, (7,))
    np.testing.assert_array_equal(
        torch_outputs(network_from(headed, strip_head=True), features, double=True),
        evaluate_description(description, features),
    )
    with pytest.raises(ModelError, match="chain"):
        network_from(qkeras_description(network("residual", "AP_RND_CONV")))


def test_a_quantiser_at_the_front_says_what_the_inputs_are() -> None:
    description = qkeras_description(network("mlp"))
    first = QuantNode("front", (description.input_name,), FixedPoint(8, 3, True, Rounding.AP_RND_CONV, Overflow.AP_SAT))
    second = replace(description.nodes[0], inputs=("front",))
    found = network_from(replace(description, nodes=(first, second, *description.nodes[1:]), input_type=None))
    features = events(100, (7,))
    np.testing.assert_array_equal(
        torch_outputs(found, features, double=True), evaluate_description(description, features)
    )

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import small_networks
import torch
from onnx import numpy_helper
from torch import fx, nn

from trigger_prune.errors import ExportError
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers


def _quant_types(model: onnx.ModelProto) -> tuple[list[tuple[np.ndarray, FixedPoint]], list[FixedPoint]]:
    """Constants with their types, and the types on wires, read from the file's own numbers."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    on_constants, on_wires = [], []
    for node in model.graph.node:
        if node.op_type != "Quant":
            continue
        assert node.domain == "qonnx.custom_op.general"
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        scale, zero_point, width = (constants[name].item() for name in node.input[1:])
        assert zero_point == 0
        fixed = FixedPoint(
            int(width),
            int(width) + int(np.log2(scale)),
            bool(attributes["signed"]),
            {b"FLOOR": "AP_TRN", b"ROUND": "AP_RND_CONV"}[attributes["rounding_mode"]],
            "AP_SAT_SYM" if attributes["narrow"] else "AP_SAT",
        )
        assert fixed.lsb == scale
        if node.input[0] in constants:
            on_constants.append((constants[node.input[0]], fixed))
        else:
            on_wires.append(fixed)
    return on_constants, on_wires


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_every_quant_node_has_the_type_of_its_layer_and_constants_are_codes(
    name: str, request: pytest.FixtureRequest
) -> None:
    network: fx.GraphModule = request.getfixturevalue(name)
    model = to_qonnx(network)
    assert model.opset_import[0].version == 13
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [1, *network.meta["input_shape"]]
    on_constants, on_wires = _quant_types(model)
    expected = []
    for layer in describe_network(network).layers:
        expected.append((layer.weight * layer.weight_type.lsb, layer.weight_type))
        if layer.kind == "dense" or layer.bias.any():
            expected.append((layer.bias * layer.bias_type.lsb, layer.bias_type))
    assert len(on_constants) == len(expected)
    for (found, found_type), (values, fixed) in zip(on_constants, expected, strict=True):
        assert found_type == fixed
        np.testing.assert_array_equal(found, values)
    assert on_wires == [
        network.get_submodule(node.target).fixed
        for node in network.graph.nodes
        if node.op == "call_module" and isinstance(network.get_submodule(node.target), FixedQuantizer)
    ]


def test_masked_weights_are_zero_in_the_file(mlp: fx.GraphModule) -> None:
    stored = [values for values, _ in _quant_types(to_qonnx(mlp))[0] if values.ndim == 2]
    for values, layer in zip(stored, weight_layers(mlp).values(), strict=True):
        masked = layer.weight_mask.numpy() == 0
        assert masked.sum() > 4
        assert (layer.weight.detach().numpy()[masked] != 0).any()  # the master weight is not zero, the mask is
        assert not values[masked].any()


def test_export_does_not_touch_the_network(mlp: fx.GraphModule) -> None:
    before = copy.deepcopy(mlp.state_dict())
    mlp.train()
    to_qonnx(mlp)
    assert mlp.training
    assert all(torch.equal(before[key], value) for key, value in mlp.state_dict().items())


@pytest.mark.parametrize("text", ["ap_ufixed<6,2,AP_TRN,AP_WRAP>", "ap_ufixed<6,2,AP_RND,AP_SAT>"])
def test_types_that_quant_cannot_express_are_refused_by_name(mlp: fx.GraphModule, text: str) -> None:
    network = copy.deepcopy(mlp)
    name = next(name for name, module in network.named_modules() if isinstance(module, FixedQuantizer))
    network.set_submodule(name, FixedQuantizer(FixedPoint.parse(text)))
    with pytest.raises(ExportError, match=rf"quantiser '{name}': {text.split('<')[0]}.*Quant") as caught:
        to_qonnx(network)
    assert "AP_TRN or AP_RND_CONV" in str(caught.value)


def test_a_lone_sign_bit_is_refused_because_qonnx_reads_it_as_plus_minus_one(mlp: fx.GraphModule) -> None:
    network = copy.deepcopy(mlp)
    name, layer = next(iter(weight_layers(network).items()))
    layer.weight_type = FixedPoint(1, 0, True, "AP_RND_CONV", "AP_SAT")
    with pytest.raises(ExportError, match=f"weights of layer '{name}'.*sign bit"):
        to_qonnx(network)


def test_symmetric_saturation_is_a_narrow_range(mlp: fx.GraphModule) -> None:
    network = copy.deepcopy(mlp)
    layer = next(iter(weight_layers(network).values()))
    layer.weight_type = FixedPoint(6, 2, True, "AP_RND_CONV", "AP_SAT_SYM")
    with torch.no_grad():
        layer.weight[3, :] = -1000.0
    values, fixed = _quant_types(to_qonnx(network))[0][0]
    assert fixed == layer.weight_type
    assert values[3, 0] == -31 / 16


def test_wide_layers_export_their_biases_exactly() -> None:
    network = small_networks.mlp(fixed=small_networks.INPUT_16, weight_bits=10, activation_bits=16)
    layers = describe_network(network).layers
    assert max(layer.bias_type.width for layer in layers) > 20
    found = [values for values, _ in _quant_types(to_qonnx(network))[0] if values.ndim == 1]
    for values, layer in zip(found, layers, strict=True):
        np.testing.assert_array_equal(values, layer.bias * layer.bias_type.lsb)


def test_an_operation_onnx_does_not_have_is_an_export_error() -> None:
    class Unknown(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    torch.manual_seed(0)
    network = small_networks.quantised(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,))
    network.set_submodule("1", Unknown())
    with pytest.raises(ExportError, match="torch could not export"):
        to_qonnx(network)

"""Channels-last models against torch: executed by qonnx in the new order, they give the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import small_networks
import torch
from torch import Tensor, nn

from trigger_prune.errors import ExportError
from trigger_prune.export.channels_last import to_channels_last
from trigger_prune.export.input_ports import give_ports, input_ports, split_features
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.export.quiet import quiet
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.verify.representations import torch_outputs


class Branches(nn.Module):
    """Two convolutions, added or concatenated before or behind the Flatten."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.relu1 = nn.Conv1d(2, 3, 3, padding=1), nn.ReLU()
        self.second, self.relu2 = nn.Conv1d(3 if how == "add" else 2, 3, 1), nn.ReLU()
        self.flatten, self.flatten2 = nn.Flatten(), nn.Flatten()
        self.relu3 = nn.ReLU()
        self.head = nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu1(self.first(x))
        if self.how == "add":
            joined = self.flatten(self.relu2(self.second(first) + first))
        elif self.how == "cat":
            joined = self.flatten(torch.cat([first, self.relu2(self.second(x))], dim=1))
        elif self.how == "cat flat":
            joined = torch.cat([self.flatten(first), self.flatten2(self.relu2(self.second(x)))], dim=1)
        else:
            joined = self.relu3(self.flatten(self.second(x)) + self.flatten2(first))
        result: Tensor = self.head(joined)
        return result


class Sliced(nn.Module):
    """Ranges of channels, one of them read twice, and the whole input as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv1d(2, 3, 1), nn.Conv1d(1, 3, 1), nn.Conv1d(3, 3, 1)
        self.fourth = nn.Conv1d(2, 3, 1)
        self.flatten, self.head = nn.Flatten(), nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x[:, :2]), self.second(x[:, 2:]), self.third(x), self.fourth(x[:, -3:-1])]
        result: Tensor = self.head(self.flatten(torch.cat(parts, dim=1)))
        return result


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda: Conv1dNet((2, 9), 2, channels=(4, 3), hidden=(4,)), (2, 9)),
    "conv2d": (lambda: Conv2dNet((2, 6, 5), 2, channels=(3,), hidden=(4,)), (2, 6, 5)),
    "strided": (lambda: Conv2dNet((1, 6, 5), 2, channels=(3,), kernel=2, stride=2, hidden=()), (1, 6, 5)),
    "deep_sets": (lambda: DeepSets((3, 4), 2, phi=(4,), rho=(4,)), (3, 4)),
    "add": (lambda: Branches("add"), (2, 5)),
    "cat": (lambda: Branches("cat"), (2, 5)),
    "cat flat": (lambda: Branches("cat flat"), (2, 5)),
    "add flat": (lambda: Branches("add flat"), (2, 5)),
    "ends with positions": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten()), (2, 7)),
    "flat before the ReLU": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.ReLU(), nn.LazyLinear(2)),
        (2, 7),
    ),
    "slices": (Sliced, (3, 4)),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_same_numbers_in_the_other_order(name: str) -> None:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    make, shape = NETWORKS[name]
    torch.manual_seed(3)
    network = small_networks.quantised(make(), shape)
    features = small_networks.events(small_networks.INPUT_8, 6, *shape)
    expected = torch_outputs(network, features, double=True)
    assert len(np.unique(expected, axis=0)) > 3
    ports = input_ports(network)
    with quiet():
        clean = cleanup_model(ModelWrapper(to_qonnx(network)))
        model = cleanup_model(ModelWrapper(to_channels_last(give_ports(clean.model, ports))))
        assert not any(node.op_type == "Slice" for node in model.graph.node)
        assert {node.domain for node in model.graph.node if node.op_type in ("Conv", "MaxPool")} == {
            "qonnx.custom_op.channels_last"
        }
        for node in model.graph.node:
            # qonnx executes a channels-last pooling as one of opset 1, which lacks two attributes (here: the default)
            kept = [attribute for attribute in node.attribute if attribute.name not in ("ceil_mode", "dilations")]
            if node.op_type == "MaxPool":
                del node.attribute[:]
                node.attribute.extend(kept)
        found = []
        for event in features[:, None]:
            inputs = [np.moveaxis(part, 1, -1) for part in split_features(event, ports)]
            names = [value.name for value in model.graph.input]
            outputs = execute_onnx(model, dict(zip(names, inputs, strict=True)))
            found.append(outputs[model.graph.output[0].name].ravel())
    np.testing.assert_array_equal(np.stack(found), expected)
    transposes = sum(node.op_type == "Transpose" for node in model.graph.node)
    assert transposes == (name == "ends with positions")


def test_ports_are_sorted_and_each_is_there_once() -> None:
    torch.manual_seed(3)
    network = small_networks.quantised(Sliced(), (3, 4))
    assert input_ports(network) == ((0, 2), (0, 3), (2, 3))
    assert input_ports(small_networks.mlp()) == ((0, 5),)


def test_an_unknown_operator_is_named() -> None:
    node = onnx.helper.make_node("Sigmoid", ["x"], ["y"], "squash")
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 2, 3]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:]))
    with pytest.raises(ExportError, match=r"Sigmoid of node 'squash'"):
        to_channels_last(model)


def test_an_output_with_positions_asks_for_a_flatten() -> None:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    torch.manual_seed(3)
    network = small_networks.quantised(nn.Sequential(nn.Conv1d(2, 3, 3)), (2, 7))
    with quiet():
        clean = cleanup_model(ModelWrapper(to_qonnx(network)))
    with pytest.raises(ExportError, match=r"output has shape \(3, 5\)") as caught:
        to_channels_last(clean.model)
    assert "nn.Flatten" in str(caught.value)

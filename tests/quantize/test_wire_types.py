import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_networks import bits, extreme_codes, on_grid

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint, Overflow
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.graph import is_add, is_cat
from trigger_prune.quantize.wires import require_type, wire_types

INPUT = FixedPoint(5, 2)


class Residual(nn.Module):
    """A skip connection from the input, a sum without ReLU, one with, and a concatenation of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.first(x))
        b = self.second(a) + x
        c = torch.relu(b + self.third(b))
        return self.head(torch.cat([a, b, c], dim=1))


def all_values(fixed: FixedPoint) -> np.ndarray:
    return np.arange(fixed.min_code, fixed.max_code + 1) * fixed.lsb


def test_types_of_sums_and_concatenations_hold_every_value_and_are_the_narrowest() -> None:
    torch.manual_seed(0)
    network = quantize_model(Residual(), on_grid(300, (4,), INPUT), INPUT, bits(5, 4))
    types = wire_types(network)
    sums = [node for node in network.graph.nodes if is_add(node)]
    (cat,) = [node for node in network.graph.nodes if is_cat(node)]
    assert len(sums) == 2
    for node in sums:
        left, right = (all_values(types[source]) for source in node.args)
        values = np.add.outer(left, right)
        assert types[node].contains(values).all()
        assert_narrowest(types[node], values)
    values = np.concatenate([all_values(types[source]) for source in cat.args[0]])
    assert types[cat].contains(values).all()
    assert_narrowest(types[cat], values)


def assert_narrowest(fixed: FixedPoint, values: np.ndarray) -> None:
    for fewer_integer, fewer_fraction in ((1, 0), (0, 1)):
        smaller = FixedPoint(fixed.width - 1, fixed.integer - fewer_integer, fixed.signed, overflow=Overflow.AP_SAT)
        assert smaller.fraction == fixed.fraction - fewer_fraction
        assert not smaller.contains(values).all()


@pytest.mark.parametrize("rounding", ["AP_TRN", "AP_RND_CONV"])
def test_a_network_with_sums_computes_what_the_integers_compute(rounding: str) -> None:
    torch.manual_seed(1)
    network = quantize_model(Residual(), on_grid(300, (4,), INPUT), INPUT, bits(5, 4, rounding))
    layers = {layer.name: layer for layer in describe_network(network).layers}
    quantised = {name: module.fixed for name, module in network.named_modules() if hasattr(module, "fixed")}
    codes = extreme_codes((4,), INPUT)
    x = codes * INPUT.lsb

    def layer(name: str, values: np.ndarray) -> np.ndarray:
        spec = layers[name]
        assert spec.input_type.contains(values).all()
        weight, bias = spec.weight * spec.weight_type.lsb, spec.bias * spec.bias_type.lsb
        return values @ weight.T + bias  # exact: a few bits in float64

    a = quantised["relu_quant"].quantize(np.maximum(layer("first", x), 0))
    b = quantised["add_quant"].quantize(quantised["second_quant"].quantize(layer("second", a)) + x)
    c = quantised["relu_1_quant"].quantize(np.maximum(b + quantised["third_quant"].quantize(layer("third", b)), 0))
    expected = layer("head", np.concatenate([a, b, c], axis=1))
    with torch.no_grad():
        np.testing.assert_array_equal(network(torch.from_numpy(x).float()).double().numpy(), expected)
        np.testing.assert_array_equal(freeze(network, double=True)(torch.from_numpy(x)).numpy(), expected)
    assert layers["second"].output_type == quantised["second_quant"] and not layers["second"].relu
    assert layers["head"].output_type is None


def test_layers_of_the_description_follow_the_order_of_computation_and_know_their_positions() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, 2))
    spec = describe_network(quantize_model(model, on_grid(50, (2, 8), INPUT), INPUT, bits(4, 4)))
    assert [(layer.name, layer.kind, layer.positions, layer.relu) for layer in spec.layers] == [
        ("0", "conv1d", 8, True),
        ("4", "dense", 1, False),
    ]
    assert (spec.input_shape, spec.n_outputs, spec.input_type) == ((2, 8), 2, INPUT)
    assert spec.layers[1].input_type == spec.layers[0].output_type


def test_the_description_of_a_float_network_is_refused() -> None:
    with pytest.raises(ModelError, match="Linear is not a quantised network"):
        describe_network(nn.Linear(2, 2))


def test_a_wire_without_type_is_named() -> None:
    network = quantize_model(nn.Sequential(nn.Linear(2, 2)), torch.ones(3, 2), INPUT, bits(4, 4))
    types = wire_types(network)
    output = next(node for node in network.graph.nodes if node.target == "0")
    with pytest.raises(ModelError, match="'_0' has no fixed-point type"):
        require_type(types, output)


def test_exhaustive_two_input_network() -> None:
    """All 1 024 inputs of a two-input network, with the sum of both branches."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.left(x)) + torch.relu(self.right(x)))

    torch.manual_seed(3)
    network = quantize_model(Two(), on_grid(100, (2,), INPUT), INPUT, bits(4, 3))
    x = torch.tensor(list(itertools.product(all_values(INPUT), repeat=2)))
    types = wire_types(network)
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        from torch import fx

        class Watch(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Tensor:
                seen[n.name] = super().run_node(n)
                return seen[n.name]

        Watch(freeze(network, double=True)).run(x)
    for node, fixed in types.items():
        assert fixed.contains(seen[node.name].numpy()).all(), node.name

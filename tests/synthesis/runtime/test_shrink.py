"""Neurons without effect go, and not one bit of the outputs changes."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import input_shape_of, input_type_of, quantize_model
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.synthesis.runtime.shrink import remove_dead_neurons
from trigger_prune.verify.representations import torch_outputs

BITS = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")


def quantised(model: nn.Module, shape: tuple[int, ...], seed: int = 0) -> fx.GraphModule:
    torch.manual_seed(seed)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    events = torch.randn(300, *shape, generator=torch.Generator().manual_seed(1))
    return quantize_model(model, events, FixedPoint(8, 3), BITS)


def probes(network: fx.GraphModule) -> np.ndarray:
    fixed = input_type_of(network)
    codes = np.random.default_rng(7).integers(fixed.min_code, fixed.max_code, (500, *input_shape_of(network)))
    return (codes * fixed.lsb).astype(np.float32)


def silence(network: fx.GraphModule, name: str, *neurons: int) -> None:
    """All weights of these neurons become zero; their biases stay."""
    weight_layers(network)[name].weight_mask[list(neurons)] = 0


def unread(network: fx.GraphModule, name: str, *columns: int) -> None:
    weight_layers(network)[name].weight_mask[:, list(columns)] = 0


def assert_same(network: fx.GraphModule, smaller: fx.GraphModule) -> None:
    events = probes(network)
    expected = torch_outputs(network, events, double=True)
    assert (torch_outputs(smaller, events, double=True) == expected).all()
    assert len(np.unique(expected)) > 20, "the outputs say something"


def sizes(network: fx.GraphModule) -> dict[str, tuple[int, ...]]:
    return {name: tuple(layer.weight.shape) for name, layer in weight_layers(network).items()}


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))


def test_silent_and_unread_neurons_of_an_mlp() -> None:
    network = quantised(mlp(), (6,))
    silence(network, "0", 1, 4)
    unread(network, "2", 7)
    silence(network, "2", 0, 5)
    before = copy.deepcopy(network.state_dict())
    shrunk = remove_dead_neurons(network)
    assert shrunk.removed == {"0": 3, "2": 2} and shrunk.remark == ""
    assert sizes(shrunk.network) == {"0": (7, 6), "2": (6, 7), "4": (3, 6)}
    assert_same(network, shrunk.network)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    layer = weight_layers(shrunk.network)["2"]
    assert (layer.in_features, layer.out_features, tuple(layer.weight_mask.shape)) == (7, 6, (6, 7))


def test_removal_goes_on_until_nothing_is_left_to_remove() -> None:
    """A neuron that only dead ones read is dead; so is one all of whose inputs are constant."""
    network = quantised(mlp(), (6,))
    silence(network, "2", *range(1, 8))
    weight_layers(network)["2"].weight_mask[0] = 0
    weight_layers(network)["2"].weight_mask[0, 3] = 1
    weight_layers(network)["2"].weight.data[0, 3] = 0.5
    shrunk = remove_dead_neurons(network)
    assert sizes(shrunk.network) == {"0": (1, 6), "2": (1, 1), "4": (3, 1)}
    events = probes(network)
    assert (torch_outputs(shrunk.network, events, double=True) == torch_outputs(network, events, double=True)).all()


def test_a_dead_layer_keeps_one_neuron() -> None:
    network = quantised(mlp(), (6,))
    silence(network, "0", *range(10))
    shrunk = remove_dead_neurons(network)
    assert sizes(shrunk.network)["0"] == (1, 6)
    events = probes(network)
    assert (torch_outputs(shrunk.network, events, double=True) == torch_outputs(network, events, double=True)).all()


def test_nothing_dead_nothing_removed() -> None:
    network = quantised(mlp(), (6,))
    shrunk = remove_dead_neurons(network)
    assert shrunk.removed == {} and sizes(shrunk.network) == sizes(network)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.95])
def test_random_sparsity_never_changes_a_bit(seed: int, sparsity: float) -> None:
    network = quantised(mlp(), (6,), seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in weight_layers(network).values():
        layer.weight_mask.copy_((torch.rand(layer.weight_mask.shape, generator=generator) > sparsity).float())
    shrunk = remove_dead_neurons(network)
    events = probes(network)
    assert (torch_outputs(shrunk.network, events, double=True) == torch_outputs(network, events, double=True)).all()
    for layer in list(weight_layers(shrunk.network).values())[1:]:
        assert layer.weight.shape[1] == 1 or (layer.quantized_weight() != 0).any(dim=0).all(), "every input is read"
    if sparsity == 0.95:
        assert sum(shrunk.removed.values()) >= 5


def conv2d(padding: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=padding), nn.ReLU(), nn.Conv2d(5, 4, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4 * (9 if padding else 1), 3),
    )  # fmt: skip


def test_filters_of_convolutions_and_the_columns_behind_a_flatten() -> None:
    network = quantised(conv2d(0), (1, 6, 6))
    silence(network, "0", 2)
    silence(network, "2", 1)
    unread(network, "6", 3)
    shrunk = remove_dead_neurons(network)
    assert shrunk.removed == {"0": 1, "2": 2}
    assert sizes(shrunk.network) == {"0": (4, 1, 3, 3), "2": (2, 4, 3, 3), "6": (3, 2)}
    assert_same(network, shrunk.network)


def test_a_constant_before_padding_stays_unless_it_is_zero() -> None:
    for bias, kept in ((0.75, 5), (-0.75, 4)):
        network = quantised(conv2d(1), (1, 6, 6))
        silence(network, "0", 2)
        weight_layers(network)["0"].bias.data[2] = bias
        shrunk = remove_dead_neurons(network)
        assert sizes(shrunk.network)["0"][0] == kept, "padding adds zeros, not the constant, at the border"
        assert_same(network, shrunk.network)


def test_several_positions_behind_a_flatten() -> None:
    network = quantised(conv2d(1), (1, 6, 6))
    silence(network, "2", 0)
    unread(network, "6", *range(9, 18))
    shrunk = remove_dead_neurons(network)
    assert shrunk.removed == {"2": 2} and sizes(shrunk.network)["6"] == (3, 18)
    assert_same(network, shrunk.network)


def test_the_mean_over_particles_shrinks_with_its_channels() -> None:
    def mean() -> nn.Conv1d:
        layer = nn.Conv1d(8, 8, 4, groups=8, bias=False)
        layer.weight.requires_grad_(False)
        return layer

    model = nn.Sequential(
        nn.Conv1d(3, 8, 1), nn.ReLU(), mean(), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    )
    network = quantised(model, (3, 4))
    silence(network, "0", 1, 6)
    unread(network, "4", 3)
    shrunk = remove_dead_neurons(network)
    assert shrunk.removed["0"] == 3
    assert sizes(shrunk.network) == {"0": (5, 3, 1), "2": (5, 1, 4), "4": (6, 5), "6": (3, 6)}
    assert_same(network, shrunk.network)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.first(x))
        return self.last(self.second(y) + y)


def test_a_network_that_branches_is_left_whole() -> None:
    network = quantised(Residual(), (6,))
    silence(network, "first", 0)
    shrunk = remove_dead_neurons(network)
    assert shrunk.removed == {} and "branches" in shrunk.remark
    assert sizes(shrunk.network) == sizes(network)


def test_a_constant_moves_only_where_there_is_a_bias_to_take_it() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    network = quantised(model, (6,))
    silence(network, "0", 0, 1)
    weight_layers(network)["0"].bias.data[:2] = torch.tensor([0.5, -0.5])
    shrunk = remove_dead_neurons(network)
    assert shrunk.removed == {"0": 1}, "the ReLU makes the negative one zero"
    assert_same(network, shrunk.network)


def test_biases_that_take_up_large_constants_get_a_wider_type() -> None:
    network = quantised(mlp(), (6,))
    silence(network, "0", *range(6))
    weight_layers(network)["0"].bias.data[:6] = 1.5
    last = weight_layers(network)["2"]
    last.weight.data[:, :6] = last.weight_type.max_value
    before = last.bias_type.max_value
    shrunk = remove_dead_neurons(network)
    found = weight_layers(shrunk.network)["2"]
    assert float(found.bias.detach().max()) > before and found.bias_type.max_value > before
    assert sizes(shrunk.network)["0"] == (4, 6)
    events = probes(network)
    assert (torch_outputs(shrunk.network, events, double=True) == torch_outputs(network, events, double=True)).all()

"""APoZ, activation and Wanda against numpy."""

import numpy as np
import pytest
import torch
from scored_networks import events, mixed_network, mlp_network
from torch import nn

from trigger_prune.importance import CriterionData, criterion_by_name
from trigger_prune.quantize.layers import QuantLinear

LAYER = {"apoz": "0", "activation": "0", "activation_variance": "0"}


def unit_statistics(a: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """a ``(events, units, positions)``."""
    w = np.broadcast_to(weights[:, None, None], a.shape)
    average = lambda v: (v * w).sum(axis=(0, 2)) / w.sum(axis=(0, 2))  # noqa: E731
    return {
        "apoz": 1 - average(a == 0),
        "activation": average(np.abs(a)),
        "activation_variance": average((a - average(a)[None, :, None]) ** 2),
    }


@pytest.mark.parametrize("name", sorted(LAYER))
def test_a_dense_layer_and_the_last_one(name: str) -> None:
    network, data = mlp_network(), events((5,))
    w, b = (v.detach().numpy() for v in (network[0].quantized_weight(), network[0].quantized_bias()))
    hidden = np.maximum(data.batches.features.numpy() @ w.T + b, 0)
    fixed = network[2].fixed
    hidden = np.clip(np.floor(hidden / fixed.lsb), 0, fixed.max_code) * fixed.lsb
    w, b = (v.detach().numpy() for v in (network[3].quantized_weight(), network[3].quantized_bias()))
    scores = criterion_by_name(name, with_data=True).score(network, ["0", "3"], data)
    for layer, values in (("0", hidden), ("3", hidden @ w.T + b)):
        expected = unit_statistics(values[:, :, None], data.batches.weights.numpy())[name]
        mask = network.get_submodule(layer).weight_mask.numpy()
        np.testing.assert_allclose(scores[layer].numpy(), expected[:, None] * mask, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", sorted(LAYER))
def test_convolutions_are_averaged_over_positions(name: str) -> None:
    network, data = mixed_network().eval(), events((2, 8, 8))
    weights = data.batches.weights.numpy()
    scores = criterion_by_name(name, with_data=True).score(network, ["first", "second"], data)
    with torch.no_grad():
        first = network.first_quant(torch.relu(network.first(data.batches.features)))
        # the ReLU of the second one comes after the pooling
        second = torch.relu(network.pool(network.second(first)))
    for layer, a in (("first", first), ("second", second)):
        expected = unit_statistics(a.flatten(2).numpy(), weights)[name]
        mask = network.get_submodule(layer).weight_mask.numpy()
        np.testing.assert_allclose(scores[layer].numpy(), expected[:, None, None, None] * mask, rtol=1e-10, atol=1e-14)
        assert np.ptp(expected) > 0.01


def test_apoz_of_units_that_are_never_and_always_zero() -> None:
    network = mlp_network()
    with torch.no_grad():
        network[0].weight[0], network[0].bias[0] = 0, -1.0
        network[0].weight[5], network[0].bias[5] = 0, 1.0
    scores = criterion_by_name("apoz", with_data=True).score(network, ["0"], events((5,)))["0"]
    assert (scores[0] == 0).all()
    np.testing.assert_allclose(scores[5].numpy(), 1.0, rtol=1e-14)


def test_wanda_of_dense_layers() -> None:
    network, data = mlp_network().eval(), events((5,))
    share = (data.batches.weights / data.batches.weights.sum()).numpy()
    with torch.no_grad():
        hidden = network[:3](data.batches.features).numpy()
    scores = criterion_by_name("wanda", with_data=True).score(network, ["0", "3"], data)
    for layer, x in (("0", data.batches.features.numpy()), ("3", hidden)):
        w = (network.get_submodule(layer).weight * network.get_submodule(layer).weight_mask).detach().numpy()
        expected = np.abs(w) * np.sqrt((share[:, None] * x**2).sum(axis=0))
        np.testing.assert_allclose(scores[layer].numpy(), expected, rtol=1e-12, atol=1e-15)


def test_wanda_of_a_strided_padded_and_of_a_grouped_convolution() -> None:
    network, data = mixed_network().eval(), events((2, 8, 8), 50)
    share = (data.batches.weights / data.batches.weights.sum()).numpy()
    with torch.no_grad():
        hidden = network.first_quant(torch.relu(network.first(data.batches.features))).numpy()
    scores = criterion_by_name("wanda", with_data=True).score(network, ["first", "second"], data)
    padded = np.pad(data.batches.features.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    for layer, x, stride, size in (("first", padded, 2, 4), ("second", hidden, 1, 3)):
        module = network.get_submodule(layer)
        w = (module.weight * module.weight_mask).detach().numpy()
        expected = np.zeros_like(w)
        for o, i, r, c in np.ndindex(*w.shape):
            channel = i + (o // 2) * 2 if layer == "second" else i
            seen = x[:, channel, r : r + stride * size : stride, c : c + stride * size : stride]
            assert seen.shape[1:] == (size, size)
            expected[o, i, r, c] = np.abs(w[o, i, r, c]) * np.sqrt((share[:, None, None] * seen**2).sum())
        np.testing.assert_allclose(scores[layer].numpy(), expected, rtol=1e-12, atol=1e-15)


def test_a_layer_in_front_of_a_relu_in_place_is_seen_before_it() -> None:
    """Wanda's input of the second layer is the linear output, although a ReLU overwrites it elsewhere."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = mlp_network()[0], mlp_network()[0]
            self.wide = QuantLinear(nn.Linear(6, 5), self.one.weight_type, self.one.bias_type)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            middle = self.wide(self.one(x))
            return self.two(middle) + self.relu(middle).sum() * 0

    torch.manual_seed(0)
    network, data = Shared().double(), events((5,), 30)
    scores = criterion_by_name("wanda", with_data=True).score(network, ["two"], CriterionData(data.batches))["two"]
    with torch.no_grad():
        x = network.wide(network.one(data.batches.features)).numpy()
    share = (data.batches.weights / data.batches.weights.sum()).numpy()
    w = (network.two.weight * network.two.weight_mask).detach().numpy()
    np.testing.assert_allclose(
        scores.numpy(), np.abs(w) * np.sqrt((share[:, None] * x**2).sum(axis=0)), rtol=1e-12, atol=1e-15
    )

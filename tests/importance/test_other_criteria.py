"""Random, BatchNorm scale and movement."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scored_networks import events, mlp_network
from torch import nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import BatchNormScale, Movement, criterion_by_name
from trigger_prune.importance._base import Accumulating
from trigger_prune.importance.batch_norm_scale import META_KEY
from trigger_prune.importance.random_score import RandomScore
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import QuantLinear
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.loss import event_losses


def test_random_is_uniform_and_fixed_by_the_seed() -> None:
    wide = nn.Sequential(QuantLinear(nn.Linear(100, 100), FixedPoint(8, 2), FixedPoint(8, 2)))
    scores = RandomScore(seed=1).score(wide, ["0"])["0"].flatten()
    counts = torch.histc(scores, 10, 0, 1)
    assert ((counts - 1000).abs() < 150).all()  # five standard deviations
    assert torch.equal(scores, RandomScore(seed=1).score(wide, ["0"])["0"].flatten())
    other = RandomScore(seed=2).score(wide, ["0"])["0"].flatten()
    assert abs(float(torch.corrcoef(torch.stack([scores, other]))[0, 1])) < 0.05


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 2)
        self.conv_norm = nn.BatchNorm2d(3)
        self.dense = nn.Linear(12, 4, bias=False)
        self.dense_norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.conv_norm.weight.copy_(torch.tensor([-0.5, 2.0, 0.1]))
            self.dense_norm.weight.copy_(torch.tensor([1.0, -3.0, 0.0, 0.25]))
            self.dense_norm.running_var.fill_(9.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.conv_norm(self.conv(x))).flatten(1)
        return self.head(torch.relu(self.dense_norm(self.dense(hidden))))


def test_batch_norm_scales_survive_the_folding() -> None:
    torch.manual_seed(0)
    model = Normed().eval()
    precision = SimpleNamespace(weight_bits=8, activation_bits=8, rounding="AP_TRN")
    network = quantize_model(model, torch.rand(32, 1, 3, 3), FixedPoint(8, 1), precision)
    network.dense.weight_mask[1, 3] = 0
    scores = BatchNormScale(model).score(network, ["dense", "conv"])
    np.testing.assert_allclose(
        scores["conv"].numpy(), np.broadcast_to(np.float32([0.5, 2, 0.1])[:, None, None, None], (3, 1, 2, 2))
    )
    expected = np.repeat([[1.0], [3.0], [0.0], [0.25]], 12, axis=1)
    expected[1, 3] = 0
    np.testing.assert_allclose(scores["dense"].numpy(), expected)
    # the layer without one: above all others, by magnitude
    head = network.head.weight.detach().double().abs().numpy()
    np.testing.assert_allclose(BatchNormScale(model).score(network, ["head"])["head"].numpy(), 3.0 + head)
    with pytest.raises(ModelError, match="no BatchNorm behind a weight layer"):
        BatchNormScale(network)


def test_batch_norm_scale_by_name_reads_what_the_network_carries() -> None:
    torch.manual_seed(0)
    model = Normed().eval()
    precision = SimpleNamespace(weight_bits=8, activation_bits=8, rounding="AP_TRN")
    network = quantize_model(model, torch.rand(32, 1, 3, 3), FixedPoint(8, 1), precision)
    network.meta.pop(META_KEY, None)
    criterion = criterion_by_name("batchnorm_scale")
    with pytest.raises(
        ModelError, match=r"the network has no BatchNorm behind a weight layer.*\n  -> .*batch_norm: true"
    ):
        criterion.score(network, ["conv"])
    network.meta[META_KEY] = {"conv": model.conv_norm.weight, "dense": model.dense_norm.weight}
    layers = ["head", "conv", "dense"]
    expected, found = BatchNormScale(model).score(network, layers), criterion.score(network, layers)
    assert list(found) == layers and all(torch.equal(found[name], expected[name]) for name in layers)
    network.meta[META_KEY] = {"conv": torch.ones(2)}
    with pytest.raises(ModelError, match="layer 'conv' has 3 units, its BatchNorm 2"):
        criterion.score(network, ["conv"])


def test_movement_is_the_sum_of_minus_weight_times_gradient() -> None:
    network, data = mlp_network(), events((5,), 64)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    expected = {layer: np.zeros(network.get_submodule(layer).weight.shape) for layer in ("0", "3")}
    with Movement(network) as movement:
        for start in range(0, 64, 16):
            part = data.batches.take(slice(start, start + 16))
            optimizer.zero_grad()
            event_losses(network(part.features), part.targets, data.task).mean().backward()
            for layer, total in expected.items():
                weight = network.get_submodule(layer).weight
                total -= (weight * weight.grad).detach().numpy()
            optimizer.step()
    for layer, total in expected.items():
        total[network.get_submodule(layer).weight_mask.numpy() == 0] = -np.inf
    # after the block nothing is recorded any more
    network(data.batches.features).sum().backward()
    scores = movement.score(network, ["0", "3"])
    for layer, total in expected.items():
        np.testing.assert_allclose(scores[layer].numpy(), total, rtol=1e-12)


def test_movement_points_away_from_zero() -> None:
    """A weight that grew while training scores above zero, one that shrank below it."""
    torch.manual_seed(1)
    layer = QuantLinear(nn.Linear(2, 1, bias=False), FixedPoint(16, 3), FixedPoint(16, 3))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, 1.0]]))
    network = nn.Sequential(layer)
    x = torch.randn(512, 2)
    batches = events((2,), 512).batches
    batches = type(batches)(x, x @ torch.tensor([[1.5], [0.2]]), torch.ones(512))
    settings = FitSettings(phase="toy", epochs=3, batch_size=64, learning_rate=0.05, seed=0, task="autoencoder")
    with Movement(network) as movement:
        fit(network, batches, batches, settings)
    first, second = layer.weight[0].tolist()
    assert first > 0.6 and second < 0.9
    grown, shrunk = movement.score(network, ["0"])["0"][0].tolist()
    assert grown > 0 > shrunk


def test_movement_before_any_step_has_the_order_of_the_magnitudes() -> None:
    network = mlp_network()
    criterion = criterion_by_name("movement")
    assert isinstance(criterion, Accumulating)
    squares = criterion_by_name("magnitude_l2").score(network, ["0", "3"])
    with criterion.watch(network) as seen:
        for scores in (seen.score(network, ["0", "3"]), criterion.score(network, ["0", "3"])):
            for layer, values in scores.items():
                mask = network.get_submodule(layer).weight_mask != 0
                assert torch.equal(values[mask], squares[layer][mask]) and bool((values[~mask] == -torch.inf).all())


def test_movement_by_name_is_that_of_the_training_it_watched() -> None:
    x = events((5,), 64).batches.features
    runs = []
    for watched in (criterion_by_name("movement").watch, Movement):
        network = mlp_network()
        with watched(network) as seen:
            network(x).square().sum().backward()
            during = seen.score(network, ["0", "3"])
        network(x).square().sum().backward()
        after = seen.score(network, ["0", "3"])
        assert all(torch.equal(during[layer], after[layer]) for layer in after)
        runs.append(after)
    assert all(torch.equal(runs[0][layer], runs[1][layer]) for layer in runs[0])
    assert float(runs[0]["0"].min()) == -torch.inf and float(runs[0]["3"].max()) > 0

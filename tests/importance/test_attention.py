"""Learned attention over input features against known truth."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scored_networks import WEIGHT, events, mixed_network, mlp_network
from torch import nn

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.importance import AttentionSettings, CriterionData, criterion_by_name, feature_attention
from trigger_prune.importance.attention_score import Attention, first_layers, weight_gates
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import QuantConv2d, QuantLinear, weight_layers
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import event_losses

INFORMATIVE = [1, 4, 7]


class Bits:
    weight_bits, activation_bits, rounding = 8, 8, "AP_RND_CONV"


def problem(seed: int) -> tuple[nn.Sequential, CriterionData]:
    """Ten inputs with unlike offsets and scales, of which three decide the class; a float net trained on them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4000, 10, generator=generator)
    truth = (x[:, 1] + x[:, 4] * x[:, 7] + 0.3 * torch.randn(4000, generator=generator) > 0).long()
    data = CriterionData(Batches(x * 0.5 + torch.linspace(-1, 1, 10), truth, torch.ones(4000)))
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        event_losses(network(data.batches.features), truth, "classify").mean().backward()
        optimizer.step()
    return network, data


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_informative_inputs_stay_open_and_the_others_close(kind: str, seed: int) -> None:
    network, data = problem(seed)
    quantised = quantize_model(network, data.batches.features, FixedPoint(12, 4), Bits())
    for model in (network, quantised):
        gates = feature_attention(model, data, AttentionSettings(kind=kind))  # type: ignore[arg-type]
        assert gates.shape == (10,) and gates.dtype == torch.float64 and float(gates.max()) == 1.0
        assert sorted(torch.argsort(gates)[-3:].tolist()) == INFORMATIVE
        noise = [i for i in range(10) if i not in INFORMATIVE]
        assert float(gates[INFORMATIVE].min()) > 0.3 and float(gates[noise].max()) < 0.2


def test_an_offset_is_no_information() -> None:
    """An input whose weight is large but which is the same in every event costs nothing to close."""
    data = events((5,), 200)
    data.batches.features[:, 2] = 3.0
    network = mlp_network()
    with torch.no_grad():
        network[0].weight.mul_(3)
        network[0].weight[:, 2] = 1.5
        network[0].bias.sub_(4.5)  # so that what it adds is wanted
        network[3].weight.mul_(8)
        data.batches.targets.copy_(network(data.batches.features).argmax(dim=1))
    gates = feature_attention(network, data, AttentionSettings(penalty=0.2))
    assert int(gates.argmin()) == 2 and float(gates[2]) < 0.05


def test_deterministic_and_the_network_unchanged() -> None:
    network, data = problem(1)
    network[0].weight.requires_grad_(False)
    network.train()
    before = copy.deepcopy(network.state_dict())
    random_state = torch.get_rng_state()
    one = feature_attention(network, data, AttentionSettings(steps=20))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training and not network[0].weight.requires_grad and network[2].weight.requires_grad
    torch.manual_seed(99)
    assert torch.equal(feature_attention(network, data, AttentionSettings(steps=20)), one)
    assert not torch.equal(feature_attention(network, data, AttentionSettings(steps=20, seed=1)), one)
    parts = feature_attention(network, replace(data, batch_size=64), AttentionSettings(steps=20))
    torch.testing.assert_close(parts, one, rtol=1e-9, atol=1e-12)


def test_a_larger_penalty_closes_more() -> None:
    network, data = problem(2)
    open_gates = [
        int((feature_attention(network, data, AttentionSettings(penalty=penalty)) > 0.5).sum())
        for penalty in (0.0, 0.05, 0.5)
    ]
    assert open_gates[0] > open_gates[1] >= open_gates[2] == 3


def test_weights_of_first_layers_are_scaled_by_the_gate_of_their_input() -> None:
    network, data = mixed_network(), events((2, 8, 8), 60)
    settings = AttentionSettings(steps=15)
    gates = feature_attention(network, data, settings)
    scores = Attention(settings).score(network, ["first", "head"], data)
    kept = {name: (layer.weight * layer.weight_mask).abs().detach() for name, layer in weight_layers(network).items()}
    torch.testing.assert_close(scores["first"], kept["first"] * gates.reshape(1, 2, 1, 1), rtol=1e-10, atol=0)
    assert torch.equal(scores["head"], kept["head"])
    assert abs(float(gates[0] - gates[1])) > 1e-3


class Wired(nn.Module):
    """Two grouped convolutions, a dense layer on flattened images and one behind pooling; then one on their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = QuantConv2d(nn.Conv2d(4, 6, 2, groups=2, padding=1), WEIGHT, WEIGHT)
        self.flatten = nn.Flatten()
        self.dense = QuantLinear(nn.Linear(36, 3), WEIGHT, WEIGHT)
        self.pool = nn.MaxPool2d(3)
        self.pooled = QuantLinear(nn.Linear(4, 3), WEIGHT, WEIGHT)
        self.both = QuantLinear(nn.Linear(40, 3), WEIGHT, WEIGHT)
        self.last = QuantLinear(nn.Linear(6 * 16, 3), WEIGHT, WEIGHT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat, pooled = self.flatten(x), self.flatten(self.pool(x))
        late = self.last(self.flatten(torch.relu(self.grouped(x))))
        return self.dense(flat) + self.pooled(pooled) + self.both(torch.cat([flat, pooled], dim=1)) + late


def test_gates_follow_the_wiring() -> None:
    network = Wired().double()
    data = events((4, 3, 3), 20)
    assert sorted(first_layers(network)) == ["both", "dense", "grouped", "pooled"]
    gates = torch.tensor([1.0, 0.5, 0.25, 0.125], dtype=torch.float64)
    found = weight_gates(network, ["dense", "pooled", "both", "grouped"], data, gates)
    flat = np.repeat(gates.numpy(), 9)
    np.testing.assert_allclose(found["dense"].numpy(), np.broadcast_to(flat, (3, 36)), rtol=1e-12)
    np.testing.assert_allclose(found["pooled"].numpy(), np.broadcast_to(gates.numpy(), (3, 4)), rtol=1e-12)
    np.testing.assert_allclose(found["both"][0].numpy(), np.append(flat, gates.numpy()), rtol=1e-12)
    for unit in range(6):
        group = unit // 3
        expected = gates[2 * group : 2 * group + 2].reshape(2, 1, 1).expand(2, 2, 2)
        torch.testing.assert_close(found["grouped"][unit], expected, rtol=1e-12, atol=0)


def test_bad_settings_and_events_are_named() -> None:
    with pytest.raises(ConfigError, match="kind 'tanh'"):
        AttentionSettings(kind="tanh")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="penalty -1"):
        AttentionSettings(penalty=-1)
    data = events((5,), 20)
    data.batches.features[1, 0] = torch.nan
    with pytest.raises(ModelError, match="the learned gate of an input feature is not finite"):
        feature_attention(mlp_network(), data)
    with pytest.raises(ConfigError, match="'attention' needs events"):
        criterion_by_name("attention")

"""Networks with float activations become smaller and compute the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.encoder import Encoder
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.quantize.weights_only import quantize_weights
from trigger_prune.structure import structure_by_name
from trigger_prune.structure.group_masks import mask_groups, remove_groups
from trigger_prune.structure.shrink.quantised import shrink_network

EVENTS = FixedPoint(10, 4)


def quantised(model: nn.Module, *shape: int) -> nn.Module:
    network = quantize_weights(model, 6, input_type=EVENTS, input_shape=shape)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in weight_layers(network).values():
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator))
    return network


def encoder(*shape: int) -> nn.Module:
    torch.manual_seed(0)
    return quantised(Encoder(shape, 3, width=12, n_heads=4, n_layers=2, hidden=20), *shape)


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8), nn.GELU(), nn.Conv1d(8, 6, 1), nn.BatchNorm1d(6), nn.ReLU(),
        nn.Flatten(), nn.Linear(30, 8), nn.SiLU(), nn.Linear(8, 3),
    )  # fmt: skip
    network = quantised(model, 3, 5)
    network(torch.randn(200, 3, 5))
    return network


def largest_difference(first: nn.Module, second: nn.Module, kept: tuple[int, ...], *shape: int) -> float:
    x = torch.randn(200, *shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    one, two = (copy.deepcopy(network).double().eval() for network in (first, second))
    with torch.no_grad():
        return float((one(x) - two(x[:, list(kept)])).abs().max())


@pytest.mark.parametrize("shape", [(3, 6), (5,)])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_masked_the_outputs_stay(shape: tuple[int, ...], seed: int) -> None:
    network = encoder(*shape)
    generator = torch.Generator().manual_seed(seed)
    for structure, fraction in (("head", 0.4), ("neuron", 0.5)):
        groups = structure_by_name(structure).groups(network)
        remove_groups(network, groups, torch.rand(groups.count, generator=generator), fraction, "global")
    for layer in weight_layers(network).values():
        layer.weight_mask *= torch.rand(layer.weight_mask.shape, generator=generator) < 0.6
    weight_layers(network)["embedding"].weight_mask[:, 0] = 0
    shrunk = shrink_network(network)
    assert largest_difference(network, shrunk.network, shrunk.kept_inputs, *shape) < 1e-6
    blocks = {name: heads for name, heads in shrunk.removed.items() if name.endswith("attention")}
    assert sum(map(len, blocks.values())) >= 3
    for number, layer in enumerate(shrunk.network.layers):
        assert layer.attention.n_heads == 4 - len(blocks.get(f"layers.{number}.attention", ()))
        assert layer.attention.query.weight.shape == (3 * layer.attention.n_heads, 12)
        gone = shrunk.removed[f"layers.{number}.expand"]
        assert layer.expand.out_features == layer.contract.in_features == 20 - len(gone)
    assert shrunk.dropped_inputs == ((0,) if len(shape) == 2 else ())
    again = shrink_network(shrunk.network)
    assert again.removed == {} and again.dropped_inputs == ()


def test_exactly_the_masked_heads_go() -> None:
    network = encoder(3, 6)
    groups = structure_by_name("head").groups(network)
    chosen = torch.zeros(groups.count, dtype=torch.bool)
    chosen[[1, 4, 6]] = True
    mask_groups(network, groups, chosen)
    shrunk = shrink_network(network)
    assert shrunk.removed == {"layers.0.attention": (1,), "layers.1.attention": (0, 2)}
    # what stays is the rows that stayed
    before, after = (net.layers[1].attention.query.weight for net in (network, shrunk.network))
    assert torch.equal(after, torch.cat([before[3:6], before[9:12]]))
    assert network.layers[0].attention.n_heads == 4


@pytest.mark.parametrize("structure", ["neuron", "filter"])
def test_models_without_attention_shrink_as_well(structure: str) -> None:
    network = convolutions()
    groups = structure_by_name(structure).groups(network)
    assert groups.count == (8 if structure == "neuron" else 8 + 6)
    remove_groups(network, groups, torch.arange(groups.count, dtype=torch.float64), 0.5, "layer")
    for layer in weight_layers(network).values():
        layer.bias.data[(layer.weight_mask == 0).flatten(1).all(dim=1)] = 0.3
    shrunk = shrink_network(network)
    expected = {"7": (0, 1, 2, 3)} if structure == "neuron" else {"3": (0, 1, 2)}
    assert {name: rows for name, rows in shrunk.removed.items() if name != "0"} == expected
    assert largest_difference(network, shrunk.network, shrunk.kept_inputs, 3, 5) < 1e-6


def test_a_unit_is_whatever_can_really_leave() -> None:
    """Masked one by one, every group of structure neuron is gone after the shrink, and nothing else was a group."""
    network = encoder(3, 6)
    groups = structure_by_name("neuron").groups(network)
    assert set(groups.ids) == {"layers.0.expand", "layers.1.expand"} and groups.count == 40
    for number in (0, 19, 20, 39):
        one = copy.deepcopy(network)
        chosen = torch.zeros(groups.count, dtype=torch.bool)
        chosen[number] = True
        mask_groups(one, groups, chosen)
        assert shrink_network(one).removed == {f"layers.{number // 20}.expand": (number % 20,)}
    with pytest.raises(ModelError, match="nothing can be removed from Encoder"):
        structure_by_name("filter").groups(network)


class Branches(nn.Module):
    """torch.fx cannot trace a branch on values; heads need no trace."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder((3, 6), 3, width=12, n_heads=4, n_layers=1, hidden=8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.encoder(x if x.sum() > 0 else -x)
        return result


def test_without_a_trace_heads_go_and_it_is_said() -> None:
    torch.manual_seed(0)
    network = quantised(Branches(), 3, 6)
    groups = structure_by_name("head").groups(network)
    mask_groups(network, groups, torch.tensor([True, False, False, False]))
    shrunk = shrink_network(network)
    assert shrunk.removed == {"encoder.layers.0.attention": (0,)}
    assert "only attention heads were looked at" in shrunk.remarks[0]
    assert largest_difference(network, shrunk.network, (0, 1, 2), 3, 6) < 1e-6


class Interleaved(nn.Module):
    """Looks like attention, but its heads are every other row."""

    def __init__(self) -> None:
        super().__init__()
        self.n_heads = 2
        self.query, self.key, self.value = (nn.Linear(3, 4) for _ in range(3))
        self.output = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).reshape(-1, layer.out_features // self.n_heads, self.n_heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value
        result: Tensor = self.output(scores.transpose(1, 2).reshape(-1, self.output.in_features))
        return result


def test_a_block_that_lays_its_heads_out_otherwise_is_an_error_not_another_network() -> None:
    torch.manual_seed(0)
    network = quantised(Interleaved(), 3)
    groups = structure_by_name("head").groups(network)
    mask_groups(network, groups, torch.tensor([True, False]))
    with pytest.raises(ModelError, match="shrunk network differs from the masked one"):
        shrink_network(network)

"""Inputs, attention heads, whole layers and the names of groups: what masking a group does to the network."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from structure_networks import INPUT, NETWORKS, build, coupled_sources, quantised
from torch import Tensor, fx, nn
from torch.nn import functional

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.deep_sets import mean_over_positions
from trigger_prune.quantize.layers import FixedQuantizer, QuantLinear, weight_layers
from trigger_prune.structure import Groups, structure_by_name
from trigger_prune.structure.group_masks import mask_groups, remove_groups, removed_groups
from trigger_prune.structure.labels import labels
from trigger_prune.structure.masks import prunable_layers, restored

WIDE = FixedPoint(24, 6, overflow="AP_SAT")


def only(groups: Groups, number: int) -> Tensor:
    return torch.arange(groups.count) == number


def events(network: fx.GraphModule, n: int = 16) -> Tensor:
    torch.manual_seed(4)
    return INPUT.fake_quantize(torch.randn(n, *network.meta["input_shape"]))


class TwoReaders(nn.Module):
    """A convolution and, through a Flatten, a Linear read the events."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.flat = nn.Conv1d(3, 4, 2), nn.Flatten()
        self.side, self.head = nn.Linear(12, 5), nn.Linear(17, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.flat(torch.relu(self.conv(x))), torch.relu(self.side(self.flat(x)))]
        return self.head(torch.cat(parts, dim=1))


def image_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))


INPUT_CASES = {
    "mlp": (lambda: build("mlp"), 4),
    "residual": (lambda: build("residual"), 5),
    "branches": (lambda: build("branches"), 4),
    "channels of particles": (lambda: build("sets"), 3),
    "values of an image": (lambda: quantised(image_mlp(), 1, 3, 4), 12),
    "convolution and Linear": (lambda: quantised(TwoReaders(), 3, 4), 3),
    "convolution and Linear, image": (lambda: build("residual conv"), 2),
}


@pytest.mark.parametrize("case", INPUT_CASES)
def test_a_removed_input_changes_nothing_any_more_and_the_others_do(case: str) -> None:
    make, n_inputs = INPUT_CASES[case]
    network = make()
    groups = structure_by_name("input").groups(network)
    assert groups.count == n_inputs
    x = events(network)
    per_input = x[0].numel() // n_inputs
    for number in range(n_inputs):
        with restored(network), torch.no_grad():
            weights_before = sum(int(layer.weight_mask.sum()) for layer in prunable_layers(network).values())
            mask_groups(network, groups, only(groups, number))
            gone = weights_before - sum(int(layer.weight_mask.sum()) for layer in prunable_layers(network).values())
            assert gone == int(groups.sizes()[number]) and bool(
                (removed_groups(network, groups) == only(groups, number)).all()
            )
            plain = network(x)
            for other in range(n_inputs):
                changed = x.clone().reshape(len(x), n_inputs, per_input)
                changed[:, other] = changed[:, other].flip(0)
                same = torch.equal(network(changed.reshape(x.shape)), plain)
                assert same == (other == number)


class Plus(nn.Module):
    def __init__(self, *, frozen: bool = False, output: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.output = nn.Linear(4, 3), nn.Linear(4, 3), output
        self.two.weight.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x) + self.two(x)
        return torch.cat([y, x], dim=1) if self.output else y


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build("from input"), "layer 'same' is added to them"),
        (lambda: quantised(Plus(frozen=True), 4), "frozen layer 'two' reads them"),
        (lambda: quantised(Plus(output=True), 4), "an output of the network as well"),
        (lambda: quantised(nn.Sequential(nn.Conv1d(4, 4, 2, groups=4), nn.Flatten(), nn.Linear(8, 2)), 4, 3),
         "'0' is a grouped convolution on them"),
        (lambda: quantised(nn.Sequential(mean_over_positions(4, 3), nn.Flatten(), nn.Linear(4, 2)), 4, 3),
         "'0' is a grouped convolution on them"),
    ],
)  # fmt: skip
def test_inputs_read_by_something_else_are_refused_with_the_reason(make: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        structure_by_name("input").groups(make())  # type: ignore[operator]


class Attention(nn.Module):
    """Multi-head self-attention on ``(events, positions, features)``."""

    def __init__(self, features: int, n_heads: int, size: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value = (
            QuantLinear(nn.Linear(features, n_heads * size), WIDE, WIDE) for _ in range(3)
        )
        self.output = QuantLinear(nn.Linear(n_heads * size, features), WIDE, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.reshape(*y.shape[:2], self.n_heads, -1).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(split(self.query(x)), split(self.key(x)), split(self.value(x)))
        return self.output(mixed.transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = QuantLinear(nn.Linear(3, 6), WIDE, WIDE)
        self.blocks = nn.ModuleList([Attention(6, 3, 4), Attention(6, 2, 3)])
        self.head = QuantLinear(nn.Linear(6, 2), WIDE, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(dim=1))


def test_a_removed_head_is_a_network_without_that_head() -> None:
    """Against attention computed by ``nn.functional`` with the weights of the remaining heads only."""
    torch.manual_seed(0)
    encoder = Encoder()
    groups = structure_by_name("head").groups(encoder)
    assert groups.count == 5
    assert list(groups.ids) == [f"blocks.{b}.{part}" for b in (0, 1) for part in ("query", "key", "value", "output")]
    assert groups.sizes().tolist() == [4 * 6 * 4] * 3 + [4 * 6 * 3] * 2
    x = torch.randn(5, 7, 6)
    for number, (block, head) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        masked = copy.deepcopy(encoder)
        mask_groups(masked, groups, only(groups, number))
        old, size = encoder.blocks[block], 4 - block
        keep = [row for row in range(old.n_heads * size) if row // size != head]
        small = Attention(6, old.n_heads - 1, size)
        for part in ("query", "key", "value", "output"):
            layer, source = getattr(small, part), getattr(old, part)
            rows = slice(None) if part == "output" else keep
            with torch.no_grad():
                layer.weight.copy_(source.weight[:, keep] if part == "output" else source.weight[keep])
                layer.bias.copy_(source.bias[rows])
        with torch.no_grad():
            assert torch.allclose(masked.blocks[block](x), small(x), atol=1e-6)
            assert not torch.allclose(masked.blocks[block](x), old(x), atol=1e-3)
            other = 1 - block
            assert torch.equal(masked.blocks[other](x), encoder.blocks[other](x))


def test_heads_are_removed_in_exact_numbers() -> None:
    encoder = Encoder()
    groups = structure_by_name("head").groups(encoder)
    assert groups.home() == ["blocks.0.query"] * 3 + ["blocks.1.query"] * 2
    remove_groups(encoder, groups, torch.tensor([3.0, 1.0, 2.0, 0.0, 0.5]), 0.6, "global")
    assert removed_groups(encoder, groups).tolist() == [False, True, True, True, False]


def test_impossible_heads_are_refused() -> None:
    encoder = Encoder()
    encoder.blocks[0].n_heads = 5
    with pytest.raises(ModelError, match=r"12 outputs of 'blocks\.0\.query' are not 5 equal heads"):
        structure_by_name("head").groups(encoder)
    encoder = Encoder()
    encoder.blocks[0].key.weight.requires_grad_(False)
    assert structure_by_name("head").groups(encoder).count == 2
    with pytest.raises(ModelError, match="no attention block"):
        structure_by_name("head").groups(build("mlp"))
    alone = structure_by_name("head").groups(Attention(6, 3, 4))
    assert list(alone.ids) == ["query", "key", "value", "output"] and labels(alone)[2] == "attention head 2"


class Parallel(nn.Module):
    """Two branches of one layer each that are added: only one of them can go, and never both."""

    def __init__(self) -> None:
        super().__init__()
        self.big, self.mid, self.small, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.mid(torch.relu(self.big(x))) + self.small(x)))


LAYER_CASES = {
    "mlp": (lambda: build("mlp"), ["2"]),
    "residual": (lambda: build("residual"), ["right", "inner", "back"]),
    "parallel": (lambda: quantised(Parallel(), 4), ["big", "mid"]),
    "residual conv": (lambda: build("residual conv"), ["deep", "point", "side"]),
    "branches": (lambda: build("branches"), ["a", "b", "c"]),
}


@pytest.mark.parametrize("case", LAYER_CASES)
def test_the_network_still_works_without_all_the_layers_that_can_go(case: str) -> None:
    """Every input still reaches the output when every removable layer is gone at once."""
    make, names = LAYER_CASES[case]
    network = make()
    groups = structure_by_name("layer").groups(network)
    assert list(groups.ids) == names and groups.count == len(names)
    for layer in prunable_layers(network).values():
        with torch.no_grad():  # no ReLU hides a path
            layer.bias.fill_(0.5)
            layer.weight.abs_()
    for module in network.modules():
        if isinstance(module, FixedQuantizer):  # and no saturation
            module.fixed = FixedPoint(24, 8)
    mask_groups(network, groups, torch.ones(groups.count, dtype=torch.bool))
    x = events(network).abs()
    with torch.no_grad():
        plain = network(x)
        for index in range(x[0].numel()):
            changed = x.clone().reshape(len(x), -1)
            changed[:, index] += 4
            assert not torch.equal(network(changed.reshape(x.shape)), plain)


def test_a_by_passed_layer_passes_each_value_on_alone() -> None:
    for network, name, axis in (
        (build("mlp"), "2", 8),
        (quantised(nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, (3, 5), padding=(1, 2)), nn.ReLU(),
                                 nn.Flatten(), nn.Linear(48, 2)), 2, 4, 4), "2", 3),
    ):  # fmt: skip
        groups = structure_by_name("layer").groups(network)
        mask_groups(network, groups, torch.ones(1, dtype=torch.bool))
        layer = prunable_layers(network)[name]
        assert int(layer.weight_mask.sum()) == axis
        with torch.no_grad():
            layer.weight.fill_(0.0)
            layer.bias.zero_()
            layer.weight_type, layer.bias_type = FixedPoint(8, 4), FixedPoint(20, 8)
            layer.weight += 1
            x = torch.randint(0, 9, (3, 8) if name == "2" and axis == 8 else (3, 3, 4, 4)).float()
            assert torch.equal(layer(x), x)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_layers_that_cannot_go_are_refused_with_their_reasons() -> None:
    narrow = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(ModelError) as caught:
        structure_by_name("layer").groups(quantised(narrow, 4))
    assert "0 is the only way through the network, and turns 4 values into 6" in str(caught.value)
    assert "2 computes outputs of the network" in str(caught.value)
    for conv, reason in (
        (nn.Conv1d(4, 4, 3), "changes the positions"),
        (nn.Conv1d(4, 4, 3, padding=1, stride=2), "changes the positions"),
        (nn.Conv1d(4, 4, 2, padding="same"), "changes the positions"),
        (nn.Conv1d(4, 4, 3, padding=1, groups=2), "is a grouped convolution"),
        (nn.Conv1d(4, 5, 3, padding=1), "turns 4 channels into 5"),
    ):
        size = conv(torch.zeros(1, 4, 6)).numel()
        with pytest.raises(ModelError, match=reason):
            structure_by_name("layer").groups(
                quantised(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(size, 2)), 4, 6)
            )
    for conv in (nn.Conv1d(4, 4, 3, padding="same"), nn.Conv1d(4, 4, 1, padding="valid"),
                 nn.Conv1d(4, 4, 3, padding=2, dilation=2)):  # fmt: skip
        network = quantised(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(24, 2)), 4, 6)
        assert list(structure_by_name("layer").groups(network).ids) == ["0"]


def test_whole_layers_go_by_their_rank_and_not_by_a_share_of_each() -> None:
    network = build("residual")
    groups = structure_by_name("layer").groups(network)
    with pytest.raises(ModelError, match="a whole layer"):
        remove_groups(network, groups, torch.zeros(3), 0.5, "layer")
    remove_groups(network, groups, torch.tensor([2.0, 0.0, 1.0]), 2 / 3, "global")
    assert removed_groups(network, groups).tolist() == [False, True, True]


def test_labels_name_what_goes() -> None:
    assert labels(structure_by_name("neuron").groups(build("residual")), [0, 7]) == [
        "left neuron 0 + right neuron 0 + back neuron 0",
        "inner neuron 1",
    ]
    assert labels(structure_by_name("filter").groups(build("residual conv")), [2]) == [
        "stem filter 2 + deep filter 2 + point filter 2 + side neuron 8 to 11"
    ]
    mlp = build("mlp")
    assert labels(structure_by_name("weight").groups(mlp), [0, 8 * 4 + 9]) == ["0 weight [0, 0]", "2 weight [1, 1]"]
    assert labels(structure_by_name("weight").groups(build("sets")), [5]) == ["0 weight [1, 2, 0]"]
    blocks = labels(structure_by_name("block").groups(mlp))
    assert blocks[:3] == ["0 block [0:4, 0:4]", "0 block [4:8, 0:4]", "2 block [0:4, 0:4]"]
    assert blocks[-1] == "6 block [0:3, 4:6]"
    assert labels(structure_by_name("dsp", reuse_factor={"2": 4}).groups(mlp), [32, 33]) == [
        "2 multiplier 0",
        "2 multiplier 1",
    ]
    assert labels(structure_by_name("bram", reuse_factor=2).groups(mlp))[-1] == "6 memory word slice 1"
    assert labels(structure_by_name("input").groups(build("branches"))) == ["input 0", "input 1", "input 2", "input 3"]
    assert labels(structure_by_name("layer").groups(mlp)) == ["layer 2"]
    assert labels(structure_by_name("head").groups(Encoder()), [1, 4]) == ["blocks.0 head 1", "blocks.1 head 1"]
    with pytest.raises(ModelError, match="99 is no group"):
        labels(structure_by_name("layer").groups(mlp), [99])


@pytest.mark.parametrize("name", NETWORKS)
def test_inputs_are_refused_exactly_where_the_oracle_finds_something_else_on_them(name: str) -> None:
    network = build(name)
    units, kept = coupled_sources(network, NETWORKS[name][1])
    with_inputs = [unit for unit in units if any(not layer for layer, _ in unit)]
    free = all(not unit & kept and all(not layer for layer, _ in unit) for unit in with_inputs)
    if free:
        assert structure_by_name("input").groups(network).count == len(with_inputs)
    else:
        with pytest.raises(ModelError, match="inputs cannot be removed"):
            structure_by_name("input").groups(network)
    assert math.prod(NETWORKS[name][1]) == sum(len([s for s in unit if not s[0]]) for unit in with_inputs)
    assert weight_layers(network)

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets, mean_over_positions
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.convert import input_shape_of, quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure.resize import (
    drop_inputs,
    fold_constant_input,
    input_layers,
    merge_inputs,
    resize_inputs,
)
from trigger_prune.structure.shrink.quantised import drop_unread_inputs

INPUT = FixedPoint(8, 3)
BITS = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")


def used_inputs(network: fx.GraphModule) -> list[int]:
    return list(drop_unread_inputs(copy.deepcopy(network)))


class TwoBranches(nn.Module):
    """Two layers read the input."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.left(x)) + torch.relu(self.right(x)))


MODELS = {
    "mlp": (lambda: Mlp((6,), 3, hidden=(5,)), (6,)),
    "two branches": (TwoBranches, (6,)),
    "conv1d": (lambda: Conv1dNet((6, 5), 3, channels=(4,), hidden=(4,)), (6, 5)),
    "conv2d": (lambda: Conv2dNet((6, 4, 4), 3, channels=(4,), hidden=(4,)), (6, 4, 4)),
    "deep sets": (lambda: DeepSets((6, 4), 3, phi=(4,), rho=(4,)), (6, 4)),
}


def events(n: int, shape: tuple[int, ...]) -> Tensor:
    values = torch.randn(n, *shape, generator=torch.Generator().manual_seed(3))
    return torch.from_numpy(INPUT.quantize(values.numpy())).float()


def quantised(name: str, **bits: int) -> fx.GraphModule:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    return quantize_model(make(), events(300, shape), INPUT, SimpleNamespace(**{**vars(BITS), **bits}))


@pytest.mark.parametrize("name", MODELS)
def test_dropping_inputs_is_giving_them_no_weight(name: str) -> None:
    network, kept = quantised(name), [0, 2, 5]
    for layer in input_layers(network) or []:
        layer.weight_mask[:, [1, 3, 4]] = 0
        layer.weight_mask[0, 2] = 0
    assert used_inputs(network) == kept
    x = events(100, MODELS[name][1])
    before = network(x)
    masks = [layer.weight_mask[:, kept].clone() for layer in input_layers(network) or []]
    drop_inputs(network, kept)
    assert torch.equal(network(x[:, kept]), before)
    assert input_shape_of(network) == (3, *MODELS[name][1][1:])
    assert describe_network(network).input_shape == input_shape_of(network)
    assert all(torch.equal(a, b.weight_mask) for a, b in zip(masks, input_layers(network) or [], strict=True))
    drop_inputs(network, [2, 0])  # and once more, in another order
    assert network(x[:, [5, 0]]).shape == before.shape


def test_an_input_whose_weights_all_round_to_zero_is_unused() -> None:
    network = quantised("mlp")
    layer = weight_layers(network)["dense1"]
    with torch.no_grad():
        layer.weight[:, 4] = 0.4 * layer.weight_type.lsb
    assert used_inputs(network) == [0, 1, 2, 3, 5]


@pytest.mark.parametrize("name", MODELS)
def test_merging_a_duplicate_leaves_the_function_unchanged(name: str) -> None:
    network = quantised(name, weight_bits=16)  # quantisation of the sum is then negligible
    for layer in input_layers(network) or []:
        layer.weight_mask[0, 4] = 0
        layer.weight_mask[1, 1] = 0
        layer.weight_mask[2, [1, 4]] = 0
    x = events(200, MODELS[name][1])
    x[:, 4] = x[:, 1]
    before = network(x)
    masks = [layer.weight_mask.clone() for layer in input_layers(network) or []]
    merge_inputs(network, 4, 1)
    # activations are quantised: a sum that is moved by a rounding error may move one by an LSB
    difference, size = (network(x) - before).detach().abs(), before.detach().abs()
    assert float(difference.max()) < 0.05 * float(size.max())
    assert float(difference.mean()) < 0.003 * float(size.mean())
    for mask, layer in zip(masks, input_layers(network) or [], strict=True):
        assert torch.equal(layer.weight_mask[:, 1], torch.maximum(mask[:, 1], mask[:, 4]))
        assert not layer.weight_mask[:, 4].any()
    assert used_inputs(network) == [0, 1, 2, 3, 5]
    changed = x.clone()
    changed[:, 4] = 0
    assert torch.equal(network(changed), network(x))


def test_merged_weights_are_the_sum_of_the_kept_ones() -> None:
    network = quantised("mlp")
    layer = weight_layers(network)["dense1"]
    layer.weight_mask[0, 4] = 0
    layer.weight_mask[1, 1] = 0
    layer.weight_mask[2, [1, 4]] = 0
    old, mask = layer.weight.detach().clone(), layer.weight_mask.clone()
    merge_inputs(network, 4, 1)
    kept = old * mask
    assert torch.equal((layer.weight * layer.weight_mask)[:, 1], kept[:, 1] + kept[:, 4])


def test_a_merged_weight_that_does_not_fit_moves_the_binary_point() -> None:
    network = quantised("mlp")
    layer = weight_layers(network)["dense1"]
    with torch.no_grad():
        layer.weight[:, [1, 4]] = 0.9 * layer.weight_type.max_value
    x = events(500, (6,))
    x[:, 4] = x[:, 1]
    before, old, old_bias = network(x).detach(), layer.weight_type, layer.bias_type
    saturating = copy.deepcopy(network)
    merge_inputs(network, 4, 1)
    assert layer.weight_type.width == old.width and layer.weight_type.integer == old.integer + 1
    assert layer.weight_type.rounding == old.rounding and layer.weight_type.overflow == old.overflow
    product = INPUT.fraction + layer.weight_type.fraction
    assert layer.bias_type == old_bias and layer.bias_type.fraction >= product
    error = float((network(x).detach() - before).abs().mean())
    # what would have happened with the old type
    twin = weight_layers(saturating)["dense1"]
    with torch.no_grad():
        twin.weight.copy_(layer.weight)
        twin.weight_mask.copy_(layer.weight_mask)
    assert float((saturating(x).detach() - before).abs().mean()) > 4 * error
    assert error < 0.05 * float(before.abs().mean())


def test_a_merged_weight_that_fits_keeps_the_type() -> None:
    network = quantised("mlp")
    layer = weight_layers(network)["dense1"]
    with torch.no_grad():
        layer.weight[:, [1, 4]] *= 0.1
    old = layer.weight_type
    merge_inputs(network, 4, 1)
    assert layer.weight_type == old


@pytest.mark.parametrize("name", ["mlp", "two branches", "deep sets"])
@pytest.mark.parametrize("value", [0.0, -2.5, 3.96875])
def test_folding_a_constant_changes_no_bit(name: str, value: float) -> None:
    network = quantised(name)
    for layer in input_layers(network) or []:
        layer.weight_mask[1, 3] = 0
    x = events(300, MODELS[name][1])
    x[:, 3] = value
    before = network(x)
    assert len(before.unique()) > 50
    fold_constant_input(network, 3, value)
    assert torch.equal(network(x), before)
    x[:, 3] = 1.0
    assert torch.equal(network(x), before)
    assert used_inputs(network) == [0, 1, 2, 4, 5]


def test_a_large_constant_widens_the_bias_type() -> None:
    network = quantised("mlp")
    layer = weight_layers(network)["dense1"]
    with torch.no_grad():
        layer.bias.mul_(0.01)
        layer.weight[:, 3] = layer.weight_type.max_value
    layer.bias_type = FixedPoint(8, 8 - layer.bias_type.fraction, overflow="AP_SAT", rounding="AP_RND_CONV")
    x = events(100, (6,))
    x[:, 3] = 3.75
    before = network(x)
    fold_constant_input(network, 3, 3.75)
    assert torch.equal(network(x), before)
    assert layer.bias_type.fraction == 8 - FixedPoint(8, 8 - layer.bias_type.fraction).integer


class Biasless(nn.Module):
    """Two branches, the second without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 3), nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "biasless"])
def test_a_constant_that_biases_cannot_take_up_changes_nothing(name: str) -> None:
    network = quantize_model(Biasless(), events(50, (6,)), INPUT, BITS) if name == "biasless" else quantised(name)
    before = describe_network(network).content_hash()
    with pytest.raises(ModelError, match=r"pads with zeros|no bias"):
        fold_constant_input(network, 3, 0.5)
    assert describe_network(network).content_hash() == before
    fold_constant_input(network, 3, 0.0)  # zero is what the padding holds
    assert used_inputs(network) == [0, 1, 2, 4, 5]


def test_a_same_padded_convolution_pads_only_beyond_one_position() -> None:
    for kernel, fails in ((1, False), (3, True)):
        model = nn.Sequential(nn.Conv1d(6, 3, kernel, padding="same"), nn.Flatten(), nn.Linear(12, 2))
        network = quantize_model(model, events(50, (6, 4)), INPUT, BITS)
        if fails:
            with pytest.raises(ModelError, match="pads with zeros"):
                fold_constant_input(network, 0, 1.0)
        else:
            fold_constant_input(network, 0, 1.0)
    valid = nn.Sequential(nn.Conv1d(6, 3, 3, padding="valid"), nn.Flatten(), nn.Linear(6, 2))
    network = quantize_model(valid, events(50, (6, 4)), INPUT, BITS)
    x = events(50, (6, 4))
    x[:, 2] = -1.25
    before = network(x)
    fold_constant_input(network, 2, -1.25)
    assert torch.equal(network(x), before)


def frozen_first() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2))
    model[0].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (3, 4)),
        (nn.Sequential(nn.MaxPool1d(2), nn.Flatten(), nn.Linear(6, 2)), (3, 4)),
        (nn.Sequential(nn.Conv1d(3, 6, 1, groups=3), nn.Flatten(), nn.Linear(24, 2)), (3, 4)),
        (nn.Sequential(mean_over_positions(3, 4), nn.Flatten(), nn.Linear(3, 2)), (3, 4)),
        (frozen_first(), (6,)),
    ],
)
def test_inputs_that_something_else_reads_stay(model: nn.Module, shape: tuple[int, ...]) -> None:
    network = quantize_model(model, events(50, shape), INPUT, BITS)
    assert input_layers(network) is None
    assert used_inputs(network) == list(range(shape[0]))
    for call in (
        lambda: drop_inputs(network, [0]),
        lambda: merge_inputs(network, 0, 1),
        lambda: fold_constant_input(network, 0, 1.0),
    ):
        with pytest.raises(ModelError, match="cannot be dropped") as caught:
            call()
        assert "drop_redundant_inputs" in str(caught.value.hint)


def test_inputs_that_are_not_there_are_named() -> None:
    network = quantised("mlp")
    for call in (
        lambda: merge_inputs(network, 6, 1),
        lambda: merge_inputs(network, 0, -1),
        lambda: merge_inputs(network, 2, 2),
        lambda: fold_constant_input(network, 9, 1.0),
        lambda: drop_inputs(network, [0, 6]),
        lambda: drop_inputs(network, [1, 1]),
        lambda: drop_inputs(network, []),
        lambda: resize_inputs(nn.ReLU(), [0]),
    ):
        with pytest.raises(ModelError, match=r"no input|not inputs|itself|ReLU"):
            call()

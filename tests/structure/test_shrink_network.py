"""Neurons without effect go, and not one bit of the outputs changes."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from shrink_models import QUANTISABLE, random_masks, randomised
from torch import Tensor, fx, nn

from trigger_prune.export.lowered import lower
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import input_shape_of, input_type_of, quantize_model
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.verify.onnx_runs import run_onnxruntime, run_qonnx
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
    shrunk = shrink_network(network, keep_inputs=True)
    assert shrunk.removed == {"0": (1, 4, 7), "2": (0, 5)} and shrunk.remarks == ()
    assert (shrunk.kept_inputs, shrunk.dropped_inputs) == (tuple(range(6)), ())
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
    shrunk = shrink_network(network, keep_inputs=True)
    assert sizes(shrunk.network) == {"0": (1, 6), "2": (1, 1), "4": (3, 1)}
    events = probes(network)
    assert (torch_outputs(shrunk.network, events, double=True) == torch_outputs(network, events, double=True)).all()


def test_a_dead_layer_keeps_one_neuron() -> None:
    network = quantised(mlp(), (6,))
    silence(network, "0", *range(10))
    shrunk = shrink_network(network, keep_inputs=True)
    assert sizes(shrunk.network)["0"] == (1, 6)
    events = probes(network)
    assert (torch_outputs(shrunk.network, events, double=True) == torch_outputs(network, events, double=True)).all()


def test_nothing_dead_nothing_removed() -> None:
    network = quantised(mlp(), (6,))
    shrunk = shrink_network(network, keep_inputs=True)
    assert shrunk.removed == {} and sizes(shrunk.network) == sizes(network)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.95])
def test_random_sparsity_never_changes_a_bit(seed: int, sparsity: float) -> None:
    network = quantised(mlp(), (6,), seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in weight_layers(network).values():
        layer.weight_mask.copy_((torch.rand(layer.weight_mask.shape, generator=generator) > sparsity).float())
    shrunk = shrink_network(network, keep_inputs=True)
    events = probes(network)
    assert (torch_outputs(shrunk.network, events, double=True) == torch_outputs(network, events, double=True)).all()
    for layer in list(weight_layers(shrunk.network).values())[1:]:
        assert layer.weight.shape[1] == 1 or (layer.quantized_weight() != 0).any(dim=0).all(), "every input is read"
    if sparsity == 0.95:
        assert sum(map(len, shrunk.removed.values())) >= 5


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
    shrunk = shrink_network(network, keep_inputs=True)
    assert shrunk.removed == {"0": (2,), "2": (1, 3)}
    assert sizes(shrunk.network) == {"0": (4, 1, 3, 3), "2": (2, 4, 3, 3), "6": (3, 2)}
    assert_same(network, shrunk.network)


def test_a_constant_before_padding_stays_unless_it_is_zero() -> None:
    for bias, kept in ((0.75, 5), (-0.75, 4)):
        network = quantised(conv2d(1), (1, 6, 6))
        silence(network, "0", 2)
        weight_layers(network)["0"].bias.data[2] = bias
        shrunk = shrink_network(network, keep_inputs=True)
        assert sizes(shrunk.network)["0"][0] == kept, "padding adds zeros, not the constant, at the border"
        assert_same(network, shrunk.network)


def test_a_constant_that_differs_between_positions_stays_before_a_convolution() -> None:
    model = nn.Sequential(
        nn.Conv1d(2, 4, 1), nn.ReLU(), nn.Conv1d(4, 3, 3, padding=1), nn.ReLU(), nn.Conv1d(3, 2, 2), nn.Flatten()
    )
    network = quantised(model, (2, 5))
    silence(network, "0", 3)
    weight_layers(network)["0"].bias.data[3] = 1.0
    weight_layers(network)["2"].weight_mask[1, :3] = 0
    weight_layers(network)["2"].weight.data[1, 3] = torch.tensor([0.5, 0.25, 0.375])
    shrunk = shrink_network(network, keep_inputs=True)
    assert shrunk.removed == {}
    assert_same(network, shrunk.network)


def test_several_positions_behind_a_flatten() -> None:
    network = quantised(conv2d(1), (1, 6, 6))
    silence(network, "2", 0)
    unread(network, "6", *range(9, 18))
    shrunk = shrink_network(network, keep_inputs=True)
    assert shrunk.removed == {"2": (0, 1)} and sizes(shrunk.network)["6"] == (3, 18)
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
    shrunk = shrink_network(network, keep_inputs=True)
    assert shrunk.removed["0"] == (1, 3, 6)
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


def test_both_summands_of_a_residual_lose_a_neuron_only_together() -> None:
    network = quantised(Residual(), (6,))
    silence(network, "first", 0, 1, 2)
    silence(network, "second", 1, 2)
    unread(network, "last", 5)
    shrunk = shrink_network(network)
    # 0: the second summand is alive; 5: the last layer does not read the sum, but ``second`` reads its neuron
    assert shrunk.removed == {"first": (1, 2), "second": (1, 2)}
    assert "first: neurons [0] have no weights but stay" in shrunk.remarks[0]
    assert_same(network, shrunk.network)
    unread(network, "second", 5)
    assert shrink_network(network).removed == {"first": (1, 2, 5), "second": (1, 2, 5)}
    assert_same(network, shrink_network(network).network)


def test_a_constant_gets_a_bias_where_there_is_none() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    network = quantised(model, (6,))
    silence(network, "0", 0, 1)
    weight_layers(network)["0"].bias.data[:2] = torch.tensor([0.5, -0.5])
    shrunk = shrink_network(network, keep_inputs=True)
    assert shrunk.removed == {"0": (0, 1)}
    weight = weight_layers(network)["2"].quantized_weight()[:, 0]
    assert torch.equal(weight_layers(shrunk.network)["2"].bias, 0.5 * weight)
    assert_same(network, shrunk.network)


@pytest.mark.parametrize("width", [24, 45])
def test_a_constant_that_no_bias_can_hold_stays(width: int) -> None:
    """A bias is a float32 of 24 bits, whatever its type says; a constant of 20 bits times a weight of 16 needs more."""
    wide = SimpleNamespace(weight_bits=16, activation_bits=20, rounding="AP_RND_CONV")
    torch.manual_seed(0)
    network = quantize_model(mlp(), torch.randn(300, 6), FixedPoint(16, 3), wide)
    silence(network, "0", 3, 4)
    first, second = weight_layers(network)["0"], weight_layers(network)["2"]
    first.bias.data[3], first.bias.data[4] = 0.7123456, -1.0
    first.bias_type = FixedPoint(24, 2, True, "AP_RND_CONV", "AP_SAT")
    second.weight.data[:, 3] = 0.123456
    second.bias_type = FixedPoint(width, 4, True, "AP_RND_CONV", "AP_SAT")
    second.bias.data.copy_(second.quantized_bias())
    shrunk = shrink_network(network)
    assert shrunk.removed == {"0": (4,)}
    assert shrunk.remarks == (
        "0: neurons [3] have no weights but stay: the bias of layer '2' cannot take up its constant",
    )
    events = probes(network)
    assert (torch_outputs(shrunk.network, events, double=True) == torch_outputs(network, events, double=True)).all()


def test_a_neuron_that_can_never_fire_or_never_leave_saturation_is_constant() -> None:
    network = quantised(mlp(), (6,))
    first = weight_layers(network)["0"]
    reach = 4.0 * first.quantized_weight().abs().sum(dim=1)  # inputs are -4 .. 3.97
    first.bias_type = FixedPoint(16, 8, True, "AP_RND_CONV", "AP_SAT")
    with torch.no_grad():
        first.bias[2] = -reach[2]
        first.bias[3] = reach[3] + 100.0
        first.weight[4] = first.weight_type.min_value
        first.bias[4] = -4.0 * first.quantized_weight()[4].abs().sum() + 1.5  # a positive sum is possible
    shrunk = shrink_network(network)
    assert shrunk.removed["0"] == (2, 3)
    assert_same(network, shrunk.network)


@pytest.mark.parametrize("seed", range(5))
def test_every_possible_event_of_a_small_network(seed: int) -> None:
    """All 4096 events of four inputs of three bits; every neuron without weights is gone, and every unread input."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 2))
    fixed = FixedPoint(3, 2)
    few = SimpleNamespace(weight_bits=3, activation_bits=3, rounding="AP_TRN")
    network = quantize_model(model, torch.randn(200, 4), fixed, few)
    masks = random_masks({name: layer.weight for name, layer in weight_layers(network).items()}, 0.5, seed)
    for name, layer in weight_layers(network).items():
        layer.weight_mask.copy_(masks[name])
    weight_layers(network)["4"].weight_mask.fill_(1)
    shrunk = shrink_network(network)
    codes = np.stack(np.meshgrid(*[np.arange(fixed.min_code, fixed.max_code + 1)] * 4), axis=-1).reshape(-1, 4)
    events = (codes * fixed.lsb).astype(np.float32)
    expected = torch_outputs(network, events, double=True)
    assert (torch_outputs(shrunk.network, events[:, list(shrunk.kept_inputs)], double=True) == expected).all()
    left = weight_layers(shrunk.network)
    for name in ("0", "2"):
        zero = (left[name].quantized_weight() == 0).all(dim=1)
        assert not zero.any() or len(zero) == 1
    if len(left["0"].weight) > 1:
        assert (left["0"].quantized_weight() != 0).any(dim=0).all() or len(shrunk.kept_inputs) == 1
    for index in shrunk.dropped_inputs:  # the firmware no longer needs it: it changes nothing
        changed = events.copy()
        changed[:, index] = -changed[:, index] - fixed.lsb
        assert (torch_outputs(network, changed, double=True) == expected).all()


@pytest.mark.parametrize("name", QUANTISABLE)
def test_every_kind_of_network_keeps_every_bit(name: str) -> None:
    make, (shape,) = QUANTISABLE[name]
    removed = silent = 0
    for seed, fraction in enumerate((0.2, 0.5, 0.9)):
        network = quantize_model(
            randomised(make(), seed),
            torch.randn(100, *shape, generator=torch.Generator().manual_seed(seed)),
            FixedPoint(8, 3),
            SimpleNamespace(weight_bits=5, activation_bits=5, rounding=("AP_TRN", "AP_RND_CONV")[seed % 2]),
        )
        layers = {key: layer for key, layer in weight_layers(network).items() if layer.weight.requires_grad}
        masks = random_masks({key: layer.weight for key, layer in layers.items()}, fraction, seed)
        for key, mask in masks.items():
            layers[key].weight_mask.copy_(mask)
            silent += int((mask.flatten(1) == 0).all(dim=1).sum())
        shrunk = shrink_network(network)
        events = probes(network)
        smaller = np.ascontiguousarray(events[:, list(shrunk.kept_inputs)])
        found = torch_outputs(shrunk.network, smaller, double=True)
        assert (found == torch_outputs(network, events, double=True)).all()
        assert sorted((*shrunk.kept_inputs, *shrunk.dropped_inputs)) == list(range(shape[0]))
        for key, layer in weight_layers(shrunk.network).items():
            lost = len(shrunk.removed.get(key, ()))
            assert layer.weight.shape[0] == weight_layers(network)[key].weight.shape[0] - lost
        assert shrink_network(shrunk.network).removed == {}, "once is enough"
        removed += sum(map(len, shrunk.removed.values()))
    assert removed > 0.5 * silent


def test_groups_of_a_convolution_shrink_evenly_or_whole() -> None:
    model = nn.Sequential(nn.Conv1d(3, 6, 1), nn.ReLU(), nn.Conv1d(6, 9, 2, groups=3), nn.ReLU(), nn.Flatten(),
                          nn.Linear(18, 2))  # fmt: skip
    network = quantised(model, (3, 3))
    silence(network, "2", 0, 4, 5)
    uneven = shrink_network(network)
    assert uneven.removed == {}, "group 3 has all its filters"
    assert "groups of layer '2' must stay equally large" in uneven.remarks[0]
    silence(network, "2", 8)
    assert shrink_network(network).removed == {"2": (0, 4, 8)}, "one of each group; the fifth stays"
    silence(network, "2", 3)
    whole = shrink_network(network)
    assert whole.removed == {"0": (2, 3), "2": (0, 3, 4, 5, 8)}, "group 2 goes with what it reads"
    assert weight_layers(whole.network)["2"].groups == 2
    assert_same(network, whole.network)


def test_inputs_that_nothing_reads_are_named() -> None:
    network = quantised(mlp(), (6,))
    unread(network, "0", 1, 4)
    silence(network, "0", 2)
    weight_layers(network)["0"].weight_mask[2, 5] = 1  # read by a neuron only that nothing reads
    weight_layers(network)["0"].weight_mask[:2, 5] = weight_layers(network)["0"].weight_mask[3:, 5] = 0
    unread(network, "2", 2)
    shrunk = shrink_network(network)
    assert (shrunk.kept_inputs, shrunk.dropped_inputs) == ((0, 2, 3), (1, 4, 5))
    assert input_shape_of(shrunk.network) == (3,) and input_shape_of(network) == (6,)
    assert sizes(shrunk.network)["0"] == (9, 3)
    events = probes(network)
    expected = torch_outputs(network, events, double=True)
    assert (torch_outputs(shrunk.network, events[:, [0, 2, 3]], double=True) == expected).all()
    same_inputs = shrink_network(network, keep_inputs=True)
    assert same_inputs.dropped_inputs == () and sizes(same_inputs.network)["0"] == (9, 6)


def test_exported_models_of_a_shrunk_network_agree_bit_for_bit() -> None:
    for name in ("conv2d with batch norm", "deep sets", "grouped"):
        make, (shape,) = QUANTISABLE[name]
        network = quantised(randomised(make(), 1), shape)
        layers = {key: layer for key, layer in weight_layers(network).items() if layer.weight.requires_grad}
        for key, mask in random_masks({key: layer.weight for key, layer in layers.items()}, 0.4, 1).items():
            layers[key].weight_mask.copy_(mask)
        shrunk = shrink_network(network)
        assert shrunk.removed
        events = probes(network)[:50]
        smaller = np.ascontiguousarray(events[:, list(shrunk.kept_inputs)])
        qonnx = to_qonnx(shrunk.network)
        expected = torch_outputs(network, events, double=True)
        assert (run_onnxruntime(lower(qonnx, double=True), smaller) == expected).all()
        assert (run_qonnx(qonnx, smaller, double=True) == expected).all()


def test_biases_that_take_up_large_constants_get_a_wider_type() -> None:
    network = quantised(mlp(), (6,))
    silence(network, "0", *range(6))
    weight_layers(network)["0"].bias.data[:6] = 1.5
    last = weight_layers(network)["2"]
    last.weight.data[:, :6] = last.weight_type.max_value
    before = last.bias_type.max_value
    shrunk = shrink_network(network, keep_inputs=True)
    found = weight_layers(shrunk.network)["2"]
    assert float(found.bias.detach().max()) > before and found.bias_type.max_value > before
    assert sizes(shrunk.network)["0"] == (4, 6)
    events = probes(network)
    assert (torch_outputs(shrunk.network, events, double=True) == torch_outputs(network, events, double=True)).all()

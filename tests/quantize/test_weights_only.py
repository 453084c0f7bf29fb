"""Quantised weights with float activations: values, masks, files, and why there is no firmware."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trigger_prune.errors import ArtefactError, ModelError, UnsupportedLayerError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.encoder import Encoder
from trigger_prune.prune.fine_tune import RampPlan, ramp
from trigger_prune.quantize.checkpoint import load_network, save_network
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.graph import prepare
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.quantize.weights_only import (
    content_hash,
    is_weights_only,
    output_count,
    quantize_weights,
    weight_counts,
)
from trigger_prune.structure import structure_by_name
from trigger_prune.structure.group_masks import mask_groups, remove_groups
from trigger_prune.structure.masks import masked_fraction
from trigger_prune.structure.shrink.quantised import shrink_network
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings, fit

EVENTS = FixedPoint(10, 4)


def encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder((3, 6), 2, width=12, n_heads=4, n_layers=2, hidden=16)


def network_of(model: nn.Module, bits: int = 5, shape: tuple[int, ...] = (3, 6)) -> nn.Module:
    return quantize_weights(model, bits, input_type=EVENTS, input_shape=shape)


def features(n: int = 50, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, 6, generator=torch.Generator().manual_seed(seed)).mul(64).round().div(64).clamp(-7, 7)


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_it_computes_the_float_model_with_rounded_weights(bits: int) -> None:
    model = encoder()
    network = network_of(model, bits).eval()
    by_hand = copy.deepcopy(model).eval()
    for name, layer in by_hand.named_modules():
        if isinstance(layer, nn.Linear):
            fixed = weight_layers(network)[name].weight_type
            assert (fixed.width, fixed.signed) == (bits, True)
            rounded = fixed.quantize(layer.weight.detach().double().numpy())
            assert len(np.unique(rounded)) <= 2**bits
            layer.weight.data = torch.from_numpy(rounded).float()
    torch.testing.assert_close(network(features()), by_hand(features()), rtol=0, atol=1e-6)
    assert (network(features()) - model.eval()(features())).abs().max() > 1e-6
    assert is_weights_only(network) and not is_weights_only(model)
    assert output_count(network) == 2


def test_the_model_itself_is_left_alone() -> None:
    model = encoder()
    before = copy.deepcopy(model.state_dict())
    network = network_of(model)
    weight_layers(network)["head"].weight.data.zero_()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert type(model.head) is nn.Linear


def test_a_layer_used_twice_stays_one_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.again = self.first

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.again(torch.tanh(self.first(x)))
            return result

    network = network_of(Twice(), shape=(3,))
    assert network.first is network.again
    assert list(weight_counts(network)) == ["first"]


def test_what_cannot_be_quantised_is_named() -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3))
    tied[2].weight = tied[0].weight
    with pytest.raises(UnsupportedLayerError, match="layers '0' and '2' share one weight"):
        network_of(tied, shape=(3,))
    with pytest.raises(ModelError, match="no Linear, Conv1d or Conv2d layer"):
        network_of(nn.Sequential(nn.LayerNorm(3)), shape=(3,))


def batches(n: int, seed: int) -> Batches:
    x = features(n, seed)
    return Batches(x, (x[:, 0].amax(dim=1) > x[:, 1].amax(dim=1)).long(), torch.ones(n))


def test_training_learns_and_a_ramp_prunes_exactly() -> None:
    network = network_of(encoder(), 6)
    settings = FitSettings("qat", 6, 100, 8e-3, seed=1)
    start = evaluate(network, batches(500, 3), "classify").loss
    fit(network, batches(1000, 2), batches(500, 3), settings)
    trained = evaluate(network, batches(500, 3), "classify")
    assert trained.loss < 0.5 * start and trained.accuracy > 0.85
    groups = structure_by_name("head").groups(network)
    assert groups.count == 8
    ramp(network, batches(1000, 2), batches(500, 3), settings, RampPlan(0.5, criterion="taylor_fisher", groups=groups))
    removed = [
        all(
            bool((weight_layers(network)[name].weight_mask[ids == head] == 0).all())
            for name, ids in groups.ids.items()
            if bool((ids == head).any())
        )
        for head in range(8)
    ]
    assert sum(removed) == 4
    assert evaluate(network, batches(500, 3), "classify").accuracy > 0.8
    for layer in weight_layers(network).values():
        assert bool((layer.weight[layer.weight_mask == 0] == 0).all())
    few = FitSettings("prune", 2, 100, 5e-3, seed=1)
    ramp(network, batches(300, 2), batches(100, 3), few, RampPlan(0.7))
    total = sum(layer.weight_mask.numel() for layer in weight_layers(network).values())
    assert round(masked_fraction(network) * total) == round(0.7 * total)


def shrunk_network() -> tuple[Encoder, nn.Module]:
    model = encoder()
    network = network_of(model)
    groups = structure_by_name("head").groups(network)
    chosen = torch.zeros(groups.count, dtype=torch.bool)
    chosen[[0, 3, 5]] = True
    mask_groups(network, groups, chosen)
    neurons = structure_by_name("neuron").groups(network)
    remove_groups(network, neurons, torch.rand(neurons.count), 0.4, "global")
    weight_layers(network)["embedding"].weight_mask[:, 1] = 0
    return model, shrink_network(network).network


@pytest.mark.parametrize("shrunk", [False, True])
def test_a_file_gives_the_same_network_back(tmp_path: Path, shrunk: bool) -> None:
    model, network = shrunk_network() if shrunk else (encoder(), network_of(encoder()))
    weight_layers(network)["layers.1.contract"].weight_mask[2, 3] = 0
    save_network(network, tmp_path / "network.pt")
    again = load_network(tmp_path / "network.pt", encoder(seed=8))
    x = features()[:, [0, 2]] if shrunk else features()
    assert torch.equal(again.eval()(x), network.eval()(x))
    assert type(again) is Encoder and is_weights_only(again)
    assert content_hash(again) == content_hash(network)
    assert weight_counts(again) == weight_counts(network)
    # and it is the same once more: nothing about the shapes was lost on the way
    save_network(again, tmp_path / "again.pt")
    assert content_hash(load_network(tmp_path / "again.pt", model)) == content_hash(network)


def test_files_of_another_model_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    _, network = shrunk_network()
    save_network(network, tmp_path / "network.pt")
    for other in (
        Encoder((3, 6), 2, width=24, n_heads=4, n_layers=2, hidden=16), Encoder((3, 6), 2, width=12, n_layers=1),
    ):  # fmt: skip
        with pytest.raises(ArtefactError, match="belongs to another model"):
            load_network(tmp_path / "network.pt", other)
    content = torch.load(tmp_path / "network.pt", weights_only=True)
    content["state"]["head.bias"][0] += 1
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(ArtefactError, match="not the ones that were written"):
        load_network(tmp_path / "damaged.pt", encoder())


def test_the_hash_knows_everything_that_is_computed_with() -> None:
    network = network_of(encoder())
    seen = {content_hash(network)}

    def changed(change: object) -> None:
        other = copy.deepcopy(network)
        change(other)  # type: ignore[operator]
        seen.add(content_hash(other))

    changed(lambda n: weight_layers(n)["head"].weight_mask[0].zero_())
    changed(lambda n: weight_layers(n)["head"].bias.data.add_(0.5))
    changed(lambda n: n.layers[0].norm.weight.data.add_(0.5))
    changed(lambda n: setattr(n.layers[0].attention, "n_heads", 2))
    changed(lambda n: n.meta.update(input_type=FixedPoint(8, 4)))
    assert len(seen) == 6
    masked = copy.deepcopy(network)
    masked.head.weight_mask[0] = 0
    masked.head.weight.data[0] = 7.0
    assert content_hash(masked) in seen, "what a mask hides is not computed with"


def test_firmware_is_refused_with_every_operation_and_what_works_instead() -> None:
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    with pytest.raises(UnsupportedLayerError) as caught:
        quantize_model(encoder(), features(), EVENTS, bits)
    for operation in ("matmul (in layers.0.attention)", "softmax (in layers.0.attention)", "LayerNorm (in layers.0."):
        assert operation in caught.value.message
    assert "--set cost.backend=runtime" in str(caught.value.hint)
    with pytest.raises(UnsupportedLayerError, match="no integers to build or to estimate"):
        describe_network(network_of(encoder()))
    with pytest.raises(UnsupportedLayerError, match=r"MultiheadAttention .* products of activations"):
        prepare(TorchAttention())
    with pytest.raises(UnsupportedLayerError, match="softmax") as caught:
        prepare(nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=1)))
    assert "export logits" in str(caught.value.hint), "a softmax at the end has a better remedy"


class TorchAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.attention(x, x, x)[0]
        return result

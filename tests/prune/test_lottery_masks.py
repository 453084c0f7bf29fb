import numpy as np
import pytest
import torch
from lottery_networks import network
from torch import nn

from trigger_prune.errors import ModelError
from trigger_prune.prune.lottery.masks import (
    apply_masks,
    check_masks,
    full_masks,
    kept_weights,
    layer_sparsity,
    magnitude_masks,
    maskable_layers,
    random_masks,
    sparsity_of,
    weights_of,
)


@pytest.mark.parametrize("sparsity", [0.0, 0.013, 1 / 3, 0.5, 0.77, 0.9, 0.99, 1.0])
def test_counts_are_exact_and_masks_only_lose_weights(sparsity: float) -> None:
    net = network(3)
    n = 6 * 12 + 12 * 2
    masks = magnitude_masks(net, full_masks(net), sparsity, "global")
    assert kept_weights(masks) == n - round(sparsity * n)
    later = magnitude_masks(network(5), masks, min(1.0, sparsity + 0.1), "global")
    assert kept_weights(later) == n - round(min(1.0, sparsity + 0.1) * n)
    assert all(bool((later[name] <= masks[name]).all()) for name in masks)
    by_layer = magnitude_masks(net, full_masks(net), sparsity, "layer")
    assert [int(mask.sum()) for mask in by_layer.values()] == [72 - round(sparsity * 72), 24 - round(sparsity * 24)]


def test_the_smallest_weights_of_all_layers_go() -> None:
    net = network(3)
    with torch.no_grad():
        # equal scales, so that no layer comes near its protected share
        for weight in weights_of(net).values():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    masks = magnitude_masks(net, full_masks(net), 0.4, "global")
    values = np.concatenate([weight.detach().abs().flatten().numpy() for weight in weights_of(net).values()])
    kept = np.concatenate([mask.flatten().numpy() for mask in masks.values()])
    assert values[kept].min() > values[~kept].max()


def test_a_layer_of_small_weights_keeps_half_of_the_density() -> None:
    net = network(3)
    with torch.no_grad():
        net.get_submodule("second").get_parameter("weight").mul_(1e-6)
    masks = magnitude_masks(net, full_masks(net), 0.5, "global")
    assert layer_sparsity(masks)["second"] == pytest.approx(0.75)
    assert sparsity_of(masks) == 0.5


def test_ties_go_to_the_lower_index() -> None:
    net = nn.Sequential(nn.Linear(4, 2, bias=False))
    nn.init.ones_(net[0].weight)
    assert magnitude_masks(net, full_masks(net), 0.375, "global")["0"].flatten().tolist() == [False] * 3 + [True] * 5


def test_random_masks_keep_the_counts_of_every_layer_and_follow_the_seed() -> None:
    net = network(3)
    masks = magnitude_masks(net, full_masks(net), 0.8, "global")
    drawn = [random_masks(masks, seed) for seed in (1, 1, 2)]
    for other in drawn:
        assert layer_sparsity(other) == layer_sparsity(masks)
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in masks)
    assert any(not torch.equal(drawn[0][name], drawn[2][name]) for name in masks)
    # every place is as likely as any other: 24 % of 72 weights, over 400 draws, within five standard deviations
    ones = {"a": torch.arange(72) < 17}
    mean = torch.stack([random_masks(ones, seed)["a"] for seed in range(400)]).double().mean(0)
    p = 17 / 72
    assert float((mean - p).abs().max()) < 5 * (p * (1 - p) / 400) ** 0.5


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fixed = nn.Linear(3, 3), nn.Linear(3, 3), nn.Conv1d(3, 3, 1)
        self.b.weight = self.a.weight
        self.fixed.weight.requires_grad_(False)


def test_shared_and_frozen_weights_have_no_mask_of_their_own() -> None:
    assert list(maskable_layers(Tied())) == ["a"]
    with pytest.raises(ModelError, match="no Linear or Conv"):
        maskable_layers(nn.Sequential(nn.ReLU()))


def test_masks_of_another_network_are_refused_by_layer() -> None:
    net = network()
    masks = full_masks(net)
    with pytest.raises(ModelError, match="'second', it has no mask"):
        check_masks(net, {"first": masks["first"]})
    with pytest.raises(ModelError, match="'third', the network has no such layer"):
        apply_masks(net, masks | {"third": torch.ones(2)})
    with pytest.raises(ModelError, match=r"'first' has weights \(12, 6\)"):
        apply_masks(net, masks | {"first": torch.ones(6, 12)})
    with pytest.raises(ModelError, match=r"outside 0\.\.1"):
        magnitude_masks(net, masks, 1.2, "global")
    with torch.no_grad():
        net.get_submodule("first").get_parameter("weight")[2, 3] = torch.nan
    with pytest.raises(ModelError, match="'first' is not finite"):
        magnitude_masks(net, masks, 0.2, "global")

"""A ticket's mask through batch-norm folding, quantisation and quantisation-aware training."""

from types import SimpleNamespace

import pytest
import torch
from lottery_networks import events, network, settings
from torch import nn

from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.lottery.deploy import deploy_ticket, quantised_ticket
from trigger_prune.prune.lottery.masks import full_masks, magnitude_masks
from trigger_prune.prune.lottery.training import train_steps
from trigger_prune.quantize.describe import describe_network
from trigger_prune.structure.masks import prunable_layers

GRID = FixedPoint(16, 5)


def trained() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    net = network(3)
    train_steps(net, events(), settings(4))
    masks = magnitude_masks(net, full_masks(net), 0.7, "global")
    train_steps(net, events(), settings(4), masks=masks)
    return net.eval(), masks


def on_grid() -> torch.Tensor:
    return torch.from_numpy(GRID.quantize(events().features.double().numpy())).float()


def bits(n: int) -> SimpleNamespace:
    return SimpleNamespace(weight_bits=n, activation_bits=n, rounding="AP_RND_CONV")


def test_with_many_bits_it_computes_what_the_ticket_computes() -> None:
    net, masks = trained()
    quantised = quantised_ticket(net, masks, on_grid(), GRID, bits(16)).eval()
    with torch.no_grad():
        torch.testing.assert_close(quantised(on_grid()), net(on_grid()), rtol=0, atol=0.02)
    for name, layer in prunable_layers(quantised).items():
        assert torch.equal(layer.weight_mask != 0, masks[name])
        # the rows were scaled by the folded normalisation, the zeros are still where they were
        assert torch.equal(layer.weight != 0, masks[name])


def test_training_under_quantisation_keeps_the_mask() -> None:
    net, masks = trained()
    before = quantised_ticket(net, masks, on_grid(), GRID, bits(4))
    data = events().with_features(on_grid())
    quantised, history = deploy_ticket(
        net, masks, data, data, settings(6), calibration=on_grid(), input_type=GRID, precision=bits(4)
    )
    moved = False
    for name, layer in prunable_layers(quantised).items():
        assert torch.equal(layer.weight_mask != 0, masks[name])
        assert bool((layer.weight[~masks[name]] == 0).all())
        moved |= not torch.equal(layer.weight, prunable_layers(before)[name].weight)
    assert moved and len(history.epochs) == 6
    for layer in describe_network(quantised).layers:
        assert not (layer.weight[~masks[layer.name].numpy()] != 0).any()


def test_a_mask_of_another_network_is_refused() -> None:
    net, masks = trained()
    with pytest.raises(ModelError, match="'second'"):
        quantised_ticket(net, {"first": masks["first"]}, on_grid(), GRID, bits(6))

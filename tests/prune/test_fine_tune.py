from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, fx, nn

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.fine_tune import polish, ramp
from trigger_prune.prune.schedule import cubic_sparsity
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.structure.masks import masked_fraction, prunable_layers
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.fit import FitSettings


def events(n: int = 512) -> Batches:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 6, generator=generator)
    return Batches(x, (x[:, 0] + x[:, 1] > 0).long(), torch.ones(n))


def network() -> fx.GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    bits = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    return quantize_model(model, events().features, FixedPoint(10, 4), bits)


def settings(epochs: int, batch_size: int = 32) -> FitSettings:
    return FitSettings("t", epochs, batch_size, 3e-3, seed=1)


def masks(net: fx.GraphModule) -> Tensor:
    return torch.cat([layer.weight_mask.flatten().clone() for layer in prunable_layers(net).values()])


def weights(net: fx.GraphModule) -> Tensor:
    return torch.cat([layer.weight.detach().flatten() for layer in prunable_layers(net).values()])


@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [32, 512])
def test_the_ramp_ends_at_the_sparsity_asked_for(epochs: int, batch_size: int) -> None:
    net = network()
    history = ramp(
        net, events(), events(), settings(epochs, batch_size), sparsity=0.7, criterion="magnitude_l1", scope="global"
    )
    n = masks(net).numel()
    assert int((masks(net) == 0).sum()) == round(0.7 * n)
    assert bool((weights(net)[masks(net) == 0] == 0).all())
    # the epoch that was kept already had the final mask
    assert history.best.sparsity == pytest.approx(round(0.7 * n) / n)


def test_the_ramp_follows_the_cubic_and_never_gives_weights_back() -> None:
    net = network()
    layer = net.get_submodule("0")
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda *_: seen.append(masks(net)) if net.training else None)
    ramp(net, events(), events(), settings(20), sparsity=0.8, criterion="magnitude_l1", scope="global")
    total = 20 * 16
    assert len(seen) == total
    for before, after in pairwise(seen):
        assert bool((after <= before).all())
    for step in (0, 25, 75, 150, 160, 300):
        wanted = cubic_sparsity(step, total // 2, 0.0, 0.8)
        assert int((seen[step] == 0).sum()) == round(wanted * masks(net).numel())


def test_polishing_keeps_the_mask_and_improves_the_loss() -> None:
    net = network()
    ramp(net, events(), events(), settings(2), sparsity=0.5, criterion="magnitude_l2", scope="layer")
    before = masks(net)
    history = polish(net, events(), events(), settings(10))
    assert torch.equal(masks(net), before)
    assert bool((weights(net)[before == 0] == 0).all()) and bool((weights(net)[before == 1] != 0).all())
    assert masked_fraction(net) == pytest.approx(0.5)
    assert history.best.validation_loss < history.epochs[0].validation_loss

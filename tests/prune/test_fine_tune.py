from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, fx, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.prune.fine_tune import RampPlan, polish, ramp
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


@contextmanager
def before_every_step(look: object) -> Iterator[None]:
    """``look(optimizer)`` before every optimiser step, which is after the hooks of the step before it."""
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: look(optimizer))  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


def masked_moments(net: fx.GraphModule, optimizer: torch.optim.Optimizer, name: str) -> Tensor:
    layers = prunable_layers(net).values()
    return torch.cat([optimizer.state[layer.weight][name][layer.weight_mask == 0] for layer in layers])


def test_polishing_keeps_the_mask_and_improves_the_loss() -> None:
    net = network()
    ramp(net, events(), events(), settings(2), RampPlan(0.5, criterion="magnitude_l2", scope="layer"))
    before = masks(net)
    history = polish(net, events(), events(), settings(10))
    assert torch.equal(masks(net), before)
    assert bool((weights(net)[before == 0] == 0).all()) and bool((weights(net)[before == 1] != 0).all())
    assert masked_fraction(net) == pytest.approx(0.5)
    assert history.best.validation_loss < history.epochs[0].validation_loss


def test_polishing_never_moves_a_masked_weight_nor_its_moments() -> None:
    net = network()
    # a mask over weights that are not zero: weight decay and momentum have something to work on
    for layer in prunable_layers(net).values():
        layer.weight_mask.flatten()[::3] = 0
    before = masks(net)
    assert bool((weights(net)[before == 0] != 0).any())
    steps = 0

    def look(optimizer: torch.optim.Optimizer) -> None:
        nonlocal steps
        if steps:
            assert bool((weights(net)[before == 0] == 0).all())
            for name in ("exp_avg", "exp_avg_sq"):
                assert bool((masked_moments(net, optimizer, name) == 0).all())
            kept = list(prunable_layers(net).values())
            assert any(bool((optimizer.state[layer.weight]["exp_avg"] != 0).any()) for layer in kept)
        steps += 1

    with before_every_step(look):
        polish(net, events(), events(), settings(4))
    assert steps == 4 * 16
    assert torch.equal(masks(net), before) and bool((weights(net)[before == 0] == 0).all())


def test_weights_masked_on_the_ramp_lose_their_momentum_at_once() -> None:
    """Between the cut and the end of the same step AdamW moves them; what is left after the step is zero."""
    net = network()
    moved, checked = 0, 0

    def after_adam(optimizer: torch.optim.Optimizer, *_: object) -> None:
        nonlocal moved
        mask = masks(net)
        moved += int(((weights(net) != 0) & (mask == 0)).sum())

    def look(optimizer: torch.optim.Optimizer) -> None:
        nonlocal checked
        if optimizer.state:
            # those masked since the last step still have momentum; no others
            fresh = seen[-1] - masks(net) if seen else torch.zeros_like(masks(net))
            nonzero = torch.cat(
                [optimizer.state[layer.weight]["exp_avg"].flatten() for layer in prunable_layers(net).values()]
            )
            assert bool((nonzero[(masks(net) == 0) & (fresh == 0)] == 0).all())
            checked += 1
        seen.append(masks(net))

    seen: list[Tensor] = []
    handle = register_optimizer_step_post_hook(after_adam)
    try:
        with before_every_step(look):
            ramp(net, events(), events(), settings(6), RampPlan(0.8))
    finally:
        handle.remove()
    assert checked == 6 * 16 - 1
    # otherwise the test would say nothing
    assert moved > 0

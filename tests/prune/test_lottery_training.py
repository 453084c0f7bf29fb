"""Training from any step under a mask, against ``fit`` and against a loop written out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from lottery_networks import events, network, settings
from torch import nn
from torch.func import functional_call

from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.prune.lottery.masks import random_masks, weights_of
from trigger_prune.prune.lottery.training import network_state, set_state, steps_per_epoch, total_steps, train_steps
from trigger_prune.train.fit import fit
from trigger_prune.train.schedule import one_cycle_learning_rate


def half_masks(net: nn.Module, seed: int = 9) -> dict[str, torch.Tensor]:
    pattern = {
        name: torch.arange(weight.numel()).reshape(weight.shape) % 2 == 0 for name, weight in weights_of(net).items()
    }
    return random_masks(pattern, seed)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("batch_size", [32, 500])
def test_a_whole_training_has_the_bits_of_fit(batch_size: int) -> None:
    mine, theirs = network(dropout=0.3), network(dropout=0.3)
    chosen = settings(batch_size=batch_size)
    before = torch.random.get_rng_state()
    run = train_steps(mine, events(), chosen)
    assert torch.equal(torch.random.get_rng_state(), before)
    history = fit(theirs, events(), events(), chosen)
    assert equal(network_state(mine), network_state(theirs))
    assert run.loss == history.epochs[-1].train_loss
    assert run.steps == total_steps(events(), chosen) == chosen.epochs * math.ceil(209 / batch_size)


def by_hand(net: nn.Module, masks: dict[str, torch.Tensor], start: int, stop: int) -> dict[str, torch.Tensor]:
    """The steps start .. stop - 1; masked weights are multiplied by zero in the forward pass, which is another way."""
    chosen, data = settings(), events()
    used = data.take(data.weights > 0)
    per_epoch = math.ceil(len(used) / chosen.batch_size)
    order = torch.Generator().manual_seed(chosen.seed)
    batches = []
    for _ in range(chosen.epochs):
        rows = torch.randperm(len(used), generator=order)
        batches += [used.take(part) for part in rows.tensor_split(per_epoch)]
    parameters = dict(net.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=1.0, weight_decay=chosen.weight_decay)
    net.train()
    for step in range(start, stop):
        rate = one_cycle_learning_rate(
            step, len(batches), chosen.learning_rate, warmup_fraction=0.3, start_fraction=0.04, final_fraction=1e-3
        )
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        masked = {
            name: value * masks[name.removesuffix(".weight")] if name.removesuffix(".weight") in masks else value
            for name, value in parameters.items()
        }
        part = batches[step]
        losses = nn.functional.cross_entropy(
            functional_call(net, masked, part.features), part.targets, reduction="none"
        )
        ((losses * part.weights).sum() / part.weights.sum()).backward()
        nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
        optimizer.step()
    return {
        name: (value * masks[name.removesuffix(".weight")] if name.removesuffix(".weight") in masks else value).detach()
        for name, value in parameters.items()
    }


@pytest.mark.parametrize(("start", "stop"), [(0, 21), (5, 21), (7, 20), (3, 4)])
def test_a_masked_training_from_step_k_is_the_one_written_out(start: int, stop: int) -> None:
    net, other = network(batch_norm=False), network(batch_norm=False)
    masks = half_masks(net)
    seen = []
    run = train_steps(
        net, events(), settings(), masks=masks, start=start, stop=stop, on_epoch=lambda *a: bool(seen.append(a[1]))
    )
    wanted = by_hand(other, masks, start, stop)
    for name, value in net.named_parameters():
        torch.testing.assert_close(value.detach(), wanted[name], rtol=1e-5, atol=1e-6)
    assert run.steps == stop - start
    assert seen == list(range(start // 7, (stop - 1) // 7 + 1))


def test_masked_weights_stay_exactly_zero_and_the_others_move() -> None:
    net = network()
    masks, before = half_masks(net), network_state(net)
    train_steps(net, events(), settings(), masks=masks)
    for name, weight in weights_of(net).items():
        assert bool((weight[~masks[name]] == 0).all())
        assert bool((weight[masks[name]] != before[f"{name}.weight"][masks[name]]).all())


def test_the_kept_state_is_that_of_a_training_that_stops_there() -> None:
    for step in (0, 1, 7, 20, 21):
        whole, part = network(), network()
        kept = train_steps(whole, events(), settings(), keep_at=step).kept
        train_steps(part, events(), settings(), stop=step)
        assert kept is not None and equal(kept, network_state(part))
        assert kept["norm.num_batches_tracked"] == step


def test_an_epoch_callback_ends_the_training() -> None:
    net, part = network(), network()
    assert train_steps(net, events(), settings(), on_epoch=lambda _net, epoch, _loss: epoch == 1).steps == 14
    train_steps(part, events(), settings(), stop=14)
    assert equal(network_state(net), network_state(part))


def test_modes_and_states_come_back() -> None:
    net = network()
    net.get_submodule("norm").eval()
    train_steps(net, events(), settings(1))
    assert net.training and not net.get_submodule("norm").training
    state, other = network_state(net), network(7)
    set_state(other, state)
    assert equal(network_state(other), state)
    with pytest.raises(ModelError, match=r"first\.bias"):
        set_state(network(batch_norm=False), state)
    with pytest.raises(ModelError, match=r"first\.weight"):
        set_state(other, state | {"first.weight": torch.zeros(3, 6)})


@pytest.mark.parametrize(("start", "stop"), [(22, None), (0, 22), (9, 8), (-1, 3)])
def test_steps_outside_the_schedule_are_refused(start: int, stop: int | None) -> None:
    with pytest.raises(ConfigError, match="outside the training's 21"):
        train_steps(network(), events(), settings(), start=start, stop=stop)


def test_a_loss_that_is_not_finite_is_named() -> None:
    data = events()
    data.features[30, 2] = math.nan
    with pytest.raises(ModelError, match="epoch 0: the training loss is nan"):
        train_steps(network(), data, settings())
    with pytest.raises(ModelError, match="no training event"):
        train_steps(network(), replace(data, weights=torch.zeros(230)), settings())
    assert steps_per_epoch(events(), 32) == 7

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from test_fine_tune import events, masks, network, settings, weights
from torch import Tensor, fx
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from trigger_prune.errors import ConfigError
from trigger_prune.prune.fine_tune import RampPlan, ramp
from trigger_prune.prune.schedules import adaptive as module
from trigger_prune.prune.schedules._checkpoint import Checkpoint
from trigger_prune.prune.schedules.adaptive import AdaptiveResult, adaptive
from trigger_prune.structure.masks import masked_fraction, prunable_layers, zero_masked
from trigger_prune.train.evaluate import evaluate
from trigger_prune.train.history import EpochRecord

STEPS = 16
"""Steps of an epoch of ``events()``."""


def trained() -> fx.GraphModule:
    net = network()
    ramp(net, events(), events(), settings(20), RampPlan(0.0))
    return net


@contextmanager
def merits(monkeypatch: pytest.MonkeyPatch, of: Callable[[float], float]) -> Iterator[None]:
    """The validation merit of an epoch is ``of`` the sparsity instead."""
    original = module._Search.after_epoch

    def fake(self: module._Search, record: EpochRecord, epochs: int) -> None:
        original(self, EpochRecord(**{**record.__dict__, "validation_merit": of(record.sparsity)}), epochs)

    monkeypatch.setattr(module._Search, "after_epoch", fake)
    yield


def check_rounds(result: AdaptiveResult, tolerance: float, n_rounds: int = 12) -> None:
    """The rules of the search, replayed on its records."""
    at, step = 0.0, 2 / n_rounds
    for each in result.rounds:
        assert each.progress == pytest.approx(min(1.0, at + step))
        assert each.accepted == (each.drop <= tolerance)
        if each.accepted:
            at, step = each.progress, step * (1.5 if each.drop < tolerance / 2 else 1.0)
        else:
            step /= 2


def test_reaches_the_target_when_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    with merits(monkeypatch, lambda sparsity: 1.0):
        result = adaptive(net, events(), events(), settings(24), RampPlan(0.9), 0.01, baseline=1.0)
    assert result.stopped == "target" and all(each.accepted for each in result.rounds)
    check_rounds(result, 0.01)
    # 1/6, then 1.5 times faster every round
    assert [each.progress for each in result.rounds] == pytest.approx([1 / 6, 5 / 12, 19 / 24, 1.0])
    n = masks(net).numel()
    for each in result.rounds:
        # equal progress removes equal fractions of what is left
        assert each.sparsity == round((1 - 0.1**each.progress) * n) / n
    assert int((masks(net) == 0).sum()) == round(0.9 * n)
    assert len(result.history.epochs) == 24 and result.history.best.sparsity == round(0.9 * n) / n


@pytest.mark.parametrize("wall", [0.2, 0.5, 0.8])
def test_closes_in_on_a_wall_and_stays_below_it(monkeypatch: pytest.MonkeyPatch, wall: float) -> None:
    net = network()
    with merits(monkeypatch, lambda sparsity: 1.0 if sparsity <= wall else 0.5):
        result = adaptive(net, events(), events(), settings(24), RampPlan(0.95), 0.1, baseline=1.0)
    check_rounds(result, 0.1)
    assert result.stopped in ("step", "epochs") and not all(each.accepted for each in result.rounds)
    best = max(each.sparsity for each in result.rounds if each.accepted)
    assert masked_fraction(net) == pytest.approx(best) and best <= wall
    # the next cut that was tried above it failed: within a step of it
    assert min(each.sparsity for each in result.rounds if not each.accepted) > wall
    assert wall - best < 0.12


def test_stops_at_the_smallest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    before = masks(net)
    with merits(monkeypatch, lambda sparsity: -sparsity):
        result = adaptive(net, events(), events(), settings(60), RampPlan(0.9), 0.001, baseline=0.0, smallest_step=0.05)
    assert result.stopped == "step" and len(result.rounds) == 2 and not any(each.accepted for each in result.rounds)
    assert torch.equal(masks(net), before) and result.history.best.epoch > result.rounds[-1].epoch


def test_a_step_back_restores_weights_masks_and_moments_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    layers = prunable_layers(net)
    before: list[dict[str, Tensor]] = []
    after: list[dict[str, Tensor]] = []

    def snapshot(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        found = {"weights": weights(net).clone(), "masks": masks(net)}
        for parameter in net.parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                found[f"{id(parameter)} {key}"] = value.clone()
        return found

    def after_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
        zero_masked(net, optimizer)  # as the hook of the training does right after
        after.append(snapshot(optimizer))

    handles = [
        register_optimizer_step_pre_hook(lambda optimizer, *_: before.append(snapshot(optimizer))),
        register_optimizer_step_post_hook(after_step),
    ]
    try:
        with merits(monkeypatch, lambda sparsity: 1.0 if sparsity <= 0.5 else 0.0):
            result = adaptive(net, events(), events(), settings(24), RampPlan(0.95), 0.1, baseline=1.0)
    finally:
        for handle in handles:
            handle.remove()
    assert len(layers) == 2 and sum(not each.accepted for each in result.rounds) >= 2
    checkpoint = None
    for each in result.rounds:
        last = (each.epoch + 1) * STEPS - 1
        if each.accepted:
            checkpoint = after[last]
        elif checkpoint is not None:
            # what the next optimiser step starts from, but for the cut made since
            start = before[last + 1]
            for key in set(checkpoint) - {"masks"}:
                assert torch.equal(start[key], checkpoint[key]), key
            assert bool((start["masks"] <= checkpoint["masks"]).all())
    assert checkpoint is not None and torch.equal(masks(net), checkpoint["masks"])


def test_training_after_a_restore_repeats_itself() -> None:
    """The same steps from the same checkpoint give the same bits; a forgotten moment would not."""
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)

    def steps() -> Tensor:
        for _ in range(5):
            optimizer.zero_grad()
            net(events().features).square().mean().backward()
            optimizer.step()
        return weights(net).clone()

    steps()
    checkpoint = Checkpoint.of(net, optimizer)
    first = steps()
    checkpoint.restore(net, optimizer)
    assert torch.equal(steps(), first)
    checkpoint.restore(net)
    assert not torch.equal(steps(), first)
    checkpoint.restore(net, optimizer)
    assert torch.equal(steps(), first)


def test_the_result_on_real_merits_is_within_the_tolerance() -> None:
    net = trained()
    before = evaluate(net, events(), "classify").merit
    result = adaptive(net, events(), events(), settings(40), RampPlan(0.97), 0.05)
    assert result.baseline == before
    check_rounds(result, 0.05, n_rounds=20)
    merit = evaluate(net, events(), "classify").merit
    assert merit == pytest.approx(result.history.best.validation_merit, abs=1e-6)
    assert before - merit <= 0.05 and masked_fraction(net) > 0.3
    assert masked_fraction(net) == pytest.approx(result.history.best.sparsity)
    assert bool((weights(net)[masks(net) == 0] == 0).all())
    # a tenth of the tolerance does not get as far
    careful = trained()
    adaptive(careful, events(), events(), settings(40), RampPlan(0.97), 0.005)
    assert masked_fraction(careful) < masked_fraction(net)


def test_polishing_only_ever_improves_the_checkpoint() -> None:
    net = trained()
    result = adaptive(net, events(), events(), settings(40), RampPlan(0.9), 0.05)
    last = [each for each in result.rounds if each.accepted][-1]
    checkpoint = result.history.epochs[last.epoch]
    polished = result.history.epochs[result.rounds[-1].epoch + 1 :]
    best = max([checkpoint, *polished], key=lambda record: record.validation_merit)
    assert result.history.best == best and len(polished) >= 20
    assert {record.sparsity for record in polished} == {checkpoint.sparsity}


def test_the_plan_reaches_it_by_name_and_tolerance() -> None:
    sparsities = []
    for tolerance in (1e-6, 10.0):
        net = trained()
        history = ramp(net, events(), events(), settings(30), RampPlan(0.9, schedule="adaptive", tolerance=tolerance))
        assert len(history.epochs) == 30
        sparsities.append(masked_fraction(net))
    assert sparsities[0] < 0.9 and sparsities[1] == round(0.9 * 128) / 128


@pytest.mark.parametrize(
    ("plan", "epochs", "tolerance", "says"),
    [
        (RampPlan(0.9), 1, 0.1, "leave none to search"),
        (RampPlan(0.9, ramp_fraction=0.1), 5, 0.1, "leave none to search"),
        (RampPlan(0.9, regrow="set"), 8, 0.1, "has no regrow"),
        (RampPlan(0.9), 8, -0.1, "tolerance -0.1"),
        (RampPlan(0.9), 8, float("nan"), "tolerance nan"),
    ],
)
def test_what_it_cannot_do_is_refused(plan: RampPlan, epochs: int, tolerance: float, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        adaptive(network(), events(), events(), settings(epochs), plan, tolerance)

"""Iterative magnitude pruning: what each round starts from, what it masks, and what survives a stop."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lottery_networks import events, network, settings
from torch import Tensor, nn

from trigger_prune.errors import ConfigError
from trigger_prune.prune.lottery import imp
from trigger_prune.prune.lottery.imp import ImpPlan, ImpResult, RoundRecord, iterative_magnitude_pruning
from trigger_prune.prune.lottery.rounds import RoundStore
from trigger_prune.prune.lottery.training import network_state, set_state, train_steps
from trigger_prune.train.evaluate import evaluate


@pytest.mark.parametrize(
    ("sparsity", "fraction", "rounds"),
    [(0.5, 0.5, 1), (0.36, 0.2, 2), (0.9, 0.2, 11), (0.9, 0.9, 1), (0.1, 0.5, 1), (0.99, 0.3, 13)],
)
def test_rounds_remove_equal_fractions_and_end_exactly(sparsity: float, fraction: float, rounds: int) -> None:
    plan = ImpPlan(sparsity, fraction)
    assert plan.n_rounds == rounds
    density = np.array([1.0 - plan.sparsity_after(number) for number in range(rounds + 1)])
    assert density[0] == 1.0 and plan.sparsity_after(rounds) == sparsity
    removed = 1.0 - density[1:] / density[:-1]
    np.testing.assert_allclose(removed, removed[0])
    assert removed[0] <= fraction + 1e-12


class Spy:
    """Stands where the search calls its training, and keeps what it was called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.after: list[dict[str, Tensor]] = []
        self.masks: list[dict[str, Tensor] | None] = []
        self.starts: list[int] = []
        monkeypatch.setattr(imp, "train_steps", self)

    def __call__(
        self, net: nn.Module, *args: object, masks: dict[str, Tensor] | None = None, start: int = 0, **more: object
    ) -> object:
        self.states.append(network_state(net))
        self.masks.append(masks)
        self.starts.append(start)
        run = train_steps(net, *args, masks=masks, start=start, **more)  # type: ignore[arg-type]
        self.after.append(network_state(net))
        return run


@pytest.mark.parametrize("step", [0, 1, 9])
def test_every_round_starts_from_the_bits_of_step_k(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    result = iterative_magnitude_pruning(network(), events(), settings(), ImpPlan(0.8, 0.45, step))
    early = network()
    train_steps(early, events(), settings(), stop=step)
    wanted = network_state(early)
    assert len(spy.states) == 4 and spy.starts == [0, step, step, step]
    for state in spy.states[1:]:
        assert list(state) == list(wanted)
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert all(torch.equal(result.ticket.state[name], wanted[name]) for name in wanted)
    if step == 0:
        assert all(torch.equal(result.ticket.state[name], value) for name, value in network_state(network()).items())
    # and a ticket that is loaded has those bits where the mask is 1, and zero elsewhere
    net = network(99)
    result.ticket.load_into(net)
    for name, mask in result.ticket.masks.items():
        weight = net.get_submodule(name).get_parameter("weight")
        assert torch.equal(weight[mask], wanted[f"{name}.weight"][mask])
        assert bool((weight[~mask] == 0).all())


def test_every_round_masks_the_smallest_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    result = iterative_magnitude_pruning(network(), events(), settings(), ImpPlan(0.6, 0.3, 4, "layer"))
    plan = ImpPlan(0.6, 0.3, 4, "layer")
    kept = {"first": np.ones(72, bool), "second": np.ones(24, bool)}
    for number in range(1, plan.n_rounds + 1):
        masks = spy.masks[number]
        assert masks is not None
        for name, before in kept.items():
            weight = spy.after[number - 1][f"{name}.weight"].abs().flatten().numpy()
            n_keep = len(before) - round(plan.sparsity_after(number) * len(before))
            best = np.sort(weight[before])[::-1][n_keep - 1]
            kept[name] = before & (weight >= best)
            np.testing.assert_array_equal(masks[name].flatten().numpy(), kept[name])
    assert spy.masks[0] is None
    assert all(torch.equal(result.trained[name], spy.after[-1][name]) for name in result.trained)
    assert all(torch.equal(result.dense[name], spy.after[0][name]) for name in result.dense)
    assert [record.steps for record in result.rounds] == [21, 17, 17, 17]
    assert result.ticket.search_steps == 21 + 17 + 17


def judge(net: nn.Module) -> dict[str, float]:
    return {"loss": evaluate(net, events(), "classify").loss}


def test_a_round_is_judged_after_it_was_trained_again() -> None:
    result = iterative_magnitude_pruning(network(), events(), settings(), ImpPlan(0.8, 0.45, 2), judge=judge)
    net = network()
    for state, record in ((result.dense, result.rounds[0]), (result.trained, result.rounds[-1])):
        set_state(net, state)
        assert record.figures == judge(net)
    result.ticket.load_into(net)
    assert judge(net)["loss"] > 1.1 * result.rounds[-1].figures["loss"]


def same(first: ImpResult, second: ImpResult) -> bool:
    def values(of: ImpResult) -> list[Tensor]:
        return [*of.ticket.masks.values(), *of.ticket.state.values(), *of.trained.values(), *of.dense.values()]

    figures = [[record.figures for record in of.rounds] for of in (first, second)]
    return figures[0] == figures[1] and all(
        torch.equal(a, b) for a, b in zip(values(first), values(second), strict=True)
    )


PLAN = ImpPlan(0.9, 0.4, 3)


def search(store: RoundStore | None = None, stop_at: int | None = None, seed: int = 4) -> ImpResult:
    def on_round(record: RoundRecord) -> None:
        if record.round == stop_at:
            raise KeyboardInterrupt

    return iterative_magnitude_pruning(
        network(), events(), settings(seed=seed), PLAN, judge=judge, store=store, on_round=on_round
    )


def test_the_same_seed_gives_the_same_ticket_and_another_seed_another() -> None:
    assert same(search(), search())
    assert not same(search(), search(seed=5))


@pytest.mark.parametrize("stop_at", [0, 2, 4])
def test_a_stopped_search_goes_on_after_its_last_round(
    stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RoundStore(tmp_path, "key")
    with pytest.raises(KeyboardInterrupt):
        search(store, stop_at)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"round-{i:03d}.pt" for i in range(stop_at + 1)]
    spy = Spy(monkeypatch)
    resumed = search(store)
    assert len(spy.states) == PLAN.n_rounds - stop_at
    monkeypatch.undo()
    assert same(resumed, search())
    assert [record.round for record in resumed.rounds] == list(range(PLAN.n_rounds + 1))


def test_damaged_and_foreign_rounds_are_not_used(tmp_path: Path) -> None:
    store = RoundStore(tmp_path, "key")
    whole = search(store)
    assert len(RoundStore(tmp_path, "key").read()) == PLAN.n_rounds + 1
    with pytest.warns(UserWarning, match="another search"):
        assert RoundStore(tmp_path, "other").read() == []
    path = tmp_path / "round-002.pt"
    content = bytearray(path.read_bytes())
    weight = whole.rounds and store.read()[2].trained["second.weight"].numpy().tobytes()
    position = bytes(content).find(weight)
    assert position > 0
    content[position] ^= 0x40
    path.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match=r"round-002\.pt is not used"):
        assert len(store.read()) == 2
    with pytest.warns(UserWarning, match=r"round-002\.pt is not used"):
        assert same(search(store), whole)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImpPlan(1.0, 0.2), "sparsity 1.0"),
        (lambda: ImpPlan(0.5, 0.0), "fraction_per_round 0.0"),
        (lambda: ImpPlan(0.5, 0.2, -1), "rewind_step -1"),
        (
            lambda: iterative_magnitude_pruning(network(), events(), settings(), ImpPlan(0.5, 0.2, 21)),
            "rewind_step 21 is not before the end of the training, step 21",
        ),
    ],
)
def test_impossible_plans_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]

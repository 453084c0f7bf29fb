"""One seed's conditions, and a case whose verdict is known: with a convex loss the initial weights cannot matter."""

import csv
import io
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lottery_networks import events, network, settings
from scipy import stats
from torch import nn

from trigger_prune.prune.lottery import study
from trigger_prune.prune.lottery.imp import ImpPlan
from trigger_prune.prune.lottery.report import conditions_csv, make_report, markdown, rounds_csv
from trigger_prune.prune.lottery.rounds import RoundStore
from trigger_prune.prune.lottery.study import SeedResult, StudyPlan, Trainings, study_seed, study_transfer
from trigger_prune.prune.lottery.training import train_steps
from trigger_prune.train.evaluate import Batches, evaluate

PLAN = StudyPlan(ImpPlan(0.8, 0.5, 4), early_bird_distance=0.3, early_bird_window=1)


@contextmanager
def unwatched(_what: str, _epochs: int):
    yield lambda _loss: None


def shared(folder: Path, seed: int = 4) -> Trainings:
    def judge(net: nn.Module) -> dict[str, float]:
        found = evaluate(net, events(500, seed=2), "classify")
        return {"test_merit": found.accuracy or 0.0, "test_loss": found.loss}

    return Trainings(
        lambda draw: network(10 * seed + draw),
        events(),
        settings(4, seed=seed),
        judge,
        RoundStore(folder, "key"),
        unwatched,
        lambda _text: None,
    )


def test_all_conditions_take_the_same_steps_at_the_same_sparsity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, object]] = []

    def spy(net: nn.Module, *args: object, **more: object) -> object:
        calls.append({**more, "first": net.get_submodule("first").get_parameter("weight").detach().clone()})
        return train_steps(net, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(study, "train_steps", spy)
    done = study_seed(shared(tmp_path), PLAN)
    result, ticket = done.result, done.imp.ticket
    assert list(result.conditions) == ["dense", "ticket", "redrawn", "random", "early_bird", "pretrained"]
    sparse = [entry for name, entry in result.conditions.items() if name != "dense"]
    assert {(entry.start_step, entry.steps, entry.kept_weights) for entry in sparse} == {(4, 24, 19)}
    assert result.conditions["dense"].steps == 28
    layers = result.conditions["ticket"].layer_sparsity
    assert result.conditions["random"].layer_sparsity == layers == result.conditions["redrawn"].layer_sparsity
    # the calls in order: dense steps of the other draw, redrawn, random, early bird, pretrained
    masked = [call for call in calls if call.get("masks") is not None]
    assert len(masked) == 4 and len(calls) == 5
    redrawn, random = masked[0], masked[1]
    other = network(41)
    train_steps(other, events(), settings(4), stop=4)
    assert torch.equal(redrawn["first"], other.get_submodule("first").get_parameter("weight"))
    assert all(torch.equal(redrawn["masks"][name], ticket.masks[name]) for name in ticket.masks)
    assert torch.equal(random["first"], ticket.state["first.weight"])
    assert any(not torch.equal(random["masks"][name], ticket.masks[name]) for name in ticket.masks)
    assert torch.equal(masked[3]["first"], done.imp.dense["first.weight"])


def test_a_stopped_study_trains_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study_seed(shared(tmp_path / "whole"), PLAN).result
    names: list[str] = []
    inner = study._finish

    def stopped(trainings: Trainings, name: str, *more: object) -> object:
        names.append(name)
        if name == "early_bird" and len(names) < 5:
            raise KeyboardInterrupt
        return inner(trainings, name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(study, "_finish", stopped)
    with pytest.raises(KeyboardInterrupt):
        study_seed(shared(tmp_path / "part"), PLAN)
    assert names == ["redrawn", "random", "early_bird"]
    monkeypatch.setattr("trigger_prune.prune.lottery.imp.train_steps", None)
    names += ["again"]
    resumed = study_seed(shared(tmp_path / "part"), PLAN).result
    assert names[4:] == ["early_bird", "pretrained"]

    def figures(of: SeedResult) -> dict[str, dict[str, float]]:
        return {name: entry.figures for name, entry in of.conditions.items()}

    assert figures(resumed) == figures(whole)
    (tmp_path / "part" / "condition-random.json").write_text("{")
    with pytest.warns(UserWarning, match=r"condition-random\.json is not used"):
        assert figures(study_seed(shared(tmp_path / "part"), PLAN).result) == figures(whole)


def test_results_come_back_from_json(tmp_path: Path) -> None:
    done = study_seed(shared(tmp_path), PLAN)
    moved = study_transfer(shared(tmp_path), {"second": done.imp.ticket.masks["second"]}, done.imp.ticket, done.result)
    for result in (done.result, moved):
        assert SeedResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert moved.transfer is not None and moved.transfer.transferred == 1
    both = [moved.conditions[name] for name in ("transfer", "transfer_random")]
    assert (
        both[0].layer_sparsity
        == both[1].layer_sparsity
        == {
            "first": 0.0,
            "second": done.result.conditions["ticket"].layer_sparsity["second"],
        }
    )
    assert (both[0].start_step, both[0].steps) == (4, 24)


def linear_study(folder: Path, seed: int) -> SeedResult:
    """A linear classifier of 20 features of which two matter: a convex loss, so only the mask can make a difference."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2300, 20, generator=generator)
    noise = 0.3 * torch.randn(2300, generator=generator)
    data = Batches(x, (x[:, 3] - x[:, 11] + noise > 0).long(), torch.ones(2300))
    test = data.take(slice(800, None))

    def make(draw: int) -> nn.Module:
        torch.manual_seed(1000 * seed + draw)
        return nn.Sequential(nn.Linear(20, 2))

    def judge(net: nn.Module) -> dict[str, float]:
        return {"test_merit": evaluate(net, test, "classify").accuracy or 0.0}

    chosen = replace(settings(25, batch_size=100, seed=seed), learning_rate=0.05, weight_decay=0.0)
    trainings = Trainings(
        make,
        data.take(slice(0, 800)),
        chosen,
        judge,
        RoundStore(folder / str(seed), "k"),
        unwatched,
        lambda _text: None,
    )
    return study_seed(trainings, StudyPlan(ImpPlan(0.9, 0.5, 0), early_bird_window=3)).result


def test_of_a_convex_problem_the_verdict_is_the_mask(tmp_path: Path) -> None:
    seeds = [linear_study(tmp_path, seed) for seed in range(1, 6)]
    report = make_report("linear", "accuracy", {"sparsity": 0.9}, seeds, 0.95)
    assert report.verdict.outcome in ("mask", "winning")
    assert report.verdict.against_random.low > 0.05
    assert abs(report.verdict.against_redrawn.mean) < 0.01
    # all kinds of tickets find the two features that matter
    assert abs(report.differences[0].mean) < 0.01 and abs(report.differences[1].mean) < 0.01
    ticket = [seed.conditions["ticket"].figures["test_merit"] for seed in seeds]
    random = [seed.conditions["random"].figures["test_merit"] for seed in seeds]
    wanted = stats.ttest_rel(ticket, random).confidence_interval(0.95)
    text = markdown(report)
    assert report.verdict.text in text and f"{wanted.low:+.4f} .. {wanted.high:+.4f}" in text
    assert "After equal training (200 steps each)" in text
    rows = list(csv.DictReader(io.StringIO(conditions_csv(report))))
    assert len(rows) == 5 * 6
    assert [float(row["test_merit"]) for row in rows if row["name"] == "ticket"] == ticket
    rounds = list(csv.DictReader(io.StringIO(rounds_csv(report))))
    assert [int(row["kept_weights"]) for row in rounds[:5]] == [40, 22, 13, 7, 4]
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["verdict"]["outcome"] == report.verdict.outcome

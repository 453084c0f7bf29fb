"""The choices behind the table of peers: fronts, budgets, finished seeds, and that finished work is not repeated."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "peers"))
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import _result
import peer_jobs
import peers
from in_peer import mean_auc
from peer_front import Point, best_within, cell, front
from peer_menu import Length, length_for, trainings

from trigger_prune.train.objective import Objective


def _points(seed: int, n: int) -> list[Point]:
    """Few distinct values, so that ties occur."""
    rng = random.Random(seed)
    return [
        Point(
            f"n{i}", rng.randrange(1, 8) * 1000, rng.randrange(60, 70) / 100, rng.random(), rng.random(), rng.random()
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("seed", range(30))
def test_front_is_what_pairwise_comparison_leaves(seed: int) -> None:
    points = _points(seed, 25)

    def beaten(point: Point) -> bool:
        return any(
            other.lut <= point.lut
            and other.validation_auc >= point.validation_auc
            and (other.lut, other.validation_auc) != (point.lut, point.validation_auc)
            for other in points
        )

    expected = {(p.lut, p.validation_auc) for p in points if not beaten(p)}
    found = front(points)
    assert [(p.lut, p.validation_auc) for p in found] == sorted(expected)


@pytest.mark.parametrize("seed", range(30))
def test_choice_within_a_budget_has_the_best_validation_and_never_sees_test_events(seed: int) -> None:
    points = _points(seed, 12)
    for budget in (500, 3000, 8000):
        chosen = best_within(points, budget)
        allowed = [p for p in points if p.lut <= budget]
        if chosen is None:
            assert not allowed
            continue
        best = max(p.validation_auc for p in allowed)
        assert chosen.validation_auc == best
        assert chosen.lut == min(p.lut for p in allowed if p.validation_auc == best)
        blind = [Point(p.name, p.lut, p.validation_auc, 1 - p.test_auc, p.validation_accuracy, 0.0) for p in points]
        again = best_within(blind, budget)
        assert again is not None and again.name == chosen.name


def test_cell_averages_test_figures_over_seeds_and_is_empty_when_one_seed_has_no_point() -> None:
    small = Point("small", 1000, 0.80, 0.78, 0.60, 0.58)
    large = Point("large", 4000, 0.90, 0.86, 0.70, 0.66)
    found = cell({1: [small, large], 2: [small]}, 5000)
    assert found is not None
    assert found.seeds == (1, 2)
    assert found.lut == 2500
    assert found.test_auc == pytest.approx(0.82)
    assert found.test_auc_sd == pytest.approx(0.08 / 2**0.5)
    assert found.test_accuracy == pytest.approx(0.62)
    assert cell({1: [small, large], 2: [large]}, 2000) is None
    alone = cell({1: [small]}, 2000)
    assert alone is not None and alone.test_auc_sd is None


def test_auc_of_the_training_scripts_is_that_of_the_project() -> None:
    rng = np.random.default_rng(3)
    outputs = rng.integers(-8, 8, (400, 5)) / 4  # ties
    y = rng.integers(0, 5, 400)
    objective = Objective("auc")
    import torch

    values = objective.values(torch.from_numpy(outputs), torch.from_numpy(y))
    assert mean_auc(outputs, y) == pytest.approx(objective.merit(values, y, np.ones(400)), abs=1e-12)


def _record(key: str, auc: float) -> dict[str, object]:
    scores = {"auc": auc, "accuracy": auc - 0.2}
    points = [{"name": key, "lut": 1000, "cost_cpu_s": 0.5, "validation": scores, "test": scores}]
    return {"key": key, "optimiser_steps": 100, "train_cpu_s": 2.0, "points": points}


def test_a_seed_counts_only_when_all_its_trainings_are_done() -> None:
    wanted = {"jets": {"magnitude": {"1": ["a", "b"], "2": ["c", "d"]}}}
    jobs = [_record("a", 0.8), _record("b", 0.9), _record("c", 0.99)]
    finished = peers.finished_seeds(jobs, wanted)
    assert {seed: [p.name for p in points] for seed, points in finished["jets"]["magnitude"].items()} == {1: ["a", "b"]}
    figures = peers.figures(jobs, wanted)
    assert figures["jets.magnitude.seeds"] == 1
    assert figures["jets.magnitude.lut2000.auc"] == 0.9
    assert figures["jets.magnitude.optimiser_steps"] == 200  # of both trainings of the finished seed
    assert figures["jets.magnitude.cost_cpu_s"] == 1.0  # of both networks
    assert "seed 2 (1 of 2 trainings)" in peers.table(jobs, wanted)


def test_a_run_keeps_what_another_one_has_stored_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "RESULTS", tmp_path)
    monkeypatch.setattr(_result, "RESULTS", tmp_path)
    common = {"data": "jets", "peer": "magnitude", "seed": 1}

    def run(key: str, data: str) -> dict[str, object]:
        wanted = {data: {"magnitude": {"1": [key]}}}
        return {"jobs": {key: _record(key, 0.8) | common}, "wanted": wanted, "events": {data: {}}, "failed": {}}

    peers._store("peers", run("a", "jets"))
    peers._store("peers", run("b", "other"))
    content = json.loads((tmp_path / "peers.json").read_text())
    assert [job["key"] for job in content["jobs"]] == ["a", "b"]
    assert content["finished_seeds"] == {"jets": {"magnitude": [1]}, "other": {"magnitude": [1]}}


@pytest.mark.parametrize("peer", ["hgq2", "pquantml", "torch_pruning", "magnitude"])
def test_epochs_of_a_training_add_up_to_its_length(peer: str) -> None:
    keys = {
        "hgq2": ("epochs",),
        "pquantml": ("pretraining_epochs", "epochs", "fine_tuning_epochs"),
        "torch_pruning": ("float_epochs", "pruning_epochs", "epochs"),
        "magnitude": ("float_epochs", "epochs"),
    }[peer]
    length = length_for(23_000, 1.0, quick=False)
    assert length == Length(480, 2400)
    for settings in trainings(peer, length, quick=False):
        assert sum(settings[key] for key in keys) == (2400 if peer == "hgq2" else 480)
        if peer == "torch_pruning":
            assert settings["pruning_epochs"] % settings["pruning_steps"] == 0


def test_networks_measured_and_trainings_done_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIGGER_PRUNE_PEERS", str(tmp_path))
    events = SimpleNamespace(name="jets", digest="0", path=tmp_path / "events.npz")
    job = peer_jobs.PeerJob("magnitude", 1, {"sparsity": 0.9}, events)  # type: ignore[arg-type]
    calls: list[str] = []

    def train(one: peer_jobs.PeerJob) -> None:
        calls.append("train")
        one.folder.mkdir(parents=True)
        networks = [{"name": name, "file": f"{name}.gz", "trace_cpu_s": 0.5} for name in ("a", "huge", "b")]
        content = {"networks": networks, "optimiser_steps": 7, "train_cpu_s": 1.0}
        (one.folder / "networks.json").write_text(json.dumps(content))

    def measure(comb: Path, _: Path) -> dict[str, object] | None:
        calls.append(comb.name)
        if comb.name == "b.gz" and calls.count("b.gz") == 1:
            raise KeyboardInterrupt
        if comb.name == "huge.gz":
            return None
        return {"lut": 5, "cost_cpu_s": 1.0, "validation": {"auc": 0.8}, "test": {"auc": 0.8}}

    monkeypatch.setattr(peer_jobs, "_train", train)
    monkeypatch.setattr(peer_jobs, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        peer_jobs.run_job(job)
    record = peer_jobs.run_job(job)
    assert calls == ["train", "a.gz", "huge.gz", "b.gz", "b.gz"]
    assert [point["name"] for point in record["points"]] == ["a", "b"]
    assert record["too_large_to_measure"] == 1
    assert record["points"][0]["cost_cpu_s"] == 1.5
    assert peer_jobs.run_job(job) == record
    assert len(calls) == 5

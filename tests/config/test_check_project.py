"""``check`` finds all that would stop a run, in one go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trigger_prune.config import check
from trigger_prune.config.check import check_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "events.npz", x=rng.normal(size=(90, 3)).astype(np.float32), y=np.arange(90) % 2)
    (tmp_path / "project.yaml").write_text(
        "project: p\ndata: {path: events.npz, class_names: [a, b]}\nmodel: {args: {hidden: [4]}}\n"
        "cost: {backend: analytic}\nbudget: {lut: 50, latency_ns: 25}\n"
    )
    return tmp_path


def test_a_good_project_is_summed_up(project: Path) -> None:
    report = check_project(project, seed=3)
    rows = dict(report.rows)
    assert report.problems == ()
    assert rows["events"].startswith("90 from ")
    assert rows["classes"] == "a 45, b 45"
    assert rows["features"].startswith("3: ")
    assert rows["budget"] == "lut <= 50, latency_ns <= 25.0"
    assert rows["seed"] == "3"
    # 3 x 4 weights, batch normalisation of 4, 4 x 2 weights, 2 biases
    assert rows["model"] == f"mlp, {3 * 4 + 2 * 4 + 4 * 2 + 2} parameters"


def test_all_problems_come_at_once(project: Path) -> None:
    report = check_project(project, ["train.epoch=3", "data.path=gone.npz", "model.name=nope", "prune.max_rounds=0"])
    assert len(report.problems) == 4
    for said in ("train.epoch", "gone.npz", "nope", "prune.max_rounds"):
        assert sum(said in problem for problem in report.problems) == 1


def test_a_faulty_section_does_not_hide_faulty_events(project: Path) -> None:
    np.savez(project / "events.npz", x=np.full((4, 3), np.nan, np.float32), y=np.array([0, 1, 0, 1]))
    report = check_project(project, ["train.epochs=0"])
    assert len(report.problems) == 2
    assert any("nan" in problem and "events.npz" in problem for problem in report.problems)


def test_a_missing_tool_is_a_problem_that_names_the_extra(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    monkeypatch.setattr(check.shutil, "which", lambda name: None)
    (rtl,) = check_project(project, ["cost.backend=rtl"]).problems
    assert "pip install 'trigger_prune[rtl]'" in rtl
    (hls,) = check_project(project, ["cost.backend=csynth"]).problems
    assert "vitis-run" in hls

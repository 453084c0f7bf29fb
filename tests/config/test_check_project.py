"""``check`` finds all that would stop a run, in one go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from trigger_prune.config import check
from trigger_prune.config.check import check_project
from trigger_prune.config.load import load_project
from trigger_prune.synthesis.hls import tools


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
    monkeypatch.setattr(tools, "find_hls_tool", lambda version=None, backend=None: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    (rtl,) = check_project(project, ["cost.backend=rtl"]).problems
    assert "pip install 'trigger_prune[rtl]'" in rtl
    for backend in ("csynth", "vsynth", "cosim", "pnr"):
        (hls,) = check_project(project, [f"cost.backend={backend}", "cost.tool_version='2023.2'"]).problems
        assert f"{backend} needs Vitis HLS or Vivado HLS 2023.2" in hls
        assert "trigger-prune doctor" in hls
    (cuda,) = check_project(project, ["cost.backend=runtime", "cost.provider=cuda"]).problems
    assert "onnxruntime-gpu" in cuda
    assert check_project(project, ["cost.backend=runtime"]).problems == ()


def test_a_store_given_on_the_command_line_starts_at_the_current_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_project(project, ["cost.store=reports"]).config.cost.store == str(tmp_path / "reports")


def test_what_would_stop_a_run_after_the_training_is_said_before(project: Path) -> None:
    (project / "own.py").write_text(
        "from torch import nn\n"
        "class Smooth(nn.Sequential):\n"
        "    def __init__(self, input_shape, n_outputs):\n"
        "        super().__init__(nn.Linear(input_shape[0], 4), nn.GELU(), nn.Linear(4, n_outputs))\n"
    )
    (problem,) = check_project(project, ["model={name: 'own:Smooth'}"]).problems
    assert "GELU" in problem and "not supported" in problem
    np.savez(project / "events.npz", x=np.random.default_rng(0).normal(size=(90, 3, 8)), y=np.arange(90) % 2)
    report = check_project(project, ["model={name: conv1d, args: {channels: [2], hidden: [4]}}"])
    assert report.problems == ()
    assert dict(report.rows)["model"].endswith(" parameters")
    unrolled = ["target.strategy=Resource_Unrolled", "target.reuse_factor=2"]
    report = check_project(project, ["model={name: conv1d, args: {channels: [2], hidden: [4]}}", *unrolled])
    assert report.problems == ()
    assert "hls4ml cannot build layer 'conv1'" in dict(report.rows)["model"]
    assert "io_type: io_stream" in dict(report.rows)["model"]


def test_signal_and_trained_classes_are_looked_up(project: Path) -> None:
    assert dict(check_project(project).rows)["signal"] == "b"
    assert dict(check_project(project, ["physics.signal=[a]"]).rows)["signal"] == "a"
    (problem,) = check_project(project, ["physics.signal=[c]"]).problems
    assert "physics.signal: there is no class 'c'" in problem
    (problem,) = check_project(project, ["train.classes=[aa]"]).problems
    assert "train.classes: there is no class 'aa'; did you mean 'a'" in problem


def test_an_unknown_criterion_is_found_before_any_training(project: Path) -> None:
    assert check_project(project, ["prune.criterion=taylor"]).problems == ()
    (problem,) = check_project(project, ["prune.criterion=tayler"]).problems
    assert "unknown importance criterion 'tayler'; did you mean 'taylor'" in problem


def test_a_rule_over_two_sections_names_the_key_and_where_it_was_given(project: Path) -> None:
    overrides = ("prune.scope=learned", "learn.activations=channel", "cost.backend=csynth")
    found = [text for text in check_project(project, overrides).problems if "cannot be built" in text]
    assert len(found) == 1 and found[0].startswith("--set learn.activations=channel: learn.activations")

"""``trigger-prune lottery`` on a small project of its own: report, resuming, transfer, deployment."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

from trigger_prune.cli.lottery import COMMANDS
from trigger_prune.prune.lottery import imp, study
from trigger_prune.prune.lottery.ticket import load_ticket

PROJECT = """
project: small trigger
seed: 3
data: {path: events.npz}
input: {width_bits: 8, integer_bits: 4}
model:
  name: mlp
  args: {hidden: [10, 8], batch_norm: true}
train: {epochs: 4, batch_size: 256, learning_rate: 0.01}
quantize: {epochs: 2}
baseline: {epochs: 1}
lottery: {sparsity: 0.7, fraction_per_round: 0.5, rewind_step: 5, early_bird_distance: 0.4, early_bird_window: 1}
cost: {backend: analytic}
verify: {qonnx_events: 40}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 3, 1200)
    x = rng.normal(size=(1200, 6)).astype(np.float32)
    x[:, 0] += 1.5 * labels
    x[:, 1] -= np.where(labels == 2, 2.0, 0.0)
    folder = tmp_path / "project"
    folder.mkdir()
    np.savez(folder / "events.npz", x=x, y=np.array(["a", "b", "c"])[labels])
    (folder / "project.yaml").write_text(PROJECT)
    return folder


Call = Callable[..., Any]


@pytest.fixture
def call(project: Path) -> Call:
    app = typer.Typer()

    @app.callback()
    def top() -> None:
        pass

    for name, function, _ in COMMANDS:
        app.command(name)(function)

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["lottery", str(project), *map(str, arguments)])

    return run


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the phase of every training."""
    found: list[str] = []
    inner = imp.train_steps

    def counted(net: object, train: object, settings: object, **more: object) -> object:
        found.append(settings.phase)  # type: ignore[attr-defined]
        return inner(net, train, settings, **more)  # type: ignore[arg-type]

    for module in (imp, study):
        monkeypatch.setattr(module, "train_steps", counted)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_five_seeds_give_a_verdict_that_the_table_of_figures_bears_out(
    project: Path, call: Call, trainings: list[str]
) -> None:
    result = call()
    assert result.exit_code == 0, result.output
    folder = project / "build" / "lottery"
    found = json.loads((folder / "lottery.json").read_text())
    table = rows(folder / "conditions.csv")
    merits = {
        name: [float(row["test_accuracy"]) for row in table if row["name"] == name]
        for name in ("dense", "ticket", "redrawn", "random", "early_bird", "pretrained")
    }
    assert all(len(values) == 5 for values in merits.values())
    assert [seed["seed"] for seed in found["seeds"]] == [3, 4, 5, 6, 7]
    for other in ("redrawn", "random", "dense"):
        wanted = stats.ttest_rel(merits["ticket"], merits[other]).confidence_interval(0.95)
        stated = found["verdict"][f"against_{other}"]
        assert (stated["low"], stated["high"]) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    text = (folder / "lottery.md").read_text()
    assert f"**{found['verdict']['text']}**" in text
    assert found["verdict"]["outcome"] != "too_few_seeds"
    plain = " ".join(result.output.split())
    assert found["verdict"]["text"] in plain and "After equal training (79 steps each)" in plain
    # 84 steps, 5 of them before the rewinding; (60 + 80 + 24) weights, 70 % of them masked
    assert {(row["steps"], row["kept_weights"]) for row in table if row["name"] != "dense"} == {("79", "49")}
    best = max(found["seeds"], key=lambda seed: seed["conditions"]["ticket"]["figures"]["validation_merit"])
    assert found["chosen_seed"] == best["seed"] == load_ticket(folder / "ticket.pt").seed
    # per seed: dense, two rounds, dense steps of the other draw, and four conditions' last training
    assert len(trainings) == 5 * 8

    again = call("--quiet")
    assert again.exit_code == 0 and again.stdout.splitlines() == [f"Report: {folder / 'lottery.md'}"]
    more = call("--seeds", 6, "--set", "lottery.confidence=0.9", "-q")
    assert more.exit_code == 0
    assert len(trainings) == 6 * 8 and trainings[-1] == "lottery, seed 8"
    assert len(rows(folder / "rounds.csv")) == 6 * 3


def test_a_stopped_search_goes_on_where_it_was(project: Path, call: Call, trainings: list[str], monkeypatch) -> None:
    counted = imp.train_steps

    def stopped(net: object, train: object, settings: object, **more: object) -> object:
        if len(trainings) == 10:
            raise KeyboardInterrupt
        return counted(net, train, settings, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(imp, "train_steps", stopped)
    result = call("--seeds", 2)
    assert result.exit_code == 130
    assert "run the same command to go on after the last finished network" in result.output
    assert trainings == ["lottery, seed 3"] * 8 + ["lottery, seed 4"] * 2
    monkeypatch.setattr(imp, "train_steps", counted)
    assert call("--seeds", 2).exit_code == 0
    assert len(trainings) == 16
    figures = rows(project / "build" / "lottery" / "conditions.csv")
    assert call("--seeds", 2, "--out", project / "whole").exit_code == 0
    timeless = [
        [{key: value for key, value in row.items() if not key.endswith("seconds")} for row in found]
        for found in (figures, rows(project / "whole" / "lottery" / "conditions.csv"))
    ]
    assert timeless[0] == timeless[1]


def test_few_seeds_are_said_to_be_no_verdict(project: Path, call: Call) -> None:
    result = call("--seeds", 1, "--set", "lottery.rewind_step=0")
    assert result.exit_code == 0, result.output
    for text in (result.output, (project / "build" / "lottery" / "lottery.md").read_text()):
        assert "Not a verdict: 1 of at least 5 seeds" in text
        assert "inning ticket" not in text and "too few seeds" in text


def test_a_ticket_is_transferred_to_another_architecture(project: Path, call: Call, trainings: list[str]) -> None:
    assert call("--seeds", 1).exit_code == 0
    ticket = project / "build" / "lottery" / "ticket.pt"
    wider = ("--seeds", 1, "--set", "model.args.hidden=[10, 9]", "--out", project / "wider")
    assert call(*wider).exit_code == 0
    before = len(trainings)
    result = call(*wider, "--transfer", ticket)
    assert result.exit_code == 0, result.output
    # the seed's own trainings are not repeated
    assert len(trainings) == before + 2
    found = json.loads((project / "wider" / "lottery" / "lottery.json").read_text())
    (seed,) = found["seeds"]
    entries = [(entry["layer"], entry["source"], entry["how"]) for entry in seed["transfer"]["layers"]]
    assert entries == [
        ("dense1", "dense1", "name"),
        ("dense2", None, "none"),
        ("head", None, "none"),
        (None, "dense2", "none"),
        (None, "head", "none"),
    ]
    text = (project / "wider" / "lottery" / "lottery.md").read_text()
    assert "its shape is (9, 10), in the ticket (8, 10)" in text and "1 of 3 layers masked" in text
    masks = load_ticket(ticket).masks
    sparsity = seed["conditions"]["transfer"]["layer_sparsity"]
    assert sparsity["dense1"] == pytest.approx(1 - masks["dense1"].double().mean().item())
    assert sparsity["dense2"] == sparsity["head"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--set", "lottery.rewind_step=84"), 2, "rewind_step 84 is not before the end of the training, step 84"),
        (("--set", "lottery.sparsity=1.0"), 2, "lottery.sparsity"),
        (("--set", "lottery.rounds=3"), 2, "rounds"),
        (("--transfer", "nowhere.pt"), 2, "nowhere.pt cannot be read"),
        (("--seeds", "0"), 2, "--seeds"),
    ],
)
def test_wrong_calls_are_explained(arguments: tuple[str, ...], code: int, message: str, call: Call) -> None:
    result = call(*arguments)
    assert result.exit_code == code and message in result.output, result.output


@pytest.mark.slow
def test_the_best_ticket_is_deployed_and_verified(project: Path, call: Call) -> None:
    result = call("--seeds", 2, "--deploy")
    assert result.exit_code == 0, result.output
    folder = project / "build" / "lottery" / "deploy"
    found = json.loads((folder / "deploy.json").read_text())
    lottery = json.loads((folder.parent / "lottery.json").read_text())
    assert found["seed"] == lottery["chosen_seed"]
    assert found["verified"] and "onnxruntime" in found["representations"]
    ticket = load_ticket(folder.parent / "ticket.pt")
    kept = sum(int(mask.sum()) for mask in ticket.masks.values())
    assert 0 < found["nonzeros"] <= kept
    assert found["deployed_cost"]["lut"] < found["dense_cost"]["lut"]
    assert found["deployed_cost"]["stage"] == found["dense_cost"]["stage"] == "analytic"
    for name in ("model.onnx", "model_lowered.onnx", "hls4ml_project", "verify.json", "deploy.md"):
        assert (folder / name).exists()
    # the project's own exports are left alone
    assert not (project / "build" / "model.onnx").exists()

    import onnxruntime

    # the deployed file computes with the stated accuracy on the stored test events, input by input
    artefacts = project / "build" / "artefacts"
    events = np.load(next(artefacts.glob("load-*")) / "events.npz")
    transform = json.loads((folder / "input_transform.json").read_text())
    names = json.loads((next(artefacts.glob("load-*")) / "events.json").read_text())["transform"]["feature_names"]
    columns = [names.index(name) for name in transform["feature_names"]]
    session = onnxruntime.InferenceSession(folder / "model_lowered.onnx")
    features = events["test_codes"][:, columns] / 16.0
    (entry,) = session.get_inputs()
    kind = np.float64 if "double" in entry.type else np.float32
    (outputs,) = session.run(None, {entry.name: features.astype(kind)})
    accuracy = np.mean(outputs.argmax(1) == events["test_labels"])
    assert found["deployed_merit"] == pytest.approx(accuracy, abs=1e-9)

"""Every measured network of a project, listed and exported; a front by the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from trigger_prune.cli import app
from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.checkpoint import load_network
from trigger_prune.quantize.describe import describe_network
from trigger_prune.target import Target

YAML = """
project: small
data: {path: events.npz}
model: {name: mlp, args: {hidden: [12, 8], batch_norm: false}}
train: {epochs: 6}
quantize: {epochs: 3}
baseline: {epochs: 1}
sensitivity: {sparsities: [0.5]}
prune: {scope: solver, criterion: obd_fisher, epochs_per_round: 3, final_epochs: 4}
budget: {lut: 900}
cost: {backend: analytic}
verify: {qonnx_events: 10, rtl_events: 0}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small_project")
    generator = np.random.default_rng(1)
    x = generator.normal(size=(1500, 6))
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int)
    np.savez(folder / "events.npz", x=x, y=y)
    (folder / "project.yaml").write_text(YAML)
    return folder


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_trials_of_a_run_are_listed_and_each_is_what_its_row_says(project: Path) -> None:
    refused = CliRunner().invoke(app, ["trials", str(project)])
    assert refused.exit_code == 1 and "--until prune" in refused.output
    call("run", str(project), "--until", "prune", "--quiet")
    assert "deployed" in call("trials", str(project))
    (folder,) = (project / "build" / "artefacts").glob("prune-*")
    with (folder / "trials" / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / "trials" / "trials.parquet").to_pylist()
    assert [row["lut"] for row in table] == [int(row["lut"]) for row in rows]
    for row in rows:
        config = json.loads(row["config"])
        assert config["prune"]["scope"] == "solver" and config["seed"] == 1
        out = project / f"round{row['round']}"
        assert str(out) in call("trials", str(project), "--export", row["round"], "--to", str(out)).replace("\n", "")
        kept = len(json.loads((out / "input_transform.json").read_text())["feature_names"])
        network = load_network(out / "network.pt", Mlp((6,), 2, hidden=(12, 8), batch_norm=False))
        spec = describe_network(network)
        assert spec.input_shape == (kept,)
        assert AnalyticCost(adders_per_stage=None).estimate(spec, Target()).lut == int(row["lut"])
        assert spec.content_hash() == row["content_hash"] and spec.nonzeros == int(row["nonzeros"])
        onnx.checker.check_model(onnx.load(out / "model.onnx"), full_check=False)
        assert (out / "hls4ml_project" / "firmware" / "parameters.h").is_file()
    again = CliRunner().invoke(app, ["trials", str(project), "--export", rows[0]["round"], "--to", str(out)])
    assert again.exit_code == 1 and "exists already" in again.output
    missing = CliRunner().invoke(app, ["trials", str(project), "--export", "99"])
    assert missing.exit_code == 1 and "round 99" in missing.output


def test_a_front_has_the_best_model_for_every_budget(project: Path) -> None:
    shown = call("budget", str(project), "--lut", "400,900", "--latency-ns", "60")
    assert "Front:" in shown
    front = project / "build" / "front"
    points = json.loads((front / "front.json").read_text())
    assert [(point["lut_limit"], point["latency_limit_ns"]) for point in points] == [(400, 60.0), (900, 60.0)]
    for point in points:
        assert point["cost"]["lut"] <= point["lut_limit"] and point["cost"]["latency_ns"] <= 60
        network = load_network(front / point["network"] / "network.pt", Mlp((6,), 2, hidden=(12, 8), batch_norm=False))
        estimate = AnalyticCost(adders_per_stage=None).estimate(describe_network(network), Target())
        assert estimate.lut == point["cost"]["lut"]
    assert points[0]["validation_merit"] <= points[1]["validation_merit"]
    assert (front / "front.svg").read_text().lstrip().startswith("<?xml")
    # what the project says about refinement holds for a front, too
    settings = ("enabled=true", "headroom=1.4", "fine_tune_epochs=1", "saving_per_round=0.1")
    call("budget", str(project), "--lut", "900", *(word for each in settings for word in ("--set", f"refine.{each}")))
    (point,) = json.loads((front / "front.json").read_text())
    with (front / "trials.csv").open() as stream:
        phases = {int(row["round"]): row["phase"] for row in csv.DictReader(stream)}
    assert phases[point["round"]] == "refine" and point["cost"]["lut"] <= 900
    wrong = CliRunner().invoke(app, ["budget", str(project), "--lut", "many"])
    assert wrong.exit_code == 2 and "--lut many" in wrong.output

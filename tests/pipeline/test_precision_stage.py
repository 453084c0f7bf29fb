"""Bits without training and profiles, from the command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from trigger_prune.cli import app
from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.report import HardwareReport
from trigger_prune.models.mlp import Mlp
from trigger_prune.pipeline.stages import precision
from trigger_prune.quantize.checkpoint import load_network
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.target import Target

YAML = """
project: small
data: {path: events.npz}
model: {name: mlp, args: {hidden: [12, 8], batch_norm: false}}
train: {epochs: 8}
quantize: {epochs: 1}
precision: {weight_bits: [2, 3, 4, 6], activation_bits: [3, 5], step: 0.3, overflow_probability: 0.01}
cost: {backend: analytic}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small_precision")
    generator = np.random.default_rng(1)
    x = generator.normal(size=(1500, 6))
    np.savez(folder / "events.npz", x=x, y=(x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int))
    (folder / "project.yaml").write_text(YAML)
    return folder


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def _network(folder: Path) -> torch.fx.GraphModule:
    return load_network(folder / "network.pt", Mlp((6,), 2, hidden=(12, 8), batch_norm=False))


def test_a_budget_gives_the_files_of_a_network_within_it_and_resumes(project: Path) -> None:
    shown = call("precision", str(project), "--lut", "1200")
    folder = project / "build" / "precision"
    assert "measured" in shown and str(folder) in shown.replace("\n", "")
    figures = json.loads((folder / "precision.json").read_text())
    network = _network(folder)
    spec = describe_network(network)
    report = AnalyticCost(adders_per_stage=None).estimate(spec, Target())
    assert report.lut == figures["measured"]["lut"] == figures["chosen"]["lut"] <= 1200
    with (folder / "precision.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["weight_type"] for row in rows] == [str(layer.weight_type) for layer in weight_layers(network).values()]
    assert [layer.weight_type.width for layer in spec.layers] == [int(row["weight_bits"]) for row in rows]
    assert all(float(row["overflow_upper"]) <= 0.01 for row in rows if row["overflow_upper"])
    strings = yaml.safe_load((folder / "hls4ml_precision.yml").read_text())["LayerName"]
    assert {row["weight"] for row in rows} == {strings[row["unit"]]["Precision"]["weight"] for row in rows}
    accuracy = figures["test"]["accuracy"]
    assert accuracy > figures["float"]["test"]["accuracy"] - 0.1
    assert "loaded" in call("precision", str(project), "--lut", "1200")
    assert json.loads((folder / "precision.json").read_text()) == figures


def test_what_was_measured_corrects_the_search(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dearer:
        """A tool whose networks cost 1.3 times what the formula says."""

        factor = 1.3
        seen: ClassVar[list[int]] = []

        def measure(self, network: torch.fx.GraphModule, target: Target) -> HardwareReport:
            report = AnalyticCost(adders_per_stage=None).measure(network, target)
            self.seen.append(round(self.factor * report.lut))
            return replace(report, lut=self.seen[-1], layers=())

    monkeypatch.setattr(precision, "make_cost_model", lambda *_: Dearer())
    call("precision", str(project), "--lut", "1600", "--set", "precision.rounds=2", "--quiet")
    figures = json.loads((project / "build" / "precision" / "precision.json").read_text())
    assert Dearer.seen[0] > 1600  # the formula alone fills the budget
    assert 0.8 * 1600 < figures["measured"]["lut"] <= 1600
    assert figures["exceeded"] == []
    call("precision", str(project), "--lut", "1000", "--set", "precision.rounds=2", "--quiet")
    figures = json.loads((project / "build" / "precision" / "precision.json").read_text())
    assert figures["measured"]["lut"] > 1000  # the smallest network costs more, and that is said
    assert figures["exceeded"] == ["lut"]


def test_a_tolerance_is_kept_and_a_larger_one_is_cheaper(project: Path) -> None:
    cheap = []
    for tolerance in (0.01, 0.1):
        call("precision", str(project), "--tolerance", str(tolerance), "--quiet")
        figures = json.loads((project / "build" / "precision" / "precision.json").read_text())
        assert figures["float"]["validation"]["merit"] - figures["chosen"]["merit"] <= tolerance
        cheap.append(figures["chosen"]["lut"])
    assert cheap[1] < cheap[0]


def test_options_that_exclude_each_other_and_impossible_bits(project: Path) -> None:
    both = CliRunner().invoke(app, ["precision", str(project), "--lut", "5", "--tolerance", "0.1"])
    assert both.exit_code == 2 and "both given" in both.output
    words = CliRunner().invoke(app, ["precision", str(project), "--weight-bits", "3;4"])
    assert words.exit_code == 2 and "--weight-bits 3;4" in words.output
    nothing = CliRunner().invoke(app, ["precision", str(project)])
    assert nothing.exit_code == 2 and "no budget" in nothing.output
    small = CliRunner().invoke(app, ["precision", str(project), "--lut", "3"])
    assert small.exit_code == 1 and "cannot go below" in small.output


def test_profiles_of_the_project_and_of_a_checkpoint(project: Path) -> None:
    shown = call("profile", str(project))
    assert "underflow" in shown
    folder = project / "build" / "profile"
    assert sorted(path.name for path in folder.iterdir()) == [
        "profile.csv",
        "profile.json",
        "profile.png",
        "profile.svg",
    ]
    rows = {(row["name"], row["kind"]): row for row in json.loads((folder / "profile.json").read_text())}
    assert rows["dense1", "weight"]["n_values"] == 72
    assert "loaded" in call("profile", str(project))
    call("precision", str(project), "--lut", "1200", "--quiet")
    network = project / "build" / "precision" / "network.pt"
    call("profile", str(project), "--network", str(network), "--quiet")
    own = json.loads((network.parent / "profile" / "profile.json").read_text())
    wires = {row["name"]: row["type"] for row in own if row["kind"] == "sum"}
    assert wires == {
        name: str(module.fixed) for name, module in _network(network.parent).named_modules() if hasattr(module, "fixed")
    }
    missing = CliRunner().invoke(app, ["profile", str(project), "--network", str(project / "none.pt")])
    assert missing.exit_code == 2 and "there is no file" in missing.output

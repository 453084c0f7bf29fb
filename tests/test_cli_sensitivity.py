"""The command sensitivity on a small project of its own."""

import csv
import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from trigger_prune.cli.sensitivity import COMMANDS

PROJECT = """
project: small
seed: 3
data: {path: events.npz}
input: {width_bits: 8, integer_bits: 4}
model: {name: mlp, args: {hidden: [8, 6]}}
train: {epochs: 4, batch_size: 128, learning_rate: 0.01}
quantize: {epochs: 2}
sensitivity: {sparsities: [0.5, 0.9], max_events: 300}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 3, 2400)
    x = rng.normal(size=(2400, 5)).astype(np.float32)
    x[:, 0] += 1.5 * labels
    np.savez(folder / "events.npz", x=x, y=np.array(["a", "b", "c"])[labels], group=np.arange(2400) // 2)
    (folder / "project.yaml").write_text(PROJECT)
    return folder


@pytest.fixture(scope="module")
def call(project):
    app = typer.Typer()
    for name, function, _ in COMMANDS:
        app.command(name)(function)
    app.command("other")(lambda: None)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["sensitivity", str(project), *map(str, arguments)])


def rows_of(file):
    with file.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_scan_of_layers_structures_bits_and_inputs_is_written(call, project):
    result = call(
        "--criteria", "magnitude_l1,random", "--structures", "weight,neuron", "--bits", "3", "--activation-bits", "3"
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    folder = project / "build" / "sensitivity"
    rows = rows_of(folder / "sensitivity.csv")
    pruned = [row for row in rows if row["criterion"]]
    keys = {(r["layer"], r["criterion"], r["structure"], r["weight_bits"], r["sparsity"]) for r in pruned}
    assert len(keys) == len(pruned) == 2 * (3 + 2) * 2 * 2  # the outputs have no neurons to remove
    assert {row["events"] for row in rows} == {"300"} and all(float(row["lut"]) > 0 for row in rows)
    assert [r["layer"] for r in rows if r["activation_bits"] == "3"] == ["dense1", "dense2"]
    assert [row["index"] for row in rows_of(folder / "sensitivity_inputs.csv")] == ["0", "1", "2", "3", "4"]
    limits = rows_of(folder / "sensitivity_limits.csv")
    assert len(limits) == len(pruned) / 2
    assert {f"{name}.svg" for name in ("curves_loss", "heat_map_auc")} <= {file.name for file in folder.iterdir()}
    assert "wrote" in result.output and "no more than 0.01 of accuracy" in result.output
    assert "68 % percentiles" in " ".join(result.output.split())


def test_statistical_mode_on_the_test_part_without_costs_and_figures(call, project, tmp_path):
    result = call(
        "--interval-width", "0.2", "--part", "test", "--no-cost", "--no-figures", "--sparsities", "0.75",
        "--structures", "block", "--set", "prune.block=[1, 4]", "--out", project / "build", "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = rows_of(project / "build" / "sensitivity" / "sensitivity.csv")
    assert {(row["structure"], row["sparsity"], row["lut"]) for row in rows} == {("block", "0.75", "")}
    # rows of 8 and 6 weights in blocks of 4, the last of which may be smaller
    assert {row["layer"]: float(row["zero_weights"]) for row in rows}["dense2"] == pytest.approx(0.75, abs=0.02)
    assert all(line.startswith("wrote ") for line in result.output.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--criteria", "magnitud"), "unknown importance criterion"),
        (("--structures", "nuron"), "did you mean 'neuron'"),
        (("--sparsities", "0.5,x"), "--sparsities 0.5,x"),
        (("--sparsities", "1.5"), "outside 0..1"),
        (("--bits", "40"), "40 bits"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(call, tmp_path, arguments, message):
    result = call(*arguments, "--out", tmp_path)
    assert result.exit_code == 2
    assert message in result.output + (result.stderr if result.stderr_bytes else "")
    assert not list(tmp_path.rglob("*.pt")) and not json.dumps([p.name for p in tmp_path.iterdir()]).count("artefacts")

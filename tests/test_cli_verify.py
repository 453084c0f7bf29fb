"""The command verify on a small project of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from trigger_prune.cli.verify import COMMANDS
from trigger_prune.verify.matrix import runner

PROJECT = """
project: small
seed: 3
data: {path: events.npz}
input: {width_bits: 8, integer_bits: 4}
model: {name: conv1d, args: {channels: [3], hidden: [4]}}
train: {epochs: 2, batch_size: 128, learning_rate: 0.01}
quantize: {epochs: 1}
baseline: {epochs: 1}
prune: {epochs_per_round: 1, final_epochs: 1}
budget: {lut: 100000}
cost: {backend: analytic}
"""

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 2, 600)
    x = rng.normal(size=(600, 2, 6)).astype(np.float32)
    x[:, 0] += 1.5 * labels[:, None]
    np.savez(folder / "events.npz", x=x, y=np.array(["a", "b"])[labels])
    (folder / "project.yaml").write_text(PROJECT)
    return folder


@pytest.fixture(scope="module")
def call() -> Call:
    app = typer.Typer()
    for name, function, _ in COMMANDS:
        app.command(name)(function)
    app.command("other")(lambda: None)
    return lambda *arguments: CliRunner().invoke(app, ["verify", *map(str, arguments)])


def _row(result: Result, name: str) -> list[str]:
    [line] = [line for line in result.stdout.splitlines() if name in line]
    return [cell.strip() for cell in line.strip("│ \n").split("│")]


@pytest.mark.slow
def test_a_project_in_the_layout_asked_for(project: Path, call: Call) -> None:
    result = call(project, "--events", 90, "--io", "io_stream", "--backend", "Vivado")
    assert result.exit_code == 0, result.stdout + result.stderr
    for name in ("torch_float32", "qonnx", "onnxruntime", "alkaid", "hls4ml Vivado io_stream Latency"):
        assert _row(result, name)[1:3] == ["90", "0"]


@pytest.mark.slow
def test_what_cannot_be_built_is_refused_with_the_way_out(project: Path, call: Call) -> None:
    result = call(project, "--events", 20, "--strategy", "Resource_Unrolled")
    assert result.exit_code == 1
    assert "refused" in result.stdout
    shown = " ".join(result.stdout.replace("│", " ").split())
    assert "would silently build" in shown
    assert "io_type:" in shown


@pytest.mark.slow
def test_a_checkpoint_finds_its_project_and_a_wrong_bit_ends_with_status_1(
    project: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = call(project, "--events", 20, "--strategy", "Resource_Unrolled")
    assert first.exit_code == 1
    [stored] = [path for path in (project / "build").rglob("network.pt") if "prune" in str(path.parent)][:1]
    checkpoint = project / "mine" / "network.pt"
    checkpoint.parent.mkdir()
    shutil.copy(stored, checkpoint)
    written = runner.write_hls4ml_project

    def tampered(*arguments: object, **options: object) -> Path:
        folder: Path = written(*arguments, **options)  # type: ignore[arg-type]
        biases = sorted((folder / "firmware" / "weights").glob("b*.txt"))
        for path in (biases[-1], biases[-1].with_suffix(".h")):
            head, brace, body = path.read_text().rpartition("{")
            value, comma, rest = body.partition(",")
            path.write_text(head + brace + str(float(value) + 1.0) + comma + rest)
        return folder

    monkeypatch.setattr(runner, "write_hls4ml_project", tampered)
    result = call(checkpoint, "--events", 30)
    assert result.exit_code == 1, result.stdout + result.stderr
    events, mismatches = _row(result, "hls4ml Vitis io_parallel Latency")[1:3]
    assert events == "30" and int(mismatches) > 10
    assert _row(result, "alkaid")[1:3] == ["30", "0"]


def test_wrong_arguments_are_named(project: Path, call: Call, tmp_path: Path) -> None:
    both = call(project, "--all", "--io", "io_stream")
    assert both.exit_code == 2
    assert "--all runs every layout" in both.stderr
    lonely = call(tmp_path / "network.pt")
    assert lonely.exit_code == 2
    assert "no project.yaml lies in a folder above" in lonely.stderr
    missing = call(project / "none.pt")
    assert missing.exit_code == 2
    assert "there is no file" in missing.stderr

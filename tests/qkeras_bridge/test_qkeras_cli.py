"""The commands about QKeras on a small project of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from trigger_prune.cli.qkeras import COMMANDS
from trigger_prune.config.load import load_project
from trigger_prune.qkeras.project import judged_features, merit, pruned_network
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.describe import describe_network

PROJECT = """
project: small
seed: 3
data: {path: events.npz}
input: {width_bits: 8, integer_bits: 4}
model: {name: mlp, args: {hidden: [8, 6]}}
train: {epochs: 6, batch_size: 128, learning_rate: 0.01}
quantize: {epochs: 2}
baseline: {epochs: 1}
sensitivity: {sparsities: [0.5], max_events: 200}
prune: {first_sparsity: 0.4, epochs_per_round: 1, final_epochs: 1, max_rounds: 4}
budget: {lut: 400}
cost: {backend: analytic}
"""

needs_qkeras = pytest.mark.skipif(
    importlib.util.find_spec("qkeras") is None, reason="not installed: qkeras; pip install 'trigger_prune[qkeras]'"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 3, 2400)
    x = rng.normal(size=(2400, 5)).astype(np.float32)
    x[:, 0] += 1.5 * labels
    np.savez(folder / "events.npz", x=x, y=np.array(["a", "b", "c"])[labels], group=np.arange(2400) // 2)
    (folder / "project.yaml").write_text(PROJECT)
    return folder


def call(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    for name, function, _ in COMMANDS:
        app.command(name)(function)
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.output


def test_the_network_and_its_events_are_those_of_the_project(project: Path) -> None:
    found = pruned_network(load_project(project, (), None), project / "build")
    spec = describe_network(found.network)
    assert spec.nonzeros < 0.7 * spec.n_weights
    features = judged_features(found, 100)
    assert features.shape == (100, *input_shape_of(found.network))
    assert input_type_of(found.network).contains(features).all()
    assert merit(found, found.network) > 0.5


def test_a_name_that_keras_does_not_save_under_costs_no_training(project: Path, tmp_path: Path) -> None:
    code, said = call("finetune", project, "--to", tmp_path / "net.onnx", "--out", tmp_path / "build")
    assert code == 1 and ".h5 nor .keras" in said
    assert not (tmp_path / "build").exists()


@needs_qkeras
@pytest.mark.slow
def test_export_train_verify_and_import(project: Path, tmp_path: Path) -> None:
    code, said = call("export", project, "--to", tmp_path / "net.h5")
    assert code == 0, said
    assert "weights are zero" in said
    code, said = call("verify", project, "--model", tmp_path / "net.h5", "--events", 300, "--backend", "Vitis")
    assert code == 0, said
    assert [word in said for word in ("qkeras", "hls4ml_keras_vitis", "hls4ml_onnx_vitis")] == [True] * 3
    code, said = call("finetune", project, "--to", tmp_path / "tuned.h5", "--epochs", 2)
    assert code == 0, said
    assert (tmp_path / "tuned.pt").is_file() and "accuracy on test events" in said
    # another network's model
    code, said = call("verify", project, "--model", tmp_path / "tuned.h5", "--events", 300, "--backend", "Vitis")
    assert code == 1
    code, said = call("import", tmp_path / "tuned.h5", "--to", tmp_path / "tuned.onnx")
    assert code == 0, said
    assert (tmp_path / "tuned.onnx").is_file() and "3 layers" in said

"""A project with the encoder: from training over pruned heads to a measured time, and no firmware without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from trigger_prune.config.check import check_project
from trigger_prune.config.load import load_project
from trigger_prune.errors import ConfigError, UnsupportedLayerError
from trigger_prune.models.encoder import Encoder
from trigger_prune.pipeline.runner import RunResult, run_pipeline
from trigger_prune.pipeline.stages import STAGES

PROJECT = """
project: set of particles
seed: 3
data: {path: events.npz}
input: {width_bits: 10, integer_bits: 4}
model: {name: encoder, args: {width: 12, n_heads: 4, n_layers: 1, hidden: 16}}
train: {epochs: 6, batch_size: 128, learning_rate: 0.01}
quantize: {weight_bits: 6, epochs: 2}
baseline: {epochs: 2}
sensitivity: {sparsities: [0.5], max_events: 300}
prune: {structure: head, first_sparsity: 0.5, epochs_per_round: 2, final_epochs: 2, max_rounds: 4}
cost: {backend: runtime, runtime_seconds: 0.1, batch_sizes: [1, 64]}
"""


def write_project(folder: Path) -> Path:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(3000, 3, 5)).astype(np.float32)
    signal = x[:, 0].max(axis=1) > x[:, 1].max(axis=1)
    np.savez(folder / "events.npz", x=x, y=np.array(["bkg", "sig"])[signal.astype(int)])
    (folder / "project.yaml").write_text(PROJECT)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    folder = write_project(tmp_path_factory.mktemp("encoder"))
    return folder, run_pipeline(load_project(folder), STAGES, folder / "build", until="sensitivity")


def test_check_says_where_it_can_run(tmp_path: Path) -> None:
    folder = write_project(tmp_path)
    report = check_project(folder)
    assert report.problems == ()
    assert "runs on processors only" in dict(report.rows)["model"]
    for backend in ("rtl", "analytic", "analytic_hls"):
        (problem,) = check_project(folder, [f"cost.backend={backend}"]).problems
        for said in ("softmax", "matmul", "LayerNorm", "--set cost.backend=runtime"):
            assert said in problem
    (problem,) = check_project(folder, ["budget.latency_p99_us=20", "prune.structure=weight"]).problems
    assert "prune.structure weight cannot meet budget.latency_p99_us" in problem and "head (attention)" in problem
    assert check_project(folder, ["budget.latency_p99_us=20"]).problems == ()
    (problem,) = check_project(folder, ["prune.scope=solver"]).problems
    assert "prune.scope solver" in problem and "global or layer" in problem


def test_firmware_is_refused_with_the_reason_whether_trained_for_a_processor_or_not(
    trained: tuple[Path, RunResult],
) -> None:
    folder, run = trained
    backend = "cost.backend=analytic"
    with pytest.raises(
        UnsupportedLayerError, match=r"matmul \(in layers\.0\.attention\).*LayerNorm.*softmax"
    ) as caught:
        run_pipeline(load_project(folder, [backend, "quantize.epochs=1"]), STAGES, run.out, until="quantize")
    assert "--set cost.backend=runtime" in str(caught.value.hint)
    with pytest.raises(UnsupportedLayerError, match=r"cost\.backend analytic cannot measure it"):
        run_pipeline(load_project(folder, [backend]), STAGES, run.out, until="prune")
    with pytest.raises(ConfigError, match="a processor multiplies zeros"):
        run_pipeline(
            load_project(folder, ["budget.event_time_us=9", "prune.structure=n_m"]), STAGES, run.out, until="prune"
        )


@pytest.mark.slow
def test_a_run_goes_from_training_to_a_measured_time(trained: tuple[Path, RunResult]) -> None:
    folder, run = trained
    (run.out / "model_lowered.onnx").write_text("of another network")
    (run.out / "hls4ml_project").mkdir()
    run = run_pipeline(load_project(folder), STAGES, run.out)
    summary: dict[str, Any] = json.loads((run.out / "summary.json").read_text())
    deployed = summary["deployed"]
    assert deployed["accuracy"] > 0.75 and deployed["cost_stage"] == "runtime"
    assert deployed["event_time_us"] > 0 and summary["dense"]["event_time_us"] > 0 and deployed["lut"] is None
    assert summary["verify"]["tolerance"] == 1e-5 and summary["verify"]["mismatches"] == {"onnxruntime": 0}
    assert summary["verify"]["accumulator_bits"] is None
    assert "LayerNorm" in summary["export_note"]
    page = (run.out / "report.html").read_text()
    assert "not bit-exact" in page and "no QONNX, hls4ml project, Verilog or VHDL".lower() in page.lower()
    assert "agree bit by bit" not in page
    assert not (run.out / "model_lowered.onnx").exists() and not (run.out / "hls4ml_project").exists()
    heads = run.result("prune").removed_neurons["layers.0.attention"]
    assert 1 <= heads <= 3
    model = Encoder((3, 5), 2, width=12, n_heads=4, n_layers=1, hidden=16)
    network = run.result("prune").network(model).eval()
    assert network.layers[0].attention.n_heads == 4 - heads
    # the published file computes what the deployed network computes, and its scores are the published ones
    session = onnxruntime.InferenceSession(str(run.out / "model.onnx"))
    test = run.result("load").test
    x = np.ascontiguousarray(test.features[:, list(run.result("prune").kept_inputs)])
    outputs = session.run(None, {"events": x})[0]
    with torch.no_grad():
        np.testing.assert_allclose(outputs, network(torch.from_numpy(x)).numpy(), atol=1e-4)
    assert np.mean(outputs.argmax(axis=1) == test.labels) == pytest.approx(deployed["accuracy"], abs=2e-3)
    published = json.loads((run.out / "trigger.json").read_text())
    assert published["output_lsb"] is None and published["score_step"] is None
    assert [point["threshold_integer"] for point in published["working_points"]] == [None] * 3
    accepted = published["working_points"][-1]
    if accepted["threshold"] is not None:
        passes = outputs[:, 1] - outputs[:, 0] >= accepted["threshold"]
        assert passes[test.labels == 0].mean() == pytest.approx(accepted["test"]["background_efficiency"], abs=2e-3)

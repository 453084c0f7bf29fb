"""The whole main job on a small sample of another shape than the shipped jets, with the user's own network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from trigger_prune.config.load import load_project
from trigger_prune.data.load import load_sample
from trigger_prune.data.split import split_sample
from trigger_prune.errors import ToolError, VerificationError
from trigger_prune.pipeline.runner import run_pipeline
from trigger_prune.pipeline.stages import STAGES, rtl_project
from trigger_prune.report.summary import SUMMARY_KEYS
from trigger_prune.synthesis.rtl.simulate import simulate_yosys
from trigger_prune.synthesis.store.location import default_store_folder
from trigger_prune.synthesis.store.reports import ReportStore

pytestmark = pytest.mark.slow

PROJECT = """
project: small trigger
seed: 3
data: {path: events.npz}
input: {width_bits: 8, integer_bits: 4}
model:
  name: "network:Net"
  args: {width: 12}
train: {epochs: 12, batch_size: 256, learning_rate: 0.01}
quantize: {epochs: 4}
baseline: {epochs: 3}
sensitivity: {sparsities: [0.5, 0.9], max_events: 500}
prune: {first_sparsity: 0.4, epochs_per_round: 4, final_epochs: 4, max_rounds: 12}
budget: {lut: 700}
verify: {qonnx_events: 60}
"""

NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self, input_shape, n_outputs, width):
        super().__init__()
        self.first = nn.Linear(input_shape[0], width)
        self.norm = nn.BatchNorm1d(width)
        self.act = nn.ReLU()
        self.second = nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.second(self.act(self.norm(self.first(x))))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 3, 3000)
    x = rng.normal(size=(3000, 7)).astype(np.float32)
    x[:, 0] += 1.5 * labels
    x[:, 1] -= np.where(labels == 2, 2.0, 0.0)
    x[:, 4] *= 250.0
    x[:, 5] = x[:, 2]
    x[:, 6] = 3.25
    np.savez(folder / "events.npz", x=x, y=np.array(["a", "b", "c"])[labels], group=np.arange(3000) // 2)
    (folder / "project.yaml").write_text(PROJECT)
    (folder / "network.py").write_text(NETWORK)
    return folder


@pytest.fixture(scope="module")
def finished(project: Path) -> tuple[Path, str]:
    command = [sys.executable, "-m", "trigger_prune", "run", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "build", done.stdout


def _summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


def test_the_last_line_names_the_report(finished: tuple[Path, str]) -> None:
    out, printed = finished
    # the console folds long lines
    assert "".join(printed.split()).endswith("Report:" + "".join(str(out / "report.html").split()))
    assert (out / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_every_documented_key_is_in_the_summary(finished: tuple[Path, str]) -> None:
    summary = _summary(finished[0])
    for dotted in SUMMARY_KEYS:
        value: Any = summary
        for part in dotted.split("."):
            assert part in value, dotted
            value = value[part]


def test_budget_is_met_and_every_representation_agrees(finished: tuple[Path, str]) -> None:
    summary = _summary(finished[0])
    assert summary["deployed"]["lut"] <= 700 < summary["dense"]["lut"]
    assert summary["budget_met"] is True
    representations = {"torch_float32", "qonnx", "onnxruntime", "hls4ml_csim", "alkaid", "verilog"}
    assert set(summary["verify"]["mismatches"]) == representations
    assert set(summary["verify"]["mismatches"].values()) == {0}


def test_redundant_inputs_are_gone(finished: tuple[Path, str]) -> None:
    summary = _summary(finished[0])
    used = summary["deployed"]["inputs_used"]
    assert len({"x2", "x5"} & set(used)) <= 1, "x5 is a copy of x2"
    assert "x6" not in used, "x6 never changes"


def test_accuracy_follows_from_the_published_files_alone(project: Path, finished: tuple[Path, str]) -> None:
    """Raw test events, input_transform.json and model_lowered.onnx give the accuracy of summary.json."""
    out, _ = finished
    loaded = load_project(project)
    test = split_sample(load_sample(loaded.config.data, project), loaded.config.split).test
    transform = json.loads((out / "input_transform.json").read_text())
    assert transform["fixed"].startswith("ap_fixed<8,4")
    columns = [test.feature_names.index(name) for name in transform["feature_names"]]
    centred = (test.features[:, columns].astype(np.float64) - transform["offset"]) / transform["scale"]
    codes = np.clip(np.floor(centred * 16.0 + 0.5), -128, 127)
    session = onnxruntime.InferenceSession(str(out / "model_lowered.onnx"))
    logits = session.run(None, {session.get_inputs()[0].name: (codes / 16.0).astype(np.float32)})[0]
    accuracy = float((logits.argmax(axis=1) == test.labels).mean())
    assert accuracy == pytest.approx(_summary(out)["deployed"]["accuracy"], abs=1e-12)
    assert accuracy > 0.6, "the toy is separable to about 0.75"


def test_the_firmware_holds_the_counted_weights(finished: tuple[Path, str]) -> None:
    out, _ = finished
    nonzeros = 0
    for path in (out / "hls4ml_project" / "firmware" / "weights").glob("w*.txt"):
        nonzeros += int(np.count_nonzero([float(value) for value in path.read_text().split(",")]))
    assert nonzeros == _summary(out)["deployed"]["nonzeros"]


@pytest.mark.parametrize(
    ("override", "computed"),
    [
        (None, set()),
        ("verify.qonnx_events=40", {"verify", "report"}),
        ("description=another", {"report"}),
        ("cost.timeout_s=1000", {"report"}),
    ],
)
def test_a_second_run_computes_only_what_changed(
    project: Path, finished: tuple[Path, str], override: str | None, computed: set[str]
) -> None:
    loaded = load_project(project, [override] if override else [])
    result = run_pipeline(loaded, STAGES, finished[0])
    assert set(result.computed) == computed


def test_another_network_source_trains_again(project: Path, finished: tuple[Path, str]) -> None:
    """The user's network is part of a stage's identity: editing network.py must not load old weights."""
    (project / "network.py").write_text(NETWORK.replace("nn.ReLU()", "nn.ReLU(inplace=False)"))
    try:
        result = run_pipeline(load_project(project), STAGES, finished[0], until="train")
    finally:
        (project / "network.py").write_text(NETWORK)
    assert set(result.computed) == {"teacher", "train"}


def test_an_hls_compiler_on_path_adds_its_report_and_is_never_mixed_up(
    project: Path, finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for vitis-run on PATH the csynth figures stand beside the Yosys ones, each under its own name."""
    assert _summary(finished[0])["csynth"] is None
    assert "vitis-run" in _summary(finished[0])["csynth_note"]
    stand_in = Path(__file__).parents[1] / "synthesis" / "stand_in_vitis_run.py"
    tool = tmp_path / "vitis-run"
    tool.write_text(f'#!/bin/sh\nSTAND_IN_NAME=vitis-run exec {sys.executable} {stand_in} "$@"\n')
    tool.chmod(0o755)
    before = _summary(finished[0])["deployed"]
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    result = run_pipeline(load_project(project), STAGES, finished[0])
    assert set(result.computed) == {"cost", "report"}
    summary = _summary(finished[0])
    stated = re.search(r"<LUT>(\d+)</LUT>", (stand_in.parent / "csynth_reports" / "vitis_2022.xml").read_text())
    assert stated is not None
    assert (summary["csynth"]["cost_stage"], summary["csynth"]["lut"]) == ("csynth", int(stated[1]))
    assert summary["deployed"] == before and before["cost_stage"] == "rtl_synth"


def test_the_verilog_is_published_with_vivado_scripts_and_was_simulated(finished: tuple[Path, str]) -> None:
    folder = finished[0] / "rtl_project"
    (facts,) = [json.loads(path.read_text()) for path in (finished[0] / "artefacts").glob("rtl-*/rtl.json")]
    verified = json.loads((finished[0] / "verify.json").read_text())["pairs"]
    everything = max(pair["events"] for pair in verified)
    assert (facts["events"], facts["differ"], facts["note"]) == (everything, 0, None)
    assert facts["latency_cycles"] == _summary(finished[0])["deployed"]["latency_cycles"]
    sources = sorted(path.name for path in (folder / "vivado" / "src").glob("*.v"))
    script = (folder / "vivado" / "run_vivado.tcl").read_text()
    assert "model.v" in sources and all(name in script for name in sources)
    written = (folder / "verilog" / "src" / "model.v").read_bytes()
    assert (folder / "vivado" / "src" / "model.v").read_bytes() == written
    assert list((folder / "vhdl" / "src").glob("model.vhd*"))
    assert str(finished[0]).encode() not in written


def test_verilog_that_differs_ends_the_run(
    project: Path, finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "build"))

    def tampered(*arguments: Any, **options: Any) -> Any:
        found = simulate_yosys(*arguments, **options)
        found.outputs[7, 1] += 1.0
        return found

    monkeypatch.setattr(rtl_project, "rtl_outputs", tampered)
    loaded = load_project(project, ["verify.rtl_events=20"])
    with pytest.raises(VerificationError, match="differs from the network on 1 of 20 test events"):
        run_pipeline(loaded, STAGES, out, until="rtl")
    monkeypatch.setattr(rtl_project, "trace_network", missing_alkaid)
    with pytest.warns(UserWarning, match="no Verilog: alkaid is not installed"):
        without = run_pipeline(load_project(project, ["verify.rtl_events=21"]), STAGES, out, until="rtl")
    assert without.result("rtl").note == "alkaid is not installed" and without.result("rtl").events == 0


def missing_alkaid(*_: Any) -> Any:
    raise ToolError("alkaid is not installed")


def test_the_deployed_network_is_synthesised_once(finished: tuple[Path, str]) -> None:
    """The loop has measured it; stage cost finds it in the store, down to the seconds that Yosys took."""
    (trials,) = (finished[0] / "artefacts").glob("prune-*/prune.json")
    (chosen,) = [trial for trial in json.loads(trials.read_text())["trials"] if trial["chosen"]]
    found = [json.loads(path.read_text()) for path in (finished[0] / "artefacts").glob("cost-*/deployed.json")]
    assert found and all(report == chosen["cost"] for report in found)
    assert ReportStore(default_store_folder()).get(chosen["cost"]["details"]["store_key"]) is not None


def test_the_same_project_on_a_processor(project: Path, finished: tuple[Path, str], tmp_path: Path) -> None:
    """cost.backend: runtime needs no FPGA tool; its figures never stand beside those of an FPGA."""
    out = Path(shutil.copytree(finished[0], tmp_path / "build"))
    overrides = [
        "cost.backend=runtime",
        "cost.runtime_seconds=0.2",
        "cost.batch_sizes=[1, 32]",
        "budget={latency_p99_us: 1e6, event_time_us: 1e5}",
        "prune.structure=neuron",
    ]
    result = run_pipeline(load_project(project, overrides), STAGES, out)
    assert set(result.computed) == {"sensitivity", "prune", "trigger", "export", "verify", "rtl", "cost", "report"}
    assert result.result("rtl").note == "the target is a processor"
    summary = _summary(out)
    assert summary["deployed"]["cost_stage"] == "runtime" == summary["dense"]["cost_stage"]
    assert summary["deployed"]["lut"] is None and summary["lut_ratio"] is None
    assert summary["analytic"]["deployed"] is None and summary["hls_estimate"]["deployed"] is None
    assert 0 < summary["deployed"]["event_time_us"] <= summary["deployed"]["runtime"]["latency_p50_us"][0] * 10
    assert summary["budget_met"] is True and summary["trials"] == 1
    page = (out / "report.html").read_text()
    assert "zero weights make a processor no faster" in page and "Look-up tables" not in page

"""``trigger-prune run`` with tools on another machine: it waits with an exit code of its own, and goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.cli.output import EXIT_BAD_INPUT, EXIT_WAITING

pytestmark = pytest.mark.slow

STAND_IN = Path(__file__).parents[1] / "stand_in" / "stand_in_vitis.py"
PROJECT = """
project: far tools
seed: 3
data: {path: events.npz}
input: {width_bits: 8, integer_bits: 4}
model: {name: mlp, args: {hidden: [10]}}
train: {epochs: 8, batch_size: 256, learning_rate: 0.01}
quantize: {epochs: 2}
baseline: {epochs: 2}
sensitivity: {sparsities: [0.5], max_events: 300}
prune: {epochs_per_round: 3, final_epochs: 3, candidates: 2}
cost: {backend: csynth, offline: bundle}
budget: {lut: 1500}
verify: {qonnx_events: 20, rtl_events: 0}
"""


def make_project(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 3, 2000)
    x = rng.normal(size=(2000, 6)).astype(np.float32)
    x[:, 0] += 1.5 * labels
    x[:, 1] -= np.where(labels == 2, 2.0, 0.0)
    np.savez(folder / "events.npz", x=x, y=np.array(["a", "b", "c"])[labels])
    (folder / "project.yaml").write_text(PROJECT)
    return folder


def command(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "trigger_prune", "run", str(project), *options]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_a_run_waits_for_reports_and_goes_on_to_the_report_page(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    bundle = project / "bundle"
    tools = tmp_path / "tools"
    tools.mkdir()
    launcher = tools / "vitis-run"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    launcher.chmod(0o755)
    elsewhere = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "STAND_IN_BIAS": "lut=1.3"}
    stops: list[int] = []
    refused = False
    while True:
        done = command(project)
        if done.returncode != EXIT_WAITING:
            break
        waiting = [path for path in bundle.iterdir() if path.is_dir() and not list(path.rglob("*csynth.xml"))]
        assert waiting and all("".join(str(path).split()) in "".join(done.stdout.split()) for path in waiting)
        assert "waiting: " in done.stdout and "synthesise_all.sh" in done.stdout and "error" not in done.stderr
        if stops and not refused:
            # A report of an earlier stop in the folder of a design of this one: bad input, and nothing is lost.
            old = next(iter(bundle.rglob("csynth.xml")))
            wrong = waiting[0] / "csynth.xml"
            wrong.write_text(old.read_text())
            answer = command(project)
            assert answer.returncode == EXIT_BAD_INPUT and str(wrong) in answer.stderr
            wrong.unlink()
            refused = True
        subprocess.run(["sh", str(bundle / "synthesise_all.sh")], env=elsewhere, check=True, capture_output=True)
        stops.append(len(waiting))
        assert len(stops) < 8
    assert done.returncode == 0, done.stdout + done.stderr
    assert refused and max(stops) >= 2, "one stop was to hold several designs"
    out = project / "build"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["budget_met"] is True and summary["deployed"]["lut"] <= 1500 < summary["dense"]["lut"]
    # What was measured is never presented as a synthesis.
    for name in ("dense", "deployed"):
        assert summary[name]["cost_tool"] == "Vitis HLS 2024.1.stand_in_not_a_compiler"
        assert summary[name]["cost_label"] == "HLS compiler estimate (csynth), of a stand-in"
    page = (out / "report.html").read_text()
    assert "figures of a stand-in, not of a compiler: nothing was synthesised" in page
    assert "2024.1.stand_in_not_a_compiler" in page
    assert "an estimate by the HLS compiler, usually above" not in page
    # The folder decides nothing about the results: moving it invalidates none.
    again = command(project, "--set", "cost.offline=null", "--until", "prune")
    assert again.returncode == 0 and "pruning and fine-tuning" not in again.stdout

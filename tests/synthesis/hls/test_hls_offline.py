"""Every offline backend against its online one: the same reports from the same (stand-in) tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import fx, nn

from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import AwaitingReportsError, CostError, ToolError, WrongReportError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.synthesis.hls.offline import ONLINE, OfflineCost
from trigger_prune.target import Target

TARGET = Target(part="xcku115-flvb2104-2-i", clock_period_ns=4.0)


@pytest.fixture(scope="module")
def network() -> fx.GraphModule:
    torch.manual_seed(0)
    input_type = FixedPoint(8, 3)
    events = torch.from_numpy(input_type.quantize(torch.randn(100, 4).numpy())).float()
    precision = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")
    return quantize_model(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), events, input_type, precision)


def without_place(report: HardwareReport) -> HardwareReport:
    """What may differ: how long it took, the name of the function, and where the report lay."""
    dropped = ("hls_seconds", "top", "design", "offline", "store_key")
    return replace(report, details={k: v for k, v in report.details.items() if k not in dropped})


def place_key(place: Path) -> str:
    """The part of a design's key that its function is named by."""
    return json.loads((place / "trigger_prune_design.json").read_text())["key"][:12]


def waiting(cost: OfflineCost, network: fx.GraphModule) -> Path:
    with pytest.raises(AwaitingReportsError) as caught:
        cost.measure(network, TARGET)
    (place,) = caught.value.folders
    return place


@pytest.mark.parametrize(
    ("backend", "launcher", "release"),
    [
        *(
            (backend, launcher, None)
            for backend in ("csynth", "vsynth", "cosim")
            for launcher in ("vitis-run", "vitis_hls")
        ),
        ("csynth", "vivado_hls", "2019.2"),
        ("cosim", "vivado_hls", "2019.2"),
    ],
)
def test_what_comes_back_is_what_the_online_backend_reports(
    backend: str, launcher: str, release: str | None, network: fx.GraphModule, stand_ins: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if release is not None:
        monkeypatch.setenv("STAND_IN_VERSION", release)
    stand_ins.install(launcher)
    stand_ins.install("vivado")
    online = ONLINE[backend](timeout_s=60).measure(network, TARGET)
    cost = OfflineCost(tmp_path / "bundle", backend, release)
    place = waiting(cost, network)
    done = subprocess.run(["sh", str(tmp_path / "bundle" / "synthesise_all.sh")], capture_output=True, text=True)
    assert done.returncode == 0 and "failed" not in done.stdout, done.stdout + (place / "hls.log").read_text()
    assert without_place(cost.measure(network, TARGET)) == without_place(online)


def test_a_failed_synthesis_is_told_by_its_log_and_a_running_one_waits(
    network: fx.GraphModule, stand_ins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install("vitis-run")
    cost = OfflineCost(tmp_path)
    place = waiting(cost, network)
    (place / "hls.log").write_text("****** Vitis HLS v2022.2 (64-bit)\nINFO: [HLS 200-10] Analyzing design file ...\n")
    assert waiting(cost, network) == place
    monkeypatch.setenv("STAND_IN_MODE", "unroll")
    subprocess.run(["sh", str(place / "synthesise.sh")], env=dict(os.environ), capture_output=True)
    with pytest.raises(ToolError, match=r"failed \(size limit\): ERROR: \[XFORM 203-504\]") as caught:
        cost.measure(network, TARGET)
    assert str(place) in caught.value.message
    # tried once is enough
    again = subprocess.run(["sh", str(tmp_path / "synthesise_all.sh")], capture_output=True, text=True)
    assert "skipping" in again.stdout and "synthesising" not in again.stdout


def test_logic_synthesis_alone_or_c_synthesis_alone_does_not_pass_for_the_other(
    network: fx.GraphModule, stand_ins: Any, tmp_path: Path
) -> None:
    stand_ins.install("vitis-run")
    csynth = OfflineCost(tmp_path)
    place = waiting(csynth, network)
    assert subprocess.run(["sh", str(place / "synthesise.sh")], capture_output=True).returncode == 0
    csynth.measure(network, TARGET)
    vsynth = OfflineCost(tmp_path, "vsynth")
    other = waiting(vsynth, network)
    assert other != place, "its script runs other steps"
    steps = dict(line.split() for line in (other / "build_opt.tcl").read_text().splitlines() if line.startswith(" "))
    assert (steps["synth"], steps["vsynth"], steps["csim"]) == ("1", "1", "0")
    shutil.copy(next(place.rglob("*_csynth.xml")), other / "csynth.xml")
    with pytest.raises(WrongReportError, match="is the report of network_"):
        vsynth.measure(network, TARGET)
    right = (other / "csynth.xml").read_text().replace(f"network_{place_key(place)}", f"network_{place_key(other)}")
    (other / "csynth.xml").write_text(right)
    assert waiting(vsynth, network) == other


def test_two_reports_of_one_design_that_differ_are_refused(
    network: fx.GraphModule, stand_ins: Any, tmp_path: Path
) -> None:
    stand_ins.install("vitis-run")
    cost = OfflineCost(tmp_path)
    place = waiting(cost, network)
    assert subprocess.run(["sh", str(place / "synthesise.sh")], capture_output=True).returncode == 0
    (report,) = place.rglob("*_csynth.xml")
    older = place / "older" / "csynth.xml"
    older.parent.mkdir()
    older.write_text(report.read_text().replace("<LUT>12345<", "<LUT>12346<"))
    with pytest.raises(WrongReportError, match="differ"):
        cost.measure(network, TARGET)


def test_what_is_no_quantised_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="not a quantised network"):
        OfflineCost(tmp_path).measure(nn.Sequential(nn.Linear(2, 2)), Target())

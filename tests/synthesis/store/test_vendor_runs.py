"""The store around the vendor backends, with stand-in tools: one run serves all stages; lasting failures are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_networks import QUICK, network

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ToolError
from trigger_prune.synthesis.hls.cost import CosimCost, CsynthCost, VsynthCost
from trigger_prune.synthesis.store.cost import StoredCost
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Target


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STAND_IN_COUNTER", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def store(tmp_path: Path) -> ReportStore:
    return ReportStore(tmp_path / "store")


def runs(counter: Path) -> int:
    return len(counter.read_text().splitlines()) if counter.exists() else 0


def test_one_run_of_all_steps_serves_every_stage(stand_ins, store: ReportStore, counter: Path) -> None:
    stand_ins.install("vitis-run")
    stand_ins.install("vivado")
    reports = [
        StoredCost(model, store, QUICK).measure(network(), Target())
        for model in (VsynthCost(timeout_s=60), CsynthCost(timeout_s=60), VsynthCost(timeout_s=90, licences=1))
    ]
    assert runs(counter) == 1
    assert [report.stage for report in reports] == [CostStage.VSYNTH, CostStage.CSYNTH, CostStage.VSYNTH]
    assert [report.lut for report in reports] == [5432, 12345, 5432]
    StoredCost(CosimCost(timeout_s=60), store, QUICK).measure(network(), Target())
    assert runs(counter) == 2
    (run,) = store.runs()
    assert set(run.reports) == {CostStage.CSYNTH, CostStage.VSYNTH, CostStage.COSIM}
    assert "stand-in for the HLS compiler" in run.log and any(name.endswith("csynth.xml") for name in run.raw)
    assert "/tmp/" not in run.log and "/tmp/" not in "".join(run.raw.values())


def test_another_release_of_the_compiler_is_another_entry(
    stand_ins, store: ReportStore, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install("vitis-run")
    for version in ("2022.2", "2023.1", "2022.2"):
        monkeypatch.setenv("STAND_IN_VERSION", version)
        report = StoredCost(CsynthCost(timeout_s=60), store, QUICK).measure(network(), Target())
        assert report.tool_version == version
    assert runs(counter) == 2 and len(store.keys()) == 2


def test_only_lasting_failures_are_remembered(
    stand_ins, store: ReportStore, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install("vitis-run")
    model = StoredCost(CsynthCost(timeout_s=60, least_chance=None), store, QUICK)
    for mode, times in (("licence", 2), ("killed", 2), ("fail", 2), ("unroll", 1)):
        monkeypatch.setenv("STAND_IN_MODE", mode)
        before = runs(counter)
        for _ in range(2):
            with pytest.raises(ToolError):
                model.measure(network(), Target())
        assert runs(counter) - before == times, mode
    monkeypatch.setenv("STAND_IN_MODE", "ok")
    with pytest.raises(ToolError, match="the tool was not run again"):
        model.measure(network(), Target())
    (run,) = store.runs()
    assert run.failure is not None and run.failure.cause == "size_limit" and "Stop unrolling" in run.log

"""The reports of the user's store correct the HLS estimate: each stage by its own reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.config.project import CostConfig
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.backends import csynth_estimate
from trigger_prune.synthesis.refined_estimate import RefinedHlsCost
from trigger_prune.synthesis.store.archive import export_runs, import_runs, read_archive
from trigger_prune.synthesis.store.entry import StoredRun
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.synthesis.store.shared_design import without_network
from trigger_prune.target import Target

RELEASE = "2024.1"
TARGET = Target()


def spec(seed: int) -> NetworkSpec:
    rng = np.random.default_rng(seed)
    n_in, n_out = 2 * rng.integers(4, 12, 2)
    weight = rng.integers(-32, 32, (n_out, n_in)) * (rng.random((n_out, n_in)) < 0.6)
    bias = FixedPoint(12, 4)
    layer = WeightLayer(
        "fc", "dense", weight.astype(np.int64), FixedPoint(6, 2), rng.integers(-9, 9, n_out), bias, FixedPoint(8, 3),
        None, False, 1,
    )  # fmt: skip
    return NetworkSpec((layer,), FixedPoint(8, 3), (int(n_in),), int(n_out))


def measured(
    network: NetworkSpec, bias: float, stage: CostStage = CostStage.CSYNTH, target: Target = TARGET
) -> HardwareReport:
    """A compiler whose LUT count is ``bias`` times the shipped estimate, and right in all else."""
    estimate = HlsAnalyticCost().estimate(network, target)
    return replace(
        estimate, stage=stage, predicts=None, tool="Vitis HLS", tool_version=RELEASE, interval_90={}, details={},
        lut=round(bias * (estimate.lut or 0)),
    )  # fmt: skip


def stored(
    folder: Path,
    count: int,
    bias: float,
    vsynth: float | None = None,
    with_network: bool = True,
    target: Target = TARGET,
) -> ReportStore:
    store = ReportStore(folder)
    for seed in range(count):
        network = spec(seed)
        csynth = measured(network, bias, target=target)
        reports = {CostStage.CSYNTH: csynth}
        if vsynth is not None:
            reports[CostStage.VSYNTH] = replace(
                csynth, stage=CostStage.VSYNTH, tool="Vivado", lut=round(vsynth * (csynth.lut or 0))
            )
        parts = {
            "format": 1, "flow": "hls", "network": str(seed), "content_hash": network.content_hash(), "options": {},
            "target": vars(target), "tool": {"tool": "Vitis HLS", "version": RELEASE},
        }  # fmt: skip
        store.put(StoredRun(parts, reports, f"2026-01-01T00:00:{seed:02}", network=network if with_network else None))
    return store


UNSEEN = spec(1000)


def test_an_empty_store_changes_nothing_but_says_so(tmp_path: Path) -> None:
    plain = HlsAnalyticCost().estimate(UNSEEN, TARGET)
    found = RefinedHlsCost(HlsAnalyticCost(), ReportStore(tmp_path)).estimate(UNSEEN, TARGET)
    assert found.details["reports_used"] == 0
    assert (found.lut, found.ff, found.latency_cycles, found.ii) == (
        plain.lut,
        plain.ff,
        plain.latency_cycles,
        plain.ii,
    )


@pytest.mark.parametrize("bias", [0.7, 1.4])
def test_a_biased_compiler_is_learned_and_the_interval_narrows(tmp_path: Path, bias: float) -> None:
    plain = HlsAnalyticCost().estimate(UNSEEN, TARGET)
    truth = bias * (plain.lut or 0)
    errors, widths = [], []
    for count in (0, 4, 16):
        found = RefinedHlsCost(HlsAnalyticCost(), stored(tmp_path / str(count), count, bias)).estimate(UNSEEN, TARGET)
        low, high = found.interval_90["lut"]
        errors.append(abs((found.lut or 0) - truth) / truth)
        widths.append(high / low)
        assert found.details["reports_used"] == count
        assert found.stage is CostStage.ANALYTIC and found.predicts is CostStage.CSYNTH
    # Shrinkage: n reports correct by n / (n + 4) of what they say.
    start = abs(np.log(bias))
    assert errors[0] == pytest.approx(abs(1 / bias - 1), abs=0.01)
    assert abs(np.log1p(-errors[1]) if bias > 1 else np.log1p(errors[1])) == pytest.approx(start / 2, abs=0.03)
    assert errors[2] < 0.3 * errors[0]
    assert widths[2] < widths[0]


def test_logic_synthesis_is_predicted_by_its_own_reports(tmp_path: Path) -> None:
    store = stored(tmp_path, 30, 1.0, vsynth=0.8)
    base = HlsAnalyticCost()
    csynth = RefinedHlsCost(base, store).estimate(UNSEEN, TARGET)
    vsynth = RefinedHlsCost(base, store, CostStage.VSYNTH).estimate(UNSEEN, TARGET)
    assert vsynth.predicts is CostStage.VSYNTH
    assert csynth.lut == pytest.approx(base.estimate(UNSEEN, TARGET).lut, rel=0.02)
    # 30 reports say 0.8, the public designs said 0.45 before them.
    assert 0.7 < (vsynth.lut or 0) / (csynth.lut or 1) < 0.8


def test_runs_of_which_neither_network_nor_counts_are_known_teach_nothing(tmp_path: Path) -> None:
    store = stored(tmp_path, 6, 2.0, with_network=False)
    assert RefinedHlsCost(HlsAnalyticCost(), store).estimate(UNSEEN, TARGET).details["reports_used"] == 0


@pytest.mark.parametrize("target", [TARGET, Target(strategy="Resource", reuse_factor=2)], ids=["latency", "resource"])
def test_runs_shared_without_their_networks_teach_as_much(tmp_path: Path, target: Target) -> None:
    mine = stored(tmp_path / "mine", 6, 1.5, target=target)
    export_runs(mine.runs(), tmp_path / "shared.tar.gz", with_networks=False)
    theirs = ReportStore(tmp_path / "theirs")
    import_runs(theirs, read_archive(tmp_path / "shared.tar.gz"))
    assert all(run.network is None for run in theirs.runs())
    found, expected = (RefinedHlsCost(HlsAnalyticCost(), each).estimate(UNSEEN, target) for each in (theirs, mine))
    assert found.details["reports_used"] == 6
    assert found == expected
    assert (found.lut or 0) > 1.2 * (HlsAnalyticCost().estimate(UNSEEN, target).lut or 0)


def test_what_is_shared_without_networks_refines_but_another_flow_does_not(tmp_path: Path) -> None:
    for run in stored(tmp_path, 3, 2.0).runs():
        elsewhere = without_network(replace(run, parts={**run.parts, "flow": "rtl"}))
        assert elsewhere.network is None and elsewhere.design is None
        nonsense = replace(next(iter(run.reports.values())), tool_version="of today")
        assert without_network(replace(run, reports={CostStage.CSYNTH: nonsense})).design is None


def test_the_config_chooses_store_and_release(tmp_path: Path) -> None:
    stored(tmp_path / "reports", 8, 1.4)
    refined = csynth_estimate(CostConfig(store="reports"), tmp_path).estimate(UNSEEN, TARGET)
    plain = csynth_estimate(CostConfig(store="reports", use_store=False), tmp_path).estimate(UNSEEN, TARGET)
    assert (refined.lut or 0) > 1.15 * (plain.lut or 0)
    old = csynth_estimate(CostConfig(tool_version="2019.2", use_store=False)).estimate(UNSEEN, TARGET)
    assert (old.details["hls_tool"], old.details["hls_version"]) == ("vivado_hls", "2019.2")
    assert old.clock_uncertainty_ns == pytest.approx(0.625), "Vivado HLS keeps an eighth of the period"

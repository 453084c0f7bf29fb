"""What is held out is not seen; the fit is deterministic; on the public tables the goals are met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.cost.calibration import fit
from trigger_prune.cost.calibration.evaluate import evaluate
from trigger_prune.cost.calibration.metrics import smape
from trigger_prune.cost.calibration.predictions import Prediction
from trigger_prune.cost.calibration.samples import Samples, joined
from trigger_prune.cost.hls.calibration import Calibration, shipped_calibration
from trigger_prune.synthesis.calibration.collect import collect_samples
from trigger_prune.synthesis.calibration.project_folder import read_project

SHARED = Path(__file__).resolve().parents[4] / "shared"
TABLES = [SHARED / "synthesis", SHARED / "hls_reports"]
GOALS = {"lut": 11, "ff": 23, "dsp": 2, "bram18": 2, "latency_cycles": 14, "ii": 9}


@pytest.fixture
def samples(tmp_path: Path, write_project: Callable[..., Path]) -> Samples:
    """Three projects; the first has two networks."""
    names = ("site_a/one/hls4ml_prj", "site_a/two/hls4ml_prj", "site_b/toy/hls4ml_prj", "site_c/toy/hls4ml_prj")
    parts = []
    for number, name in enumerate(names):
        # Other releases: the same modules of one release would be the same reports.
        folder = write_project(tmp_path / name, lut=900 + 10 * number, version=f"202{number + 1}.1")
        parts.append(read_project(folder, name.split("/")[0], name))
    return joined(parts)


def test_folds_hold_every_sample_out_once(samples: Samples) -> None:
    for folds in (fit.project_folds(samples), fit.network_folds(samples)):
        held = [samples.where(belongs) for belongs, _ in folds]
        assert sorted(d.name for part in held for d in part.designs) == sorted(d.name for d in samples.designs)
        assert sum(len(part.layers) for part in held) == len(samples.layers)
    assert len(fit.project_folds(samples)) == 3
    assert len(fit.network_folds(samples)) == 4


def test_nothing_held_out_is_fitted(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted_with: list[set[str]] = []
    real = fit.fit_families

    def recording(train: Samples) -> Calibration:
        fitted_with.append({sample.name for sample in train.designs} | {s.project for s in train.layers})
        return real(train)

    monkeypatch.setattr(fit, "fit_families", recording)
    predictions = fit.held_out(samples, fit.project_folds(samples))
    assert [{"site_a", "site_b", "site_c"} - names for names in fitted_with] == [{"site_a"}, {"site_b"}, {"site_c"}]
    assert all("site_a/one/hls4ml_prj" in names or "site_a" not in names for names in fitted_with)
    assert {p.name for p in predictions if p.family == "network"} == {d.name for d in samples.designs}


def test_calibration_is_deterministic_and_survives_its_file(samples: Samples, tmp_path: Path) -> None:
    first, second = (fit.calibrate(samples, "2024-01-02") for _ in range(2))
    first.save(tmp_path / "a.json")
    second.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    again = Calibration.load(tmp_path / "a.json")
    assert (again.families, again.errors) == (first.families, first.errors)
    assert again.provenance["projects"] == ["site_a", "site_b", "site_c"]
    assert again.provenance["date"] == "2024-01-02"
    assert again.provenance["reports"] == list(samples.fingerprints())
    assert "network, project held out" in again.errors


def test_reports_of_the_calibration_are_told_apart(samples: Samples) -> None:
    known = samples.only("site_a")
    calibration = fit.calibrate(known, "2024-01-02")
    mixed = evaluate(samples, calibration)
    # Two designs, three modules each; sites a have two designs.
    assert (mixed.seen, mixed.reports) == (8, 16)
    unseen = {
        line.errors.count for line in mixed.tables["unseen"] if (line.family, line.group) == ("network", "everything")
    }
    assert unseen == {2}
    assert "8 of 16 reports were in the calibration" in mixed.verdict
    assert "all 8 reports were in the calibration" in evaluate(known, calibration).verdict
    fresh = evaluate(samples.without("site_a"), calibration)
    assert list(fresh.tables) == ["all"]
    assert "none of them in the calibration" in fresh.verdict


def test_vsynth_ratios_of_few_designs_stay_near_the_prior(samples: Samples) -> None:
    from trigger_prune.cost.calibration.refine import RATIO_PRIOR
    from trigger_prune.cost.calibration.samples import VsynthPair

    report = samples.designs[0].measured
    pairs = [VsynthPair(report, replace(report, lut=round(report.lut * 0.9)), "site")] * 4
    ratios = fit.fit_ratios(pairs)
    # Four designs weigh as much as the prior: half way in the logarithm.
    assert ratios["lut_median"] == pytest.approx(np.sqrt(0.9 * RATIO_PRIOR["lut"][0]), rel=0.01)
    assert "bram18_median" not in ratios


@pytest.mark.slow
@pytest.mark.skipif(not TABLES[0].is_dir(), reason="the public synthesis tables are not beside the checkout")
def test_goals_on_the_public_tables_one_project_left_out() -> None:
    # Sweeps of single layers take no part in whole dense networks.
    samples = collect_samples(TABLES).where(lambda project, _: not project.startswith(("wa-", "N-TORC")))
    predictions = [p for p in fit.held_out(samples, fit.project_folds(samples)) if p.family == "network"]
    assert len({p.name for p in predictions}) >= 34
    for quantity, goal in GOALS.items():
        pairs = [(p.predicted, p.true) for p in predictions if p.quantity == quantity]
        assert smape(*zip(*pairs, strict=True)).mean() <= goal, quantity


def test_shipped_calibration_states_where_it_comes_from() -> None:
    shipped = shipped_calibration()
    assert {"date", "formulas", "projects", "tools", "reports", "layers", "designs"} <= set(shipped.provenance)
    assert len(set(shipped.provenance["reports"])) >= shipped.provenance["designs"]
    for quantity, goal in GOALS.items():
        assert shipped.errors["network, project held out"][quantity]["smape"] <= goal
    for table in shipped.spread.values():
        for low, high in table.values():
            assert 0 < low <= 1 <= high < np.inf


def prediction(project: str, network: str, true: float, name: str = "x") -> Prediction:
    return Prediction("network", "lut", name, project, f"{project}/{network}", "tool", f"{name} {network}", 1000, true)


def test_intervals_are_those_of_projects_that_the_fit_has_not_seen() -> None:
    """Errors on networks of a known project are no measure of those on the next project."""
    small = [prediction(project, f"{i}", 1001) for project in ("a", "b") for i in range(4)]
    large = [replace(each, true=1300.0) for each in small]
    assert fit.spreads(small, large) == fit.spreads([], large)
    assert fit.spreads(small, large)["network"]["lut"][1] > 1.3
    # What has no estimate without its own project is known by its networks alone.
    alone = [prediction("c", f"{i}", 3000, "only") for i in range(4)]
    assert fit.spreads([*small, *alone], large) == fit.spreads(alone, large) != fit.spreads(small, large)


def test_an_interval_leaves_its_own_network_or_project_out() -> None:
    calm = [prediction("a", f"{i}", 1010) for i in range(4)]
    wild = [prediction("b", "0", 4000), prediction("b", "1", 1010)]
    errors = [*calm, *wild]
    by_network = {p.network: p.interval for p in fit.with_intervals(errors, [], errors)}
    by_project = {p.network: p.interval for p in fit.with_intervals(errors, [], errors, "project")}
    high = {name: interval[1] for name, interval in by_network.items() if interval is not None}
    assert high["b/0"] < 1100 and high["b/1"] > 4000 and high["a/0"] > 1500
    of_calm = fit.spreads([], calm)["network"]["lut"][1]
    assert by_project["b/0"] == by_project["b/1"] and by_project["b/0"] is not None
    assert by_project["b/0"][1] == pytest.approx(1000 * of_calm)
    only = fit.with_intervals(calm, [], calm, "project")
    assert [p.interval for p in only] == [None] * 4

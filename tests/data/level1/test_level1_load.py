"""Level-1 folders to samples: rates, groups, signals, other scenarios; and the real events when they are there."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trigger_prune.data.level1.load import BACKGROUND_PROCESSES, load_level1, load_level1_events, source_files
from trigger_prune.data.level1.observables import menu_observables
from trigger_prune.data.level1.words import object_inputs
from trigger_prune.data.split import group_positions
from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.filling import CollidingBunches, named_filling
from trigger_prune.physics.luminosity import LuminosityScenario, renormalise_strata, strata_totals

SCENARIO = LuminosityScenario(50, named_filling("72b"))
SIGMA = (0.0, 0.15, 0.021, 3e-3, 5e-4, 1.3e-4, 9e-6)
EDGES = (0, 30, 50, 80, 120, 170, 300, np.inf)
ROWS = {"soft": 200, "qcd0": 120, "qcd1": 60, "qcd2": 30, "qcd3": 20, "qcd4": 12, "qcd5": 10, "ttbar": 24, "HH4b": 40}


def write_folder(folder: Path, *, new: bool = True, pileup: float = 50.0) -> Path:
    """A small folder, as made lately (``new``) or holding only words."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(11)
    for k, (name, n) in enumerate(ROWS.items()):
        held: dict[str, Any] = {
            "x": rng.integers(0, 144, (n, 80)).astype(np.int16),
            "sigma_mb": np.float64(SIGMA[k] if k < 7 else 1e-9),
            "n_gen": n if name == "soft" else n // 2,
            "reuse": 1 if name == "soft" else 2,
        }
        if new:
            held |= {
                "npu": rng.poisson(pileup, n).astype(np.int16),
                "offline": rng.random((n, 2)).astype(np.float32),
                "offline_names": np.array(["ht_gev", "jet4_pt_gev"]),
                "regions": rng.integers(0, 500, (n, 18, 14)).astype(np.uint16),
                "pileup": pileup,
                "sigma_nd_mb": np.float64(60.0),
            }
            if k < 7:
                held |= {"pthat_min_gev": float(EDGES[k]), "pthat_max_gev": float(EDGES[k + 1])}
        np.savez(folder / f"l1_{name}.npz", **held)
    return folder


def rewrite(path: Path, **changes: Any) -> None:
    with np.load(path) as file:
        held = dict(file)
    held |= changes
    np.savez(path, **{key: value for key, value in held.items() if value is not None})


def test_rates_add_up_and_every_row_finds_its_place(tmp_path: Path) -> None:
    sample = load_level1(write_folder(tmp_path / "f"), scenario=SCENARIO)
    assert sample.class_names == ("minimum_bias", "HH4b", "ttbar")
    order = [*BACKGROUND_PROCESSES, "HH4b", "ttbar"]
    raw = [dict(np.load(tmp_path / "f" / f"l1_{name}.npz")) for name in order]
    words = np.concatenate([held["x"] for held in raw])
    assert np.array_equal(sample.features, object_inputs(words)[0])
    assert np.bincount(sample.labels).tolist() == [452, 40, 24]
    assert sample.strata is not None
    assert np.bincount(sample.strata).tolist() == [ROWS[name] for name in order]
    assert sample.rate_weights and sample.source == str(tmp_path / "f")
    background = sample.labels == 0
    assert sample.weights[background].sum() == pytest.approx(11245.5 * 2736, rel=1e-9)
    # the rate of each bin, written out
    lam = 50 * np.array(SIGMA) / 60.0
    for b in range(1, 7):
        expected = 11245.5 * 2736 * (1 - np.exp(-lam[b])) * np.exp(-lam[b + 1 :].sum())
        assert sample.weights[sample.strata == b] == pytest.approx(expected / ROWS[f"qcd{b - 1}"], rel=1e-9)
    assert sample.weights[sample.strata == 0] == pytest.approx(11245.5 * 2736 * np.exp(-lam.sum()) / 200, rel=1e-9)
    for label, n in ((1, 40), (2, 24)):
        assert sample.weights[sample.labels == label] == pytest.approx(11245.5 * 2736 / n, rel=1e-12)
    expected_columns = menu_observables(words)
    for name, column in expected_columns.items():
        assert np.array_equal(sample.observables[name], column)
    assert set(sample.observables) == {*expected_columns, "npu", "offline_ht_gev", "offline_jet4_pt_gev"}
    assert np.array_equal(sample.observables["npu"], np.concatenate([held["npu"] for held in raw]))
    assert np.array_equal(
        sample.observables["offline_jet4_pt_gev"], np.concatenate([held["offline"][:, 1] for held in raw])
    )
    assert sample.feature_lsb is not None and sample.feature_units is not None
    assert (sample.feature_lsb[0], sample.feature_units[0]) == (0.5, "GeV")


def test_groups_are_hard_scatters_and_do_not_depend_on_other_processes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f")
    both = load_level1(folder, scenario=SCENARIO)
    one = load_level1(folder, signals=["ttbar"], scenario=SCENARIO)
    assert one.class_names == ("minimum_bias", "ttbar")
    assert np.array_equal(one.groups, both.groups[both.labels != 1])
    reused = sum(n // 2 for name, n in ROWS.items() if name != "soft")
    assert len(np.unique(both.groups)) == 200 + reused
    for label in (1, 2):
        assert (np.unique(both.groups[both.labels == label], return_counts=True)[1] == 2).all()
    # a stored gid replaces row // reuse
    rewrite(folder / "l1_ttbar.npz", gid=np.zeros(24, np.int64))
    again = load_level1(folder, signals=["ttbar"], scenario=SCENARIO)
    assert len(set(again.groups[again.labels == 1])) == 1
    assert len(load_level1(folder, signals=[], scenario=SCENARIO).class_names) == 1


def test_images(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f")
    sample = load_level1(folder, inputs="regions", signals=["HH4b"], scenario=SCENARIO)
    assert sample.event_shape == (1, 18, 14)
    assert np.array_equal(sample.features[-40:, 0], np.load(folder / "l1_HH4b.npz")["regions"])
    assert sample.feature_lsb == (0.5,) and sample.feature_units == ("GeV",)
    with pytest.raises(DataError, match="no calorimeter regions") as caught:
        load_level1(write_folder(tmp_path / "old", new=False), inputs="regions", scenario=SCENARIO)
    assert "trigger-prune data make level1 --towers" in str(caught.value)


@pytest.mark.parametrize("name", BACKGROUND_PROCESSES)
def test_a_missing_bin_is_named(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "f")
    (folder / f"l1_{name}.npz").unlink()
    with pytest.raises(DataError, match=f"minimum bias lacks {name}"):
        load_level1(folder, scenario=SCENARIO)
    with pytest.raises(DataError, match=f"minimum bias lacks {name}"):
        source_files(folder)


def test_wrong_processes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f")
    with pytest.raises(ConfigError, match="did you mean 'HH4b'"):
        load_level1(folder, signals=["HHbb"], scenario=SCENARIO)
    for wrong in (["qcd1"], ["minimum_bias"], ["HH4b", "HH4b"]):
        with pytest.raises(ConfigError, match="minimum bias or given twice"):
            load_level1(folder, signals=wrong, scenario=SCENARIO)
    shutil.copy(folder / "l1_qcd5.npz", folder / "l1_qcd6.npz")
    with pytest.raises(DataError, match="unknown bin of minimum bias l1_qcd6"):
        load_level1(folder, scenario=SCENARIO)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("soft", {"sigma_mb": np.float64(0.1)}, "soft crossings have no hard scatter"),
        ("qcd3", {"sigma_mb": np.float64(0.0)}, r"l1_qcd3\.npz: sigma_mb is 0"),
        ("qcd2", {"pthat_min_gev": 90.0}, "qcd1 ends at pT-hat 80 GeV, qcd2 starts at 90"),
        ("soft", {"pthat_max_gev": np.inf}, "soft ends at pT-hat inf GeV, qcd0 starts at 30"),
        ("qcd5", {"pthat_max_gev": 600.0}, "the last pT-hat bin ends at 600 GeV"),
        ("HH4b", {"pileup": 60.0}, r"l1_HH4b\.npz: pileup: 60.0, but 50.0 in l1_soft"),
        ("qcd4", {"sigma_nd_mb": 61.0}, "sigma_nd_mb"),
        ("ttbar", {"npu": None}, "npu"),
        ("ttbar", {"offline": None, "offline_names": None}, "offline_names"),
    ],
)
def test_processes_that_do_not_fit_together(tmp_path: Path, name: str, changes: dict[str, Any], message: str) -> None:
    folder = write_folder(tmp_path / "f")
    rewrite(folder / f"l1_{name}.npz", **changes)
    with pytest.raises(DataError, match=message):
        load_level1(folder, scenario=SCENARIO)


def test_tables_without_events_are_no_signals(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f")
    np.savez(folder / "l1_scores.npz", w=np.ones(3))
    assert load_level1(folder, scenario=SCENARIO).class_names == ("minimum_bias", "HH4b", "ttbar")
    assert [path.name for path in source_files(folder)] == [
        f"l1_{name}.npz" for name in (*BACKGROUND_PROCESSES, "HH4b", "ttbar")
    ]
    with pytest.raises(DataError, match="no array 'x'"):
        load_level1(folder, signals=["scores"], scenario=SCENARIO)
    (folder / "l1_scores.npz").write_bytes(b"PK damaged")
    with pytest.raises(DataError, match=r"l1_scores\.npz: cannot be read"):
        load_level1(folder, scenario=SCENARIO)


@pytest.mark.parametrize("max_events", [9, 10, 57, 300, 515, 516, 10_000])
def test_fewer_events_keep_the_rate(tmp_path: Path, max_events: int) -> None:
    sample = load_level1(write_folder(tmp_path / "f"), scenario=SCENARIO, max_events=max_events)
    whole = load_level1(tmp_path / "f", scenario=SCENARIO)
    assert sample.n_events == min(max_events, 516)
    assert sample.weights[sample.labels == 0].sum() == pytest.approx(SCENARIO.crossings_hz, rel=1e-9)
    assert sample.strata is not None and whole.strata is not None
    kept, all_rows = np.bincount(sample.strata), np.bincount(whole.strata)
    if max_events >= 300:
        assert (np.abs(kept - all_rows * sample.n_events / 516) < 1.01).all()
    assert (kept >= 1).all()
    # rows are those of the whole sample and spread over all of it, so reused scatters are thinned first
    assert set(sample.groups) <= set(whole.groups)
    if max_events == 300:
        soft = sample.groups[sample.strata == 0]
        assert len(np.unique(sample.groups[sample.strata == 1])) > 0.9 * 60
        assert (soft.max() - soft.min()) > 0.95 * 199
    again = load_level1(tmp_path / "f", scenario=SCENARIO, max_events=max_events)
    assert np.array_equal(sample.features, again.features)


def test_too_few_events(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="max_events 8"):
        load_level1(write_folder(tmp_path / "f"), scenario=SCENARIO, max_events=8)


def test_another_filling_scales_the_rate_alone(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f")
    here = load_level1(folder, scenario=SCENARIO)
    there = load_level1_events(folder, scenario=LuminosityScenario(50, CollidingBunches(1000)))
    assert there.reweighted is None
    assert there.sample.weights == pytest.approx(here.weights * 1000 / 2736, rel=1e-12)


def test_another_pileup_needs_and_uses_npu(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f")
    wanted = LuminosityScenario(54, named_filling("72b"))
    events = load_level1_events(folder, scenario=wanted)
    sample = events.sample
    assert events.reweighted is not None and sample.strata is not None
    lam = 54 * np.array(SIGMA) / 60.0
    totals = strata_totals(sample.weights, sample.strata)
    assert totals[0] == pytest.approx(wanted.crossings_hz * np.exp(-lam.sum()), rel=1e-9)
    assert totals[2] == pytest.approx(wanted.crossings_hz * (1 - np.exp(-lam[2])) * np.exp(-lam[3:].sum()), rel=1e-9)
    assert [totals[7], totals[8]] == pytest.approx([wanted.crossings_hz] * 2, rel=1e-9)
    npu = sample.observables["npu"]
    for stratum in (0, 1, 7):
        rows = sample.strata == stratum
        ratio = sample.weights[rows] / (54 / 50) ** npu[rows]
        assert np.ptp(ratio) < 1e-9 * ratio.mean()
    with pytest.raises(DataError, match="cannot be re-weighted to 54"):
        load_level1(write_folder(tmp_path / "old", new=False), scenario=wanted)


def test_a_far_pileup_warns(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f")
    with pytest.warns(UserWarning, match="effective events"), pytest.warns(UserWarning, match="none of its events"):
        load_level1(folder, scenario=LuminosityScenario(90, named_filling("72b")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_level1(folder, scenario=SCENARIO)


def test_files_of_another_pileup_are_reweighted_to_the_scenario(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", pileup=45.0)
    assert load_level1_events(folder, scenario=LuminosityScenario(45, CollidingBunches(9))).reweighted is None
    assert load_level1_events(folder, scenario=LuminosityScenario(50, CollidingBunches(9))).reweighted is not None


REAL = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_real = pytest.mark.skipif(not (REAL / "l1_soft.npz").is_file(), reason="the study's level-1 events are not here")


@needs_real
def test_real_events() -> None:
    scenario = LuminosityScenario(50, CollidingBunches(2760))
    sample = load_level1(REAL, scenario=scenario)
    assert sample.class_names == ("minimum_bias", "HH4b", "VBFHbb", "ttbar")
    background = sample.labels == 0
    assert background.sum() == 60_000 + 25_000 + 12_000 + 5_200 + 4_800 + 3_600 + 4_800
    assert sample.weights[background].sum() == pytest.approx(11245.5 * 2760, rel=1e-9)
    assert len(np.unique(sample.groups[sample.strata == 1])) == 1000
    # HT is the sum of central jets from 30 GeV where no more than ten jets were found and it does not saturate
    words = np.load(REAL / "l1_ttbar.npz")["x"].astype(np.int64)
    jets = words[:, :30].reshape(-1, 10, 3)
    ht = np.where((jets[:, :, 0] >= 60) & (np.abs(jets[:, :, 1]) * 0.0435 < 2.5), jets[:, :, 0], 0).sum(axis=1)
    few = (words[:, 79] <= 10) & (words[:, 74] < 4095)
    # words are cut to whole steps one by one, so the sum may fall short by a step per jet
    assert few.sum() > 900 and ((words[few, 74] - ht[few] >= 0) & (words[few, 74] - ht[few] <= 10)).all()
    part = group_positions(sample.groups, 0) < 0.2
    assert sample.strata is not None
    again = renormalise_strata(sample.weights[part], sample.strata[part], strata_totals(sample.weights, sample.strata))
    assert again[background[part]].sum() == pytest.approx(scenario.crossings_hz, rel=1e-9)


@needs_real
def test_stored_weights_count_double_scatters_twice() -> None:
    """The stored study weights: rate lam_b instead of P(hardest in b), 2760 bunches, sigma_nd 56.872 mb."""
    stored = np.load(REAL / "l1_scores_HH4b.npz")
    sigma = np.array([float(np.load(REAL / f"l1_qcd{b}.npz")["sigma_mb"]) for b in range(6)])
    lam = 50 * sigma / 56.872
    crossings = LuminosityScenario(50, CollidingBunches(2760)).crossings_hz
    ours = load_level1(REAL, signals=["HH4b"], scenario=LuminosityScenario(50, CollidingBunches(2760)))
    assert ours.strata is not None
    totals = strata_totals(ours.weights, ours.strata)
    for part in ("w_val", "w_test"):
        weights = stored[part].astype(np.float64)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(weights)) + 1])
        rates = np.add.reduceat(weights, starts)
        assert rates[:6] == pytest.approx(crossings * lam, rel=1e-5)
        assert rates[6] == pytest.approx(crossings * np.exp(-lam.sum()), rel=1e-6)
        assert rates.sum() / crossings == pytest.approx(1.01086, abs=1e-5)
        assert totals[0] == pytest.approx(rates[6], rel=1e-6)
        assert 0.9 < totals[1] / rates[0] < 0.93
        assert totals[6] == pytest.approx(rates[5], rel=1e-4)

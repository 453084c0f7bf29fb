"""Shards of level-1 events: the same bytes for any order and any number of processes; offline quantities."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pythia8mc", reason="the generators need Pythia: pip install 'trigger_prune[generate]'")
pytest.importorskip("numba", reason="the generators need numba: pip install 'trigger_prune[generate]'")

from trigger_prune.errors import ArtefactError, ConfigError
from trigger_prune.generate.driver import produce
from trigger_prune.generate.event_files import read_npz, write_npz
from trigger_prune.generate.level1 import maker as maker_module
from trigger_prune.generate.level1 import pool as pool_module
from trigger_prune.generate.level1.maker import Level1Maker, merged_cross_section
from trigger_prune.generate.level1.offline import OFFLINE_NAMES, jet_pts, offline_quantities
from trigger_prune.generate.level1.pool import SoftPoolMaker, open_pool
from trigger_prune.generate.level1.processes import BACKGROUNDS, PROCESSES, find_process, rows_of
from trigger_prune.generate.level1.production import level1_makers
from trigger_prune.generate.pythia import ParticleBatch, PythiaGenerator, shard_seeds


@pytest.fixture(scope="module")
def pool_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of 300 generated soft collisions."""
    pool = SoftPoolMaker(300)
    path = tmp_path_factory.mktemp("pool") / "soft_pool.npz"
    write_npz(path, pool.merge([pool.make(0, 1)]))
    return path


def make(name: str, rows: int, pool_file: Path, **options: object) -> Level1Maker:
    """A prepared maker."""
    maker = Level1Maker(find_process(name), rows, pool_file, {}, **options)
    maker.prepare()
    return maker


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    """The same names, types and bytes."""
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype, name
        assert first[name].tobytes() == second[name].tobytes(), name


def test_pythia_conserves_energy_momentum_and_charge():
    batch = PythiaGenerator(["SoftQCD:nonDiffractive=on"]).generate(20, 3)
    for event in range(20):
        own = slice(batch.offsets[event], batch.offsets[event + 1])
        assert batch.energy[own].sum() == pytest.approx(13_600.0, rel=1e-6)
        for momentum in (batch.px, batch.py, batch.pz):
            assert momentum[own].sum() == pytest.approx(0.0, abs=1e-3)
        # two protons came in
        assert batch.charge[own].sum() == 2
    central = batch.select(np.abs(batch.pz) < batch.pt)
    for event in range(20):
        own = slice(batch.offsets[event], batch.offsets[event + 1])
        kept = (np.abs(batch.pz) < batch.pt)[own]
        mine = slice(central.offsets[event], central.offsets[event + 1])
        np.testing.assert_array_equal(central.px[mine], batch.px[own][kept])


@pytest.mark.parametrize("name", ["qcd1", "HH4b"])
def test_a_shard_does_not_know_what_was_made_before(name, pool_file):
    last = make(name, 300, pool_file, reuse=1, with_regions=True)
    shards = [last.make(shard, 7) for shard in range(last.n_shards)]
    assert last.n_shards == 3
    for shard in (2, 0):
        alone = make(name, 300, pool_file, reuse=1, with_regions=True)
        assert_same(alone.make(shard, 7), shards[shard])
    assert shards[0]["x"].tobytes() != shards[1]["x"].tobytes()
    assert last.make(0, 8)["x"].tobytes() != shards[0]["x"].tobytes()


@pytest.mark.slow
def test_one_and_two_processes_write_the_same_bytes(tmp_path):
    def makers(out: Path) -> list[SoftPoolMaker | Level1Maker]:
        made = level1_makers(60, 5, 20.0, True, ("HH4b",), 16, out, pool_events=700)
        return [made[0], *(maker for maker in made if maker.name in ("l1_soft", "l1_qcd4", "l1_HH4b"))]

    for jobs in (1, 2):
        produce(makers(tmp_path / f"jobs{jobs}"), tmp_path / f"jobs{jobs}", 5, jobs)
    names = sorted(path.name for path in (tmp_path / "jobs1").glob("*.npz"))
    assert names == ["l1_HH4b.npz", "l1_qcd4.npz", "l1_soft.npz", "soft_pool.npz"]
    for name in names:
        assert (tmp_path / "jobs1" / name).read_bytes() == (tmp_path / "jobs2" / name).read_bytes(), name
    signal = read_npz(tmp_path / "jobs1" / "l1_HH4b.npz")
    assert signal["x"].shape == (16, 80)
    assert signal["regions"].shape == (16, 18, 14)
    assert signal["gid"].tolist() == np.repeat(np.arange(4), 4).tolist()
    assert signal["pileup"] == 20.0
    soft = read_npz(tmp_path / "jobs1" / "l1_soft.npz")
    assert len(soft["x"]) == 30
    assert not soft["offline"].any()
    assert soft["sigma_mb"] == 0.0
    assert float(soft["sigma_nd_mb"]) == pytest.approx(56.87, abs=0.01)
    assert soft["gid"].tolist() == list(range(30))


def test_pile_up_is_poisson_and_adds_energy(pool_file):
    rows = {}
    for mean in (0.0, 10.0, 40.0):
        rows[mean] = make("soft", 2000, pool_file, pile_up=mean).make(0, 1)
        npu = rows[mean]["npu"].astype(float)
        assert npu.mean() == pytest.approx(mean, abs=5 * math.sqrt(mean / 2000))
        assert npu.var() == pytest.approx(mean, rel=0.17)
    assert not rows[0.0]["x"].any()
    assert rows[40.0]["x"][:, 75].mean() > 4 * rows[10.0]["x"][:, 75].mean()


def test_veto_keeps_the_pool_below_the_qcd_bins(monkeypatch):
    plain = SoftPoolMaker(300).make(0, 1)
    monkeypatch.setattr(pool_module, "SOFT_MAX_PT_HAT_GEV", 5.0)
    vetoed = SoftPoolMaker(300).make(0, 1)
    batch = PythiaGenerator(["SoftQCD:nonDiffractive=on"]).generate(300, shard_seeds(1, "soft_pool", 0)[0])
    assert len(plain["n_towers"]) == (batch.pt_hat_gev <= 30.0).sum()
    assert len(vetoed["n_towers"]) == (batch.pt_hat_gev <= 5.0).sum()
    assert 0 < len(vetoed["n_towers"]) < len(plain["n_towers"])


def test_cross_section_of_shards_is_that_of_all_tried_points():
    # hits of unequal weight out of tried points: sigma of a shard is sum(w) / n
    rng = np.random.default_rng(1)
    points = [rng.exponential(1.0, n) * (rng.random(n) < 0.3) for n in (300, 500, 900)]
    shards = [{"sigma_mb": w.mean(), "sigma_error_mb": w.std() / math.sqrt(len(w)), "n_tried": len(w)} for w in points]
    sigma, error = merged_cross_section(shards)
    everything = np.concatenate(points)
    assert sigma == pytest.approx(everything.mean(), rel=1e-12)
    assert error == pytest.approx(everything.std() / math.sqrt(len(everything)), rel=0.02)


def test_pythias_cross_section_error_covers_the_spread_of_shards():
    generator = PythiaGenerator(find_process("qcd2").commands)
    batches = [generator.generate(30, seed) for seed in range(1, 25)]
    mean, _ = merged_cross_section([{**vars(b)} for b in batches])
    pulls = np.array([(b.sigma_mb - mean) / b.sigma_error_mb for b in batches])
    # 24 pulls: standard deviation 1 +- 0.15
    assert 0.5 < pulls.std() < 1.6


def batch_of(particles: list[tuple[float, float, float, int]]) -> ParticleBatch:
    """One event of massless particles (pt, eta, phi, pid)."""
    pt, eta, phi, pid = (np.array(values, float) for values in zip(*particles, strict=True))
    return ParticleBatch(
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pt * np.sinh(eta),
        energy=pt * np.cosh(eta),
        pid=pid.astype(np.int64),
        offsets=np.array([0, len(pt)]),
        pt_hat_gev=np.array([12.0]),
        m_hat_gev=np.array([345.0]),
        sigma_mb=1.0,
        sigma_error_mb=0.1,
        n_tried=1,
    )


def test_offline_quantities_of_a_hand_made_event():
    particles = [
        (100.0, 0.0, 0.0, 211),
        (20.0, 0.1, 0.1, 22),
        (60.0, 1.0, 2.0, 130),
        (40.0, -2.0, -2.0, -211),
        (31.0, -1.0, 1.0, 13),
        (29.0, 2.2, -1.0, 2112),
        (500.0, 2.7, 3.0, 22),
        (30.0, 0.5, 0.5 * math.pi, 14),
        (40.0, 0.0, 0.0, -12),
        (80.0, 2.45, 0.3, 13),
        (1e-5, 0.0, 0.0, 22),
    ]
    values = dict(zip(OFFLINE_NAMES, offline_quantities(batch_of(particles))[0].tolist(), strict=True))
    pair = math.hypot(100 + 20 * math.cos(0.1), 20 * math.sin(0.1))
    # jets: the pair, the 2.45 muon (muons are part of jets), 60, 40, 31 (a muon), 29 below the limit of HT
    assert values["jet1_pt_gev"] == pytest.approx(pair, rel=1e-6)
    assert values["ht_gev"] == pytest.approx(pair + 80 + 60 + 40 + 31, rel=1e-6)
    assert values["jet4_pt_gev"] == pytest.approx(40.0)
    assert values["met_gev"] == pytest.approx(50.0)
    assert values["mu1_pt_gev"] == pytest.approx(31.0)
    assert values["mhat_gev"] == 345.0
    assert values["pthat_gev"] == 12.0


def test_an_event_of_neutrinos_alone():
    values = offline_quantities(batch_of([(10.0, 0.0, 0.0, 12)]))[0]
    assert values[:5].tolist() == [0.0, 0.0, 0.0, 10.0, 0.0]


def test_offline_jets_equal_fastjet():
    fastjet = pytest.importorskip("fastjet", reason="the oracle of the jet clustering is fastjet")
    batch = PythiaGenerator(find_process("ttbar").commands).generate(10, 3)
    for event in range(10):
        own = slice(batch.offsets[event], batch.offsets[event + 1])
        momenta = np.column_stack([batch.px[own], batch.py[own], batch.pz[own], batch.energy[own]])
        momenta = momenta[np.hypot(momenta[:, 0], momenta[:, 1]) > 0.1]
        inputs = [fastjet.PseudoJet(*map(float, row)) for row in momenta]
        sequence = fastjet.ClusterSequence(inputs, fastjet.JetDefinition(fastjet.antikt_algorithm, 0.4))
        expected = sorted((jet.pt() for jet in sequence.inclusive_jets(5.0) if abs(jet.eta()) < 2.5), reverse=True)
        np.testing.assert_allclose(jet_pts(momenta), expected, rtol=1e-8)


def test_the_hard_scatter_shows_in_the_words(pool_file):
    hard = make("qcd5", 100, pool_file, reuse=1, pile_up=5.0).make(0, 3)
    jet = hard["offline"][:, OFFLINE_NAMES.index("jet1_pt_gev")]
    # a toy calibration on a toy response: the same scale, and moving together
    ratio = hard["x"][:, 0] * 0.5 / jet
    assert 0.85 < np.median(ratio) < 1.15
    assert np.corrcoef(jet, hard["x"][:, 0])[0, 1] > 0.7
    assert (hard["offline"][:, OFFLINE_NAMES.index("pthat_gev")] >= 300.0).all()


def test_processes_tile_the_transverse_momentum_and_the_rows():
    backgrounds = [find_process(name) for name in BACKGROUNDS]
    edges = [process.pt_hat_gev for process in backgrounds]
    assert [low for low, _ in edges[1:]] == [high for _, high in edges[:-1]]
    assert edges[0][0] == 0.0
    assert edges[-1][1] == math.inf
    assert sum(process.share for process in backgrounds) == pytest.approx(1.0)
    assert sum(rows_of(process, 100_000) for process in backgrounds) == 100_000
    for process in backgrounds[1:]:
        settings = dict(command.split("=") for command in process.commands)
        assert float(settings["PhaseSpace:pTHatMin"]) == process.pt_hat_gev[0]
        assert float(settings.get("PhaseSpace:pTHatMax", "inf")) == process.pt_hat_gev[1]


def test_settings_that_make_no_sense(tmp_path):
    with pytest.raises(ConfigError, match="HH4c"):
        find_process("HH4c")
    with pytest.raises(ConfigError, match="background"):
        level1_makers(10, 1, 50.0, False, ("qcd0",), None, tmp_path)
    with pytest.raises(ConfigError, match="pile-up"):
        Level1Maker(PROCESSES[0], 10, tmp_path / "soft_pool.npz", {}, pile_up=-1.0)
    with pytest.raises(ConfigError, match="reuse"):
        Level1Maker(PROCESSES[1], 10, tmp_path / "soft_pool.npz", {}, reuse=0)
    with pytest.raises(ConfigError, match="at least 1"):
        level1_makers(0, 1, 50.0, False, (), None, tmp_path)
    with pytest.raises(ArtefactError, match="soft_pool"):
        open_pool(tmp_path / "soft_pool.npz")
    with pytest.raises(ConfigError, match="does not understand"):
        PythiaGenerator(["HardQCD:alll=on"])
    with pytest.raises(ConfigError, match="negative"):
        shard_seeds(-1, "soft", 0)


def test_settings_that_change_the_bytes_change_the_identity(tmp_path):
    file = tmp_path / "soft_pool.npz"
    plain = Level1Maker(find_process("qcd2"), 10, file, {"n_generated": 5})
    others = [
        Level1Maker(find_process("qcd3"), 10, file, {"n_generated": 5}),
        Level1Maker(find_process("qcd2"), 12, file, {"n_generated": 5}),
        Level1Maker(find_process("qcd2"), 10, file, {"n_generated": 6}),
        Level1Maker(find_process("qcd2"), 10, file, {"n_generated": 5}, pile_up=51.0),
        Level1Maker(find_process("qcd2"), 10, file, {"n_generated": 5}, with_regions=True),
        Level1Maker(find_process("qcd2"), 10, file, {"n_generated": 5}, reuse=5),
        Level1Maker(replace(find_process("qcd2"), commands=("HardQCD:all=on",)), 10, file, {"n_generated": 5}),
    ]
    for other in others:
        assert other.identity() != plain.identity()
    # where the pool lies changes nothing
    elsewhere = Level1Maker(find_process("qcd2"), 10, tmp_path / "x" / "soft_pool.npz", {"n_generated": 5})
    assert elsewhere.identity() == plain.identity()
    assert plain.identity()["shard_size"] == maker_module.SCATTERS_PER_SHARD


def test_the_pool_grows_with_the_sample(tmp_path):
    for events, expected in ((10, 2000), (20_000, 5000), (1_000_000, 100_000)):
        pool, soft, *_ = level1_makers(events, 1, 50.0, False, (), None, tmp_path)
        assert pool.n_events == expected
        assert isinstance(soft, Level1Maker)
        assert soft.pool_settings["n_generated"] == expected
        assert soft.n_events == round(0.5 * events)

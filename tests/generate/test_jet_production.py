"""Jets from Pythia: bytes that follow from the seed alone, a file that the toolkit reads, the shipped distributions."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.stats import ks_2samp

from trigger_prune.config.project import DataConfig
from trigger_prune.data.builtin_events import CONSTITUENT_FEATURES, load_builtin, load_jets16_kinematics
from trigger_prune.data.load import load_sample
from trigger_prune.errors import ConfigError, DataError, ToolError
from trigger_prune.generate.driver import produce
from trigger_prune.generate.event_files import read_npz, read_provenance
from trigger_prune.generate.jets import production
from trigger_prune.generate.jets.features import FEATURES
from trigger_prune.generate.jets.production import CLASSES, JetMaker


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The file of 200 collisions of each class."""
    (path,) = produce([JetMaker(200)], tmp_path_factory.mktemp("jets"), 3, jobs=1, command="trigger-prune data make")
    return path


@pytest.mark.slow
def test_made_jets_are_read_as_a_sample(made):
    arrays = read_npz(made)
    sample = load_sample(DataConfig(path=made.name), made.parent)
    assert sample.feature_names == FEATURES and sample.class_names == ("g", "q", "W", "Z", "t")
    np.testing.assert_array_equal(sample.features, arrays["x"])
    np.testing.assert_array_equal(sample.labels, arrays["y"])
    np.testing.assert_array_equal(sample.groups, arrays["group"])
    assert (sample.weights == 1).all()
    # one or two jets per collision, side by side, of one class; group numbers rise from 0
    counts = np.bincount(sample.groups)
    assert set(counts) == {1, 2}
    assert (np.diff(sample.groups) >= 0).all()
    assert all(len(set(sample.labels[sample.groups == group])) == 1 for group in range(0, len(counts), 20))
    # the first rows hold every class
    assert set(sample.labels[:60]) == set(range(5))


@pytest.mark.slow
def test_constituents_can_be_the_network_s_inputs_like_the_shipped_ones(made):
    shipped = load_sample(DataConfig(path="builtin:jets16_constituents", max_events=3000), made.parent)
    names = list(CONSTITUENT_FEATURES)
    config = DataConfig(path=str(made), features="constituents", feature_names=names)
    sample = load_sample(config, made.parent)
    assert sample.event_shape == shipped.event_shape == (3, 16)
    hardest = sample.features[:, 0, 0]
    assert abs(np.median(hardest) - np.median(shipped.features[:, 0, 0])) < 0.15
    assert abs(sample.features[:, 1:, 0].std() / shipped.features[:, 1:, 0].std() - 1) < 0.25
    with pytest.raises(DataError, match="feature names for 3 features"):
        load_sample(DataConfig(path=str(made), features="constituents"), made.parent)


@pytest.mark.slow
def test_columns_of_a_jet_belong_together(made):
    arrays = read_npz(made)
    pt, channels = arrays["kin"][:, 0], arrays["constituents"].astype(np.float64)
    assert channels.shape == (len(pt), 3, 16) and arrays["constituents"].dtype == np.float16
    const = np.stack([2 ** channels[:, 0] - 1, channels[:, 1], channels[:, 2]], axis=2)
    assert ((pt > 800) & (pt < 1600)).all() and (np.abs(arrays["kin"][:, 1]) < 2.5).all()
    # the hardest 16 particles carry most of the jet and lie within it
    share = const[:, :, 0].sum(axis=1) / pt
    assert 0.6 < np.median(share) < 1.0 and share.max() < 1.05
    assert np.median(np.hypot(const[:, 0, 1], const[:, 0, 2])) < 0.1
    fewer = arrays["x"][:, FEATURES.index("multiplicity")] < 16
    assert (const[fewer, -1] == 0).all() and (const[~fewer, -1, 0] > 0).all()
    # a jet that is nearly all one particle has a small sum of z ln z, and the reverse
    assert np.corrcoef(const[:, 0, 0] / pt, arrays["x"][:, 0])[0, 1] > 0.7


@pytest.mark.slow
def test_distributions_are_those_of_the_shipped_sample(made):
    arrays, shipped = read_npz(made), load_builtin("jets16")
    kinematics = load_jets16_kinematics()
    smallest = 1.0
    for label in range(5):
        ours, theirs = arrays["y"] == label, shipped.labels == label
        for column in range(16):
            p = ks_2samp(arrays["x"][ours, column], shipped.features[theirs, column]).pvalue
            smallest = min(smallest, p)
        for column in range(3):
            smallest = min(smallest, ks_2samp(arrays["kin"][ours, column], kinematics[theirs, column]).pvalue)
        # jets kept per collision
        pairs = np.bincount(np.bincount(arrays["group"][ours]), minlength=3)
        expected = np.bincount(np.bincount(shipped.groups[theirs]), minlength=3)
        share = expected[2] / (expected[1] + expected[2])
        assert abs(pairs[2] / (pairs[1] + pairs[2]) - share) < 5 * np.sqrt(share * (1 - share) / 200)
    # 95 comparisons, many of them of correlated features
    assert smallest > 1e-4
    # they do tell a wrong class from the right one
    mass = FEATURES.index("mass_mmdt")
    assert ks_2samp(arrays["x"][arrays["y"] == 2, mass], shipped.features[shipped.labels == 3, mass]).pvalue < 1e-6


@pytest.mark.slow
def test_provenance_and_cross_sections(made):
    arrays, provenance = read_npz(made), read_provenance(made)
    assert list(arrays["n_gen"]) == [200] * 5
    assert (arrays["sigma_mb"] > 0).all()
    # the strong processes above all others; pairs of Z beside pairs of W of a resonance as one to two
    sigma = dict(zip(CLASSES, arrays["sigma_mb"], strict=True))
    assert sigma["q"] > sigma["t"] > sigma["W"]
    assert sigma["W"] / sigma["Z"] == pytest.approx(2.0, rel=0.2)
    assert provenance["settings"]["processes"]["t"][0] == "Top:gg2ttbar=on"
    assert provenance["versions"]["pythia8mc"] != "absent"


def test_a_shard_depends_on_its_number_and_the_seed_alone(monkeypatch):
    monkeypatch.setattr(production, "COLLISIONS_PER_SHARD", 6)
    forwards, backwards = JetMaker(14), JetMaker(14)
    shards = [0, 1, 2, 12, 13, 14]
    first = {shard: forwards.make(shard, 5) for shard in shards}
    second = {shard: backwards.make(shard, 5) for shard in reversed(shards)}
    for shard in shards:
        for name in first[shard]:
            np.testing.assert_array_equal(first[shard][name], second[shard][name])
    assert [int(first[shard]["n_gen"]) for shard in shards] == [6, 6, 2, 6, 6, 2]
    assert [int(first[shard]["label"]) for shard in shards] == [0, 0, 0, 4, 4, 4]
    assert not np.array_equal(first[0]["x"][:3], first[1]["x"][:3])
    assert not np.array_equal(forwards.make(0, 6)["x"][:3], first[0]["x"][:3])


def test_merge_keeps_collisions_together_and_every_row_once(monkeypatch):
    monkeypatch.setattr(production, "COLLISIONS_PER_SHARD", 4)
    rng = np.random.default_rng(0)
    shards, truth = [], {}
    for number in range(10):
        collision = np.sort(rng.integers(0, 4, size=5))
        x = (100 * number + 10 * collision + np.arange(5) / 10)[:, None] * np.ones(16)
        truth.update({row: (number, int(hit), number // 2) for row, hit in zip(x[:, 0], collision, strict=True)})
        shards.append(
            {
                "x": x,
                "kin": x[:, :3] + 1,
                "constituents": np.repeat(x[:, None, :], 3, axis=1) + 2,
                "collision": collision,
                "label": np.asarray(number // 2, np.int8),
                "n_gen": np.asarray(4),
                "sigma_mb": np.asarray(1.0 + number % 2),
                "n_tried": np.asarray(1 + 2 * (number % 2)),
            }
        )
    merged = JetMaker(8).merge(shards)
    rows = merged["x"][:, 0]
    assert sorted(rows) == sorted(truth)
    np.testing.assert_array_equal(merged["kin"][:, 0], rows + 1)
    np.testing.assert_array_equal(merged["constituents"][:, 2, 7], rows + 2)
    assert [truth[row][2] for row in rows] == list(merged["y"])
    group_of = {}
    for row, group in zip(rows, merged["group"], strict=True):
        assert group_of.setdefault(truth[row][:2], group) == group
    assert sorted(group_of.values()) == list(range(len(group_of)))
    assert (np.diff(merged["group"]) >= 0).all() and list(merged["y"]) != sorted(merged["y"])
    # cross-sections are averaged with the tried points as weights: (1 * 1 + 3 * 2) / 4
    np.testing.assert_allclose(merged["sigma_mb"], 1.75)
    assert list(merged["n_gen"]) == [8] * 5


def test_nothing_to_make():
    with pytest.raises(ConfigError, match="nothing to make"):
        JetMaker(0)


def test_without_numba_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in ("features", "kernels"):
        monkeypatch.delitem(sys.modules, f"trigger_prune.generate.jets.{name}", raising=False)
    with pytest.raises(ToolError, match="numba is not installed") as caught:
        JetMaker(1).identity()
    assert "trigger_prune[generate]" in caught.value.hint

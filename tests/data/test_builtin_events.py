"""The shipped events: their content, their size, and the way they were packed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.config.project import DataConfig
from trigger_prune.data.builtin_events import (
    EVENTS_DIR,
    builtin_files,
    load_builtin,
    load_jets16_kinematics,
)
from trigger_prune.data.load import load_sample, source_files
from trigger_prune.data.pack import pack_events
from trigger_prune.data.packed_columns import pack_columns, unpack_columns
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import DataError

CLASS_COUNTS = {"g": 33_368, "q": 44_455, "W": 50_020, "Z": 48_518, "t": 46_649}
CONTENT = {
    "jets16": "cf48c69f2d5f18cce8236b13a385236c06edb633a7a63f7b11e66ba6c0e5e739",
    "jets16_constituents": "54a73f189c25938520c6fb1e9cabe74c258010247c66df1ef99201a7a8b54e66",
}
ORIGINALS = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def jets() -> EventSample:
    return load_builtin("jets16")


@pytest.fixture(scope="module")
def constituents() -> EventSample:
    return load_builtin("jets16_constituents")


def content_hash(sample: EventSample) -> str:
    digest = hashlib.sha256()
    for array in (sample.features, sample.labels, sample.groups):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def stated_errors() -> dict[str, float]:
    """Largest rounding error of each feature in standard deviations, from the data card's table."""
    card = (EVENTS_DIR / "CARD.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| 2\^-?\d+ \| ([\d.e+-]+) \|$", card, flags=re.MULTILINE)
    return {name: float(error) for name, error in rows}


def test_jets16_is_what_the_card_says(jets: EventSample) -> None:
    counts = np.bincount(jets.labels)
    assert dict(zip(jets.class_names, counts.tolist(), strict=True)) == CLASS_COUNTS
    assert jets.features.shape == (223_010, 16)
    names = jets.feature_names
    d2, twin = jets.features[:, names.index("d2_b1_mmdt")], jets.features[:, names.index("d2_a1_b1_mmdt")]
    np.testing.assert_array_equal(d2, twin)
    assert d2.std() > 0.4
    # No other pair is equal, so the redundant input is the only one.
    assert len({jets.features[:, i].tobytes() for i in range(16)}) == 15
    sizes = np.bincount(jets.groups)
    assert np.bincount(sizes).tolist() == [0, 11_710, 105_650]
    pairs = np.flatnonzero(jets.groups[1:] == jets.groups[:-1])
    np.testing.assert_array_equal(jets.labels[pairs], jets.labels[pairs + 1])
    assert (jets.weights == 1).all()
    assert content_hash(jets) == CONTENT["jets16"]


def test_the_physics_survived(jets: EventSample) -> None:
    mass = jets.features[:, jets.feature_names.index("mass_mmdt")]
    medians = {name: float(np.median(mass[jets.labels == i])) for i, name in enumerate(jets.class_names)}
    # Boson and top jets peak at the particle's mass; gluon and quark jets do not.
    assert abs(medians["W"] - 80.4) < 3 and abs(medians["Z"] - 91.2) < 3 and abs(medians["t"] - 172.7) < 10
    assert medians["q"] < medians["g"] < 70
    kinematics = load_jets16_kinematics()
    assert kinematics.shape == (223_010, 3)
    pt, rapidity, phi = kinematics.T
    assert pt.min() >= 800 and pt.max() <= 1600 and np.abs(rapidity).max() < 2.5 and np.abs(phi).max() < 3.142
    pairs = np.flatnonzero(jets.groups[1:] == jets.groups[:-1])
    assert (pt[pairs] >= pt[pairs + 1]).all()
    apart = np.abs(phi[pairs] - phi[pairs + 1])
    assert np.median(np.minimum(apart, 2 * np.pi - apart)) > 3.0


def test_constituents_are_the_same_jets(jets: EventSample, constituents: EventSample) -> None:
    n = constituents.n_events
    assert constituents.features.shape == (84_000, 3, 16)
    np.testing.assert_array_equal(constituents.labels, jets.labels[:n])
    np.testing.assert_array_equal(constituents.groups, jets.groups[:n])
    assert jets.groups[n] != jets.groups[n - 1]
    log2_pt = constituents.features[:, 0].astype(np.float64)
    assert (np.diff(log2_pt, axis=1) <= 0).all() and log2_pt.min() >= 0
    pt = 2**log2_pt - 1
    # Where a jet has 16 particles or fewer, the leading ones are all of it: their vector sum is the jet's pT.
    few = jets.features[:n, jets.feature_names.index("multiplicity")] <= 16
    phi = constituents.features[few, 2].astype(np.float64)
    total = np.hypot((pt[few] * np.cos(phi)).sum(axis=1), (pt[few] * np.sin(phi)).sum(axis=1))
    jet_pt = load_jets16_kinematics()[:n][few, 0]
    assert few.sum() > 20
    np.testing.assert_allclose(total, jet_pt, rtol=0.01)
    n_particles = np.minimum(jets.features[:n, jets.feature_names.index("multiplicity")], 16)
    empty = (constituents.features == 0).all(axis=1)
    np.testing.assert_array_equal(16 - empty.sum(axis=1), n_particles)
    assert content_hash(constituents) == CONTENT["jets16_constituents"]


def test_files_are_small_and_need_no_pickle() -> None:
    files = sorted(EVENTS_DIR.glob("*.npz"))
    assert all(path.stat().st_size < 4 * 2**20 for path in files)
    jets_files = [*builtin_files("jets16"), EVENTS_DIR / "jets16_kinematics.npz"]
    assert sum(path.stat().st_size for path in jets_files) <= 8 * 2**20
    assert {*jets_files, *builtin_files("jets16_constituents")} == set(files)
    for path in files:
        with np.load(path, allow_pickle=False) as file:
            assert all(file[key].dtype != object for key in file.files)


def test_max_events_and_names_through_the_project_keys(jets: EventSample) -> None:
    config = DataConfig(path="builtin:jets16", max_events=1000, class_names=["a", "b", "c", "d", "e"])
    sample = load_sample(config, Path())
    np.testing.assert_array_equal(sample.features, jets.features[:1000])
    assert sample.class_names == ("a", "b", "c", "d", "e")
    assert source_files(config, Path()) == builtin_files("jets16")


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in builtin_files("jets16"):
        (tmp_path / path.name).write_bytes(path.read_bytes()[:-1000])
    monkeypatch.setattr("trigger_prune.data.builtin_events.EVENTS_DIR", tmp_path)
    with pytest.raises(DataError, match=r"jets16_part1\.npz.*cannot be read"):
        load_builtin("jets16")


def test_packed_columns_round_to_the_nearest_step() -> None:
    rng = np.random.default_rng(4)
    values = np.stack([rng.normal(size=3000), rng.uniform(1e3, 1e4, 3000), rng.integers(-5, 300, 3000)], axis=1)
    packed = pack_columns(values)
    assert packed.planes.dtype == np.uint8
    error = np.abs(unpack_columns(packed) - values)
    # Half a step, and never worse than the range over 2**16 (a power-of-two step is at most twice the ideal one).
    assert (error <= packed.steps / 2).all()
    assert (packed.steps <= np.ptp(values, axis=0) / 2**15).tolist() == [True, True, False]
    np.testing.assert_array_equal(unpack_columns(packed)[:, 2], values[:, 2])
    fixed_steps = pack_columns(values[:, :1], [10])
    np.testing.assert_array_equal(
        unpack_columns(fixed_steps)[:, 0], (np.floor(values[:, 0] * 1024 + 0.5) / 1024).astype(np.float32)
    )
    with pytest.raises(DataError, match="column 0 needs codes up to"):
        pack_columns(values[:, 1:2], [6])


def made_originals(folder: Path) -> dict[str, np.ndarray]:
    """Small arrays in the layout of the originals, with an equal pair of columns and a collision cut by no row."""
    rng = np.random.default_rng(6)
    n = 400
    x = rng.gamma(2.0, size=(n, 16)).astype(np.float32)
    x[:, 9] = x[:, 6]
    pt = -np.sort(-rng.gamma(1.0, 50.0, size=(n, 16)), axis=1)
    arrays = {
        "x": x,
        "y": (np.arange(n) // 2 % 5).astype(np.int8),
        "group": (np.arange(n) // 2).astype(np.int32),
        "features": np.array([f"f{i}" for i in range(16)]),
        "classes": np.array(list("gqWZt")),
        "kin": rng.uniform(-1, 1, size=(n, 3)).astype(np.float32),
    }
    const = np.stack([pt, rng.normal(0, 0.1, (n, 16)), rng.normal(0, 0.1, (n, 16))], axis=2).astype(np.float16)
    np.savez(folder / "jets16.npz", **arrays)
    np.savez(folder / "jets16_const.npz", const=const)
    return arrays | {"const": const}


def check_against_originals(original: dict[str, np.ndarray], relative_error: dict[str, float]) -> None:
    jets, constituents = load_builtin("jets16"), load_builtin("jets16_constituents")
    np.testing.assert_array_equal(jets.labels, original["y"])
    np.testing.assert_array_equal(jets.groups, original["group"])
    assert jets.feature_names == tuple(original["features"].tolist())
    assert jets.class_names == tuple(original["classes"].tolist())
    x = original["x"].astype(np.float64)
    worst = np.abs(jets.features - x).max(axis=0) / x.std(axis=0)
    for name, error in zip(jets.feature_names, worst.tolist(), strict=True):
        # The card's three digits may be rounded down.
        assert error <= relative_error[name] * 1.005, name
    n = constituents.n_events
    const = original["const"][:n].astype(np.float64)
    assert np.abs(constituents.features[:, 0] - np.log2(1 + const[:, :, 0])).max() <= 2**-7
    assert np.abs(constituents.features[:, 1:] - const[:, :, 1:].transpose(0, 2, 1)).max() <= 2**-11
    kinematics = load_jets16_kinematics()
    assert (np.abs(kinematics - original["kin"]).max(axis=0) <= [2**-7, 2**-14, 2**-14]).all()


def test_packing_and_loading_are_inverse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = made_originals(tmp_path)
    packed_dir = tmp_path / "packed"
    pack_events(tmp_path, packed_dir)
    monkeypatch.setattr("trigger_prune.data.builtin_events.EVENTS_DIR", packed_dir)
    assert load_builtin("jets16_constituents").n_events == 400
    check_against_originals(original, {f"f{i}": 2e-3 for i in range(16)})
    jets = load_builtin("jets16")
    np.testing.assert_array_equal(jets.features[:, 6], jets.features[:, 9])
    assert not list(packed_dir.glob("*.partial"))
    stored = [np.load(path)["features_planes"].shape[0] for path in builtin_files("jets16")]
    assert sum(stored) == 15


def test_constituents_never_cut_a_collision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_originals(tmp_path)
    monkeypatch.setattr("trigger_prune.data.pack.CONSTITUENT_ROWS", 101)
    monkeypatch.setattr("trigger_prune.data.builtin_events.EVENTS_DIR", tmp_path / "packed")
    pack_events(tmp_path, tmp_path / "packed")
    assert load_builtin("jets16_constituents").n_events == 100


def test_shipped_events_equal_the_originals_within_the_stated_error(jets: EventSample) -> None:
    errors = stated_errors()
    assert set(errors) == set(jets.feature_names)
    assert max(errors.values()) < 2e-4
    if not (ORIGINALS / "jets16.npz").is_file():
        # Without the originals the content's checksum says that these are the events that were compared.
        assert content_hash(jets) == CONTENT["jets16"]
        return
    with np.load(ORIGINALS / "jets16.npz") as file, np.load(ORIGINALS / "jets16_const.npz") as const:
        check_against_originals({key: file[key] for key in file.files} | {"const": const["const"]}, errors)

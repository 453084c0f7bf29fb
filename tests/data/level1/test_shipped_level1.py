"""The shipped level-1 events, and the step that makes them small enough to ship."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.config.project import DataConfig, LuminosityConfig, SplitConfig
from trigger_prune.data.builtin_events import BUILTIN_LEVEL1, data_card
from trigger_prune.data.level1.files import read_process
from trigger_prune.data.load import load_sample, source_files
from trigger_prune.data.pack import MAX_FILE_BYTES
from trigger_prune.data.pack_level1 import pack_level1
from trigger_prune.data.split import split_sample

CROSSINGS_HZ = 11245.5 * 2736


def made(folder: Path, rows: int) -> dict[str, np.ndarray]:
    """A file as the generator writes it, of words that do not compress."""
    rng = np.random.default_rng(3)
    words = np.zeros((rows, 80), np.int16)
    words[:, 0:30:3] = np.sort(rng.integers(0, 2048, (rows, 10)), axis=1)[:, ::-1]
    words[:, 74] = rng.integers(0, 4096, rows)
    arrays = {
        "x": words,
        "gid": np.repeat(np.arange(-(-rows // 4)), 4)[:rows],
        "npu": rng.poisson(50, rows).astype(np.int16),
        "offline": rng.exponential(80, (rows, 2)).astype(np.float32),
        "offline_names": np.array(["ht_gev", "met_gev"]),
        "sigma_mb": np.float64(0.1),
        "n_gen": np.int64(-(-rows // 4)),
        "reuse": np.int64(4),
        "pileup": np.float64(50),
        "provenance": np.array("{}"),
    }
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / "l1_qcd0.npz", **arrays)
    return arrays


@pytest.mark.parametrize(("rows", "files"), [(500, 1), (250_000, 2)])
def test_packing_changes_nothing_but_the_last_digits_of_offline_quantities(
    tmp_path: Path, rows: int, files: int
) -> None:
    before = made(tmp_path / "made", rows)
    paths = pack_level1(tmp_path / "made", tmp_path / "packed")
    assert len(paths) >= files and all(path.stat().st_size <= MAX_FILE_BYTES for path in paths)
    assert sorted(paths) == sorted((tmp_path / "packed").iterdir())
    found = read_process("qcd0", tuple(paths))
    assert (found.words == before["x"]).all()
    assert (found.collision == before["gid"]).all() and (found.npu == before["npu"]).all()
    assert found.sigma_mb == 0.1 and found.pileup == 50.0
    for column, name in enumerate(("ht_gev", "met_gev")):
        assert np.abs(found.offline[name] - before["offline"][:, column]).max() <= 0.125 + 1e-4
        assert (found.offline[name] * 4 == np.round(found.offline[name] * 4)).all()


@pytest.mark.parametrize("name", BUILTIN_LEVEL1)
def test_shipped_files_are_small_and_complete(name: str) -> None:
    files = source_files(DataConfig(path=f"builtin:{name}"), Path())
    assert set(files) == set(BUILTIN_LEVEL1[name].glob("l1_*.npz")) and len(files) == len(set(files))
    assert all(path.stat().st_size < 4 * 2**20 for path in files)
    card = data_card(f"builtin:{name}")
    assert card is not None and name in card and "@" not in card


def test_objects_stand_for_all_crossings_in_every_part() -> None:
    sample = load_sample(DataConfig(path="builtin:level1"), Path(), LuminosityConfig())
    assert sample.event_shape == (57,) and sample.class_names == ("minimum_bias", "HH4b", "VBFHbb", "ttbar")
    background = sample.labels == 0
    assert sample.weights[background].sum() == pytest.approx(CROSSINGS_HZ, rel=1e-9)
    split = split_sample(sample, SplitConfig())
    for part in (split.train, split.validation, split.test):
        assert part.weights[part.labels == 0].sum() == pytest.approx(CROSSINGS_HZ, rel=1e-6)
    groups = [set(part.groups.tolist()) for part in (split.train, split.validation, split.test)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    # the hard scatter's own jets, without pile-up: of HH -> 4b far more than of minimum bias
    offline = sample.observables["offline_ht_gev"]
    ordinary = np.average(offline[background], weights=sample.weights[background])
    assert np.median(offline[sample.labels == 1]) > 200 > 3 * ordinary


def test_regions_are_images_that_add_up_to_less_than_the_whole_calorimeter() -> None:
    config = DataConfig(path="builtin:level1_regions", inputs="regions")
    sample = load_sample(config, Path(), LuminosityConfig())
    assert sample.event_shape == (1, 18, 14)
    assert (sample.labels == 0).sum() >= 20_000 and (sample.labels > 0).sum() >= 5_000
    inside = 0.5 * sample.features.sum(axis=(1, 2, 3))
    assert (inside <= sample.observables["total_et_gev"] + 1e-6).all()
    assert inside.mean() > 0.4 * sample.observables["total_et_gev"].mean()


def test_another_pile_up_changes_rates_but_not_their_sum() -> None:
    config = DataConfig(path="builtin:level1", signals=["HH4b"])
    at50 = load_sample(config, Path(), LuminosityConfig())
    with warnings.catch_warnings():
        # strata of a few rows have collision counts that no event has
        warnings.simplefilter("ignore", UserWarning)
        at45 = load_sample(config, Path(), LuminosityConfig(pileup=45))
    background = at50.labels == 0
    assert at45.weights[background].sum() == pytest.approx(CROSSINGS_HZ, rel=1e-6)
    passes = background & (at50.observables["ht_gev"] > 150)
    assert 0.6 < at45.weights[passes].sum() / at50.weights[passes].sum() < 0.95

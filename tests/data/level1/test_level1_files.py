"""Level-1 files that are split, incomplete, damaged or foreign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trigger_prune.data.level1.files import find_processes, read_process
from trigger_prune.errors import ConfigError, DataError


def arrays(n: int = 12, **changes: Any) -> dict[str, Any]:
    """A process with everything a file can hold; None drops an array."""
    rng = np.random.default_rng(n)
    held = {
        "x": rng.integers(0, 100, (n, 80)).astype(np.int16),
        "sigma_mb": np.float64(0.2),
        "n_gen": 6,
        "reuse": 2,
        "gid": np.arange(n) // 2 + 1000,
        "npu": rng.poisson(50, n).astype(np.int16),
        "offline": rng.random((n, 2)).astype(np.float32),
        "offline_names": np.array(["ht_gev", "met_gev"]),
        "regions": rng.integers(0, 500, (n, 18, 14)).astype(np.uint16),
        "pileup": 45.0,
        "sigma_nd_mb": np.float64(57.0),
        "pthat_min_gev": 300.0,
        "pthat_max_gev": np.inf,
        "provenance": np.array("{}"),
    } | changes
    return {key: value for key, value in held.items() if value is not None}


def write(folder: Path, name: str, held: dict[str, Any]) -> Path:
    np.savez_compressed(folder / name, **held)
    return folder / name


def test_all_arrays_are_read(tmp_path: Path) -> None:
    held = arrays()
    events = read_process("qcd5", (write(tmp_path, "l1_qcd5.npz", held),))
    assert np.array_equal(events.words, held["x"])
    assert np.array_equal(events.collision, held["gid"]) and events.collision.dtype == np.int64
    assert events.npu is not None and np.array_equal(events.npu, held["npu"])
    assert np.array_equal(events.offline["met_gev"], held["offline"][:, 1].astype(np.float64))
    assert events.regions is not None and np.array_equal(events.regions, held["regions"])
    assert (events.sigma_mb, events.pileup, events.sigma_nd_mb) == (0.2, 45.0, 57.0)
    assert events.pthat_gev == (300.0, np.inf)


def test_old_files_hold_only_words(tmp_path: Path) -> None:
    names = ("gid", "npu", "offline", "offline_names", "regions", "pileup", "sigma_nd_mb", "pthat_min_gev")
    held = arrays(n=11, n_gen=4, reuse=3, **dict.fromkeys(names))
    events = read_process("a", (write(tmp_path, "l1_a.npz", held),))
    assert events.collision.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    assert (events.npu, events.offline, events.regions, events.pileup) == (None, {}, None, 50.0)
    assert (events.sigma_nd_mb, events.pthat_gev) == (None, None)


def test_parts_are_joined_in_order_of_their_numbers(tmp_path: Path) -> None:
    whole = arrays(n=36, n_gen=18)
    per_event = ("x", "gid", "npu", "offline", "regions")
    for part in range(12):
        held = whole | {key: whole[key][3 * part : 3 * part + 3] for key in per_event}
        write(tmp_path, f"l1_HH4b.part{part}.npz", held)
    write(tmp_path, "l1_other.npz", arrays())
    write(tmp_path, "l1_qcd0_extra-2.npz", arrays())
    (tmp_path / "readme.txt").write_text("x")
    found = find_processes(tmp_path)
    assert list(found) == ["HH4b", "other", "qcd0_extra-2"]
    assert [path.name for path in found["HH4b"]] == [f"l1_HH4b.part{part}.npz" for part in range(12)]
    events = read_process("HH4b", found["HH4b"])
    assert np.array_equal(events.words, whole["x"]) and np.array_equal(events.collision, whole["gid"])
    assert events.regions is not None and np.array_equal(events.regions, whole["regions"])
    assert np.array_equal(events.offline["ht_gev"], whole["offline"][:, 0])


def test_parts_without_gid_count_rows_over_all_of_them(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"l1_a.part{k}.npz", arrays(n=3, gid=None)) for k in (1, 2)]
    assert read_process("a", tuple(paths)).collision.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["l1_a.part0.npz", "l1_a.part2.npz"], "part 1 is missing"),
        (["l1_a.part2.npz", "l1_a.part3.npz"], "part 1 is missing"),
        (["l1_a.npz", "l1_a.part0.npz"], "whole file and parts"),
        (["l1_a.part1.npz", "l1_a.part01.npz"], "there twice"),
    ],
)
def test_parts_that_are_not_complete(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        write(tmp_path, name, arrays())
    with pytest.raises(DataError, match=message):
        find_processes(tmp_path)


def test_parts_of_two_productions(tmp_path: Path) -> None:
    for key, value in {
        "sigma_mb": 0.3,
        "reuse": 3,
        "pileup": 60.0,
        "offline_names": np.array(["met_gev", "ht_gev"]),
    }.items():
        first = write(tmp_path, "l1_a.part0.npz", arrays())
        second = write(tmp_path, "l1_a.part1.npz", arrays(**{key: value}))
        with pytest.raises(DataError, match=rf"part1\.npz: {key} is"):
            read_process("a", (first, second))
    third = write(tmp_path, "l1_a.part2.npz", arrays(npu=None))
    with pytest.raises(DataError, match=r"part2\.npz: has no array 'npu', but l1_a\.part0"):
        read_process("a", (first, third))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "no array 'x'"),
        ({"reuse": None}, "no array 'reuse'"),
        ({"sigma_mb": None}, "no array 'sigma_mb'"),
        ({"x": np.zeros((12, 81), np.int16)}, r"x: int16 values of shape \(12, 81\)"),
        ({"x": np.zeros((12, 80), np.float32)}, "x: float32"),
        ({"x": np.zeros((0, 80), np.int16)}, "x has no rows"),
        ({"x": np.full((12, 80), -1, np.int16)}, "word jet1_pt of row 0 is -1"),
        ({"n_gen": 5}, r"12 rows, more than n_gen \* reuse = 5 \* 2"),
        ({"n_gen": 0}, "n_gen is 0"),
        ({"n_gen": 6.0}, "n_gen is 6.0, not an integer"),
        ({"reuse": np.array([2])}, "reuse is"),
        ({"sigma_mb": np.nan}, "sigma_mb is"),
        ({"sigma_mb": -1.0}, "sigma_mb is -1"),
        ({"pileup": np.inf}, "pileup is inf"),
        ({"gid": np.arange(11)}, r"gid is int64 of shape \(11,\)"),
        ({"gid": np.arange(12).astype(np.float64)}, "gid is float64"),
        ({"gid": np.arange(12) - 3}, "gid of row 0 is -3"),
        ({"npu": np.zeros(12, np.int64)}, "npu is int64"),
        ({"npu": np.full(12, -1, np.int16)}, "npu of row 0 is -1"),
        ({"offline": np.zeros((12, 3), np.float32)}, r"offline is float32 of shape \(12, 3\)"),
        ({"offline": np.full((12, 2), np.nan, np.float32)}, "offline ht_gev of row 0 is nan"),
        ({"offline_names": None}, "no array 'offline_names'"),
        ({"offline_names": np.array(["a", "a"])}, "not different names"),
        ({"regions": np.zeros((12, 14, 18), np.uint16)}, "regions is uint16"),
        ({"regions": np.zeros((12, 18, 14), np.int16)}, "regions is int16"),
    ],
)
def test_wrong_arrays(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, "l1_a.npz", arrays(**changes))
    with pytest.raises(DataError, match=message) as caught:
        read_process("a", (path,))
    assert str(path) in str(caught.value)


def test_fewer_rows_than_generated_are_fine(tmp_path: Path) -> None:
    assert len(read_process("a", (write(tmp_path, "l1_a.npz", arrays(n_gen=100)),)).words) == 12


def test_truncated_files(tmp_path: Path) -> None:
    whole = write(tmp_path, "l1_a.npz", arrays()).read_bytes()
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "l1_cut.npz"
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"l1_cut\.npz: cannot be read"):
            read_process("a", (path,))


def test_flipped_bytes_are_noticed_or_harmless(tmp_path: Path) -> None:
    """A damaged byte gives a DataError or the same events, never another exception or other events."""
    path = write(tmp_path, "l1_a.npz", arrays())
    whole, original = path.read_bytes(), read_process("a", (path,))
    rng = np.random.default_rng(7)
    refused = 0
    for place in rng.choice(len(whole), 300, replace=False):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ int(rng.integers(1, 256))]) + whole[place + 1 :])
        try:
            events = read_process("a", (path,))
        except DataError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert np.array_equal(events.words, original.words)
            assert np.array_equal(events.collision, original.collision)
    assert refused > 200


def test_no_single_byte_hides_an_array(tmp_path: Path) -> None:
    """The list of arrays at the end of the file, byte by byte."""
    path = write(tmp_path, "l1_a.npz", arrays(n=3))
    whole = path.read_bytes()
    names = set(read_process("a", (path,)).offline)
    for place in range(whole.index(b"PK\x01\x02"), len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x35]) + whole[place + 1 :])
        try:
            events = read_process("a", (path,))
        except DataError:
            continue
        assert events.collision[0] == 1000 and events.npu is not None and events.regions is not None
        assert set(events.offline) == names and events.sigma_nd_mb == 57.0 and events.pthat_gev is not None


def test_other_files(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "l1_one.npz")
    with pytest.raises(DataError, match="not an npz file"):
        read_process("one", (tmp_path / "l1_one.npz",))
    with pytest.raises(DataError, match="cannot be read"):
        read_process("absent", (tmp_path / "l1_absent.npz",))
    path = write(tmp_path, "l1_pickle.npz", arrays(x=np.array([{}] * 12, dtype=object)))
    with pytest.raises(DataError, match="cannot be read"):
        read_process("pickle", (path,))
    with pytest.raises(ConfigError, match="no folder"):
        find_processes(tmp_path / "absent")

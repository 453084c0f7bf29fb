"""Filling masks against the gaps they must keep, and mask files in every format."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.filling import (
    CollidingBunches,
    FillingMask,
    filling_from,
    mask_from_values,
    named_filling,
    read_filling,
)


def runs(filled: np.ndarray) -> list[tuple[bool, int]]:
    """(filled?, length) of every stretch of equal slots."""
    return [(bool(value), len(list(group))) for value, group in itertools.groupby(filled.tolist())]


@pytest.mark.parametrize(
    ("name", "train", "n_trains", "n_injections"), [("72b", 72, 38, 12), ("48b", 48, 57, 12), ("36b", 36, 65, 13)]
)
def test_trains_and_gaps(name: str, train: int, n_trains: int, n_injections: int) -> None:
    stretches = runs(named_filling(name).filled)
    assert stretches[0][0] is False and stretches[-1][0] is False
    trains = [length for filled, length in stretches if filled]
    assert trains == [train] * n_trains
    inner = [length for filled, length in stretches[1:-1] if not filled]
    assert sorted(set(inner)) == [7, 31]
    assert inner.count(31) == n_injections - 1
    assert stretches[-1][1] >= 121


@pytest.mark.parametrize(("name", "colliding"), [("72b", 2736), ("48b", 2736), ("36b", 2340), ("continuous", 3564)])
def test_counts(name: str, colliding: int) -> None:
    mask = named_filling(name)
    assert mask.colliding == colliding
    assert mask.crossings_hz == pytest.approx(11245.5 * colliding, rel=1e-15)


def test_number_of_bunches() -> None:
    assert CollidingBunches(2760).crossings_hz == pytest.approx(31_037_580)
    assert filling_from("2748", Path()) == CollidingBunches(2748) == filling_from(2748, Path())
    for wrong in (0, 3565, -1):
        with pytest.raises(ConfigError, match="1 to 3564"):
            CollidingBunches(wrong)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="48b") as caught:
        filling_from("48bcms", Path())
    assert "continuous" in str(caught.value)


def test_masks_compare_by_content_and_cannot_be_changed() -> None:
    assert named_filling("72b") == named_filling("72b") != named_filling("48b")
    assert len({named_filling("72b"), named_filling("72b")}) == 1
    with pytest.raises(ValueError, match="read-only"):
        named_filling("72b").filled[0] = True


@pytest.mark.parametrize(
    "form", ["bits.txt", "word.txt", "slots.csv", "mask.npy", "slots.npy", "mask.json", "slots.json"]
)
def test_files_round_trip(tmp_path: Path, form: str) -> None:
    filled = np.random.default_rng(3).random(3564) < 0.4
    path = tmp_path / form
    bits, slots = filled.astype(int), np.flatnonzero(filled)
    if form == "bits.txt":
        path.write_text("# filling\n" + "\n".join(map(str, bits)) + "\n")
    elif form == "word.txt":
        path.write_text("".join(map(str, bits)))
    elif form == "slots.csv":
        path.write_text(",\n".join(map(str, np.random.default_rng(1).permutation(slots))))
    elif form.endswith(".npy"):
        np.save(path, filled if form == "mask.npy" else slots)
    else:
        path.write_text(json.dumps((bits if form == "mask.json" else slots).tolist()))
    mask = filling_from(form, tmp_path)
    assert isinstance(mask, FillingMask)
    assert mask.name == form
    assert np.array_equal(mask.filled, filled)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1] * 3563, "3563 zeros and ones"),
        ([True, False], "2 zeros and ones"),
        ([0, 1, 1], "3 zeros and ones"),
        ([0] * 3564, "no slot is filled"),
        ([3, 4, 3564], "value 3 is 3564"),
        ([3, -1], "value 2 is -1"),
        ([1.5, 2], "value 1 is 1.5"),
        ([float("nan"), 2], "value 1 is nan"),
        ([7, 9, 7], "slot 7 is given more than once"),
        ([[1, 2], [3, 4]], "not a list of numbers"),
        ([[1, 2], [3]], "not a list of numbers"),
        (["a"], "not a list of numbers"),
        ([], "not a list of numbers"),
    ],
)
def test_wrong_values(values: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mask_from_values("mine", values)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_filling(tmp_path / "absent.txt")
    (tmp_path / "mask.root").write_text("1")
    with pytest.raises(ConfigError, match="unknown suffix"):
        read_filling(tmp_path / "mask.root")
    for name, content in {"a.txt": b"1 two 3", "b.json": b"[1, 2", "c.npy": b"no array", "d.txt": b"\xff\xfe"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_filling(tmp_path / name)
    (tmp_path / "e.json").write_text('{"slots": 3}')
    with pytest.raises(DataError, match=r"e\.json"):
        read_filling(tmp_path / "e.json")
    np.save(tmp_path / "f.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"f\.npy"):
        read_filling(tmp_path / "f.npy")


def test_mask_needs_booleans_of_one_orbit() -> None:
    with pytest.raises(DataError, match="3564 booleans"):
        FillingMask("x", np.ones(3563, dtype=bool))
    with pytest.raises(DataError, match="3564 booleans"):
        FillingMask("x", np.ones(3564, dtype=np.int64))

"""The events that come with the package. Their data cards are ``events/CARD.md`` and ``events/CARD_LEVEL1.md``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.packed_columns import PackedColumns, unpack_columns
from trigger_prune.data.readers._base import close_matches
from trigger_prune.data.sample import EventSample
from trigger_prune.errors import ConfigError, DataError

EVENTS_DIR = Path(__file__).parent / "events"

N_POSITIONS = 16
"""Leading constituents stored per jet."""

CONSTITUENT_FEATURES = ("log2_pt", "d_eta", "d_phi")

KINEMATIC_NAMES = ("pt_gev", "rapidity", "phi")

_FILES = {
    "jets16": ("jets16_part1.npz", "jets16_part2.npz"),
    "jets16_constituents": ("jets16_constituents.npz",),
}
BUILTIN_LEVEL1 = {
    "level1": EVENTS_DIR / "level1",
    "level1_regions": EVENTS_DIR / "level1_regions",
}
"""Shipped samples of level-1 events: folders, as ``trigger-prune data make level1`` writes them."""

_KINEMATICS_FILE = "jets16_kinematics.npz"


def builtin_files(name: str) -> list[Path]:
    """Files of the sample ``builtin:NAME``. Raises ConfigError for an unknown name."""
    if name in BUILTIN_LEVEL1:
        return sorted(BUILTIN_LEVEL1[name].glob("l1_*.npz"))
    if name not in _FILES:
        names = [*_FILES, *BUILTIN_LEVEL1]
        samples = ", ".join(f"builtin:{known}" for known in names)
        raise ConfigError(
            f"data.path: there is no sample builtin:{name}",
            hint=f"{close_matches(name, names)}the samples are {samples}",
        )
    return [EVENTS_DIR / file for file in _FILES[name]]


def load_builtin(name: str, max_events: int | None = None) -> EventSample:
    """A shipped sample, reduced to its first ``max_events`` rows.

    ``jets16``: 223 010 jets, features ``(n, 16)``, classes g q W Z t.
    ``jets16_constituents``: the first rows of the same jets, features ``(n, 3, 16)``: log2(1 + pT / GeV), d_eta, d_phi
    of the 16 hardest constituents, hardest first, zeros where a jet has fewer. Weights are 1; group = collision.

    Raises ConfigError for an unknown name, DataError when a packed file is damaged.
    """
    parts = [_read(path) for path in builtin_files(name)]
    first = parts[0]
    labels = first["labels"].astype(np.int64)
    groups = np.cumsum(np.unpackbits(first["new_collision"], count=len(labels)), dtype=np.int64) - 1
    features, names = _constituents(first) if name == "jets16_constituents" else _high_level(parts)
    rows = slice(None, max_events)
    return EventSample(
        np.ascontiguousarray(features[rows]),
        labels[rows],
        np.ones(len(labels[rows]), dtype=np.float64),
        groups[rows],
        names,
        tuple(str(name) for name in first["classes"]),
        f"builtin:{name}",
    )


def load_jets16_kinematics(max_events: int | None = None) -> NDArray[np.float32]:
    """Jet pT in GeV, rapidity and azimuth in rad of the rows of ``builtin:jets16``, ``(n, 3)``: not network inputs."""
    packed = PackedColumns.from_arrays(_read(EVENTS_DIR / _KINEMATICS_FILE), "kinematics")
    return unpack_columns(packed)[:max_events]


def _high_level(parts: list[dict[str, NDArray[Any]]]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    columns: dict[str, NDArray[np.float32]] = {}
    for part in parts:
        values = unpack_columns(PackedColumns.from_arrays(part, "features"))
        columns.update(zip(part["stored_names"].tolist(), values.T, strict=True))
    # stored_as names, for each feature in order, the column that holds it: d2_b1_mmdt is stored once.
    names = tuple(parts[0]["names"].tolist())
    return np.stack([columns[stored] for stored in parts[0]["stored_as"].tolist()], axis=1), names


def _constituents(part: dict[str, NDArray[Any]]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    values = unpack_columns(PackedColumns.from_arrays(part, "constituents"))
    values = values.reshape(len(values), len(CONSTITUENT_FEATURES), N_POSITIONS)
    # Constituents are ordered in pT: the file holds the first log2_pt and how far each next one lies below.
    values[:, 0, 1:] *= -1
    values[:, 0] = np.cumsum(values[:, 0], axis=1)
    return values, CONSTITUENT_FEATURES


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{path}: the packed events cannot be read ({error})", hint="the file is damaged: install the package again"
        ) from error


def data_card(path: str) -> str | None:
    """Text of the data card when ``path`` names a shipped sample, else None."""
    if not path.startswith("builtin:"):
        return None
    level1 = path.removeprefix("builtin:") in BUILTIN_LEVEL1
    return (EVENTS_DIR / ("CARD_LEVEL1.md" if level1 else "CARD.md")).read_text(encoding="utf-8")

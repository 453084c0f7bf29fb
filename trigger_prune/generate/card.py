"""What a generated event file holds: provenance, rows, cross-sections. Needs none of the generator's packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import DataError
from trigger_prune.generate.event_files import READ_ERRORS, read_provenance

LEVEL1_PREFIX = "l1_"

_SCALARS = ("pileup", "sigma_nd_mb", "pthat_min_gev", "pthat_max_gev", "reuse")


@dataclass(frozen=True)
class ProcessRows:
    """Rows of one class or process; ``generated`` collisions they come from, ``sigma_mb`` where the file tells."""

    name: str
    rows: int
    generated: int | None
    sigma_mb: float | None


@dataclass(frozen=True)
class EventCard:
    """One event file; ``provenance`` is None when no generator of this package wrote it, ``scalars`` its constants."""

    path: Path
    provenance: Mapping[str, Any] | None
    processes: tuple[ProcessRows, ...]
    scalars: Mapping[str, float]
    arrays: Mapping[str, str]


def read_cards(path: Path) -> list[EventCard]:
    """Cards of an npz file, or of all npz files of a folder in the order of their names.

    Raises DataError when there is none, or one cannot be read or holds neither jets nor level-1 events.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder", hint="or name a shipped sample, builtin:jets16")
    files = [path] if path.is_file() else sorted(path.glob("*.npz"))
    if not files:
        raise DataError(f"{path}: no npz file in this folder", hint="make some: trigger-prune data make")
    return [_read_card(file) for file in files]


def _read_card(path: Path) -> EventCard:
    provenance = read_provenance(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except READ_ERRORS as error:
        raise DataError(f"{path}: cannot be read ({error})", hint="the file is damaged or no npz archive") from error
    return EventCard(
        path,
        provenance,
        _processes(path, arrays),
        {name: float(arrays[name]) for name in _SCALARS if name in arrays and arrays[name].ndim == 0},
        {name: f"{array.dtype} {array.shape}" for name, array in arrays.items()},
    )


def _processes(path: Path, arrays: Mapping[str, NDArray[Any]]) -> tuple[ProcessRows, ...]:
    if "classes" in arrays and "y" in arrays:
        names = [str(name) for name in arrays["classes"]]
        rows = np.bincount(arrays["y"].astype(np.int64), minlength=len(names))
        return tuple(
            ProcessRows(name, int(rows[i]), _entry(arrays, "n_gen", i, int), _entry(arrays, "sigma_mb", i, float))
            for i, name in enumerate(names)
        )
    if "x" in arrays:
        name = path.name.split(".")[0].removeprefix(LEVEL1_PREFIX)
        generated, sigma = _entry(arrays, "n_gen", 0, int), _entry(arrays, "sigma_mb", 0, float)
        return (ProcessRows(name, len(arrays["x"]), generated, sigma),)
    if "sigma_mb" in arrays:
        generated = _entry(arrays, "n_generated", 0, int)
        return (ProcessRows(path.stem, 0, generated, _entry(arrays, "sigma_mb", 0, float)),)
    raise DataError(
        f"{path}: neither jets nor level-1 events: it holds {', '.join(arrays)}",
        hint="give a file that `trigger-prune data make` wrote",
    )


def _entry(arrays: Mapping[str, NDArray[Any]], name: str, i: int, kind: type) -> Any:
    if name not in arrays:
        return None
    return kind(np.atleast_1d(arrays[name])[i])

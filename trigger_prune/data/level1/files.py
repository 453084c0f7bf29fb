"""Files of one process: ``l1_PROCESS.npz``, or ``l1_PROCESS.part0.npz``, ``.part1.npz``, ... joined in that order."""

from __future__ import annotations

import re
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.level1.words import check_records
from trigger_prune.errors import ConfigError, DataError

DEFAULT_PILEUP = 50.0
"""Mean overlay of files that do not store theirs."""

REGION_SHAPE = (18, 14)

_NAME = re.compile(r"l1_(?P<process>[A-Za-z0-9_+-]+?)(\.part(?P<part>\d+))?\.npz")
_DAMAGED = "the file is damaged or incomplete: make it again, or copy it again"
_PER_EVENT = ("x", "gid", "npu", "offline", "regions")
_SCALARS = ("sigma_mb", "n_gen", "reuse", "pileup", "sigma_nd_mb", "pthat_min_gev", "pthat_max_gev")


@dataclass(frozen=True)
class ProcessEvents:
    """All rows of one process.

    words         int16 ``(n, 80)``, see ``words.WORDS``
    collision     int64 ``(n,)``: number of the generated hard scatter; rows that reuse one share it
    sigma_mb      cross section, 0 for crossings without hard scatter
    npu           overlaid collisions per row, or None where the file has none
    offline       offline quantities by name, each float64 ``(n,)``
    regions       uint16 ``(n, 18, 14)`` region transverse energies in steps of 0.5 GeV, or None
    pileup        mean overlay (50 where the file says nothing); sigma_nd_mb its cross section, None if not stored
    pthat_gev     limits of the generated pT-hat, None if not stored; no upper limit is infinity
    """

    name: str
    paths: tuple[Path, ...]
    words: NDArray[np.int16]
    collision: NDArray[np.int64]
    sigma_mb: float
    npu: NDArray[np.int64] | None
    offline: dict[str, NDArray[np.float64]]
    regions: NDArray[np.uint16] | None
    pileup: float
    sigma_nd_mb: float | None
    pthat_gev: tuple[float, float] | None


def find_processes(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Process -> its files in order of their parts, for every level-1 file in ``folder``; processes sorted by name.

    Raises ConfigError when there is no such folder, DataError when a part is missing between others, is there twice,
    or a process has both a whole file and parts.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", hint="make it with: trigger-prune data make level1")
    found: dict[str, list[tuple[int | None, Path]]] = {}
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            part = match["part"]
            found.setdefault(match["process"], []).append((None if part is None else int(part), path))
    return {process: _ordered_parts(folder, process, parts) for process, parts in sorted(found.items())}


def _ordered_parts(folder: Path, process: str, found: list[tuple[int | None, Path]]) -> tuple[Path, ...]:
    if len(found) == 1 and found[0][0] is None:
        return (found[0][1],)
    numbered = sorted((number, path) for number, path in found if number is not None)
    if len(numbered) < len(found):
        raise DataError(
            f"{folder}: process {process} has a whole file and parts", hint="which of them is meant? Remove the others"
        )
    numbers = [number for number, _ in numbered]
    first = min(numbers[0], 1)
    if numbers != list(range(first, first + len(numbers))):
        absent = sorted(set(range(first, numbers[-1] + 1)) - set(numbers))
        what = f"part {absent[0]} is missing" if absent else "a part is there twice"
        raise DataError(f"{folder}: process {process} has parts {numbers}: {what}", hint=_DAMAGED)
    return tuple(path for _, path in numbered)


def holds_events(path: Path) -> bool:
    """Whether a file has the array ``x``, so that it holds events. Raises DataError when it cannot be read."""
    return "x" in _read(path, names_only=True)


def read_process(name: str, paths: tuple[Path, ...]) -> ProcessEvents:
    """The events of one process from its files, joined.

    Raises DataError (naming file and array) for a damaged file, a missing array, wrong shapes, types or values, more
    rows than ``n_gen * reuse``, and parts that do not fit together.
    """
    parts = [_read(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        _check_part(path, part)
    first = parts[0]
    for path, part in zip(paths[1:], parts[1:], strict=True):
        _check_same(paths[0], first, path, part)
    joined = {key: np.concatenate([part[key] for part in parts]) for key in _PER_EVENT if key in first}
    words: NDArray[np.int16] = joined["x"]
    reuse = int(first["reuse"])
    collision = joined["gid"] if "gid" in joined else np.arange(len(words)) // reuse
    names = [str(text) for text in first["offline_names"]] if "offline" in first else []
    limits = None
    if "pthat_min_gev" in first and "pthat_max_gev" in first:
        upper = float(first["pthat_max_gev"])
        limits = float(first["pthat_min_gev"]), upper if upper > 0 else np.inf
    return ProcessEvents(
        name=name,
        paths=paths,
        words=words,
        collision=collision.astype(np.int64),
        sigma_mb=float(first["sigma_mb"]),
        npu=joined["npu"].astype(np.int64) if "npu" in joined else None,
        offline={text: joined["offline"][:, k].astype(np.float64) for k, text in enumerate(names)},
        regions=joined.get("regions"),
        pileup=float(first.get("pileup", np.float64(DEFAULT_PILEUP))),
        sigma_nd_mb=float(first["sigma_nd_mb"]) if "sigma_nd_mb" in first else None,
        pthat_gev=limits,
    )


def _read(path: Path, names_only: bool = False) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: one array, not an npz file of several", hint=_DAMAGED)
        with loaded as file:
            if file.zip is not None and any(entry.comment for entry in file.zip.infolist()):
                # nobody writes comments: a damaged length takes the entries that follow for one
                raise DataError(f"{path}: cannot be read (list of arrays damaged)", hint=_DAMAGED)
            if names_only:
                return dict.fromkeys(file.files, np.zeros(0))
            # all of them, also those that are not needed: a damaged name is found when the array is read
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, SyntaxError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint=_DAMAGED) from error
    except (zipfile.BadZipFile, zlib.error, tokenize.TokenError, MemoryError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint=_DAMAGED) from error


def _check_part(path: Path, part: dict[str, NDArray[Any]]) -> None:
    for key in ("x", "sigma_mb", "n_gen", "reuse"):
        if key not in part:
            raise DataError(f"{path}: has no array {key!r}", hint=f"it has {', '.join(part) or 'nothing'}")
    check_records(part["x"], f"{path}: x")
    n = len(part["x"])
    if n == 0:
        raise DataError(f"{path}: x has no rows")
    for key in _SCALARS:
        if key in part:
            _check_scalar(path, key, part[key])
    n_gen, reuse = int(part["n_gen"]), int(part["reuse"])
    if n_gen < 1 or reuse < 1:
        raise DataError(f"{path}: n_gen is {n_gen} and reuse {reuse}, not both at least 1")
    if n > n_gen * reuse:
        raise DataError(f"{path}: x has {n} rows, more than n_gen * reuse = {n_gen} * {reuse}", hint=_DAMAGED)
    if "offline" in part:
        _check_offline(path, part, n)
    _check_column(path, part, "gid", np.dtype(np.int64), (n,))
    _check_column(path, part, "npu", np.dtype(np.int16), (n,))
    _check_column(path, part, "regions", np.dtype(np.uint16), (n, *REGION_SHAPE))


def _check_scalar(path: Path, key: str, value: NDArray[Any]) -> None:
    if value.shape != () or value.dtype.kind not in "iuf" or np.isnan(value):
        raise DataError(f"{path}: {key} is {value!r}, not one number", hint=_DAMAGED)
    integer = key in ("n_gen", "reuse")
    if integer and value.dtype.kind == "f":
        raise DataError(f"{path}: {key} is {value}, not an integer", hint=_DAMAGED)
    if key in ("sigma_mb", "pileup", "sigma_nd_mb") and not 0 <= value < np.inf:
        raise DataError(f"{path}: {key} is {value}, not a number >= 0", hint=_DAMAGED)


def _check_column(
    path: Path, part: dict[str, NDArray[Any]], key: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    if key not in part:
        return
    values = part[key]
    if values.dtype != dtype or values.shape != shape:
        raise DataError(f"{path}: {key} is {values.dtype} of shape {values.shape}, not {dtype} of shape {shape}")
    if values.ndim == 1 and values.min() < 0:
        row = int(np.argmax(values < 0))
        raise DataError(f"{path}: {key} of row {row} is {values[row]}, below 0")


def _check_offline(path: Path, part: dict[str, NDArray[Any]], n: int) -> None:
    if "offline_names" not in part:
        raise DataError(f"{path}: has no array 'offline_names' for the columns of 'offline'")
    names = part["offline_names"]
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) != len(names):
        raise DataError(f"{path}: offline_names are {names.tolist()}, not different names")
    _check_column(path, part, "offline", np.dtype(np.float32), (n, len(names)))
    finite = np.isfinite(part["offline"])
    if not finite.all():
        row, column = (int(place) for place in np.argwhere(~finite)[0])
        raise DataError(f"{path}: offline {names[column]} of row {row} is {part['offline'][row, column]}")


def _check_same(first_path: Path, first: dict[str, NDArray[Any]], path: Path, part: dict[str, NDArray[Any]]) -> None:
    for key in sorted(set(first) ^ set(part)):
        has, lacks = (first_path, path) if key in first else (path, first_path)
        raise DataError(f"{lacks}: has no array {key!r}, but {has.name} does", hint="parts of one process must match")
    for key in ("sigma_mb", "reuse", "pileup", "sigma_nd_mb", "pthat_min_gev", "pthat_max_gev", "offline_names"):
        if key in first and not np.array_equal(first[key], part[key]):
            raise DataError(
                f"{path}: {key} is {part[key].tolist()}, but {first[key].tolist()} in {first_path.name}",
                hint="parts of one process must come from one production",
            )

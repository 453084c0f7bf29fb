"""Event files of the generators: npz archives whose bytes depend on nothing but their content, with provenance."""

from __future__ import annotations

import json
import os
import platform
import zipfile
import zlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import trigger_prune
from trigger_prune.errors import DataError

PROVENANCE = "provenance"
"""Name of the array that holds the provenance: one text, JSON."""

READ_ERRORS = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)

# the first date a zip archive can hold: a real one would make two equal runs differ
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_PACKAGES = ("numpy", "numba", "awkward", "pythia8mc")


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write a compressed npz archive under a temporary name, then rename it. Equal arrays give equal bytes.

    Raises OSError when the disk is full or the folder is gone, ValueError for arrays of objects.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy", _DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system = _UNIX
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
        return temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what processes that were ended in the middle of ``write_npz`` left of ``folder/name``.

    Nobody may be writing there: a temporary file does not say whether its process still lives.
    """
    for path in folder.glob(f".{name}.*.tmp"):
        path.unlink(missing_ok=True)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an archive, in its order; never with pickle. Raises one of ``READ_ERRORS`` when damaged."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def is_whole(path: Path) -> bool:
    """Whether an archive is complete and its checksums are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except READ_ERRORS:
        return False


def package_versions() -> dict[str, str]:
    """Versions of what decides the content of a generated file."""
    versions = {"python": platform.python_version(), "trigger_prune": trigger_prune.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return versions


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Provenance of an event file, None when it was not written by a generator.

    Raises DataError when the file cannot be read or its provenance is not JSON.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if PROVENANCE not in archive.files:
                return None
            content = json.loads(str(archive[PROVENANCE]))
    except (*READ_ERRORS, AttributeError, TypeError) as error:
        raise DataError(
            f"{path}: the provenance cannot be read ({error})", hint="give an npz file that `data make` wrote"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: the provenance is not a table of names and values")
    return content

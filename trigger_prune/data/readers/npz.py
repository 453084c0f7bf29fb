"""numpy ``.npz`` archives, never with pickle."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from trigger_prune.data.readers._base import missing_key, unreadable
from trigger_prune.errors import DataError

_READ_ERRORS = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class NpzEvents:
    """One open archive. Arrays are read when asked for and kept, since an archive has no partial reads."""

    def __init__(self, path: Path, archive: NpzFile) -> None:
        self.path = path
        self._archive = archive
        self._arrays: dict[str, NDArray[Any]] = {}

    def keys(self) -> list[str]:
        """Names of the arrays."""
        return list(self._archive.files)

    def n_rows(self, key: str) -> int:
        """Length of the first axis."""
        array = self._array(key)
        if array.ndim == 0:
            raise DataError(f"{self.path}: array {key!r} is a single value, not one per event")
        return len(array)

    def read(self, key: str, stop: int | None = None) -> NDArray[Any]:
        """The first ``stop`` rows of an array."""
        self.n_rows(key)
        return self._array(key)[:stop]

    def _array(self, key: str) -> NDArray[Any]:
        if key not in self._archive.files:
            raise missing_key(self.path, key, self.keys(), "array")
        if key not in self._arrays:
            with unreadable(self.path, _READ_ERRORS, f"array {key!r}"):
                if self._is_object(key):
                    raise DataError(
                        f"{self.path}: array {key!r} holds Python objects, which only pickle could read; "
                        "a pickle can run any code, so it is never opened",
                        hint="save plain numbers or fixed-length strings, e.g. array.astype(np.float32) or astype(str)",
                    )
                self._arrays[key] = self._archive[key]
        return self._arrays[key]

    def _is_object(self, key: str) -> bool:
        with self._archive.zip.open(f"{key}.npy") as member:  # type: ignore[union-attr]
            version = np.lib.format.read_magic(member)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return bool(reader(member)[2].hasobject)


@contextmanager
def open_file(path: Path, tree: str | None) -> Iterator[NpzEvents]:
    """Open an archive; ``tree`` is always None here."""
    with unreadable(path, _READ_ERRORS):
        archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, NpzFile):
        raise DataError(f"{path}: this is a single array, not an npz archive", hint="write it with np.savez_compressed")
    with archive:
        yield NpzEvents(path, archive)

"""HDF5 files through h5py (extra ``hdf5``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.readers._base import missing_key, not_installed, unreadable
from trigger_prune.errors import DataError

_READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError)


class Hdf5Events:
    """One open file; datasets inside groups are named by their path, ``group/x``."""

    def __init__(self, path: Path, file: Any) -> None:
        import h5py

        self.path = path
        self._file = file
        self._keys: list[str] = []
        with unreadable(path, _READ_ERRORS):
            file.visititems(lambda name, item: self._keys.append(name) if isinstance(item, h5py.Dataset) else None)

    def keys(self) -> list[str]:
        """Paths of all datasets."""
        return list(self._keys)

    def n_rows(self, key: str) -> int:
        """Length of the first axis."""
        shape = self._dataset(key).shape
        if not shape:
            raise DataError(f"{self.path}: dataset {key!r} is a single value, not one per event")
        return int(shape[0])

    def read(self, key: str, stop: int | None = None) -> NDArray[Any]:
        """The first ``stop`` rows of a dataset; strings as numpy text."""
        import h5py

        self.n_rows(key)
        dataset = self._dataset(key)
        with unreadable(self.path, _READ_ERRORS, f"dataset {key!r}"):
            if dataset.dtype.names:
                raise DataError(
                    f"{self.path}: dataset {key!r} is a table with fields {', '.join(dataset.dtype.names)}",
                    hint="write one plain array of all features, or the table as parquet",
                )
            if h5py.check_string_dtype(dataset.dtype) is not None:
                return np.asarray(dataset.asstr()[:stop], dtype=np.str_)
            return np.asarray(dataset[:stop])

    def _dataset(self, key: str) -> Any:
        if key.strip("/") not in self._keys:
            raise missing_key(self.path, key, self._keys, "dataset")
        with unreadable(self.path, _READ_ERRORS, f"dataset {key!r}"):
            return self._file[key]


@contextmanager
def open_file(path: Path, tree: str | None) -> Iterator[Hdf5Events]:
    """Open a file; ``tree`` is always None here."""
    try:
        import h5py
    except ImportError:
        raise not_installed("h5py", "hdf5") from None
    with unreadable(path, _READ_ERRORS):
        file = h5py.File(path, "r")
    with file:
        yield Hdf5Events(path, file)

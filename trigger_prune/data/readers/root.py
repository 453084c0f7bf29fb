"""ROOT files, TTree and RNTuple, through uproot (extra ``root``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.readers._base import close_matches, missing_key, not_installed, ragged_key, unreadable
from trigger_prune.errors import ConfigError, DataError

# uproot and the decompressors raise types without a common base on damaged bytes (zlib.error, RecursionError,
# AssertionError, its own DeserializationError): all of them mean that these bytes are not a readable file.
_READ_ERRORS = (Exception,)

_TREE_CLASSES = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")

_NUMERIC_TYPE = re.compile(
    r"(?:(?:std::)?vector<|(?:std::)?array<|ROOT::(?:VecOps::)?RVec<)*(?:std::)?"
    r"(?:u?int(?:8|16|32|64)_t|float|double|Float16_t|Double32_t|(?:unsigned )?(?:char|short|int|long(?: long)?))"
    r"(?![\w*])"
)


class RootEvents:
    """One open TTree or RNTuple; branches of numbers, text, or lists of numbers of one length."""

    def __init__(self, path: Path, tree: Any) -> None:
        self.path = path
        self._tree = tree
        with unreadable(path, _READ_ERRORS):
            self._types: dict[str, str] = dict(tree.typenames())

    def keys(self) -> list[str]:
        """Names of the branches."""
        return list(self._types)

    def numeric_keys(self) -> list[str]:
        """Names of the branches of integers or floats, or lists of them."""
        return [key for key, kind in self._types.items() if _NUMERIC_TYPE.match(kind)]

    def n_rows(self, key: str) -> int:
        """Entries of the tree."""
        self._check_key(key)
        return int(self._tree.num_entries)

    def read(self, key: str, stop: int | None = None) -> NDArray[Any]:
        """The first ``stop`` entries of a branch."""
        self._check_key(key)
        with unreadable(self.path, _READ_ERRORS, f"branch {key!r}"):
            array = self._tree[key].array(entry_stop=stop, library="ak")
        return self._to_numpy(array, key)

    def _check_key(self, key: str) -> None:
        if key not in self._types:
            raise missing_key(self.path, key, self.keys(), "branch")

    def _to_numpy(self, array: Any, key: str) -> NDArray[Any]:
        import awkward as ak

        for axis in range(1, array.ndim):
            lengths = ak.num(array, axis=axis)
            first = int(ak.flatten(lengths, axis=None)[0]) if len(array) else 0
            different = lengths != first
            while different.ndim > 1:
                different = ak.any(different, axis=-1)
            rows = np.flatnonzero(ak.to_numpy(different))
            if len(rows):
                inner = ak.flatten(lengths[rows[:1]], axis=None) if axis > 1 else lengths[rows[:1]]
                length = next(int(value) for value in inner if value != first)
                raise ragged_key(self.path, key, int(rows[0]), length, first)
        try:
            values = ak.to_numpy(array)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{self.path}: branch {key!r} of type {self._types[key]} is no plain array",
                hint="branches of numbers, text, or lists of numbers can be read",
            ) from error
        if np.ma.is_masked(values):
            row = int(np.argwhere(np.ma.getmaskarray(values))[0][0])
            raise DataError(f"{self.path}: branch {key!r} has no value in row {row}")
        return np.asarray(values)


@contextmanager
def open_file(path: Path, tree: str | None) -> Iterator[RootEvents]:
    """Open the tree called ``tree``, or the only one."""
    try:
        import awkward  # noqa: F401
        import uproot
    except ImportError:
        raise not_installed("uproot and awkward", "root") from None
    with unreadable(path, _READ_ERRORS):
        file = uproot.open(path)
    with file:
        with unreadable(path, _READ_ERRORS):
            stated_bytes = int(file.file.fEND)
            classes = dict(file.classnames(recursive=True, cycle=False))
        if path.stat().st_size < stated_bytes:
            raise DataError(
                f"{path}: the file is cut short: {path.stat().st_size} of {stated_bytes} bytes",
                hint="copy it again, or close it properly where it is written",
            )
        name = _choose_tree(path, [key for key, kind in classes.items() if kind in _TREE_CLASSES], tree)
        with unreadable(path, _READ_ERRORS, f"tree {name!r}"):
            opened = file[name]
        yield RootEvents(path, opened)


def _choose_tree(path: Path, trees: list[str], wanted: str | None) -> str:
    if not trees:
        raise DataError(f"{path}: the file holds no TTree and no RNTuple")
    if wanted is None and len(trees) > 1:
        raise ConfigError(f"data.tree: {path} holds {len(trees)} trees", hint=f"name one of {', '.join(trees)}")
    if wanted is not None and wanted not in trees:
        raise DataError(
            f"{path}: there is no tree {wanted!r} (data.tree)",
            hint=f"{close_matches(wanted, trees)}the file has {', '.join(trees)}",
        )
    return wanted or trees[0]

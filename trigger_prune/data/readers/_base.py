"""What every reader of event files offers, and which reader opens which suffix."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from trigger_prune.errors import ConfigError, DataError, TriggerPruneError

_READERS = {
    ".npz": "npz",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".parquet": "parquet",
    ".root": "root",
}
"""Suffix -> module of this package with a function ``open_file(path, tree)``. A new format is one module, one line."""

_MAX_KEYS_SHOWN = 40


class EventFile(Protocol):
    """An open file of named arrays (npz, HDF5): by default one of them holds all features."""

    path: Path

    def keys(self) -> list[str]:
        """Names of all arrays, columns or branches."""
        ...

    def n_rows(self, key: str) -> int:
        """Length of the first axis. Raises DataError for an unknown key."""
        ...

    def read(self, key: str, stop: int | None = None) -> NDArray[Any]:
        """The first ``stop`` rows (all by default): ``(rows,)``, or more axes for lists of one fixed length.

        Raises DataError for an unknown key, missing values, lists of different lengths, or damaged data.
        """
        ...


@runtime_checkable
class ColumnFile(EventFile, Protocol):
    """An open table (parquet, ROOT): by default every numeric column without another role is a feature."""

    def numeric_keys(self) -> list[str]:
        """Columns of integers or floats, or lists of them."""
        ...


def open_events(path: Path, tree: str | None = None) -> AbstractContextManager[EventFile]:
    """Open a file with the reader of its suffix.

    Raises ConfigError for a missing file, an unknown suffix or ``tree`` given for a format without trees, DataError
    for a file that cannot be read, ConfigError naming the extra when the format's library is not installed.
    """
    if path.suffix.lower() not in _READERS:
        raise ConfigError(
            f"data.path: {path} has the unknown suffix {path.suffix!r}",
            hint=f"event files end in {', '.join(_READERS)}; or name a shipped sample, builtin:jets16",
        )
    if not path.is_file():
        raise ConfigError(
            f"data.path: there is no file {path}", hint="a relative path starts at the folder of project.yaml"
        )
    reader = _READERS[path.suffix.lower()]
    if tree is not None and reader != "root":
        raise ConfigError(f"data.tree: {path.name} has no trees, only ROOT files do", hint="remove data.tree")
    opened: AbstractContextManager[EventFile] = import_module(f"{__package__}.{reader}").open_file(path, tree)
    return opened


def missing_key(path: Path, key: str, known: Sequence[str], kind: str, hint: str = "") -> DataError:
    """The error for a name that the file does not have; lists the names it has, nearest first."""
    shown = ", ".join(known[:_MAX_KEYS_SHOWN]) or "(none)"
    more = f" and {len(known) - _MAX_KEYS_SHOWN} more" if len(known) > _MAX_KEYS_SHOWN else ""
    return DataError(
        f"{path}: there is no {kind} {key!r}", hint=f"{close_matches(key, known)}the file has {shown}{more}{hint}"
    )


def close_matches(key: str, known: Sequence[str]) -> str:
    """``did you mean 'a' or 'b'? `` (capitals ignored), or nothing."""
    by_lower: dict[str, str] = {}
    for name in known:
        by_lower.setdefault(name.lower(), name)
    near = [by_lower[name] for name in difflib.get_close_matches(key.lower(), list(by_lower), n=3)]
    return f"did you mean {' or '.join(repr(name) for name in near)}? " if near else ""


def ragged_key(path: Path, key: str, row: int, length: int, first_length: int) -> DataError:
    """The error for lists of different lengths."""
    return DataError(
        f"{path}: {key!r} holds lists of different lengths: {first_length} values in row 0, {length} in row {row}",
        hint="a network needs a fixed number of constituents: pad or cut the lists when the file is written",
    )


@contextmanager
def unreadable(path: Path, errors: tuple[type[Exception], ...], what: str = "the file") -> Iterator[None]:
    """Turn a library's own errors into a DataError that names the file."""
    try:
        yield
    except TriggerPruneError:
        raise
    except errors as error:
        text = str(error).strip().splitlines()
        raise DataError(
            f"{path}: {what} cannot be read ({type(error).__name__}: {text[0] if text else 'no message'})",
            hint="the file is damaged, cut short or of another format than its suffix says",
        ) from error


def not_installed(library: str, extra: str) -> ConfigError:
    """The error for a format whose library is missing."""
    return ConfigError(
        f"data.path: reading this file needs {library}, which is not installed",
        hint=f"pip install 'trigger_prune[{extra}]'",
    )

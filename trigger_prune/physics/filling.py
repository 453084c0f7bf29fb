"""Filling schemes of the LHC: which of the 3564 slots of an orbit hold colliding bunches.

The shipped trains follow one rule. An orbit starts with the short batch that the SPS sends first; it collides nowhere
and its slots are empty. Then come the injections from the SPS, each of them a few trains. Between two trains of an
injection 7 slots stay empty (200 ns, the rise time of the SPS injection kicker), before every injection 31 (800 ns,
LHC injection kicker), and at the end of the orbit at least 121 (3 us, beam dump kicker). Real schemes of the same
type differ by a few bunches.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ConfigError, DataError

N_SLOTS = 3564
"""Slots of 24.951 ns in one orbit."""

REVOLUTION_HZ = 11245.5
"""Orbits per second."""

TRAIN_GAP = 7
INJECTION_GAP = 31
ABORT_GAP = 121


@dataclass(frozen=True, eq=False)
class FillingMask:
    """Slots with colliding bunches: ``filled`` is a read-only bool ``(3564,)``. Equal when name and slots are.

    Raises DataError for another shape or type, and when no slot is filled.
    """

    name: str
    filled: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.filled.shape != (N_SLOTS,) or self.filled.dtype != np.bool_:
            raise DataError(
                f"filling {self.name}: {self.filled.dtype} values of shape {self.filled.shape}, not {N_SLOTS} booleans"
            )
        if not self.filled.any():
            raise DataError(f"filling {self.name}: no slot is filled")
        filled = self.filled.copy()
        filled.flags.writeable = False
        object.__setattr__(self, "filled", filled)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FillingMask):
            return NotImplemented
        return self.name == other.name and np.array_equal(self.filled, other.filled)

    def __hash__(self) -> int:
        return hash((self.name, self.filled.tobytes()))

    @property
    def colliding(self) -> int:
        """Number of colliding bunches."""
        return int(self.filled.sum())

    @property
    def crossings_hz(self) -> float:
        """Bunch crossings per second."""
        return REVOLUTION_HZ * self.colliding


@dataclass(frozen=True)
class CollidingBunches:
    """Only the number of colliding bunches: enough for rates, not for queues, which need the pattern.

    Raises ConfigError outside 1 .. 3564.
    """

    colliding: int

    def __post_init__(self) -> None:
        if not 1 <= self.colliding <= N_SLOTS:
            raise ConfigError(f"{self.colliding} colliding bunches: an orbit has 1 to {N_SLOTS}")

    @property
    def name(self) -> str:
        """For messages and reports."""
        return f"{self.colliding} bunches"

    @property
    def crossings_hz(self) -> float:
        """Bunch crossings per second."""
        return REVOLUTION_HZ * self.colliding


Filling = FillingMask | CollidingBunches


@dataclass(frozen=True)
class _Scheme:
    first_batch: int
    train_length: int
    trains_per_injection: tuple[int, ...]


_SCHEMES = {
    "72b": _Scheme(12, 72, (3, 3, 3, 3, 4, 3, 3, 3, 3, 3, 4, 3)),
    "48b": _Scheme(8, 48, (5, 5, 5, 4, 5, 5, 5, 4, 5, 5, 5, 4)),
    "36b": _Scheme(12, 36, (5,) * 13),
}

FILLING_NAMES = (*_SCHEMES, "continuous")
"""``72b`` and ``48b`` (BCMS): 2736 colliding bunches, ``36b`` (Run 3): 2340, ``continuous``: every slot."""


def named_filling(name: str) -> FillingMask:
    """A shipped filling scheme, one of ``FILLING_NAMES``. Raises ConfigError for another name."""
    if name == "continuous":
        return FillingMask(name, np.ones(N_SLOTS, dtype=np.bool_))
    if name not in _SCHEMES:
        close = difflib.get_close_matches(name, FILLING_NAMES, n=1, cutoff=0.4)
        raise ConfigError(
            f"there is no filling scheme {name!r}",
            hint=f"{f'did you mean {close[0]}? ' if close else ''}"
            f"schemes: {', '.join(FILLING_NAMES)}; or a number of bunches, or a file (.txt, .csv, .npy, .json)",
        )
    scheme = _SCHEMES[name]
    filled = np.zeros(N_SLOTS, dtype=np.bool_)
    slot = scheme.first_batch
    for trains in scheme.trains_per_injection:
        slot += INJECTION_GAP - TRAIN_GAP
        for _ in range(trains):
            slot += TRAIN_GAP
            filled[slot : slot + scheme.train_length] = True
            slot += scheme.train_length
    assert slot + ABORT_GAP <= N_SLOTS, f"{name} leaves no abort gap"
    return FillingMask(name, filled)


def mask_from_values(name: str, values: Sequence[float] | NDArray[np.generic]) -> FillingMask:
    """A mask from 3564 values of 0 and 1, or from the numbers of the filled slots, counted from 0, in any order.

    ``name`` also says in messages where the values came from. Raises DataError for anything else: fractions, slots
    outside the orbit or given twice, a list of zeros and ones of another length.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"filling {name}: not a list of numbers ({error})", hint=_FORMAT) from error
    if array.ndim != 1 or array.dtype.kind not in "buif" or len(array) == 0:
        raise DataError(f"filling {name}: not a list of numbers", hint=_FORMAT)
    numbers = array.astype(np.float64)
    if array.dtype.kind == "b" or (len(array) > 2 and np.isin(numbers, (0, 1)).all()):
        if len(array) != N_SLOTS:
            raise DataError(f"filling {name}: {len(array)} zeros and ones, an orbit has {N_SLOTS} slots", hint=_FORMAT)
        return FillingMask(name, numbers == 1)
    wrong = ~((numbers == np.round(numbers)) & (numbers >= 0) & (numbers < N_SLOTS))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise DataError(
            f"filling {name}: value {place + 1} is {numbers[place]:g}, not a slot number 0 .. {N_SLOTS - 1}",
            hint=_FORMAT,
        )
    slots, counts = np.unique(numbers.astype(np.int64), return_counts=True)
    if counts.max() > 1:
        raise DataError(f"filling {name}: slot {slots[np.argmax(counts)]} is given more than once", hint=_FORMAT)
    filled = np.zeros(N_SLOTS, dtype=np.bool_)
    filled[slots] = True
    return FillingMask(name, filled)


def read_filling(path: Path) -> FillingMask:
    """A user's mask: a file with what ``mask_from_values`` takes. The file's name is the mask's.

    ``.txt`` and ``.csv``: numbers separated by blanks, commas, semicolons or line ends, or 3564 digits 0 and 1 in one
    word; ``#`` starts a comment. ``.json``: one list. ``.npy``: one array. Raises ConfigError for a missing file or
    another suffix, DataError for what cannot be read.
    """
    if path.suffix.lower() not in _READERS:
        raise ConfigError(f"filling {path}: unknown suffix {path.suffix!r}", hint=f"use {', '.join(_READERS)}")
    if not path.is_file():
        raise ConfigError(f"filling {path}: there is no such file")
    try:
        values = _READERS[path.suffix.lower()](path)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"filling {path}: cannot be read ({error})", hint=_FORMAT) from error
    mask = mask_from_values(str(path), values)
    return FillingMask(path.name, mask.filled)


def filling_from(value: str | int, folder: Path) -> Filling:
    """What a configuration calls a filling: a scheme's name, a number of bunches, or a mask file under ``folder``.

    Raises ConfigError and DataError as ``named_filling``, ``CollidingBunches`` and ``read_filling`` do.
    """
    if isinstance(value, int):
        return CollidingBunches(value)
    if value.isdecimal():
        return CollidingBunches(int(value))
    if Path(value).suffix:
        return read_filling(folder / value)
    return named_filling(value)


def _read_text(path: Path) -> list[float]:
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        words += [word for word in re.split(r"[\s,;]+", line.split("#")[0]) if word]
    if len(words) == 1 and len(words[0]) > 4 and set(words[0]) <= {"0", "1"}:
        words = list(words[0])
    return [float(word) for word in words]


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_npy(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


_READERS = {".txt": _read_text, ".csv": _read_text, ".json": _read_json, ".npy": _read_npy}

_FORMAT = f"give {N_SLOTS} values of 0 and 1, or the numbers of the filled slots, counted from 0"

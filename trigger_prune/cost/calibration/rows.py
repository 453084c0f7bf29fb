"""Rows of the published synthesis tables, with cells as numbers and errors that name file and row."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trigger_prune.errors import DataError

_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0", "")


@dataclass(frozen=True)
class Row:
    """One row: cells by column name, and where it stands. An empty or absent cell is None."""

    cells: Mapping[str, str]
    source: str

    def text(self, column: str) -> str | None:
        """A cell as text."""
        value = (self.cells.get(column) or "").strip()
        return None if value.lower() in ("", "nan", "none") else value

    def required_text(self, column: str) -> str:
        """As ``text``. Raises DataError for an empty cell."""
        value = self.text(column)
        if value is None:
            raise DataError(f"{self.source}: {column} is empty")
        return value

    def real(self, column: str) -> float | None:
        """A cell as a finite number. Raises DataError for text."""
        value = self.text(column)
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            raise DataError(f"{self.source}: {column} is {value!r}, not a number") from None
        if not math.isfinite(number):
            raise DataError(f"{self.source}: {column} is {value!r}, not a finite number")
        return number

    def integer(self, column: str) -> int | None:
        """A cell as a whole number; tables write 8 as ``8.0``. Raises DataError for any other fraction."""
        number = self.real(column)
        if number is not None and number != int(number):
            raise DataError(f"{self.source}: {column} is {number}, not a whole number")
        return None if number is None else int(number)

    def required_integer(self, column: str) -> int:
        """As ``integer``. Raises DataError for an empty cell."""
        number = self.integer(column)
        if number is None:
            raise DataError(f"{self.source}: {column} is empty")
        return number

    def flag(self, column: str) -> bool:
        """A cell as yes or no; an empty one is no. Raises DataError for anything else."""
        value = (self.text(column) or "").lower()
        if value not in (*_YES, *_NO):
            raise DataError(f"{self.source}: {column} is {value!r}, not yes or no")
        return value in _YES


def read_rows(path: Path, required: tuple[str, ...]) -> tuple[Row, ...]:
    """Rows of a table. Raises DataError when it cannot be read or lacks one of the ``required`` columns."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = sorted(set(required) - set(reader.fieldnames or ()))
            if missing:
                raise DataError(f"{path} has no column {', '.join(missing)}")
            return tuple(Row(cells, f"{path.name} row {number}") for number, cells in enumerate(reader, start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the table {path} cannot be read: {error}") from None

"""Tables drawn with ``+``, ``-`` and ``|``, as the HLS compilers and Vivado print them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from trigger_prune.errors import ReportFormatError

_BORDER = re.compile(r"\s*\+[-+]+\+\s*")
_MOST_HEADER_LINES = 3


@dataclass(frozen=True)
class Table:
    """``columns``: heading words of a column from top to bottom (``Latency (cycles) min``). ``rows``: stripped cells.

    ``blocks`` keeps the rows apart as the drawn lines do; leading blanks of the first cell (its level in a hierarchy)
    are kept in ``indents``, row by row.
    """

    where: str
    columns: tuple[str, ...]
    blocks: tuple[tuple[tuple[str, ...], ...], ...]
    indents: tuple[int, ...]

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """All rows, in order."""
        return tuple(row for block in self.blocks for row in block)

    def has(self, column: str) -> bool:
        """Whether there is a column of that heading."""
        return column in self.columns

    def index(self, *names: str) -> int:
        """Position of the one column that bears one of the names; ReportFormatError when there is none or more."""
        found = [i for i, column in enumerate(self.columns) if column in names]
        if len(found) != 1:
            problem = "has no column" if not found else "has more than one column"
            raise ReportFormatError(f"{self.where} {problem} {' or '.join(map(repr, names))}")
        return found[0]

    def labelled(self, *names: str) -> list[Row]:
        """Rows that are named by the column that bears one of the names."""
        at = self.index(*names)
        return [Row(self, row, f"{self.where}/{row[at]}", row[at]) for row in self.rows]


@dataclass(frozen=True)
class Row:
    """One row; ``where`` begins the message of an error about it."""

    table: Table
    cells: tuple[str, ...]
    where: str
    name: str

    def cell(self, *columns: str) -> str:
        """The cell in the one column that bears one of the names; ReportFormatError when there is none."""
        return self.cells[self.table.index(*columns)]


def read_tables(lines: Sequence[str], where: str) -> list[Table]:
    """All tables among the lines.

    Raises ReportFormatError for a table whose upper or lower line is missing (the file was cut off), or with a row
    that has more or fewer cells than its header.
    """
    tables: list[Table] = []
    drawn: list[str] = []
    for line in (*lines, ""):
        if line.lstrip().startswith(("|", "+-", "++")):
            drawn.append(line)
        elif drawn:
            tables.append(_table(drawn, where))
            drawn = []
    return tables


def read_table(lines: Sequence[str], where: str) -> Table | None:
    """The only table among the lines; None where the tool says N/A instead.

    Raises ReportFormatError for neither or more than one table.
    """
    tables = read_tables(lines, where)
    if not tables and any(line.strip() == "N/A" for line in lines):
        return None
    if len(tables) != 1:
        raise ReportFormatError(f"{where} has {len(tables) or 'no'} tables" if tables else f"{where} has no table")
    return tables[0]


def require_table(lines: Sequence[str], where: str) -> Table:
    """``read_table`` where N/A is an error."""
    table = read_table(lines, where)
    if table is None:
        raise ReportFormatError(f"{where} has no table")
    return table


def _table(drawn: list[str], where: str) -> Table:
    groups: list[list[str]] = [[]]
    if not _BORDER.fullmatch(drawn[0]):
        raise ReportFormatError(f"{where}: a table lacks its upper line")
    for line in drawn[1:]:
        if _BORDER.fullmatch(line):
            groups.append([])
        else:
            groups[-1].append(line)
    if len(groups) < 2 or groups[-1]:
        raise ReportFormatError(f"{where}: a table is cut off")
    header, *body = groups[:-1]
    if not 0 < len(header) <= _MOST_HEADER_LINES:
        raise ReportFormatError(f"{where}: a table lacks the line below its header")
    columns = _columns(header, where)
    indents: list[int] = []
    blocks = []
    for block in body:
        rows = []
        for line in block:
            cells = _cells(line, where)
            if len(cells) != len(columns):
                raise ReportFormatError(
                    f"{where}: the row {line.strip()[:60]!r} has {len(cells)} cells, its header {len(columns)}"
                )
            indents.append(len(cells[0]) - len(cells[0].lstrip()))
            rows.append(tuple(cell.strip() for cell in cells))
        blocks.append(tuple(rows))
    return Table(where, columns, tuple(blocks), tuple(indents))


def _cells(line: str, where: str) -> list[str]:
    text = line.strip()
    if len(text) < 2 or not (text.startswith("|") and text.endswith("|")):
        raise ReportFormatError(f"{where}: the row {text[:60]!r} is cut off")
    return text[1:-1].split("|")


def _columns(header: list[str], where: str) -> tuple[str, ...]:
    """The lowest line has a cell for each column; a cell above heads every column whose middle it covers."""
    lowest = header[-1]
    edges = [i for i, char in enumerate(lowest) if char == "|"]
    _cells(lowest, where)
    names = []
    for left, right in pairwise(edges):
        words = [_cell_at(line, (left + right) // 2) for line in header[:-1]]
        words.append(lowest[left + 1 : right])
        names.append(" ".join(" ".join(words).split()))
    return tuple(names)


def _cell_at(line: str, position: int) -> str:
    left, right = line.rfind("|", 0, position + 1), line.find("|", position + 1)
    return line[left + 1 : right] if left >= 0 and right >= 0 else ""

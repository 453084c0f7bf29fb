"""Detail tables of a text report: expressions, multiplexers, registers, memories, FIFOs, DSP blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.tables import Table, read_table
from trigger_prune.synthesis.parsers.text import Section

DETAILS = ("DSP", "Memory", "FIFO", "Expression", "Multiplexer", "Register")
"""Kinds of elements, each with a table of its own (``DSP`` is called ``DSP48E`` by Vivado HLS)."""

_RESOURCES = ("BRAM_18K", "DSP", "DSP48E", "FF", "LUT", "URAM")
_SIZES = (
    *("Words", "Bits", "Banks", "W*Bits*Banks", "Depth", "Size:D*B", "Input Size", "Total Bits", "Const Bits"),
    *("Bitwidth P0", "Bitwidth P1"),
)


@dataclass(frozen=True)
class DetailRow:
    """One element: its name, the operation or module it is, and the counts its table has columns for."""

    name: str
    kind: str
    counts: Mapping[str, int | None]


def read_detail(section: Section) -> tuple[DetailRow, ...]:
    """Rows of one table without its total; empty where the report says N/A.

    Raises ReportFormatError for a cell that is no number, or resources that do not add up to the total.
    """
    table = read_table(section.lines, section.where)
    if table is None:
        return ()
    counted = [i for i, column in enumerate(table.columns) if column in (*_RESOURCES, *_SIZES)]
    described = [i for i in range(1, len(table.columns)) if i not in counted]
    for i in described:
        # Text that explains the element; a column of numbers under a heading never seen is a damaged heading.
        if any(row[i].isdecimal() for row in table.rows):
            raise ReportFormatError(f"{section.where} has an unknown column {table.columns[i]!r}")
    rows = []
    total: DetailRow | None = None
    for cells in table.rows:
        row = _row(table, cells, counted, described)
        # The total stands apart, below a line; an element may bear that name.
        if cells[0] == "Total" and cells in table.blocks[-1]:
            total = row
        else:
            rows.append(row)
    if total is None and counted:
        raise ReportFormatError(f"{section.where} has no row 'Total'")
    for column in _RESOURCES if total is not None else ():
        added = sum(row.counts.get(column) or 0 for row in rows)
        if total is not None and total.counts.get(column) not in (None, added):
            raise ReportFormatError(f"{section.where}: the rows take {added} {column}, their total differs")
    return tuple(rows)


def _row(table: Table, cells: tuple[str, ...], counted: list[int], described: list[int]) -> DetailRow:
    counts: dict[str, int | None] = {}
    for i in counted:
        where = f"{table.where}/{cells[0]}/{table.columns[i]}"
        counts[table.columns[i]] = values.whole_if_known(cells[i], where)
    return DetailRow(cells[0], " ".join(cells[i] for i in described), counts)

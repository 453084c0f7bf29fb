"""Clock, latency and loops in the text report of C synthesis."""

from __future__ import annotations

from dataclasses import dataclass

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.csynth import Loop
from trigger_prune.synthesis.parsers.tables import Row, read_table, require_table
from trigger_prune.synthesis.parsers.text import Section


@dataclass(frozen=True)
class ClockEstimate:
    """Of the only clock."""

    target_ns: float
    estimated_ns: float
    uncertainty_ns: float


@dataclass(frozen=True)
class Schedule:
    """Latency and interval of a module, in clock cycles; None = not bounded by the tool. Up to 2019.1 no ns."""

    latency_min: int | None
    latency_max: int | None
    latency_min_ns: float | None
    latency_max_ns: float | None
    interval_min: int | None
    interval_max: int | None
    pipeline_type: str


def read_clock(section: Section, heading: str) -> ClockEstimate:
    """The table of clocks. Up to 2019.1 the unit stands in the ``heading``, later in every cell."""
    row = _only_row(section)
    found = []
    for column in ("Target", "Estimated", "Uncertainty"):
        where = f"{section.where}/{column}"
        read = values.amount_if_known if heading.endswith("(ns)") else values.nanoseconds
        value = read(row.cell(column), where)
        if value is None:
            raise ReportFormatError(f"{where} is not stated")
        found.append(value)
    return ClockEstimate(*found)


def read_latency(section: Section) -> Schedule:
    """The table of the module's own latency."""
    return read_schedule(_only_row(section))


def read_schedule(row: Row) -> Schedule:
    """Latency and interval of one row of a table of modules."""
    ends = []
    for end in ("min", "max"):
        latency = values.whole_if_known(
            row.cell(f"Latency (cycles) {end}", f"Latency {end}"), f"{row.where}/latency {end}"
        )
        absolute = None
        if row.table.has(f"Latency (cycles) {end}"):
            column = f"Latency (absolute) {end}"
            absolute = values.nanoseconds(row.cell(column), f"{row.where}/{column}")
        interval = values.whole_if_known(row.cell(f"Interval {end}"), f"{row.where}/interval {end}")
        ends.append((latency, absolute, interval))
    (low, low_ns, ii_low), (high, high_ns, ii_high) = ends
    return Schedule(low, high, low_ns, high_ns, ii_low, ii_high, row.cell("Pipeline Type"))


def read_loops(section: Section) -> tuple[Loop, ...]:
    """The table of loops; an inner loop follows its outer loop."""
    table = read_table(section.lines, section.where)
    loops = []
    for row in table.labelled("Loop Name") if table is not None else ():
        marker, _, label = row.name.partition(" ")
        if not label or marker.strip("+") not in ("", "-"):
            raise ReportFormatError(f"{section.where}: {row.name!r} is not the name of a loop")
        trip_min, trip_max = values.whole_range(row.cell("Trip Count"), f"{row.where}/Trip Count")
        iteration = values.whole_range(row.cell("Iteration Latency"), f"{row.where}/Iteration Latency")
        low, high = (
            values.whole_if_known(row.cell(f"Latency (cycles) {end}", f"Latency {end}"), f"{row.where}/latency {end}")
            for end in ("min", "max")
        )
        achieved, target = (
            values.whole_if_known(row.cell(f"Initiation Interval {kind}"), f"{row.where}/interval {kind}")
            for kind in ("achieved", "target")
        )
        level = len(marker) if marker != "-" else 0
        loops.append(Loop(label.strip(), level, trip_min, trip_max, low, high, *iteration, achieved, target))
    return tuple(loops)


def _only_row(section: Section) -> Row:
    table = require_table(section.lines, section.where)
    if len(table.rows) != 1:
        raise ReportFormatError(f"{section.where} has {len(table.rows)} rows, expected one")
    return Row(table, table.rows[0], section.where, "")

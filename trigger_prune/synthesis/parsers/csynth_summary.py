"""``csynth.rpt`` of Vitis HLS (also ``hls_compile.rpt`` of v++): one table of all modules and loops of a design.

Format: AMD UG1399, "Synthesis Summary"; seen with 2021.1 to 2024.2. It states neither clock nor available resources.
The table prints a dash both for "none" and for "not known", so a dash is None here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import guards, values
from trigger_prune.synthesis.parsers.csynth import Instance, Resources
from trigger_prune.synthesis.parsers.tables import Table, read_table
from trigger_prune.synthesis.parsers.text import Section, information, part, parts, require_text, sections

_TITLE = re.compile(r"Synthesis Summary Report of '(.+)'")
_ROW = re.compile(r"(\+|o) (\S.*)")
_AMOUNT = re.compile(r"(\S+)(?: \((~?[0-9]+)%\))?")
_COLUMNS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram18": "BRAM", "uram": "URAM"}


@dataclass(frozen=True)
class SummaryRow:
    """A module or a loop. Latencies and intervals in clock cycles; None = not known, or none.

    level      nesting depth, 0 = the top
    dataflow   the module is a dataflow region
    issue      what the tool complains about: ``Timing``, ``II``, ...; None = nothing
    slack_ns   target clock less uncertainty less estimate; negative = the estimate misses the clock
    """

    name: str
    level: int
    kind: Literal["module", "loop"]
    dataflow: bool
    issue: str | None
    slack_ns: float | None
    latency_min: int | None
    latency_max: int | None
    latency_min_ns: float | None
    latency_max_ns: float | None
    iteration_latency_min: int | None
    iteration_latency_max: int | None
    interval_min: int | None
    interval_max: int | None
    trip_min: int | None
    trip_max: int | None
    pipelined: str
    used: Resources


@dataclass(frozen=True)
class SynthesisSummary:
    """The design; ``rows`` in the order of the report, each below the module or loop that holds it."""

    version: str
    family: str
    part: str
    top: str
    project: str
    solution: str
    rows: tuple[SummaryRow, ...]

    @property
    def whole(self) -> SummaryRow:
        """The row of the top."""
        return self.rows[0]

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Modules below the top. Loops do not count as a level: a module in a loop of the top is one of the top's."""
        found, open_levels = [], [0]
        for row in self.rows[1:]:
            if row.kind == "loop":
                continue
            while open_levels[-1] >= row.level:
                open_levels.pop()
            open_levels.append(row.level)
            found.append(
                Instance(
                    row.name,
                    row.name,
                    len(open_levels) - 1,
                    row.latency_min,
                    row.latency_max,
                    row.latency_min_ns,
                    row.latency_max_ns,
                    row.interval_min,
                    row.interval_max,
                    row.pipelined,
                    row.used,
                )
            )
        return tuple(found)


def parse_csynth_summary(text: str, *, source: str = "csynth.rpt") -> SynthesisSummary:
    """Read the text; ``source`` is the name that errors give.

    Raises ReportFormatError for a missing or broken section or row, or modules that take more than the whole.
    """
    found = sections(require_text(text, source), source)
    titles = [(title, match) for title in found if (match := _TITLE.fullmatch(title))]
    if len(titles) != 1:
        raise ReportFormatError(f"{source} is not the summary of one design (== Synthesis Summary Report of '...')")
    title, match = titles[0]
    section = Section(source, "Synthesis Summary", found[title].lines)
    stated = information(section)
    estimates = part(parts(section), "Performance & Resource Estimates", section)
    table = read_table(estimates.lines, estimates.where)
    if table is None or not table.rows:
        raise ReportFormatError(f"{estimates.where} is empty")
    if len(found) < 2:
        raise ReportFormatError(f"{source} ends after {title!r}: it is cut off")
    summary = SynthesisSummary(
        version=values.version(stated["Version"].split(" ")[0], f"{source}: Version"),
        family=stated["Product family"],
        part=values.part_name(stated["Target device"], f"{source}: Target device"),
        top=match[1],
        project=stated["Project"],
        solution=stated["Solution"].partition(" (")[0],
        rows=tuple(_row(table, cells, indent) for cells, indent in zip(table.rows, table.indents, strict=True)),
    )
    levels = [row.level for row in summary.rows]
    if levels[0] or 0 in levels[1:] or any(b > a + 1 for a, b in pairwise(levels)):
        raise ReportFormatError(f"{estimates.where}: the rows do not form a tree below one top")
    if summary.whole.name != summary.top:
        raise ReportFormatError(f"{estimates.where}: the first row is {summary.whole.name}, the top {summary.top}")
    for instance in summary.instances:
        # One by one: a module that is called in two loops has two rows but is built once.
        guards.check_instances([replace(instance, level=1)], summary.whole.used, f"{estimates.where}/{instance.name}")
    return summary


def _row(table: Table, cells: tuple[str, ...], indent: int) -> SummaryRow:
    label = cells[table.index("Modules & Loops")]
    entry = _ROW.fullmatch(label)
    if entry is None:
        raise ReportFormatError(f"{table.where}: {label!r} is neither a module (+) nor a loop (o)")
    name = entry[2].removesuffix("*")

    def cell(column: str) -> str:
        return cells[table.index(column)]

    def where(column: str) -> str:
        return f"{table.where}/{name}/{column}"

    def cycles(column: str) -> tuple[int | None, int | None]:
        return values.whole_range(cell(column), where(column))

    issue = cell("Issue Type")
    return SummaryRow(
        name,
        indent,
        "module" if entry[1] == "+" else "loop",
        entry[2].endswith("*"),
        None if issue == "-" else issue,
        values.real_if_known(cell("Slack"), where("Slack")),
        *cycles("Latency (cycles)"),
        *values.amount_range(cell("Latency (ns)"), where("Latency (ns)")),
        *cycles("Iteration Latency"),
        *cycles("Interval"),
        *cycles("Trip Count"),
        cell("Pipelined"),
        Resources(**{key: _amount(cell(column), where(column)) for key, column in _COLUMNS.items()}),
    )


def _amount(text: str, where: str) -> int | None:
    """``41 (~0%)`` as 41."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise ReportFormatError(f"{where} is {text!r}, not a number with its share of the part")
    return values.whole_if_known(found[1], where)

"""Resources in the text report of C synthesis: by kind of element, and by instance."""

from __future__ import annotations

from dataclasses import replace

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.csynth import Instance, Resources
from trigger_prune.synthesis.parsers.csynth_timing import read_schedule
from trigger_prune.synthesis.parsers.tables import Row, read_table, require_table
from trigger_prune.synthesis.parsers.text import Section

COMPONENTS = ("DSP", "Expression", "FIFO", "Instance", "Memory", "Multiplexer", "Register")
"""Kinds of elements that the resources of a module are made of."""

_COLUMNS = {"lut": ("LUT",), "ff": ("FF",), "dsp": ("DSP", "DSP48E"), "bram18": ("BRAM_18K",), "uram": ("URAM",)}


class AreaSummary:
    """The table of resources by kind of element, with totals and what the part offers."""

    def __init__(self, section: Section) -> None:
        self.where = section.where
        self._rows = require_table(section.lines, section.where).labelled("Name")
        self.names = [row.name for row in self._rows]
        wrong = [name for name in (*COMPONENTS, "Total", "Available", "Utilization (%)") if self.names.count(name) != 1]
        if wrong:
            raise ReportFormatError(f"{section.where} has no row, or more than one, {wrong[0]!r}")

    def row(self, name: str, *, unknown_allowed: bool = False) -> Resources:
        """One row; a dash is an error unless ``unknown_allowed``."""
        return _resources(self._rows[self.names.index(name)], unknown_allowed=unknown_allowed)

    def percent(self) -> Resources:
        """Used, in per cent of the part; less than one per cent, printed ``~0``, is 0."""
        row = self._rows[self.names.index("Utilization (%)")]
        return _resources(replace(row, cells=tuple(cell.removeprefix("~") for cell in row.cells)))

    def check(self, instances: Resources | None) -> None:
        """Raise ReportFormatError unless totals are the sums of their parts and the share of the part is as stated."""
        total, available, percent = self.row("Total"), self.row("Available"), self.percent()
        rows = {name: self.row(name, unknown_allowed=True) for name in COMPONENTS}
        for key in _COLUMNS:
            used, offered, share = (getattr(resources, key) for resources in (total, available, percent))
            if used is None:
                continue
            added = sum(getattr(row, key) or 0 for row in rows.values())
            if added != used:
                raise ReportFormatError(f"{self.where}: the elements take {added} {key}, the total is {used}")
            if offered and abs(share - 100 * used / offered) > 1:
                raise ReportFormatError(f"{self.where}: {used} of {offered} {key} are not {share} %")
            inside = None if instances is None else getattr(instances, key)
            if inside is not None and inside != (getattr(rows["Instance"], key) or 0):
                raise ReportFormatError(f"{self.where}/Instance differs from the table of instances in {key}")


def read_instances(timed: Section, used: Section) -> tuple[tuple[Instance, ...], Resources | None]:
    """Instances with a schedule first, then arithmetic blocks, which have none; and the resources of all of them.

    Either table may be N/A. Raises ReportFormatError when the resources do not add up to their total.
    """
    resources, total = _instance_resources(used)
    table = read_table(timed.lines, timed.where)
    found = []
    for row in table.labelled("Instance") if table is not None else ():
        schedule = read_schedule(row)
        instance = Instance(
            row.name,
            row.cell("Module"),
            1,
            schedule.latency_min,
            schedule.latency_max,
            schedule.latency_min_ns,
            schedule.latency_max_ns,
            schedule.interval_min,
            schedule.interval_max,
            schedule.pipeline_type,
        )
        counts = resources.pop((instance.name, instance.module), None)
        found.append(instance if counts is None else replace(instance, used=counts))
    found += [Instance(name, module, used=counts) for (name, module), counts in resources.items()]
    return tuple(found), total


def _instance_resources(section: Section) -> tuple[dict[tuple[str, str], Resources], Resources | None]:
    table = read_table(section.lines, section.where)
    if table is None:
        return {}, None
    found: dict[tuple[str, str], Resources] = {}
    total: Resources | None = None
    for row in table.labelled("Instance"):
        counts = _resources(row, unknown_allowed=True)
        if row.name == "Total" and not row.cell("Module"):
            total = counts
        else:
            found[row.name, row.cell("Module")] = counts
    if total is None:
        raise ReportFormatError(f"{section.where} has no row 'Total'")
    for key in _COLUMNS:
        added = sum(getattr(counts, key) or 0 for counts in found.values())
        if getattr(total, key) not in (None, added):
            raise ReportFormatError(f"{section.where}: the instances take {added} {key}, their total differs")
    return found, total


def _resources(row: Row, *, unknown_allowed: bool = False) -> Resources:
    read = values.whole_if_known if unknown_allowed else values.whole
    counts: dict[str, int | None] = {}
    for key, names in _COLUMNS.items():
        absent = key == "uram" and not row.table.has("URAM")
        counts[key] = None if absent else read(row.cell(*names), f"{row.where}/{names[0]}")
    return Resources(**counts)

"""``report_utilization`` of Vivado: ``vivado_synth.rpt``, ``*_utilization_synth.rpt``, ``*_utilization_routed.rpt``.

Format: AMD UG835 / UG906, checked with Vivado 2019.1 to 2024.2. Names differ by family: ``CLB LUTs`` (UltraScale,
Versal) and ``Slice LUTs`` (7 series), ``DSPs`` and ``DSP Slices``, ``CARRY8``, ``CARRY4`` and ``LOOKAHEAD8``. Also
read: the table of ``report_utilization -hierarchical``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.csynth import Resources
from trigger_prune.synthesis.parsers.tables import Table, read_tables
from trigger_prune.synthesis.parsers.text import require_text

_BANNER = re.compile(r"\| (Tool Version|Date|Command|Design|Device|Speed File|Design State)\s*: (.*?)\s*")
_VERSION = re.compile(r"Vivado v\.(\S+)")
_NUMBERED = re.compile(r"([0-9]+(?:\.[0-9]+)?)\.? (\S.*?)\s*")
_DSP_ONLY = re.compile(r"DSP\w+ only|DSP58\w*|DSP48\w*")

_ROWS = {
    "lut": ("CLB LUTs", "Slice LUTs"),
    "lut_logic": ("LUT as Logic",),
    "lut_memory": ("LUT as Memory",),
    "ff": ("CLB Registers", "Slice Registers", "Registers"),
    "latch": ("Register as Latch",),
    "carry": ("CARRY8", "CARRY4", "LOOKAHEAD8"),
    "mux_f7": ("F7 Muxes",),
    "mux_f8": ("F8 Muxes",),
    "bram_tile": ("Block RAM Tile",),
    "ramb36": ("RAMB36/FIFO", "RAMB36"),
    "ramb18": ("RAMB18",),
    "uram": ("URAM",),
    "dsp": ("DSPs", "DSP Slices"),
}
_REQUIRED = ("lut", "ff", "bram_tile", "dsp")
_HIERARCHY = {"lut": ("Total LUTs",), "ff": ("FFs",), "dsp": ("DSP Blocks", "DSP48 Blocks", "DSP Slices")}


@dataclass(frozen=True)
class HierarchyRow:
    """One cell of the hierarchical table; ``level`` 0 is the design. Resources include those of the cells below."""

    name: str
    module: str
    level: int
    used: Resources


@dataclass(frozen=True)
class Utilization:
    """One report. Counts of cells; None = the report does not state it.

    used, available   block RAM in units of 18 Kbit: a tile is two
    carry             carry chains as the part has them: CARRY8, CARRY4 or LOOKAHEAD8
    stage             vsynth (synthesised or optimised netlist) or pnr (placed or routed); None = not stated
    hierarchy         rows of a hierarchical report; then nothing is known about the part
    """

    version: str
    part: str
    design: str
    state: str | None
    stage: CostStage | None
    command: str | None
    used: Resources
    available: Resources
    lut_logic: int | None
    lut_memory: int | None
    latch: int | None
    carry: int | None
    mux_f7: int | None
    mux_f8: int | None
    ramb36: int | None
    ramb18: int | None
    hierarchy: tuple[HierarchyRow, ...] = ()


def parse_utilization(text: str, *, source: str = "vivado_synth.rpt") -> Utilization:
    """Read the text; ``source`` is the name that errors give.

    Raises ReportFormatError for a missing banner, table or row, a cell that is no number, and parts that do not add up
    to their whole.
    """
    lines = require_text(text, source).splitlines()
    banner = banner_of(lines, source)
    version = _VERSION.match(banner.get("Tool Version", ""))
    if version is None or "Device" not in banner or "Design" not in banner:
        raise ReportFormatError(f"{source} has no banner with tool version, design and device")
    state = banner.get("Design State")
    sections = _sections(lines)
    tables = [table for title, body in sections for table in read_tables(body, f"{source}: {title}")]
    hierarchy = next((table for table in tables if table.has("Total LUTs")), None)
    rows = {} if hierarchy is not None else _rows(tables, source)
    tree = () if hierarchy is None else _tree(hierarchy)
    report = Utilization(
        version=values.version(version[1], f"{source}: Tool Version"),
        part=values.part_name(banner["Device"], f"{source}: Device"),
        design=banner["Design"],
        state=state,
        stage=_stage(state),
        command=banner.get("Command"),
        used=tree[0].used if tree else _counted(rows, 0),
        available=Resources(None, None, None, None, None) if tree else _counted(rows, 1),
        **{name: None if name not in rows else rows[name][0] for name in _ROWS if name not in _SUMMED},
        hierarchy=tree,
    )
    _check(report, source)
    return report


_SUMMED = ("lut", "ff", "dsp", "uram", "bram_tile")


def banner_of(lines: list[str], source: str) -> dict[str, str]:
    """Entries of the box at the top of a Vivado report. Raises ReportFormatError when one is stated twice."""
    banner: dict[str, str] = {}
    for line in lines[:40]:
        entry = _BANNER.fullmatch(line)
        if entry is not None:
            if entry[1] in banner:
                raise ReportFormatError(f"{source}: the banner states {entry[1]} twice")
            banner[entry[1]] = entry[2]
    return banner


def _stage(state: str | None) -> CostStage | None:
    if state is None:
        return None
    return CostStage.PNR if "placed" in state.lower() or "rout" in state.lower() else CostStage.VSYNTH


def _sections(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Numbered sections in order; a title is a numbered line with a line of dashes below it."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        title = _NUMBERED.fullmatch(line)
        if title is not None and below.startswith("---"):
            found.append((line.strip(), []))
        else:
            found[-1][1].append(line)
    return found[1:]


def _rows(tables: list[Table], source: str) -> dict[str, tuple[int, int | None]]:
    """Used and available, of the first table that has a row of the name; block RAM tiles in units of 18 Kbit."""
    found: dict[str, tuple[int, int | None]] = {}
    for table in tables:
        if not (table.has("Site Type") and table.has("Used")):
            continue  # tables per SLR, primitives, registers by type
        name, used, offered = table.index("Site Type"), table.index("Used"), table.index("Available")
        for row in table.rows:
            keys = [key for key, names in _ROWS.items() if row[name].rstrip("*").strip() in names]
            if not keys or keys[0] in found:
                continue
            where = f"{table.where}/{row[name]}"
            scale = 2 if keys[0] == "bram_tile" else 1
            count = _tiles(row[used], where) if scale == 2 else values.whole(row[used], where)
            # Rows of one kind of a cell ("RAMB36E2 only") have no such number; the quantities themselves always have.
            known = keys[0] in _SUMMED or row[offered]
            found[keys[0]] = count, scale * values.whole(row[offered], f"{where}/Available") if known else None
    missing = [_ROWS[key] for key in _REQUIRED if key not in found]
    if missing:
        raise ReportFormatError(f"{source} has no row {' or '.join(missing[0])}")
    return found


def _tiles(text: str, where: str) -> int:
    """Tiles come in halves; a RAMB18 is half a tile."""
    halves = 2 * Fraction(str(values.real(text, where)))
    if halves.denominator != 1 or halves < 0:
        raise ReportFormatError(f"{where} is {text!r}, not a number of half tiles")
    return int(halves)


def _counted(rows: dict[str, tuple[int, int | None]], which: int) -> Resources:
    names = {"lut": "lut", "ff": "ff", "dsp": "dsp", "bram18": "bram_tile", "uram": "uram"}
    return Resources(**{key: rows[name][which] if name in rows else None for key, name in names.items()})


def _tree(table: Table) -> tuple[HierarchyRow, ...]:
    name, module = table.index("Instance"), table.index("Module")

    def cell(row: tuple[str, ...], *columns: str) -> int:
        # With -hierarchical_percentage: "30654(1.77%)".
        return values.whole(row[table.index(*columns)].split("(")[0], f"{table.where}/{row[name]}/{columns[0]}")

    rows = []
    for row, indent in zip(table.rows, table.indents, strict=True):
        counts: dict[str, int | None] = {key: cell(row, *columns) for key, columns in _HIERARCHY.items()}
        counts["bram18"] = 2 * cell(row, "RAMB36") + cell(row, "RAMB18")
        counts["uram"] = cell(row, "URAM") if table.has("URAM") else None
        rows.append(HierarchyRow(row[name], row[module], max(indent - 1, 0) // 2, Resources(**counts)))
    if not rows or rows[0].module != "(top)":
        raise ReportFormatError(f"{table.where}: the first row is not the design, (top)")
    return tuple(rows)


def _check(report: Utilization, source: str) -> None:
    used = report.used
    for name, inside, whole in (
        ("LUTs", (report.lut_logic, report.lut_memory), used.lut),
        ("18 Kbit block RAMs", (None if report.ramb36 is None else 2 * report.ramb36, report.ramb18), used.bram18),
    ):
        if whole is not None and all(part is not None for part in inside):
            added = sum(part or 0 for part in inside)
            if added != whole:
                raise ReportFormatError(f"{source}: its parts are {added} {name}, the total is {whole}")

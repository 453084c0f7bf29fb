"""``report_timing_summary`` of Vivado: slack, failing endpoints, clocks.

Format: AMD UG906; checked with Vivado 2019.1 to 2024.2. Without a constrained path Vivado prints ``inf`` or ``NA`` as
slack: unknown, so None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.text import require_text
from trigger_prune.synthesis.parsers.utilization import banner_of

_VERSION = re.compile(r"Vivado v\.(\S+)")
_TITLE = re.compile(r"\| (\S.*?)\s*")
_CLOCK = re.compile(r"\s*(\S+)\s+\{([^}]*)\}\s+(\S+)\s+(\S+)\s*")
_NET = re.compile(r"net \(fo=[0-9]+, (routed|unplaced|estimated|unset)\)")
_VERDICTS = {
    "All user specified timing constraints are met.": True,
    "Timing constraints are not met.": False,
    "There are no user specified timing constraints.": None,
}
_FIELDS = {
    "WNS(ns)": "wns_ns",
    "TNS(ns)": "tns_ns",
    "TNS Failing Endpoints": "setup_failing",
    "TNS Total Endpoints": "setup_endpoints",
    "WHS(ns)": "whs_ns",
    "THS(ns)": "ths_ns",
    "THS Failing Endpoints": "hold_failing",
    "THS Total Endpoints": "hold_endpoints",
    "WPWS(ns)": "wpws_ns",
    "TPWS(ns)": "tpws_ns",
    "TPWS Failing Endpoints": "pulse_width_failing",
    "TPWS Total Endpoints": "pulse_width_endpoints",
}


@dataclass(frozen=True)
class Slack:
    """Worst and total negative slack of setup, hold and pulse width; endpoints that fail and all; None = no path."""

    wns_ns: float | None = None
    tns_ns: float | None = None
    setup_failing: int | None = None
    setup_endpoints: int | None = None
    whs_ns: float | None = None
    ths_ns: float | None = None
    hold_failing: int | None = None
    hold_endpoints: int | None = None
    wpws_ns: float | None = None
    tpws_ns: float | None = None
    pulse_width_failing: int | None = None
    pulse_width_endpoints: int | None = None


@dataclass(frozen=True)
class Clock:
    """A constrained clock; ``slack`` is that of the paths from this clock to itself."""

    name: str
    rise_ns: float
    fall_ns: float
    period_ns: float
    frequency_mhz: float
    slack: Slack


@dataclass(frozen=True)
class TimingSummary:
    """One report. ``constraints_met`` is Vivado's own verdict; None = nothing was constrained.

    stage   vsynth (estimated wires) or pnr (routed); None = the report does not tell
    """

    version: str
    part: str
    design: str
    stage: CostStage | None
    constraints_met: bool | None
    slack: Slack
    clocks: tuple[Clock, ...]

    @property
    def limiting_clock(self) -> Clock | None:
        """The clock with the least setup slack; None when no path is constrained."""
        timed = [clock for clock in self.clocks if clock.slack.wns_ns is not None]
        return min(timed, key=lambda clock: clock.slack.wns_ns or 0.0) if timed else None

    @property
    def achieved_period_ns(self) -> float | None:
        """Shortest period the limiting clock could have had: its period less its slack."""
        clock = self.limiting_clock
        return None if clock is None else clock.period_ns - (clock.slack.wns_ns or 0.0)


def parse_timing_summary(text: str, *, source: str = "timing_summary.rpt") -> TimingSummary:
    """Read the text; ``source`` is the name that errors give.

    Raises ReportFormatError for a missing section, a value that is no number, or a verdict against the numbers.
    """
    lines = require_text(text, source).splitlines()
    banner = banner_of(lines, source)
    version = _VERSION.match(banner.get("Tool Version", ""))
    if version is None or "Device" not in banner or "Design" not in banner:
        raise ReportFormatError(f"{source} has no banner with tool version, design and device")
    sections = _sections(lines, source)
    for title in ("Design Timing Summary", "Clock Summary", "Intra Clock Table", "Inter Clock Table"):
        if title not in sections:
            raise ReportFormatError(f"{source} has no section {title}")
    summary = sections["Design Timing Summary"]
    rows = _columns(summary, f"{source}: Design Timing Summary")
    if len(rows) != 1:
        raise ReportFormatError(f"{source}: Design Timing Summary has {len(rows)} rows, expected one")
    slack = _slack(rows[0], f"{source}: Design Timing Summary", complete=True)
    verdicts = [met for line in summary if (met := _VERDICTS.get(line.strip(), "")) != ""]
    if len(verdicts) != 1:
        raise ReportFormatError(f"{source}: Design Timing Summary does not say whether constraints are met")
    failing = [slack.setup_failing, slack.hold_failing, slack.pulse_width_failing]
    if verdicts[0] is True and (any(failing) or (slack.wns_ns or 0.0) < 0):
        raise ReportFormatError(f"{source} calls constraints met with a slack of {slack.wns_ns} ns, failing: {failing}")
    if verdicts[0] is False and not any(failing):
        raise ReportFormatError(f"{source} calls constraints not met, but no endpoint fails")
    report = TimingSummary(
        version=values.version(version[1], f"{source}: Tool Version"),
        part=values.part_name(banner["Device"], f"{source}: Device"),
        design=banner["Design"],
        stage=_stage(banner, text),
        constraints_met=None if verdicts[0] is None else bool(verdicts[0]),
        slack=slack,
        clocks=_clocks(sections, source),
    )
    limiting = report.limiting_clock
    if slack.wns_ns is not None and limiting is not None and (limiting.slack.wns_ns or 0.0) < slack.wns_ns:
        raise ReportFormatError(f"{source}: clock {limiting.name} has less slack than the whole design")
    return report


def _stage(banner: dict[str, str], text: str) -> CostStage | None:
    """By the banner (2020.2 and later), else by the wires of the detailed paths."""
    state = banner.get("Design State", "").lower()
    wires = set(_NET.findall(text))
    if "rout" in state or "placed" in state or "routed" in wires:
        return CostStage.PNR
    return CostStage.VSYNTH if state or wires & {"unplaced", "estimated"} else None


def _sections(lines: list[str], source: str) -> dict[str, list[str]]:
    """Sections of the report: ``| Title`` with ``| -----`` below."""
    found: dict[str, list[str]] = {}
    body: list[str] = []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        title = _TITLE.fullmatch(line)
        if title is not None and below.startswith("| ---"):
            if title[1] in found:
                raise ReportFormatError(f"{source}: the section {title[1]} occurs twice")
            found[title[1]] = body = []
        else:
            body.append(line)
    return found


def _columns(lines: list[str], where: str) -> list[dict[str, str]]:
    """Rows of a table whose columns are underlined with dashes; a value stands in the column it overlaps."""
    at = _underline(lines)
    if at is None or at == 0:
        raise ReportFormatError(f"{where} has no table")
    spans = [match.span() for match in re.finditer(r"-+", lines[at])]
    names = [lines[at - 1][start:end].strip() for start, end in spans]
    rows = []
    for line in lines[at + 1 :]:
        if not line.strip():
            break
        row: dict[str, str] = {}
        for token in re.finditer(r"\S+", line):
            columns = [i for i, (start, end) in enumerate(spans) if token.start() < end and token.end() > start]
            # A name may be wider than its heading; numbers are right-aligned to theirs.
            if len(columns) != 1 or names[columns[0]] in row:
                raise ReportFormatError(f"{where}: {token[0]!r} stands in no column, or two values in one")
            row[names[columns[0]]] = token[0]
        rows.append(row)
    return rows


def _underline(lines: list[str]) -> int | None:
    """Position of the line that underlines the headings of a table: groups of dashes."""
    return next((i for i, line in enumerate(lines) if set(line.strip()) == {"-", " "}), None)


def _slack(row: dict[str, str], where: str, *, complete: bool) -> Slack:
    """Setup, hold or pulse width may be left out of the row of one clock, never out of the design's."""
    names = list(_FIELDS)
    for group in (names[:4], names[4:8], names[8:]):
        missing = [name for name in group if name not in row]
        if missing and (complete or len(missing) < len(group)):
            raise ReportFormatError(f"{where} does not state {missing[0]}")
    found: dict[str, float | int | None] = {}
    for name, key in _FIELDS.items():
        text = row.get(name, "NA")
        if text == "inf":
            text = "NA"
        read = values.real_if_known if name.endswith("(ns)") else values.whole_if_known
        found[key] = read(text, f"{where}/{name}")
    return Slack(**found)  # type: ignore[arg-type]


def _clocks(sections: dict[str, list[str]], source: str) -> tuple[Clock, ...]:
    where = f"{source}: Clock Summary"
    lines = sections["Clock Summary"]
    underline = _underline(lines)
    body = [] if underline is None else lines[underline + 1 :]
    slacks = {}
    intra = sections["Intra Clock Table"]
    if body or _underline(intra) is not None:
        for row in _columns(intra, f"{source}: Intra Clock Table"):
            if "Clock" not in row or row["Clock"] in slacks:
                raise ReportFormatError(f"{source}: Intra Clock Table has a row without a clock, or one clock twice")
            slacks[row["Clock"]] = _slack(row, f"{source}: Intra Clock Table/{row['Clock']}", complete=False)
    clocks = []
    for line in body:
        if not line.strip():
            break
        entry = _CLOCK.fullmatch(line)
        if entry is None:
            raise ReportFormatError(f"{where}: {line.strip()[:60]!r} is not a clock with waveform, period, frequency")
        edges = entry[2].split()
        if len(edges) != 2:
            raise ReportFormatError(f"{where}: the waveform {entry[2]!r} does not have two edges")
        rise, fall, period, frequency = (
            values.real(text, f"{where}/{entry[1]}") for text in (*edges, *entry.groups()[2:])
        )
        if period <= 0 or abs(period * frequency - 1000.0) > 10.0:
            raise ReportFormatError(f"{where}/{entry[1]}: a period of {period} ns is not {frequency} MHz")
        clocks.append(Clock(entry[1], rise, fall, period, frequency, slacks.pop(entry[1], Slack())))
    if slacks:
        raise ReportFormatError(f"{where} lacks the clock {next(iter(slacks))}")
    return tuple(clocks)

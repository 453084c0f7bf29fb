"""C/RTL co-simulation: ``*_cosim.rpt``, ``lat.rpt`` and the transaction file.

Format: AMD UG902 / UG1399, checked with Vivado HLS 2018.2 to 2019.2 and Vitis HLS to 2024.1 (which adds a column of the
total execution time). The transaction file is called ``result.transaction.rpt`` or
``*.performance.result.transaction.xml``; it is plain text under either name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.text import require_text

_FIELD = re.compile(r"(Report time|Solution|Simulation tool)\s*: (.*?)\.?\s*")
_LANGUAGES = ("VHDL", "Verilog", "SystemC")
_LAT = re.compile(r'\$(MAX|MIN|AVER)_(LATENCY|THROUGHPUT) = "([^"]*)"\s*|\$(TOTAL_EXECUTE_TIME) = "([^"]*)"\s*')
_TRANSACTION = re.compile(r"transaction\s+(\S+):\s+(\S+)\s+(\S+)\s*")


class CosimStatus(StrEnum):
    """Verdict of the co-simulation."""

    PASS = "pass"
    FAIL = "fail"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Cosim:
    """Result of one hardware language. Cycles; None = not measured.

    An interval of 0 is what the tool prints when there was a single transaction, so nothing was measured: None.
    """

    language: str
    status: CosimStatus
    latency_min: int | None
    latency_average: float | None
    latency_max: int | None
    interval_min: int | None
    interval_average: float | None
    interval_max: int | None
    total_cycles: int | None


@dataclass(frozen=True)
class CosimReport:
    """``*_cosim.rpt``; ``measured`` is the language that was simulated, or the first when none was."""

    simulator: str | None
    solution: str | None
    results: tuple[Cosim, ...]

    @property
    def measured(self) -> Cosim:
        """The result of the simulation."""
        return next((result for result in self.results if result.status is not CosimStatus.NOT_RUN), self.results[0])


@dataclass(frozen=True)
class Transactions:
    """Latency and interval of every transaction, in cycles; the last one has no interval."""

    latency: tuple[int, ...]
    interval: tuple[int | None, ...]


def parse_cosim_rpt(text: str, *, source: str = "cosim.rpt") -> CosimReport:
    """Read a ``*_cosim.rpt``; ``source`` is the name that errors give.

    Raises ReportFormatError for a missing table, a broken row, an unknown verdict, or best above worst.
    """
    lines = require_text(text, source).splitlines()
    fields = {match[1]: match[2] for line in lines if (match := _FIELD.fullmatch(line))}
    header = [line for line in lines if "Latency" in line and "Interval" in line]
    if len(header) != 1 or not any("min" in line and "avg" in line and "max" in line for line in lines):
        raise ReportFormatError(f"{source} has no table of latency and interval")
    columns = 9 if "Total Execution Time" in header[0] else 8
    results = []
    for line in lines:
        cells = [cell.strip() for cell in line.strip().split("|")]
        if len(cells) > 1 and cells[1] in _LANGUAGES:
            if len(cells) != columns + 2 or cells[0] or cells[-1]:
                raise ReportFormatError(f"{source}: the row {cells[1]} has not {columns} cells")
            results.append(_result(cells[1:-1], source))
    names = [result.language for result in results]
    if len(set(names)) != len(names):
        raise ReportFormatError(f"{source} states one language twice")
    if not results or (len(results) == 1 and results[0].status is CosimStatus.NOT_RUN):
        raise ReportFormatError(f"{source} has no row of a simulated language (VHDL, Verilog)")
    if not lines[-1].strip().startswith("+") and not any(line.strip().startswith("+-") for line in lines[-3:]):
        raise ReportFormatError(f"{source}: the table is cut off")
    return CosimReport(fields.get("Simulation tool"), fields.get("Solution"), tuple(results))


def parse_cosim_latency(text: str, *, source: str = "lat.rpt") -> Cosim:
    """Read a ``lat.rpt``. It holds no verdict; the tool writes it when the simulation has come to its end.

    Raises ReportFormatError for a missing, repeated or broken entry.
    """
    found: dict[str, str] = {}
    for line in require_text(text, source).splitlines():
        entry = _LAT.fullmatch(line)
        if entry is None:
            if line.strip():
                raise ReportFormatError(f"{source}: {line.strip()[:60]!r} is not an entry of latency or throughput")
            continue
        key, value = (f"{entry[1]}_{entry[2]}", entry[3]) if entry[1] else (entry[4], entry[5])
        if key in found:
            raise ReportFormatError(f"{source} states {key} twice")
        found[key] = value
    wanted = [f"{case}_{what}" for what in ("LATENCY", "THROUGHPUT") for case in ("MIN", "AVER", "MAX")]
    missing = [key for key in wanted if key not in found]
    if missing:
        raise ReportFormatError(f"{source} does not state {missing[0]}")
    return _result(["", "Pass", *(found[key] for key in wanted), found.get("TOTAL_EXECUTE_TIME", "NA")], source)


def parse_transactions(text: str, *, source: str = "result.transaction.rpt") -> Transactions:
    """Read a transaction file.

    Raises ReportFormatError for a missing header, a line that is no transaction, or a number out of order.
    """
    lines = require_text(text, source).splitlines()
    if lines[0].split() != ["latency", "interval"]:
        raise ReportFormatError(f"{source} does not begin with the header 'latency interval'")
    latency: list[int] = []
    interval: list[int | None] = []
    for line in filter(str.strip, lines[1:]):
        entry = _TRANSACTION.fullmatch(line)
        if entry is None:
            raise ReportFormatError(f"{source}: {line.strip()[:60]!r} is not a transaction")
        where = f"{source}: transaction {len(latency)}"
        if values.whole(entry[1], where) != len(latency):
            raise ReportFormatError(f"{where} is missing: the next is {entry[1]}")
        latency.append(values.whole(entry[2], where))
        cycles = None if entry[3] == "x" else values.whole(entry[3], where)
        interval.append(cycles or None)
    if not latency:
        raise ReportFormatError(f"{source} holds no transaction")
    return Transactions(tuple(latency), tuple(interval))


def _result(cells: list[str], source: str) -> Cosim:
    verdicts = {"Pass": CosimStatus.PASS, "Fail": CosimStatus.FAIL, "NA": CosimStatus.NOT_RUN}
    status = next((value for name, value in verdicts.items() if name.lower() == cells[1].lower()), None)
    where = f"{source}: {cells[0] or 'latency'}"
    if status is None:
        raise ReportFormatError(f"{where} has the verdict {cells[1]!r}, expected Pass, Fail or NA")
    low, mean, high = (
        values.whole_if_known(cells[2], f"{where}/latency min"),
        values.amount_if_known(cells[3], f"{where}/latency avg"),
        values.whole_if_known(cells[4], f"{where}/latency max"),
    )
    ii_low, ii_mean, ii_high = (
        values.whole_if_known(cells[5], f"{where}/interval min") or None,
        values.amount_if_known(cells[6], f"{where}/interval avg") or None,
        values.whole_if_known(cells[7], f"{where}/interval max") or None,
    )
    for kind, numbers in (("latencies", (low, mean, high)), ("intervals", (ii_low, ii_mean, ii_high))):
        known = [number for number in numbers if number is not None]
        # The average is printed as a whole number: it may lie one below the smallest.
        if known and (known[0] > known[-1] or not known[0] - 1 <= known[len(known) // 2] <= known[-1] + 1):
            raise ReportFormatError(f"{where} orders its {kind} as {known} cycles")
    total = values.whole_if_known(cells[8], f"{where}/total") if len(cells) > 8 else None
    return Cosim(cells[0], status, low, mean, high, ii_low, ii_mean, ii_high, total)

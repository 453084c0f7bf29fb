"""Co-simulation: report, latency file, transactions."""

from pathlib import Path

import pytest

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.cosim import (
    Cosim,
    CosimStatus,
    parse_cosim_latency,
    parse_cosim_rpt,
    parse_transactions,
)

REPORTS = Path(__file__).parent / "reports"
SIMULATED = REPORTS / "tagger" / "tagger_prj" / "solution1" / "sim" / "report"


def test_a_passed_cosimulation():
    report = parse_cosim_rpt((SIMULATED / "tagger_cosim.rpt").read_text())
    assert (report.simulator, report.solution) == ("xsim", "solution1")
    assert report.measured == Cosim("Verilog", CosimStatus.PASS, 12, 12.0, 13, 1, 1.0, 2, 1021)
    assert report.results[0].status is CosimStatus.NOT_RUN


def test_a_failed_cosimulation_without_numbers_in_the_layout_of_vivado_hls():
    measured = parse_cosim_rpt((REPORTS / "failed_cosim.rpt").read_text()).measured
    assert (measured.language, measured.status, measured.latency_max) == ("VHDL", CosimStatus.FAIL, None)


def test_one_transaction_measures_no_interval():
    text = (SIMULATED / "tagger_cosim.rpt").read_text()
    row = next(line for line in text.splitlines() if "Verilog" in line)
    cells = row.split("|")
    cells[6:9] = ["0", "0", "0"]
    measured = parse_cosim_rpt(text.replace(row, "|".join(cells))).measured
    assert (measured.interval_min, measured.interval_average, measured.interval_max) == (None, None, None)
    assert measured.latency_max == 13


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ("Pass", "Maybe", "verdict 'Maybe'"),
        ("|   Verilog|", "|  Verilogg|", "no row of a simulated language"),
        ("|             13|", "|             11|", "orders its latencies"),
        ("|             13|", "|            1x3|", "not a whole number"),
        ("|             13|", "|", "has not 9 cells"),
        ("Interval", "Throughput", "no table of latency and interval"),
    ],
)
def test_a_damaged_cosim_report_is_an_error(find, put, message):
    text = (SIMULATED / "tagger_cosim.rpt").read_text()
    assert find in text
    with pytest.raises(ReportFormatError, match=message):
        parse_cosim_rpt(text.replace(find, put, 1))


def test_latency_file_and_transactions():
    latency = parse_cosim_latency((SIMULATED / "verilog/lat.rpt").read_text())
    assert (latency.latency_min, latency.latency_average, latency.latency_max) == (12, 12.0, 13)
    assert (latency.interval_min, latency.interval_max, latency.total_cycles) == (1, 2, 1021)
    transactions = parse_transactions((SIMULATED / "verilog/result.transaction.rpt").read_text())
    assert transactions.latency == (12, 12, 13, 12)
    assert transactions.interval == (1, 2, 1, None)


@pytest.mark.parametrize("key", ["MAX_LATENCY", "MIN_THROUGHPUT"])
def test_a_latency_file_without_an_entry_is_an_error(key):
    lines = (SIMULATED / "verilog/lat.rpt").read_text().splitlines(keepends=True)
    with pytest.raises(ReportFormatError, match=key):
        parse_cosim_latency("".join(line for line in lines if key not in line))
    with pytest.raises(ReportFormatError, match="twice"):
        parse_cosim_latency("".join(lines + [line for line in lines if key in line]))


def test_a_lost_transaction_is_noticed():
    lines = (SIMULATED / "verilog/result.transaction.rpt").read_text().splitlines(keepends=True)
    with pytest.raises(ReportFormatError, match="transaction 1 is missing: the next is 2"):
        parse_transactions("".join(lines[:2] + lines[3:]))
    with pytest.raises(ReportFormatError, match="holds no transaction"):
        parse_transactions(lines[0])
    with pytest.raises(ReportFormatError, match="is not a transaction"):
        parse_transactions("".join(lines)[:-20])

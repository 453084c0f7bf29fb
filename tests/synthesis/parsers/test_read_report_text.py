"""Files and numbers, before any format."""

import pytest

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import text as report_text
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.tables import read_table
from trigger_prune.synthesis.parsers.text import read_report, sha256


@pytest.mark.parametrize(
    "text", ["12a", "", " ", "--", "1,234", "1_000", "+5", "-5", "1.0", "0x10", "1e3", "nan", "١٢", "9" * 19]
)
def test_what_is_no_count(text):
    with pytest.raises(ReportFormatError, match="here"):
        values.whole(text, "here")


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1e999", "1.", ".5", "1_0.0", "1,5", "--", "1 2", "1e", "infinity"]
)
def test_what_is_no_number(text):
    with pytest.raises(ReportFormatError, match="here"):
        values.real(text, "here")


def test_what_is_a_number():
    assert values.whole(" 0042 ", "here") == 42
    assert values.real("3.710e+04", "here") == 37100.0
    assert values.real("-0.38", "here") == -0.38
    assert [values.whole_if_known(text, "here") for text in ("?", "undef", "-", "NA", "7")] == [None] * 4 + [7]
    assert values.whole_range("3 ~ 12", "here") == (3, 12)
    assert values.whole_range("?", "here") == (None, None)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0 ns", 0.0),
        ("3.330 ns", 3.33),
        ("0.366 us", 366.0),
        ("0.211 ms", 211000.0),
        ("1.2 sec", 1.2e9),
        ("850 ps", 0.85),
    ],
)
def test_times_are_nanoseconds(text, nanoseconds):
    assert values.nanoseconds(text, "here") == pytest.approx(nanoseconds)


def test_amounts_are_not_negative():
    with pytest.raises(ReportFormatError, match=r"here is '-2\.5', below zero"):
        values.amount("-2.5", "here")
    with pytest.raises(ReportFormatError, match="below zero"):
        values.nanoseconds("-2.5 ns", "here")


def test_files_that_cannot_be_reports(tmp_path, monkeypatch):
    with pytest.raises(ReportFormatError, match="does not exist"):
        read_report(tmp_path / "none.rpt")
    with pytest.raises(ReportFormatError, match="is a folder"):
        read_report(tmp_path)
    for name, content in (("empty.rpt", b""), ("blank.rpt", b" \n\t\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReportFormatError, match=rf"{name} is empty"):
            read_report(tmp_path / name)
    (tmp_path / "nul.rpt").write_bytes(b"== Report\n\0\0\0\n")
    with pytest.raises(ReportFormatError, match="NUL character"):
        read_report(tmp_path / "nul.rpt")
    (tmp_path / "large.rpt").write_bytes(b"x" * 2000)
    monkeypatch.setattr(report_text, "MAX_BYTES", 1024)
    with pytest.raises(ReportFormatError, match="not a report"):
        read_report(tmp_path / "large.rpt")


def test_encodings(tmp_path):
    file = tmp_path / "a.log"
    for raw in ("Grüße".encode("utf-8-sig"), "Grüße".encode("utf-16"), "Grüße".encode()):
        file.write_bytes(raw)
        assert read_report(file) == "Grüße"
    file.write_bytes("Grüße 42".encode("latin-1"))
    assert read_report(file) == "Gr��e 42"
    assert sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_headings_above_several_columns():
    table = read_table(
        [
            "  +-------+-----+-----+------+",
            "  |       |  Latency  |      |",
            "  | Name  | min | max | Type |",
            "  +-------+-----+-----+------+",
            "  |a      |    1|    2|  yes |",
            "  +-------+-----+-----+------+",
        ],
        "here",
    )
    assert table.columns == ("Name", "Latency min", "Latency max", "Type")
    assert table.rows == (("a", "1", "2", "yes"),)


@pytest.mark.parametrize(("lost", "message"), [(0, "upper line"), (5, "cut off"), (4, None), (3, None)])
def test_a_table_without_one_of_its_lines(lost, message):
    lines = ["+---+---+", "| A | B |", "+---+---+", "| 1 | 2 |", "| 3 | 4 |", "+---+---+"]
    del lines[lost]
    if message is not None:
        with pytest.raises(ReportFormatError, match=message):
            read_table(lines, "here")
        return
    assert read_table(lines, "here").rows == ((("1", "2"),) if lost == 4 else (("3", "4"),))


def test_a_table_without_the_line_below_its_header_has_no_columns_of_known_names():
    lines = ["+---+---+", "| A | B |", "| 1 | 2 |", "+---+---+"]
    table = read_table(lines, "here")
    with pytest.raises(ReportFormatError, match="here has no column 'A'"):
        table.index("A")
    with pytest.raises(ReportFormatError, match="lacks the line below its header"):
        read_table(["+---+---+", "| A | B |", *["| 1 | 2 |"] * 5, "+---+---+"], "here")


def test_cells_that_do_not_match_the_header():
    lines = ["+---+---+", "| A | B |", "+---+---+", "| 1 | 2 | 3 |", "+---+---+"]
    with pytest.raises(ReportFormatError, match="has 3 cells, its header 2"):
        read_table(lines, "here")

"""Vivado's reports: utilization, timing summary, export."""

import re
from pathlib import Path

import pytest

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.csynth import Resources
from trigger_prune.synthesis.parsers.export_report import parse_export_rpt, parse_export_xml
from trigger_prune.synthesis.parsers.timing_summary import parse_timing_summary
from trigger_prune.synthesis.parsers.utilization import parse_utilization

REPORTS = Path(__file__).parent / "reports"
IMPLEMENTED = REPORTS / "tagger" / "tagger_prj" / "solution1" / "impl"


def test_utilization_of_ultrascale_plus():
    report = parse_utilization((REPORTS / "tagger" / "vivado_synth.rpt").read_text())
    assert (report.version, report.part, report.design) == ("2023.2", "xcvu13p-flga2577-2-e", "tagger")
    assert (report.state, report.stage) == ("Synthesized", CostStage.VSYNTH)
    assert report.used == Resources(lut=1455, ff=1201, dsp=8, bram18=4, uram=0)
    assert report.available == Resources(lut=1728000, ff=3456000, dsp=12288, bram18=5376, uram=1280)
    assert (report.lut_logic, report.lut_memory, report.latch, report.carry) == (1443, 12, 0, 88)
    assert (report.mux_f7, report.mux_f8, report.ramb36, report.ramb18) == (14, 3, 1, 2)


def test_utilization_of_seven_series_with_half_a_tile_and_without_ultraram():
    report = parse_utilization((REPORTS / "slice_utilization_synth.rpt").read_text())
    assert report.used == Resources(lut=3021, ff=2107, dsp=11, bram18=7, uram=None)
    assert report.available == Resources(lut=53200, ff=106400, dsp=220, bram18=280, uram=None)
    assert (report.carry, report.ramb36, report.ramb18) == (None, 2, 3)


def test_utilization_by_hierarchy():
    report = parse_utilization((REPORTS / "hierarchical_utilization.rpt").read_text())
    assert report.stage is CostStage.PNR
    assert report.used == Resources(lut=1402, ff=1180, dsp=8, bram18=4, uram=0)
    assert [(row.name, row.level) for row in report.hierarchy] == [
        ("top_wrapper", 0),
        ("dense_i", 1),
        ("mul_U1", 2),
        ("softmax_i", 1),
    ]
    assert report.available.lut is None


@pytest.mark.parametrize(
    ("name", "used"),
    [("DSP Slices", "LOOKAHEAD8"), ("DSPs", "CARRY8")],
)
def test_names_of_other_families(name, used):
    text = (REPORTS / "tagger" / "vivado_synth.rpt").read_text()
    text = re.sub(r"\| DSPs +\|", f"| {name} |", text, count=1).replace("CARRY8", used)
    report = parse_utilization(text)
    assert (report.used.dsp, report.carry) == (8, 88)


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (r"\| CLB LUTs\* .*\n", "", "no row CLB LUTs or Slice LUTs"),
        (r"\| DSPs .*\n", "", "no row DSPs"),
        (r"\| Tool Version.*\n", "", "no banner"),
        (r"1443", "1444", "its parts are 1456 LUTs, the total is 1455"),
        (r"(\| Block RAM Tile +\|) +2 ", r"\1 2.3 ", "not a number of half tiles"),
        (r"(\| Block RAM Tile +\|) +2 ", r"\1 3 ", "its parts are 4 18 Kbit block RAMs, the total is 6"),
        (r"1201", "12O1", "not a whole number"),
        (r"\n3\. ARITHMETIC\n-[\s\S]*", "", "no row DSPs"),
    ],
)
def test_a_damaged_utilization_is_an_error(find, put, message):
    text = (REPORTS / "tagger" / "vivado_synth.rpt").read_text()
    changed = re.sub(find, put, text, count=1)
    assert changed != text
    with pytest.raises(ReportFormatError, match=message) as caught:
        parse_utilization(changed, source="my.rpt")
    assert "my.rpt" in caught.value.message


def test_timing_met():
    report = parse_timing_summary((IMPLEMENTED / "verilog/report/tagger_timing_routed.rpt").read_text())
    assert (report.stage, report.constraints_met, report.design) == (CostStage.PNR, True, "bd_0_wrapper")
    assert (report.slack.wns_ns, report.slack.tns_ns, report.slack.setup_failing) == (0.286, 0.0, 0)
    assert (report.slack.whs_ns, report.slack.wpws_ns, report.slack.pulse_width_endpoints) == (0.039, 0.718, 1193)
    (clock,) = report.clocks
    assert (clock.name, clock.rise_ns, clock.fall_ns, clock.period_ns) == ("ap_clk", 0.0, 1.25, 2.5)
    assert report.achieved_period_ns == pytest.approx(2.214)


def test_timing_missed_by_the_faster_of_two_clocks():
    report = parse_timing_summary((REPORTS / "two_clocks_timing_summary.rpt").read_text())
    assert (report.stage, report.constraints_met) == (CostStage.VSYNTH, False)
    assert [clock.name for clock in report.clocks] == ["fast_clk", "slow"]
    assert report.limiting_clock is report.clocks[0]
    assert report.achieved_period_ns == pytest.approx(2.5 + 0.751)
    assert (report.clocks[1].slack.wns_ns, report.clocks[1].slack.wpws_ns) == (3.2, None)


def test_nothing_constrained_is_unknown_not_zero():
    report = parse_timing_summary((REPORTS / "unconstrained_timing_summary.rpt").read_text())
    assert report.constraints_met is None
    assert (report.slack.wns_ns, report.slack.wpws_ns, report.slack.setup_endpoints) == (None, None, 97)
    assert (report.clocks, report.achieved_period_ns) == ((), None)


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (r"All user specified timing constraints are met\.", "", "does not say whether"),
        (r"All user specified timing constraints are met\.", "Timing constraints are not met.", "no endpoint fails"),
        (r"0\.286 ", "-0.28", "calls constraints met"),
        (r"400\.000", "200.000", "a period of 2.5 ns is not 200.0 MHz"),
        (r"\| Design Timing Summary", "| Timing", "no section Design Timing Summary"),
        (r"\| Inter Clock Table[\s\S]*", "", "no section Inter Clock Table"),
        (r"ap_clk +\{0.*\n", "", "lacks the clock ap_clk"),
        (r"0\.039", "O.039", "not a number"),
        (r"0\.039", "     ", "does not state"),
    ],
)
def test_a_damaged_timing_summary_is_an_error(find, put, message):
    text = (IMPLEMENTED / "verilog/report/tagger_timing_routed.rpt").read_text()
    changed = re.sub(find, put, text, count=1)
    assert changed != text
    with pytest.raises(ReportFormatError, match=message):
        parse_timing_summary(changed)


def test_export_after_implementation_and_the_xml_of_the_same_run():
    report = parse_export_rpt((IMPLEMENTED / "report/verilog/tagger_export.rpt").read_text())
    assert (report.stage, report.version, report.part) == (CostStage.PNR, "2023.2", "xcvu13p-flga2577-2-e")
    assert report.used == Resources(lut=1402, ff=1180, dsp=8, bram18=4, uram=0)
    assert (report.clb, report.slice, report.srl, report.latch) == (310, None, 12, 0)
    assert (report.required_clock_ns, report.post_synthesis_ns, report.post_implementation_ns) == (2.5, 1.902, 2.214)
    assert (report.timing_met, report.achieved_clock_ns) == (True, 2.214)
    xml = parse_export_xml((REPORTS / "export_impl.xml").read_text())
    for name in ("stage", "version", "used", "clb", "required_clock_ns", "post_synthesis_ns", "achieved_clock_ns"):
        assert getattr(xml, name) == getattr(report, name), name
    assert xml.available == Resources(lut=1728000, ff=3456000, dsp=12288, bram18=5376, uram=1280)


def test_export_after_synthesis_that_missed_its_clock():
    report = parse_export_rpt((REPORTS / "synthesis_export.rpt").read_text())
    assert (report.stage, report.timing_met) == (CostStage.VSYNTH, False)
    assert (report.achieved_clock_ns, report.post_implementation_ns) == (5.94, None)
    # Vivado prints 0 slices where it counts none.
    assert report.slice is None


def test_export_without_a_sequential_path():
    text = (REPORTS / "synthesis_export.rpt").read_text()
    text = text.replace("Timing not met", "No Sequential Path").replace("5.940", "NA")
    report = parse_export_rpt(text)
    assert (report.timing_met, report.post_synthesis_ns) == (None, None)


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (r"LUT: .*\n", "", "does not state LUT"),
        (r"CP achieved post-implementation.*\n", "", "does not state achieved post-implementation"),
        (r"2\.214", "2.614", "calls the timing met with 2.614"),
        (r"Timing met\n", "", "lacks"),
        (r"FF: +1180", "FF: 11x0", "not a whole number"),
        (r"FF: .*\n", r"\g<0>\g<0>", "states FF twice"),
    ],
)
def test_a_damaged_export_report_is_an_error(find, put, message):
    text = (IMPLEMENTED / "report/verilog/tagger_export.rpt").read_text()
    changed = re.sub(find, put, text, count=1)
    assert changed != text
    with pytest.raises(ReportFormatError, match=message):
        parse_export_rpt(changed)

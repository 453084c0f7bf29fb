"""C synthesis reports: XML, text of one module, summary of a design. Expected values are what the fixtures were written
with, stated here once more."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.csynth import Instance, Loop, Resources
from trigger_prune.synthesis.parsers.csynth_rpt import parse_csynth_rpt
from trigger_prune.synthesis.parsers.csynth_summary import parse_csynth_summary
from trigger_prune.synthesis.parsers.csynth_xml import parse_csynth_xml

REPORTS = Path(__file__).parent / "reports"
TAGGER = REPORTS / "tagger" / "tagger_prj" / "solution1" / "syn" / "report"


def test_xml_of_a_vitis_design_with_its_hierarchy():
    report = parse_csynth_xml((TAGGER / "csynth.xml").read_text())
    assert (report.tool, report.version, report.flow_target) == ("Vitis HLS", "2023.2", "vivado")
    assert (report.latency_best, report.latency_average, report.latency_worst) == (12, 12, 12)
    assert (report.latency_best_ns, report.latency_worst_ns) == (30.0, 30.0)
    assert (report.pipeline_interval, report.pipeline_depth, report.target_interval) == (1, 13, None)
    assert report.used == Resources(lut=2551, ff=1350, dsp=8, bram18=4, uram=0)
    dense, relu, softmax = report.instances
    assert (dense.module, dense.used) == ("dense_tag_ap_fixed_12_4_config2_s", Resources(2100, 800, 5, 0, 0))
    assert (relu.latency_max, relu.interval_max, relu.used.ff) == (0, 1, 0)
    assert (softmax.latency_max_ns, softmax.level, softmax.pipeline_type) == (17.5, 1, "yes")


def test_xml_loops_ranges_and_unbounded_latencies():
    loops = """<SummaryOfLoopLatency>
<Loop1><TripCount>undef</TripCount><Latency>undef</Latency><PipelineII>1</PipelineII><PipelineDepth>2</PipelineDepth></Loop1>
<Loop2><TripCount><range><min>1</min><max>25</max></range></TripCount><Latency><range><min>2</min><max>26</max></range>
</Latency><IterationLatency>7</IterationLatency><Loop2.1><TripCount>784</TripCount><Latency>3922</Latency></Loop2.1></Loop2>
</SummaryOfLoopLatency></PerformanceEstimates>"""
    text = (TAGGER / "tagger_csynth.xml").read_text().replace("</PerformanceEstimates>", loops)
    assert parse_csynth_xml(text).loops == (
        Loop("Loop1", 0, None, None, None, None, None, None, 1),
        Loop("Loop2", 0, 1, 25, 2, 26, 7, 7, None),
        Loop("Loop2.1", 1, 784, 784, 3922, 3922, None, None, None),
    )


def test_xml_of_vitis_states_ranges_as_text():
    """A module in a dataflow region and its loop, as Vitis HLS 2022 writes them to the report of the design."""
    text = (TAGGER / "csynth.xml").read_text()
    at = text.index("<Name>softmax_tag")
    module = text[at : text.index("</Module>", at)]
    changed = module.replace("<PipelineInitiationInterval>1<", "<PipelineInitiationInterval>2 ~ 36<")
    changed = changed.replace("<Best-caseLatency>7<", "<Best-caseLatency>2<")
    softmax = parse_csynth_xml(text.replace(module, changed)).instances[2]
    assert (softmax.latency_min, softmax.latency_max) == (2, 7)
    assert (softmax.interval_min, softmax.interval_max) == (2, 36)
    loop = "<TripCount>5</TripCount><Latency>0 ~ 34</Latency><PipelineII>1</PipelineII><PipelineDepth>4</PipelineDepth>"
    loops = f"<SummaryOfLoopLatency><L><Name>Compute</Name>{loop}</L></SummaryOfLoopLatency></PerformanceEstimates>"
    first = text.replace("</PerformanceEstimates>", loops, 1)
    assert parse_csynth_xml(first).loops == (Loop("Compute", 0, 5, 5, 0, 34, None, None, 1),)


def test_text_of_a_vitis_module_says_what_the_xml_says_and_more():
    text = parse_csynth_rpt((TAGGER / "tagger_csynth.rpt").read_text())
    xml = parse_csynth_xml((TAGGER / "tagger_csynth.xml").read_text())
    same = ("top", "part", "family", "tool", "version", "flow_target", "used", "available", "latency_best_ns")
    same += ("target_clock_ns", "estimated_clock_ns", "clock_uncertainty_ns", "latency_worst", "interval_max")
    for name in same:
        assert getattr(text.report, name) == getattr(xml, name), name
    assert text.complete
    assert (text.project, text.solution, text.build) == ("tagger_prj", "solution1", "Build 4023990 on Oct 11 2023")
    assert text.breakdown["Register"] == Resources(lut=None, ff=340, dsp=None, bram18=None, uram=None)
    assert text.slr_available == Resources(lut=432000, ff=864000, dsp=3072, bram18=1344, uram=320)
    assert [(row.name, row.counts["FF"]) for row in text.details["Register"]][1] == ("layer2_out_0_reg", 144)
    assert [row.kind for row in text.details["Expression"]] == ["xor"]
    assert text.report.instances[2] == Instance(
        "grp_softmax_tag_fu_88",
        "softmax_tag_ap_fixed_config4_s",
        1,
        latency_min=7,
        latency_max=7,
        latency_min_ns=17.5,
        latency_max_ns=17.5,
        interval_min=1,
        interval_max=1,
        pipeline_type="yes",
        used=Resources(lut=300, ff=210, dsp=3, bram18=4, uram=0),
    )


def test_text_of_2018_with_units_in_headings_unknown_latency_and_nested_loops():
    text = parse_csynth_rpt((REPORTS / "recurrent_2018_csynth.rpt").read_text())
    report = text.report
    assert (report.tool, report.version, report.flow_target) == ("Vivado HLS", "2018.2", None)
    assert (report.target_clock_ns, report.estimated_clock_ns, report.clock_uncertainty_ns) == (5.0, 4.366, 0.62)
    assert (report.latency_best, report.latency_worst, report.interval_max) == (None, None, None)
    assert report.latency_worst_ns is None
    assert report.used == Resources(lut=7570, ff=5506, dsp=64, bram18=67, uram=0)
    assert report.loops == (
        Loop("StepLoop", 0, None, None, None, None, 93, 93, None),
        Loop("GateLoop", 1, 2, 2, 12, 90, 6, 45, None),
        Loop("CopyLoop", 0, 100, 100, 100, 100, 2, 2, 1, 1),
    )
    names = {instance.name: instance for instance in report.instances}
    assert (names["Loop_1_proc_U0"].latency_min, names["Loop_1_proc_U0"].latency_max) == (385, 53313)
    assert names["cell_step_fu_60"].latency_max is None
    assert names["mul_16s_U7"].pipeline_type is None
    assert text.details["Memory"][0].counts["Words"] == 1024
    assert text.percent == Resources(lut=0, ff=0, dsp=0, bram18=1, uram=0)


def test_what_hls4ml_prints_stops_after_the_instances():
    text = parse_csynth_rpt((REPORTS / "printed_by_hls4ml_csynth.rpt").read_text())
    assert not text.complete
    assert text.details == {}
    assert (text.report.latency_best_ns, text.report.latency_worst_ns) == (62040.0, 62045.0)
    assert (text.report.interval_min, text.report.interval_max) == (1031, 11903)
    assert [instance.used.lut for instance in text.report.instances] == [8604, 780]


def test_summary_of_a_streaming_design():
    summary = parse_csynth_summary((REPORTS / "stream_csynth_summary.rpt").read_text())
    whole = summary.whole
    assert (summary.top, summary.version, summary.part) == ("stream_net", "2022.2", "xcvu9p-flga2104-2-e")
    assert (whole.issue, whole.slack_ns, whole.dataflow, whole.pipelined) == ("Timing", -0.38, True, "dataflow")
    assert (whole.latency_min, whole.latency_max) == (129, 642)
    assert (whole.latency_min_ns, whole.latency_max_ns) == (645.0, 3210.0)
    assert whole.used == Resources(lut=17966, ff=7123, dsp=467, bram18=29, uram=None)
    loop = summary.rows[2]
    assert (loop.kind, loop.level, loop.issue, loop.iteration_latency_max) == ("loop", 2, "II", 5)
    assert (loop.trip_min, loop.trip_max, loop.interval_max) == (130, 130, 3)
    assert summary.rows[5].latency_max is None
    assert (summary.rows[5].trip_min, summary.rows[5].trip_max) == (1, 25)
    levels = [(instance.module, instance.level) for instance in summary.instances]
    assert levels == [("conv_stream_config2_s", 1), ("dense_mult_config2_s", 2), ("pool_stream_config5_s", 1)]


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (r"<URAM>0</URAM>\n</Resources>", "</Resources>", "states URAM only for used"),
        (r"<LUT>2551</LUT>", "<LUT>2551</LUT><LUT>0</LUT>", "Resources/LUT occurs 2 times"),
        (r"<PipelineDepth>13</PipelineDepth>", "", "no entry .*PipelineDepth"),
        (r"<Average-caseRealTimeLatency>.*?>", "", "Average-caseRealTimeLatency"),
        (r"<ClockUncertainty>.*?</ClockUncertainty>", "", "no entry UserAssignments/ClockUncertainty"),
        (r"<Worst-caseLatency>12", "<Worst-caseLatency>11", "orders best, average and worst"),
        (r"<Worst-caseLatency>12", "<Worst-caseLatency>120", "120 cycles and of 30 ns"),
        (r"<PipelineDepth>13", "<PipelineDepth>40", "latency of 12 cycles with a pipeline of 40 stages"),
        (r"<Interval-min>1", "<Interval-min>3", "intervals from 3 to 1"),
        (r"<FF>1350", "<FF>1_350", "FF is '1_350', not a whole number"),
        (r"<FF>1350", "<FF>\u0661\u0662", "not a whole number"),
        (r"<FF>1350", "<FF>" + "9" * 5000, "not a whole number"),
        (r"<FF>1350", "<FF>-3", "not a whole number"),
        (r"<FF>1350", "<FF>", "not complete XML|is empty"),
        (r"30\.000 ns", "30.000", "not a time with its unit"),
        (r"<EstimatedClockPeriod>1.711", "<EstimatedClockPeriod>1e999", "not a number"),
        (r"<unit>ns", "<unit>ps", "unit is 'ps', expected 'ns'"),
        (r"<Version>2023.2", "<Version>next", "not a version"),
        (r"^", "<!DOCTYPE profile [<!ENTITY a 'x'>]>", "refused"),
        (r"<LUT>", "<LUT>\ud800", "not complete XML"),
    ],
)
def test_a_damaged_xml_is_an_error_with_file_and_entry(find, put, message):
    text = (TAGGER / "tagger_csynth.xml").read_text()
    changed = re.sub(find, lambda _: put, text, count=1)
    assert changed != text
    with pytest.raises(ReportFormatError, match=message) as caught:
        parse_csynth_xml(changed, source="my.xml")
    assert "my.xml" in caught.value.message


def test_entities_never_expand():
    """Ten levels of ten references each: 10^10 characters if anything were to expand them."""
    bomb = '<!DOCTYPE p [<!ENTITY a0 "x">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 11))
    with pytest.raises(ReportFormatError, match="refused"):
        parse_csynth_xml(bomb + "]><profile>&a10;</profile>")


def test_a_bottomless_document_ends_in_an_error():
    deep = "<a>" * 200_000
    with pytest.raises(ReportFormatError):
        parse_csynth_xml(deep)
    text = (TAGGER / "tagger_csynth.xml").read_text()
    loop = "<L><TripCount>1</TripCount>" * 500 + "</L>" * 500
    with pytest.raises(ReportFormatError, match="nested too deeply"):
        parse_csynth_xml(
            text.replace(
                "</PerformanceEstimates>", f"<SummaryOfLoopLatency>{loop}</SummaryOfLoopLatency></PerformanceEstimates>"
            )
        )


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (r"\|Instance +\|", "|Instances|", "no row, or more than one, 'Instance'"),
        (r"(\|Total +\| +4 +\| +8 +\| +)1350", r"\g<1>1351", "the elements take 1350 ff, the total is 1351"),
        (r"\|ap_clk  .*\n", "", "has 0 rows"),
        (r"1\.711 ns", "1.711", "Estimated is '1.711', not a time with its unit"),
        (r" Latency \(cycles\) ", " Latency ( cycle ) ", "has no column"),
        (r"== Utilization Estimates", "== Utilisation", "no section Utilization Estimates"),
        (r"== Interface[\s\S]*", "", "no section Interface: it is cut off"),
        (r"\* Version:.*\n", "", "general information lacks Version"),
        (r"    \* Register: \n[\s\S]*?\n\n", "", "no part Utilization Estimates/Detail/Register"),
        (r"(Available +\| +5376 +\|)", r"\1 1|", "cells"),
        (r"\|layer2_out_0_reg .*\n", "", "the rows take 196 FF, their total differs"),
        (r"\+ Latency: ", "+ Latency: \n\n+ Latency: ", "Latency occurs twice"),
        (r"'tagger'", "'tagger'\n== Vitis HLS Report for 'other'", "not a report of one module"),
    ],
)
def test_a_damaged_text_is_an_error_with_file_and_section(find, put, message):
    text = (TAGGER / "tagger_csynth.rpt").read_text()
    changed = re.sub(find, put, text, count=1)
    assert changed != text
    with pytest.raises(ReportFormatError, match=message) as caught:
        parse_csynth_rpt(changed, source="my.rpt")
    assert "my.rpt" in caught.value.message


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (r"\|\+ stream_net\*.*\n", "", "do not form a tree"),
        (r"370 \(5%\)", "370", "^$"),
        (r"370 \(5%\)", "470 (5%)", "its instances take 470 dsp, more than the 467"),
        (r"370 \(5%\)", "37O (5%)", "not a whole number"),
        (r"== HW Interfaces[\s\S]*", "", "cut off"),
        (r"\| Slack \|", "| Slick |", "has no column 'Slack'"),
        (r"o ReadInputWidth", "x ReadInputWidth", "neither a module"),
    ],
)
def test_a_damaged_summary_is_an_error_unless_it_says_the_same(find, put, message):
    text = (REPORTS / "stream_csynth_summary.rpt").read_text()
    changed = re.sub(find, put, text, count=1)
    if message == "^$":
        assert parse_csynth_summary(changed) == parse_csynth_summary(text)
        return
    assert changed != text
    with pytest.raises(ReportFormatError, match=message):
        parse_csynth_summary(changed)


def test_an_instance_that_was_lost_is_missed():
    """Two entries that run into one leave well-formed XML; the module of one of them is then used nowhere."""
    lines = (REPORTS / "tagger/tagger_prj/solution1/syn/report/csynth.xml").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if line.strip() == "<Instance>"]
    assert len(starts) >= 2
    for start, following in pairwise(starts):
        for cut in range(following - start):
            text = "\n".join(lines[: start + cut] + lines[following + cut :])
            with pytest.raises(ReportFormatError):
                parse_csynth_xml(text)

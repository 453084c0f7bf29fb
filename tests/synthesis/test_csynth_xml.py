import re
from pathlib import Path

import pytest

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.csynth_xml import Resources, parse_csynth_xml

REPORTS = Path(__file__).parent / "csynth_reports"
REAL_REPORTS = Path(__file__).parents[3] / "shared" / "hls_reports"


def test_vitis_report():
    report = parse_csynth_xml((REPORTS / "vitis_2022.xml").read_text())
    assert (report.version, report.family, report.top) == ("2022.2", "virtexuplus", "network")
    assert report.part == "xcvu13p-flga2577-2-e"
    assert (report.target_clock_ns, report.clock_uncertainty_ns, report.estimated_clock_ns) == (5.0, 1.35, 3.412)
    assert (report.latency_best, report.latency_average, report.latency_worst) == (9, 10, 11)
    assert (report.interval_min, report.interval_max, report.pipeline_type) == (1, 2, "yes")
    assert report.used == Resources(lut=12345, ff=3021, dsp=17, bram18=4, uram=0)
    assert report.available == Resources(lut=1728000, ff=3456000, dsp=12288, bram18=5376, uram=1280)


def test_vivado_report_with_dsp48e_and_a_latency_the_tool_could_not_bound():
    report = parse_csynth_xml((REPORTS / "vivado_2019_unbounded.xml").read_text())
    assert report.version == "2019.2"
    assert (report.latency_best, report.latency_average, report.latency_worst) == (None, None, None)
    assert (report.interval_min, report.interval_max) == (None, None)
    assert (report.used.dsp, report.available.dsp) == (23, 12288)


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (r"<AreaEstimates>.*</AreaEstimates>", "", "my.xml has no section AreaEstimates/Resources"),
        (r"<SummaryOfOverallLatency>.*</SummaryOfOverallLatency>", "", "SummaryOfOverallLatency"),
        (r"<LUT>12345</LUT>", "", "my.xml has no entry AreaEstimates/Resources/LUT"),
        (r"<LUT>12345</LUT>", "<LUT>12k</LUT>", "AreaEstimates/Resources/LUT is '12k', not a whole number"),
        (r"<Part>.*?</Part>", "<Part></Part>", "UserAssignments/Part is empty"),
        (r"<TargetClockPeriod>5.00", "<TargetClockPeriod>?", "TargetClockPeriod is '?', not a number"),
        (r"<FF>3021</FF>.*", "", "my.xml is not complete XML"),
        (r"profile>", "project>", "a <project> document"),
    ],
)
def test_damaged_reports_name_file_and_section(find, put, message):
    text = re.sub(find, put, (REPORTS / "vitis_2022.xml").read_text(), flags=re.S)
    with pytest.raises(ReportFormatError) as caught:
        parse_csynth_xml(text, source="my.xml")
    assert "my.xml" in caught.value.message
    assert message in caught.value.message


def _regex_integer(text: str, section: str, tag: str) -> int | None:
    body = re.search(rf"<{section}>(.*?)</{section}>", text, re.S)
    assert body is not None
    found = re.search(rf"<{tag}>\s*(\d+)\s*</", body.group(1))
    return None if found is None else int(found.group(1))


def test_every_report_at_hand_agrees_with_a_plain_text_search():
    """The two fixtures always; real tool reports as well where they lie beside the repository."""
    paths = sorted(REPORTS.glob("*.xml")) + sorted(REAL_REPORTS.rglob("*csynth.xml"))
    assert len(paths) >= 2
    for path in paths:
        text = path.read_text(errors="replace")
        report = parse_csynth_xml(text, source=str(path))
        latency = "SummaryOfOverallLatency"
        assert report.latency_best == _regex_integer(text, latency, "Best-caseLatency"), path
        assert report.latency_worst == _regex_integer(text, latency, "Worst-caseLatency"), path
        assert report.interval_min == _regex_integer(text, latency, "Interval-min"), path
        assert report.interval_max == _regex_integer(text, latency, "Interval-max"), path
        for section, resources in (("Resources", report.used), ("AvailableResources", report.available)):
            assert resources.lut == _regex_integer(text, section, "LUT"), path
            assert resources.ff == _regex_integer(text, section, "FF"), path
            assert resources.dsp == _regex_integer(text, section, "DSP(?:48E)?"), path
            assert resources.bram18 == _regex_integer(text, section, "BRAM_18K"), path
            assert resources.uram == _regex_integer(text, section, "URAM"), path

"""Nonsense is refused, the unusual is not."""

from dataclasses import replace
from pathlib import Path

import pytest

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.csynth import Instance, Resources
from trigger_prune.synthesis.parsers.csynth_xml import parse_csynth_xml
from trigger_prune.synthesis.parsers.guards import check_csynth, check_instances, check_not_empty

REPORT = parse_csynth_xml(
    (Path(__file__).parent / "reports/tagger/tagger_prj/solution1/syn/report/csynth.xml").read_text()
)
NOTHING = Resources(0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"used": Resources(lut=2551, ff=1350, dsp=0, bram18=0, uram=0), "instances": ()},  # two-bit weights: no DSP
        {"latency_best": 0, "latency_average": 0, "latency_worst": 0, "pipeline_depth": 1},  # one cycle, with registers
        {"used": Resources(9_000_000, 9_000_000, 99_999, 9_999, 0)},  # more than the part offers
        {"estimated_clock_ns": 9.0},  # missed clock
        {"latency_best": None, "latency_average": None, "latency_worst": None, "interval_max": None},
        {"used": Resources(0, 0, 0, 1, 0), "instances": ()},  # a table with the registers of its memory
        {
            "used": NOTHING,
            "latency_best": 0,
            "latency_worst": 0,
            "latency_average": 0,
            "pipeline_depth": 1,
            "instances": (),
        },
    ],
)
def test_what_is_real_is_accepted(changes):
    no_times = {"latency_best_ns": None, "latency_average_ns": None, "latency_worst_ns": None}
    check_csynth(replace(REPORT, **no_times, **changes), "my.xml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"used": NOTHING, "instances": ()}, "no resources at all for a design of 12 cycles"),
        ({"latency_best": 0, "latency_average": 0, "latency_worst": 0}, "latency of 0 cycles with a pipeline of 13"),
        ({"latency_best": 13}, "orders best, average and worst latency"),
        ({"interval_min": 2}, "intervals from 2 to 1"),
        ({"latency_worst_ns": 300.0}, "12 cycles and of 300 ns"),
        ({"target_clock_ns": 0.0}, "target clock of 0.0 ns"),
        ({"used": Resources(2000, 1350, 8, 4, 0)}, "its instances take 2520 lut, more than the 2000 in total"),
    ],
)
def test_nonsense_is_refused(changes, message):
    with pytest.raises(ReportFormatError, match=message) as caught:
        check_csynth(replace(REPORT, **changes), "my.xml")
    assert "my.xml" in caught.value.message


def test_modules_of_modules_do_not_count_twice():
    outer = Instance("a", "a", 1, used=Resources(90, 0, 0, 0, 0))
    inner = Instance("b", "b", 2, used=Resources(80, 0, 0, 0, 0))
    check_instances([outer, inner], Resources(100, 0, 0, 0, 0), "here")


def test_no_logic_for_wide_weights():
    with pytest.raises(ReportFormatError, match="0 LUT although the network has weights of 8 bits"):
        check_not_empty(0, source="my.xml", widest_weight_bits=8)
    check_not_empty(0, source="my.xml", widest_weight_bits=2)
    check_not_empty(1, source="my.xml", widest_weight_bits=8)
    check_not_empty(None, source="my.xml", widest_weight_bits=8)

"""HardwareReport: round trip, comparison and budgets."""

import json
from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.report import BUDGETED, Available, CostStage, HardwareReport, LayerCost, RuntimeCost
from trigger_prune.errors import ReportFormatError, StageMismatchError
from trigger_prune.target import Budget

REPORT = HardwareReport(
    stage=CostStage.RTL_SYNTH,
    tool="yosys",
    tool_version="0.70",
    part="xcvu13p-flga2577-2-e",
    clock_period_ns=2.5,
    lut=1200,
    ff=300,
    dsp=0,
    bram18=None,
    latency_cycles=7,
    ii=1,
    content_hash="ab" * 32,
    layers=(LayerCost("dense0", lut=1000, ff=300), LayerCost("dense1", lut=200)),
    details={"seed": 3, "notes": ["a", {"b": 0.25}], "nothing": None},
)

NEWER_FIELDS = {
    "predicts", "uram", "available", "clock_uncertainty_ns", "estimated_clock_ns", "achieved_clock_ns",
    "latency_best_cycles", "ii_min", "wns_ns", "tns_ns", "interval_90", "runtime",
}  # fmt: skip
PROCESSOR = ("latency_p99_us", "event_time_us")


def test_json_round_trip():
    restored = HardwareReport.from_json(REPORT.to_json())
    assert restored == REPORT
    assert restored.stage is CostStage.RTL_SYNTH
    assert isinstance(restored.layers[0], LayerCost)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "[]",
        "{}",
        REPORT.to_json().replace('"rtl_synth"', '"guess"'),
        REPORT.to_json().replace('"lut": 1200', '"luts": 1200'),
        REPORT.to_json().replace('"name": "dense0"', '"names": "dense0"'),
        REPORT.to_json()[:-20],
    ],
)
def test_other_text_is_refused(text):
    with pytest.raises(ReportFormatError):
        HardwareReport.from_json(text)


@pytest.mark.parametrize("value", [np.arange(3), float("nan")])
def test_details_json_cannot_hold_are_refused(value):
    with pytest.raises(ReportFormatError):
        replace(REPORT, details={"value": value}).to_json()


def test_latency_in_ns():
    assert REPORT.latency_ns == 17.5
    assert replace(REPORT, latency_cycles=None).latency_ns is None


def test_stages_do_not_mix():
    analytic = replace(REPORT, stage=CostStage.ANALYTIC)
    with pytest.raises(StageMismatchError, match="analytic"):
        REPORT.lut_ratio(analytic)
    with pytest.raises(StageMismatchError, match="vivado"):
        REPORT.require_same_stage(replace(REPORT, tool="vivado"))
    REPORT.require_same_stage(replace(REPORT, tool_version="0.71", lut=3))


def test_lut_ratio():
    assert REPORT.lut_ratio(replace(REPORT, lut=240)) == 5.0
    assert REPORT.lut_ratio(replace(REPORT, lut=0)) == float("inf")


@pytest.mark.parametrize("name", [name for name in BUDGETED if name not in PROCESSOR])
def test_every_limit_counts(name):
    used = 40
    report = replace(REPORT, **{name: used})
    assert report.excess(Budget(**{name: 50})) == {name: 0.8}
    assert report.meets(Budget(**{name: used}))
    assert not report.meets(Budget(**{name: used - 1}))
    assert report.excess(Budget(**{name: 0})) == {name: float("inf")}
    unknown = replace(report, **{name: None})
    assert unknown.excess(Budget(**{name: 1})) == {}
    assert unknown.unstated(Budget(**{name: 1})) == (name,)
    assert not unknown.meets(Budget(**{name: 10**9})), "an unknown use may not pass as within the limit"
    assert unknown.unstated(Budget()) == ()


def test_nothing_used_of_nothing_allowed_is_no_excess():
    assert REPORT.excess(Budget(dsp=0)) == {"dsp": 0.0}


def test_one_limit_missed_is_enough():
    assert not REPORT.meets(Budget(lut=2000, ff=2000, latency_cycles=6))
    assert REPORT.meets(Budget(lut=2000, ff=2000, latency_cycles=7))
    assert REPORT.meets(Budget())


def test_every_stage_has_a_label():
    assert len({stage.label for stage in CostStage}) == len(CostStage)


FULL = replace(
    REPORT,
    stage=CostStage.ANALYTIC,
    predicts=CostStage.CSYNTH,
    uram=0,
    available=Available(lut=5000, ff=None, dsp=0),
    clock_uncertainty_ns=0.62,
    estimated_clock_ns=4.38,
    latency_best_cycles=3,
    ii_min=1,
    interval_90={"lut": (1000.0, 1500.0)},
    layers=(LayerCost("dense0", lut=1000, latency_cycles=4, ii=2, interval_90={"ff": (1.0, 2.5)}),),
)
RUN = HardwareReport(
    CostStage.RUNTIME, "onnxruntime", "1.31", "some processor", None, None, None, None, None, None, None, "",
    runtime=RuntimeCost("cpu", "CPUExecutionProvider", 1, (1, 64), (10.0, 64.0), (20.0, 90.0), (9e4, 1e6)),
)  # fmt: skip


@pytest.mark.parametrize("report", [FULL, RUN], ids=["estimate", "runtime"])
def test_every_field_survives_json(report):
    restored = HardwareReport.from_json(report.to_json())
    assert restored == report
    assert isinstance(restored.interval_90.get("lut", (1.0, 1.0)), tuple)


def test_a_report_of_the_first_version_is_still_read():
    old = {k: v for k, v in json.loads(REPORT.to_json()).items() if k not in NEWER_FIELDS}
    for layer in old["layers"]:
        for key in ("uram", "latency_cycles", "ii", "interval_90"):
            del layer[key]
    assert HardwareReport.from_json(json.dumps(old)) == REPORT


def test_estimates_of_different_stages_are_not_compared():
    other = replace(FULL, predicts=CostStage.RTL_SYNTH)
    with pytest.raises(StageMismatchError, match=r"analytic of csynth .* analytic of rtl_synth"):
        FULL.lut_ratio(other)
    with pytest.raises(StageMismatchError):
        FULL + REPORT


def test_sum_of_two_designs():
    total = REPORT + replace(REPORT, lut=10, ff=None, latency_cycles=30)
    assert (total.lut, total.ff, total.dsp) == (REPORT.lut + 10, None, REPORT.dsp)
    assert total.latency_cycles is None and total.ii is None, "two designs side by side have no common latency"
    assert len(total.layers) == 2 * len(REPORT.layers)


@pytest.mark.parametrize("change", [{"part": "xc7z020-clg400-1"}, {"clock_period_ns": 5.0}])
def test_designs_on_other_parts_or_clocks_do_not_add_up(change):
    with pytest.raises(StageMismatchError, match="cannot add"):
        REPORT + replace(REPORT, **change)


def test_run_times_do_not_add_up():
    with pytest.raises(StageMismatchError, match="run times"):
        RUN + RUN


@pytest.mark.parametrize(
    ("change", "met"),
    [
        ({}, None),
        ({"estimated_clock_ns": 4.38, "clock_uncertainty_ns": 0.62}, True),
        ({"estimated_clock_ns": 4.39, "clock_uncertainty_ns": 0.62}, False),
        ({"estimated_clock_ns": 4.38, "clock_uncertainty_ns": 0.62, "wns_ns": -0.01}, False),
        ({"achieved_clock_ns": 5.1, "estimated_clock_ns": 1.0}, False),
        ({"achieved_clock_ns": 4.9}, True),
        ({"clock_period_ns": None, "estimated_clock_ns": 1.0}, None),
    ],
)
def test_timing_met_by_the_best_evidence(change, met):
    assert replace(REPORT, **{"clock_period_ns": 5.0, **change}).timing_met is met


def test_fits_part_knows_only_what_is_stated():
    assert replace(REPORT, available=None).fits_part() is None
    assert replace(REPORT, available=Available()).fits_part() is None
    assert replace(REPORT, lut=100, available=Available(lut=100)).fits_part() is True
    assert replace(REPORT, lut=101, available=Available(lut=100)).fits_part() is False


def test_processor_budget():
    assert RUN.excess(Budget(latency_p99_us=40.0, event_time_us=0.5)) == {"latency_p99_us": 0.5, "event_time_us": 2.0}
    assert RUN.unstated(Budget(lut=1)) == ("lut",)
    assert not RUN.meets(Budget(lut=10**9))
    with pytest.raises(StageMismatchError, match="no LUT"):
        RUN.lut_ratio(RUN)

"""HardwareReport: round trip, comparison and budgets."""

from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.report import BUDGETED, CostStage, HardwareReport, LayerCost
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


@pytest.mark.parametrize("name", BUDGETED)
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

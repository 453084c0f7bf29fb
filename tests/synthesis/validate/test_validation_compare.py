"""Comparison of invented predictions and measurements, against figures worked out by hand."""

from dataclasses import replace

import pytest

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.synthesis.validate.compare import Comparison, Row, compare, observations, summarise


def report(stage: CostStage, lut: int, ff: int | None = 100, **changes) -> HardwareReport:
    base = HardwareReport(
        stage=stage,
        tool="Vitis HLS",
        tool_version="2023.2",
        part="x",
        clock_period_ns=5.0,
        lut=lut,
        ff=ff,
        dsp=0,
        bram18=None,
        latency_cycles=7,
        ii=1,
        content_hash=str(lut),
        details={"hls_tool": "vitis_hls", "hls_version": "2023.2"},
    )
    return replace(base, **changes)


def predicted(lut: int, ff: int = 100, /, **intervals) -> HardwareReport:
    return report(CostStage.ANALYTIC, lut, ff, predicts=CostStage.CSYNTH, interval_90=intervals)


@pytest.mark.parametrize(
    ("low", "high", "measured", "inside"),
    [
        (90.0, 110.0, 110, True),
        (90.0, 110.0, 111, False),
        (90.6, 110.4, 111, True),  # an interval of a count is rounded outwards
        (90.6, 110.4, 90, True),
        (90.6, 110.4, 89, False),
        (None, None, 100, None),
        (90.0, 110.0, None, None),
    ],
)
def test_within_the_interval_or_not(low, high, measured, inside):
    assert Row("lut", 100, low, high, measured).inside is inside


def test_only_what_was_measured_is_compared():
    result = compare(predicted(120, lut=(60.0, 180.0), ff=(10.0, 20.0)), report(CostStage.CSYNTH, 100), "a")
    rows = {row.quantity: row for row in result.rows}
    assert set(rows) == {"lut", "ff", "dsp", "latency_cycles", "ii"}
    assert rows["lut"].relative_error == pytest.approx(0.2)
    assert (rows["lut"].inside, rows["ff"].inside, rows["dsp"].inside) == (True, False, None)
    assert rows["dsp"].relative_error is None


def comparisons(*pairs: tuple[int, int]) -> list[Comparison]:
    return [
        compare(predicted(guess, lut=(0.5 * guess, 1.5 * guess)), report(CostStage.CSYNTH, truth), f"d{number}")
        for number, (guess, truth) in enumerate(pairs)
    ]


def test_the_summary_counts_and_takes_medians():
    lines = {line.quantity: line for line in summarise(comparisons((100, 100), (120, 100), (400, 100)))}
    lut = lines["lut"]
    assert (lut.designs, lut.with_interval, lut.inside) == (3, 3, 2)
    assert lut.error == pytest.approx(0.2)
    assert lines["dsp"].error is None


def test_a_common_bias_is_learned_from_the_other_designs():
    biased = comparisons(*((2 * truth, truth) for truth in (100, 150, 230, 340, 500, 720, 1100, 1600, 2400, 3600)))
    lut = next(line for line in summarise(biased) if line.quantity == "lut")
    assert lut.error == pytest.approx(1.0)
    assert lut.error_refined is not None and lut.error_refined < 0.5
    # One design alone has no others to learn from.
    alone = next(line for line in summarise(biased[:1]) if line.quantity == "lut")
    assert alone.error_refined == pytest.approx(alone.error)


def test_csynth_teaches_the_estimate_and_vsynth_the_ratio():
    csynth = comparisons((120, 100))[0]
    vsynth = compare(
        replace(csynth.predicted, predicts=CostStage.VSYNTH), report(CostStage.VSYNTH, 40, tool="Vivado"), csynth.name
    )
    pairs = [(o.expected.stage, o.measured.stage) for o in observations([csynth, vsynth])]
    assert pairs == [(CostStage.ANALYTIC, CostStage.CSYNTH), (CostStage.CSYNTH, CostStage.VSYNTH)]

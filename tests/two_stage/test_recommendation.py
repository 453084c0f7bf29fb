"""The advice in every situation: which design, which reasons, which numbers."""

import pytest
from study_toys import requirements
from two_stage_toys import report

from trigger_prune.physics.intervals import normal_estimate
from trigger_prune.physics.rates import RateEstimate
from trigger_prune.two_stage.compare import PairedLoss
from trigger_prune.two_stage.findings import ComparedRow, DesignPoint
from trigger_prune.two_stage.latency import FixedLatency
from trigger_prune.two_stage.recommend import Facts, recommend, within
from trigger_prune.two_stage.table import JudgedRow
from trigger_prune.two_stage.traffic import Engine

NAMES = {"full": "big", "pruned": "deployed", "light": "tiny", "two_stage": "tiny, then big"}


def row(kind, dsp, loss=0.0, spread=0.001, lut=1000, spread90=0.0, problems=(), shared=0.0):
    """A line with a loss whose 90 % limit is ``loss + 1.28 spread``."""
    estimate = normal_estimate(loss, spread, 1e4, "toy", bounds=(-1.0, 1.0))
    paired = PairedLoss("HH4b", 1e5, 0.6, 0.6 * (1 - loss), estimate, loss + 1.28 * spread, 1e3, 200, ())
    compared = ComparedRow(
        kind=kind,
        name=NAMES[kind],
        efficiency=normal_estimate(0.6, 0.01, 1e4, "toy"),
        rate=RateEstimate(1e5, 1e3, 1e4, 10_000),
        loss=None if kind == "full" else paired,
        cost=report(kind, dsp=dsp, lut=lut),
        buffer=None,
        latency=FixedLatency(4, 36, 50, 3, 9),
        note=f"note of {kind}",
    )
    return JudgedRow(compared, dsp, spread90, tuple(problems), shared)


def advise(*rows, strategy="Resource", designs=(), max_loss=0.01, overflow=(1e-5, 5e-6, 2e-5)):
    return recommend(Facts(rows, tuple(designs), requirements(), strategy, max_loss, overflow))


def text(advice):
    return " ".join(advice.sentences)


def test_two_stages_where_they_pay():
    """Verdict, saving and the numbers that back them."""
    advice = advise(row("full", 800), row("pruned", 600, loss=0.05), row("light", 5, loss=0.3), row("two_stage", 220))
    assert advice.verdict == "two_stage" and advice.saving == pytest.approx(0.725)
    said = text(advice)
    # 4 + 36 + 50 + 3 cycles at 9 per crossing
    for wanted in (
        "220 DSP",
        "72 % less than the 800",
        "11 BX (274 ns) of 500 ns",
        "36 cycles",
        "1e-05",
        "allowed 1 %",
    ):
        assert wanted in said, wanted
    assert "The pruned network alone does not do: it loses 5 %" in said
    assert "The light model tiny alone does not do: it loses 30 %" in said
    assert "Do not" not in said


def test_estimates_are_told_with_their_interval():
    """ln(800 / 220) = 1.291; errors of 0.5 and 0.3 on the logarithms add to 0.583, that is 51 % to 85 % saved."""
    advice = advise(row("full", 800, spread90=0.5), row("two_stage", 220, spread90=0.3))
    assert advice.verdict == "two_stage"
    assert "90 % interval of the saving: 51 % to 85 %" in text(advice) and "synthesise" in text(advice)
    assert "synthesise" not in text(advise(row("full", 800), row("two_stage", 220)))


def test_what_both_estimates_have_wrong_cancels():
    """Of 0.5 and 0.4 on the logarithms 0.4 and 0.3 are shared: 0.3, sqrt(0.07) and the difference 0.1 add to 0.412."""
    full, two = row("full", 800, spread90=0.5, shared=0.4), row("two_stage", 220, spread90=0.4, shared=0.3)
    assert "90 % interval of the saving: 58 % to 82 %" in text(advise(full, two))
    # the same designs would not be worth it, were their errors independent
    full, two = row("full", 300, spread90=0.8, shared=0.79), row("two_stage", 220, spread90=0.8, shared=0.79)
    assert advise(full, two).verdict == "two_stage"
    full, two = row("full", 300, spread90=0.8), row("two_stage", 220, spread90=0.8)
    assert advise(full, two).verdict == "single_stage"


def test_a_saving_without_interval_is_no_certain_one():
    """DSPs that may as well be none have no interval in the logarithm."""
    said = text(advise(row("full", 800, spread90=None), row("two_stage", 220, spread90=None)))
    assert "without a 90 % interval of the saving" in said and "synthesise both" in said


def test_only_the_upper_limit_counts():
    """0.9 % +- 0.1 % is not within 1 %; 0.5 % +- 0.1 % is."""
    assert not within(row("two_stage", 1, loss=0.009), 0.01)
    assert within(row("two_stage", 1, loss=0.005), 0.01)
    advice = advise(row("full", 800), row("two_stage", 220, loss=0.009))
    assert advice.verdict == "single_stage" and advice.saving == pytest.approx(0.725)
    assert "Do not use two stages here, because the best design loses 0.9 %" in text(advice)


@pytest.mark.parametrize(
    ("others", "verdict", "reason"),
    [
        ([row("pruned", 200)], "pruned_alone", "the pruned network alone takes 200 DSP, two stages take 220"),
        ([row("pruned", 225)], "pruned_alone", "too little for a FIFO"),
        ([row("light", 5)], "light_alone", "the light model tiny alone takes 5 DSP, two stages take 220"),
        ([row("pruned", 300, spread90=0.6)], "pruned_alone", "less than the errors of the estimates"),
        ([row("pruned", 300, spread90=0.4)], "two_stage", "would do, with 300 DSP instead of 220"),
        ([row("pruned", 200, problems=("latency of 600 ns, allowed 500 ns",))], "two_stage", "latency of 600 ns"),
        ([row("pruned", 200, loss=0.02)], "two_stage", "The pruned network alone does not do"),
        ([row("pruned", 300)], "two_stage", "would do, with 300 DSP instead of 220"),
    ],
)
def test_simpler_designs_come_first(others, verdict, reason):
    """Two stages must undercut everything that is within the limit, by 5 % and by the errors."""
    advice = advise(row("full", 800), *others, row("two_stage", 220))
    assert advice.verdict == verdict
    assert reason in text(advice)
    assert ("Do not use two stages here, because" in text(advice)) == (verdict != "two_stage")
    assert verdict == "two_stage" or "is enough: it loses no efficiency" in text(advice)


def test_among_equals_the_fewest_luts():
    """Two designs without DSP: the smaller one is built."""
    advice = advise(row("full", 800), row("pruned", 0, lut=5000), row("light", 0, lut=900), row("two_stage", 220))
    assert advice.verdict == "light_alone" and "900 LUT" in text(advice)


def test_overflow_counts_only_beyond_its_error():
    """A loss whose interval reaches the limit is stated, one beyond is a reason."""
    rows = row("full", 800), row("two_stage", 220)
    near = advise(*rows, overflow=(1.5e-3, 0.9e-3, 3e-3))
    assert near.verdict == "two_stage" and "0.0015 of the escalated" in text(near) and "above" in text(near)
    far = advise(*rows, overflow=(5e-3, 4e-3, 6e-3))
    assert far.verdict == "single_stage" and "loses 0.005 of the escalated objects" in text(far)


def test_unrolled_networks_have_nothing_to_share():
    """Whatever the numbers."""
    advice = advise(row("full", 0, lut=50_000), row("pruned", 0, lut=9000), strategy="distributed_arithmetic")
    assert advice.verdict == "pruned_alone" and advice.saving is None
    assert "fully unrolled" in text(advice)


def point(ii, latency_ns, overflow, used, *problems):
    cycles = round(latency_ns / 24.951 * 9)
    latency = FixedLatency(0, 0, cycles, 0, 9)
    return DesignPoint("tiny", "big", ii, Engine(ii, 9, 2), 0.1, None, overflow, None, used, latency, problems)


def test_without_solution_the_binding_reason_is_told():
    """The most frequent one first, with the figure that came closest."""
    designs = [
        point(9, 600, None, 800, "latency of 600 ns, allowed 500 ns"),
        point(18, 550, None, 400, "latency of 550 ns, allowed 500 ns", "400 DSP, allowed 300"),
        point(36, 480, 0.02, 200, "loses 0.02 of the objects, allowed 0.001"),
    ]
    late = row("full", 800, problems=("800 DSP, allowed 300",))
    advice = advise(late, row("light", 5, loss=0.4), designs=designs, overflow=None)
    assert advice.verdict == "none" and advice.saving is None
    assert advice.sentences[0] == "Nothing meets the requirements."
    said = text(advice)
    assert "The full model alone: 800 DSP, allowed 300." in said
    assert "The light model tiny alone: it loses 40 %" in said
    assert "2 of 3 designs are too slow (the quickest of them takes 22 BX, 549 ns, allowed 500 ns)" in said
    assert said.index("2 of 3 designs are too slow") < said.index("1 of 3 designs lose too much in the FIFO")
    assert "the best of them 0.02" in said and "the smallest: 400 DSP, allowed 300" in said


def test_a_full_model_that_does_not_fit_leaves_nothing_to_compare():
    """Two stages are then recommended without a saving."""
    advice = advise(row("full", 800, problems=("800 DSP, allowed 300",)), row("two_stage", 220))
    assert advice.verdict == "two_stage" and advice.saving is None
    assert "cannot be built here (800 DSP, allowed 300)" in text(advice)


def test_nothing_to_save():
    """A full model without DSP: the resource is the wrong one."""
    advice = advise(row("full", 0), row("two_stage", 0))
    assert advice.verdict == "single_stage" and "needs no DSP: there is nothing to save" in text(advice)

"""Corrections learned from reports, against truths that are known because they were drawn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from trigger_prune.cost.calibration.refine import RATIO_PRIOR, Observation, refined
from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import StageMismatchError

SHIPPED_SIGMA = 0.25
"""Scatter that the shipped intervals stand for, in the logarithm."""


def report(stage: CostStage, lut: float, version: str = "2022.2", name: str = "a", **more: object) -> HardwareReport:
    values = {"tool": "vitis_hls", "latency_cycles": None, "ii": None, "ff": None, "dsp": None, "bram18": None, **more}
    return HardwareReport(
        stage=stage,
        tool_version=version,
        part="xcvu9p",
        clock_period_ns=5.0,
        lut=round(lut),
        content_hash=name,
        **values,  # type: ignore[arg-type]
    )


def estimate(lut: float, version: str = "2022.2", name: str = "a") -> HardwareReport:
    factor = math.exp(1.645 * SHIPPED_SIGMA)
    return report(
        CostStage.ANALYTIC,
        lut,
        version,
        name,
        tool="formulas",
        predicts=CostStage.CSYNTH,
        details={"hls_tool": "vitis_hls", "hls_version": version},
        interval_90={"lut": (lut / factor, lut * factor)},
    )


def history(
    rng: np.random.Generator, count: int, bias: float, noise: float, version: str = "2022.2"
) -> list[Observation]:
    found = []
    for index in range(count):
        lut = float(np.exp(rng.uniform(6, 11)))
        true = lut * math.exp(bias + rng.normal(0, noise))
        name = f"{version}-{index}"
        found.append(Observation(estimate(lut, version, name), report(CostStage.CSYNTH, true, version, name)))
    return found


def test_without_reports_nothing_changes() -> None:
    before = estimate(5000)
    after = refined(Calibration(), []).apply(before)
    assert after.lut == before.lut
    low, high = after.interval_90["lut"]
    # The t distribution of the shrinkage is a little wider than the normal one of the shipped interval.
    assert low == pytest.approx(before.interval_90["lut"][0], rel=0.03)
    assert high == pytest.approx(before.interval_90["lut"][1], rel=0.03)


def test_known_bias_is_recovered_as_reports_come_in() -> None:
    bias = math.log(1.4)
    left = []
    for count in (1, 4, 16, 64, 256):
        shifts = []
        for seed in range(20):
            refinement = refined(Calibration(), history(np.random.default_rng([count, seed]), count, bias, 0.1))
            shifts.append(math.log(refinement.apply(estimate(1e5)).lut / 1e5))
        assert np.mean(shifts) == pytest.approx(bias * count / (count + 4), abs=0.03)
        left.append(abs(np.mean(shifts) - bias))
    assert left[-1] < 0.02 < left[0]


@pytest.mark.parametrize("count", [0, 1, 3, 10, 40])
@pytest.mark.parametrize("noise", [0.08, 0.2])
def test_intervals_shrink_and_keep_their_coverage(count: int, noise: float) -> None:
    covered, widths = [], []
    for seed in range(250):
        rng = np.random.default_rng([7, count, seed])
        # What the shipped interval knows: the bias of a site, and the noise, together have SHIPPED_SIGMA.
        bias = rng.normal(0, math.sqrt(SHIPPED_SIGMA**2 - noise**2))
        refinement = refined(Calibration(), history(rng, count, bias, noise))
        for _ in range(4):
            lut = float(np.exp(rng.uniform(6, 11)))
            after = refinement.apply(estimate(lut))
            low, high = after.interval_90["lut"]
            covered.append(low <= lut * math.exp(bias + rng.normal(0, noise)) <= high)
            widths.append(math.log((high + 1) / (low + 1)))
    assert np.mean(covered) >= 0.87
    # The shipped interval is wider than the noise of one site: until a few reports say so it covers too often.
    assert np.mean(covered) <= (0.985 if count < 10 else 0.96)
    if count >= 40:
        assert np.mean(covered) <= 0.95
        assert np.mean(widths) < 1.25 * 2 * 1.645 * noise


def test_generations_do_not_mix_but_new_ones_borrow() -> None:
    rng = np.random.default_rng(3)
    reports = history(rng, 150, math.log(2.0), 0.05, "2020.2") + history(rng, 150, 0.0, 0.05, "2024.1")
    refinement = refined(Calibration(), reports)
    assert refinement.apply(estimate(10_000, "2020.2")).lut == pytest.approx(20_000, rel=0.05)
    assert refinement.apply(estimate(10_000, "2024.1")).lut == pytest.approx(10_000, rel=0.05)
    # A release without reports takes the middle of the others, with an interval that holds both.
    unseen = refinement.apply(estimate(10_000, "2022.2"))
    assert 12_000 < unseen.lut < 16_500
    low, high = unseen.interval_90["lut"]
    assert low < 10_000 and high > 20_000


def test_stages_do_not_mix() -> None:
    rng = np.random.default_rng(4)
    refinement = refined(Calibration(), history(rng, 50, math.log(3.0), 0.05))
    for_vsynth = replace(estimate(10_000), predicts=CostStage.VSYNTH)
    assert refinement.apply(for_vsynth).lut == 10_000
    with pytest.raises(StageMismatchError, match="only an estimate is refined"):
        refinement.apply(report(CostStage.CSYNTH, 10_000))
    with pytest.raises(StageMismatchError, match="does not predict"):
        refined(Calibration(), [Observation(estimate(1000), report(CostStage.VSYNTH, 1000))])


def test_one_outlier_moves_little() -> None:
    rng = np.random.default_rng(5)
    good = history(rng, 20, 0.0, 0.05)
    odd = Observation(estimate(1000, name="odd"), report(CostStage.CSYNTH, 100_000, name="odd"))
    assert refined(Calibration(), [*good, odd]).apply(estimate(10_000)).lut == pytest.approx(10_000, rel=0.04)


def test_a_design_measured_twice_counts_once() -> None:
    pair = history(np.random.default_rng(6), 1, math.log(2.0), 0.0)
    once, often = refined(Calibration(), pair), refined(Calibration(), pair * 50)
    assert often.apply(estimate(10_000)).lut == once.apply(estimate(10_000)).lut


def test_vsynth_of_a_csynth_report_follows_the_ratios() -> None:
    csynth = report(CostStage.CSYNTH, 20_000, ff=10_000, dsp=100, bram18=8, latency_cycles=12, ii=1)
    predicted = refined(Calibration(), []).to_vsynth(csynth)
    assert (predicted.stage, predicted.predicts) == (CostStage.ANALYTIC, CostStage.VSYNTH)
    assert predicted.lut == pytest.approx(20_000 * RATIO_PRIOR["lut"][0], rel=0.01)
    assert (predicted.dsp, predicted.latency_cycles, predicted.ii) == (100, 12, 1)
    low, high = predicted.interval_90["lut"]
    assert low < predicted.lut < high < 20_000
    # A site whose designs keep 90 % of their LUTs teaches that.
    rng = np.random.default_rng(8)
    pairs = []
    for index in range(200):
        lut = float(np.exp(rng.uniform(7, 11)))
        measured = report(CostStage.VSYNTH, 0.9 * lut * math.exp(rng.normal(0, 0.04)), name=str(index), tool="vivado")
        pairs.append(Observation(report(CostStage.CSYNTH, lut, name=str(index)), measured))
    learned = refined(Calibration(), pairs)
    assert learned.to_vsynth(csynth).lut == pytest.approx(18_000, rel=0.03)
    narrow, wide = learned.to_vsynth(csynth).interval_90["lut"], predicted.interval_90["lut"]
    assert narrow[1] / narrow[0] < 0.5 * wide[1] / wide[0]
    with pytest.raises(StageMismatchError, match="no csynth report"):
        learned.to_vsynth(report(CostStage.VSYNTH, 1000))


def test_ratio_of_an_estimate_carries_the_estimates_own_uncertainty() -> None:
    refinement = refined(Calibration(), [])
    of_report = refinement.to_vsynth(report(CostStage.CSYNTH, 20_000)).interval_90["lut"]
    of_estimate = refinement.to_vsynth(estimate(20_000)).interval_90["lut"]
    assert of_estimate[1] / of_estimate[0] > of_report[1] / of_report[0]

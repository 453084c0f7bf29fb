"""Stitching against simulated crossings, re-weighting against samples generated at the wanted pile-up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import poisson

from trigger_prune.errors import ConfigError, DataError
from trigger_prune.physics.filling import CollidingBunches, named_filling
from trigger_prune.physics.intervals import effective_events
from trigger_prune.physics.luminosity import (
    LuminosityScenario,
    hardest_scatter_probabilities,
    renormalise_strata,
    reweight_pileup,
    stitched_weights,
    strata_totals,
)


def test_hardest_bin_of_simulated_crossings() -> None:
    """Throw Poisson scatters into every bin of every crossing and look which bin is the hardest one."""
    rng = np.random.default_rng(5)
    sigma, pileup, sigma_nd, n = np.array([0.6, 0.25, 0.1, 0.02]), 50.0, 57.0, 400_000
    scatters = rng.poisson(pileup * sigma / sigma_nd, size=(n, 4))
    hardest = np.where(scatters > 0, np.arange(1, 5), 0).max(axis=1)
    seen = np.bincount(hardest, minlength=5) / n
    expected = hardest_scatter_probabilities(pileup, sigma.tolist(), sigma_nd)
    assert np.abs(seen - expected).max() < 5 * math.sqrt(0.25 / n)
    # each bin to its own statistical error
    assert (np.abs(seen - expected) < 4.5 * np.sqrt(expected * (1 - expected) / n)).all()


@pytest.mark.parametrize("pileup", [1e-3, 1.0, 50.0, 200.0, 999.0])
def test_every_crossing_is_counted_once(pileup: float) -> None:
    sigma = [0.15, 0.021, 3e-3, 5e-4, 1.3e-4, 9.5e-6]
    probabilities = hardest_scatter_probabilities(pileup, sigma, 56.9)
    assert probabilities.sum() == pytest.approx(1, abs=1e-14)
    rows = np.array([900, 400, 90, 70, 50, 3, 11])
    strata = np.repeat(np.arange(7), rows)
    scenario = LuminosityScenario(pileup, named_filling("72b"))
    weights = stitched_weights(strata, probabilities, scenario.crossings_hz)
    assert weights.sum() == pytest.approx(11245.5 * 2736, rel=1e-6)
    for number, total in strata_totals(weights, strata).items():
        assert total == pytest.approx(11245.5 * 2736 * probabilities[number], rel=1e-12)
        assert np.ptp(weights[strata == number]) == 0


def test_small_probabilities_keep_their_digits() -> None:
    probabilities = hardest_scatter_probabilities(50, [1e-13], 57)
    assert probabilities[1] == pytest.approx(50e-13 / 57, rel=1e-12)


def test_scenario() -> None:
    scenario = LuminosityScenario(50, CollidingBunches(2760))
    assert scenario.crossings_hz == pytest.approx(31_037_580)
    assert scenario.label == "pile-up 50, 2760 colliding bunches"
    assert LuminosityScenario(62.5, named_filling("36b")).label == "pile-up 62.5, 36b (2340 colliding bunches)"
    for wrong in (0, -1, math.nan, math.inf, 5000):
        with pytest.raises(ConfigError, match="pileup"):
            LuminosityScenario(wrong, CollidingBunches(1))


def test_wrong_cross_sections_and_rows() -> None:
    for sigma in ([0.1, 0.0], [0.1, math.nan], [-1.0]):
        with pytest.raises(DataError, match="not all positive"):
            hardest_scatter_probabilities(50, sigma, 57)
    with pytest.raises(DataError, match="non-diffractive"):
        hardest_scatter_probabilities(50, [0.1], 0)
    probabilities = hardest_scatter_probabilities(50, [0.1, 0.2], 57)
    with pytest.raises(DataError, match="bin 1 has no rows"):
        stitched_weights(np.array([0, 2, 2]), probabilities, 1.0)
    with pytest.raises(DataError, match="there are 3"):
        stitched_weights(np.array([0, 1, 2, 3]), probabilities, 1.0)


def test_parts_get_the_full_rate_back() -> None:
    rng = np.random.default_rng(2)
    strata = rng.choice([0, 1, 2, 9], size=5000, p=[0.7, 0.2, 0.06, 0.04])
    weights = rng.random(5000) * (strata + 1)
    totals = strata_totals(weights, strata)
    assert sum(totals.values()) == pytest.approx(weights.sum())
    part = rng.random(5000) < 0.2
    scaled = renormalise_strata(weights[part], strata[part], totals)
    for number in totals:
        rows = strata[part] == number
        assert scaled[rows].sum() == pytest.approx(totals[number], rel=1e-12)
        assert np.ptp(scaled[rows] / weights[part][rows]) < 1e-9
    assert renormalise_strata(weights, strata, totals) == pytest.approx(weights, rel=1e-12)


def test_part_without_a_stratum() -> None:
    weights, strata = np.array([1.0, 2.0, 3.0]), np.array([0, 1, 1])
    with pytest.raises(DataError, match=r"stratum 4 .*1 strata of 3"):
        renormalise_strata(weights, strata, {0: 1.0, 1: 2.0, 4: 1.0})
    with pytest.raises(DataError, match="stratum 1"):
        renormalise_strata(np.array([1.0, 0.0, 0.0]), strata, {0: 1.0, 1: 2.0})
    with pytest.raises(DataError, match="stratum 1 have no total"):
        renormalise_strata(weights, strata, {0: 1.0})
    assert renormalise_strata(weights[:1], strata[:1], {0: 5.0, 1: 0.0}).tolist() == [5.0]


def toy_sample(pileup: float, rows: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two strata of crossings whose score grows with the number of collisions: strata, npu, score."""
    rng = np.random.default_rng(seed)
    strata = np.repeat([0, 1], rows)
    npu = rng.poisson(pileup, size=sum(rows))
    return strata, npu, rng.normal(npu + 25.0 * strata, 6.0)


def test_reweighting_agrees_with_a_sample_made_at_that_pileup() -> None:
    sigma, sigma_nd, crossings, new = [0.3], 57.0, 1e6, 54.0
    old_probabilities = hardest_scatter_probabilities(50, sigma, sigma_nd)
    probabilities = hardest_scatter_probabilities(new, sigma, sigma_nd)
    strata, npu, score = toy_sample(50, (60_000, 40_000), 1)
    weights = stitched_weights(strata, old_probabilities, crossings)
    result = reweight_pileup(
        weights,
        strata,
        npu,
        generated=50,
        wanted=new,
        totals={k: crossings * p for k, p in enumerate(probabilities)},
        names={0: "soft", 1: "hard"},
    )
    assert result.weights.sum() == pytest.approx(crossings, rel=1e-12)
    direct_strata, _, direct_score = toy_sample(new, (600_000, 400_000), 2)
    direct = stitched_weights(direct_strata, probabilities, crossings)
    for threshold in (50, 60, 70, 80, 90):
        here = result.weights[score >= threshold]
        there = direct[direct_score >= threshold]
        error = math.hypot(math.sqrt((here**2).sum()), math.sqrt((there**2).sum()))
        assert abs(here.sum() - there.sum()) < 4 * error
        # the test can tell the two pile-ups apart
        assert abs(weights[score >= threshold].sum() - there.sum()) > 4 * error
    assert result.warnings == ()


def test_loss_of_effective_events_is_the_closed_form() -> None:
    strata = np.zeros(200_000, dtype=np.int64)
    npu = np.random.default_rng(4).poisson(50, size=len(strata))
    weights = np.ones(len(strata))
    for new in (45.0, 55.0, 58.0):
        result = reweight_pileup(weights, strata, npu, generated=50, wanted=new, totals={0: 7.0}, names={0: "soft"})
        ratio = (poisson.pmf(np.arange(120), new) / poisson.pmf(np.arange(120), 50))[npu]
        assert np.allclose(result.weights, 7 * ratio / ratio.sum(), rtol=1e-9, atol=0)
        assert result.kept[0] == pytest.approx(effective_events(ratio) / len(npu), rel=1e-9)
        assert result.kept[0] == pytest.approx(math.exp(-((new - 50) ** 2) / 50), rel=0.05)
        assert result.warnings == ()


def test_warnings_when_little_is_left() -> None:
    strata = np.repeat([0, 1], [50_000, 400])
    npu = np.random.default_rng(4).poisson(50, size=len(strata))
    result = reweight_pileup(
        np.ones(len(strata)),
        strata,
        npu,
        generated=50,
        wanted=80,
        totals={0: 1.0, 1: 2.0},
        names={0: "soft", 1: "qcd0"},
    )
    assert strata_totals(result.weights, strata) == pytest.approx({0: 1.0, 1: 2.0})
    assert result.kept[0] < 0.1
    loss, unseen = result.warnings
    assert loss.startswith("re-weighting from pile-up 50 to 80 leaves 0.0")
    assert loss.endswith("less than 10% in 2 of 2 processes")
    assert "of the crossings of qcd0 hold" in unseen and "more than 1% in 2 of 2" in unseen


def test_share_of_crossings_that_no_event_resembles() -> None:
    npu = np.array([40, 45, 50, 55, 60, 64])
    result = reweight_pileup(
        np.ones(6), np.zeros(6, dtype=np.int64), npu, generated=50, wanted=52, totals={0: 1.0}, names={0: "soft"}
    )
    outside = poisson.cdf(39, 52) + poisson.sf(64, 52)
    assert f"{outside:.1%} of the crossings of soft" in result.warnings[0]
    with pytest.raises(DataError, match="no overlay"):
        reweight_pileup(
            np.ones(6), np.zeros(6, dtype=np.int64), npu, generated=0, wanted=52, totals={0: 1.0}, names={0: "soft"}
        )

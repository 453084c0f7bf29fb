"""Intervals against drawn errors: how often they hold the truth of a project that was not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from trigger_prune.cost.calibration.prediction_interval import interval, ratio, spread_of
from trigger_prune.cost.calibration.predictions import Prediction

Draw = Callable[[np.random.Generator, float], float]
UNBALANCED = ((6, 6, 6, 6, 6), (2, 2))
"""Designs of every network of every project, as the public dense networks have them."""
SWEEP = ((1,) * 80, (1,) * 40, (4, 5, 5), (1, 1))


def prediction(
    predicted: float, true: float, project: str = "p", network: str = "n", quantity: str = "lut"
) -> Prediction:
    return Prediction("network", quantity, "x", project, network, "tool", "f", predicted, true)


def gauss(rng: np.random.Generator, width: float) -> float:
    return float(rng.normal(0, width))


def heavy_tailed(rng: np.random.Generator, width: float) -> float:
    """Student's t of three degrees of freedom with the same variance."""
    return float(width * rng.standard_t(3) / math.sqrt(3))


def drawn(
    rng: np.random.Generator, shape: Sequence[Sequence[int]], widths: tuple[float, float, float], draw: Draw = gauss
) -> list[Prediction]:
    """Errors that designs of a network share, and networks of a project; ``widths`` of project, network, design."""
    found = []
    for p, networks in enumerate(shape):
        of_project = draw(rng, widths[0])
        for n, designs in enumerate(networks):
            of_network = of_project + draw(rng, widths[1])
            found += [
                prediction(1e5, 1e5 * math.exp(of_network + draw(rng, widths[2])), f"p{p}", f"p{p}/n{n}", "ii")
                for _ in range(designs)
            ]
    return found


@pytest.mark.parametrize("draw", [gauss, heavy_tailed])
@pytest.mark.parametrize(
    "widths", [(0.1, 0.1, 0.1), (0.0, 0.1, 0.1), (0.0, 0.0, 0.1), (0.2, 0.05, 0.05), (0.0, 0.2, 0.05)], ids=str
)
@pytest.mark.parametrize(
    "shape",
    [UNBALANCED, SWEEP, ((3, 3, 3, 3),), ((1,), (1,)), ((18, 17), (8, 8), (4,)), ((3, 3),) * 12, ((2, 1),) * 25],
    ids=["two projects", "sweep", "one project", "two designs", "three projects", "twelve projects", "many projects"],
)
def test_coverage_of_projects_not_seen(
    shape: Sequence[Sequence[int]], widths: tuple[float, float, float], draw: Draw
) -> None:
    """Whatever makes designs err together, and however little is known: near 90 %, neither 60 % nor 100 %."""
    held: list[bool] = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        low, high = interval(drawn(rng, shape, widths, draw))
        held += [low <= ratio(new) <= high for new in drawn(rng, ((1,),) * 6, widths, draw)]
    few = len(shape) == 1 and widths[0] > 0
    assert (0.80 if few or draw is heavy_tailed else 0.84) <= np.mean(held) <= 0.96


@pytest.mark.parametrize("projects", [1, 2, 5, 8])
def test_single_designs_of_few_projects_have_students_t(projects: int) -> None:
    """Textbook: n errors of known mean 0 and unknown variance; the next one is t of n degrees of freedom times rms."""
    errors = np.random.default_rng(projects).normal(0, 0.1, projects)
    found = [prediction(1e5, 1e5 * math.exp(e), f"p{i}", f"p{i}/n", "dsp") for i, e in enumerate(errors)]
    half = stats.t.ppf(0.95, projects) * math.sqrt(np.mean(errors**2))
    assert interval(found) == pytest.approx((math.exp(-half), math.exp(half)))


def test_variances_of_a_balanced_nested_design_are_those_of_the_analysis_of_variance() -> None:
    """Two projects of three networks of four designs: components by the textbook's table of expected mean squares."""
    rng = np.random.default_rng(5)
    y = rng.normal(0, 0.1, (2, 1, 1)) + rng.normal(0, 0.2, (2, 3, 1)) + rng.normal(0, 0.1, (2, 3, 4))
    found = [
        prediction(1e5, 1e5 * math.exp(y[p, n, d]), f"p{p}", f"p{p}/n{n}", "ii")
        for p in range(2)
        for n in range(3)
        for d in range(4)
    ]
    networks, projects = y.mean(axis=2), y.mean(axis=(1, 2))
    # Sums of squares over 12, 4 and 2 degrees of freedom (the mean is known); in units of one design.
    ms_design = ((y - networks[..., None]) ** 2).sum() / (2 * 3 * 3)
    ms_network = 4 * ((networks - projects[:, None]) ** 2).sum() / (2 * 2)
    ms_project = 12 * (projects**2).sum() / 2
    of_network, of_project = (ms_network - ms_design) / 4, (ms_project - ms_network) / 12
    variance = of_project + of_network + ms_design
    low, high = interval(found)
    freedom = variance**2 / (
        (ms_project / 12) ** 2 / 2 + ((1 / 4 - 1 / 12) * ms_network) ** 2 / 4 + ((1 - 1 / 4) * ms_design) ** 2 / 18
    )
    assert math.log(high) == pytest.approx(stats.t.ppf(0.95, freedom) * math.sqrt(variance))
    assert low == pytest.approx(1 / high)


@pytest.mark.parametrize(("projects", "rank"), [(19, 18), (29, 27), (49, 45)])
def test_enough_projects_need_no_assumption(projects: int, rank: int) -> None:
    """Split conformal: of n exchangeable scores the ceil(0.9 (n + 1))-th smallest."""
    errors = np.random.default_rng(projects).normal(0, 0.1, projects)
    found = [prediction(1e5, 1e5 * math.exp(e), f"p{i}", f"p{i}/n", "dsp") for i, e in enumerate(errors)]
    assert math.log(interval(found)[1]) == pytest.approx(np.sort(np.abs(errors))[rank - 1])


def test_designs_of_one_network_count_once() -> None:
    """A hundred designs that err by a factor of two, all of one network, weigh no more than one of another."""
    many = [prediction(1000, 2000, "a", "a/1") for _ in range(100)]
    others = [prediction(1000, 1000 + i, f"p{i}", f"p{i}/1") for i in range(60)]
    assert interval([*many, *others])[1] < 1.1
    assert interval([*many[:1], *others]) == interval([*many, *others])


def test_a_rule_that_never_failed_is_exact_and_little_evidence_is_not() -> None:
    for projects in (7, 25):
        exact = [prediction(20, 20, f"p{i}", f"p{i}/n", "dsp") for i in range(projects)]
        assert spread_of(exact)["dsp"] == (1.0, 1.0)
    once = [prediction(20, 20, "p", "p/n", "lut")]
    assert spread_of(once)["lut"] == pytest.approx((1 / 1.5, 1.5))
    assert interval([prediction(1, 1e6)]) == pytest.approx((0.01, 100))


def test_zeros() -> None:
    assert ratio(prediction(0, 0)) == 1.0
    assert ratio(prediction(0, 9)) == 10.0
    assert ratio(prediction(100, 50)) == 0.5


def test_a_large_quiet_site_does_not_speak_for_the_others() -> None:
    """A sweep of 900 layers within 1 % beside two sites whose errors are spread by 40 %: their 90 % are inside."""
    rng = np.random.default_rng(2)
    sizes = {"sweep": (900, 0.01), "second": (40, 0.4), "third": (40, 0.4)}
    found = [
        prediction(1e5, 1e5 * math.exp(rng.normal(0, width)), name, f"{name}/{i}")
        for name, (count, width) in sizes.items()
        for i in range(count)
    ]
    low, high = interval(found)
    inside = {name: np.mean([low <= ratio(one) <= high for one in found if one.project == name]) for name in sizes}
    assert np.mean(list(inside.values())) >= 0.9
    # one of three sites is quiet: the others must hold 85 % each, which takes 1.44 standard deviations
    assert math.log(high) >= 1.3 * 0.4


def test_the_many_layers_of_one_site_do_not_pass_for_many_sites() -> None:
    """A sweep of a hundred layers with small errors beside three of another site that are off by half."""
    sweep = [prediction(1000, 1000 + i % 10, "sweep", f"sweep/{i}") for i in range(100)]
    other = [prediction(1000, 1500, "other", f"other/{i}") for i in range(3)]
    assert interval([*sweep, *other])[1] > 2
    third = [prediction(1000, 1000 + i % 10, "third", f"third/{i}") for i in range(100)]
    assert interval([*sweep, *other, *third])[1] > 1.5
    alike = [prediction(1000, 1000 + i % 10, "other", f"other/{i}") for i in range(3)]
    assert interval([*sweep, *alike])[1] < 1.03

"""Every figure of a study is counted again from scores and weights, one loop at a time."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import trigger_toys

from trigger_prune.data.sample import EventSample
from trigger_prune.errors import DataError
from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.menu import fit_menu, fit_seeds
from trigger_prune.physics.rates import Threshold
from trigger_prune.physics.scores import Score
from trigger_prune.physics.trigger_study import (
    ALL_SIGNALS,
    HT_CUT,
    StudySettings,
    TriggerStudy,
    default_turn_on,
    has_menu_observables,
    in_words,
    study_trigger,
)

TARGETS = (1.0, 10.0, 100.0)
PAIRS = (("float", "deployed"),)


def make(signals: tuple[str, ...] = ("HH4b",), rates: bool = True, **settings: object):
    validation, test = (trigger_toys.part(seed, signals, rates) for seed in (1, 2))
    found = trigger_toys.scores(validation, test)
    targets = TARGETS if rates else (1e-4, 1e-3, 1e-2)
    chosen = {
        "signal_classes": tuple(range(1, len(signals) + 1)),
        "targets_khz": targets,
        "main_khz": targets[-1],
        "turn_on": default_turn_on(test, (1,)),
        "turn_on_networks": ("deployed",),
        "menu": rates,
        "pairs": PAIRS,
    }
    study = study_trigger(found, validation, test, StudySettings(**(chosen | settings)))
    return validation, test, found, study


@pytest.fixture(scope="module")
def one():
    return make()


@pytest.fixture(scope="module")
def two():
    return make(("HH4b", "ttbar"))


def lowest_threshold(scores: np.ndarray, weights: np.ndarray, target_hz: float) -> float:
    """The lowest score of any background event whose rate is at most the target, by trying all of them."""
    fitting = [value for value in np.unique(scores) if weights[scores >= value].sum() <= target_hz]
    return min(fitting, default=math.inf)


def rate_khz(passes: np.ndarray, sample: EventSample) -> float:
    return float(sample.weights[passes & (sample.labels == 0)].sum()) / 1e3


def effective(passes: np.ndarray, sample: EventSample) -> float:
    rows = np.flatnonzero(passes & (sample.labels == 0))
    sums = [sample.weights[rows[sample.groups[rows] == group]].sum() for group in np.unique(sample.groups[rows])]
    return sum(sums) ** 2 / sum(x * x for x in sums) if sums else 0.0


@pytest.mark.parametrize("network", ["float", "deployed"])
def test_working_points_are_those_of_a_brute_force_count(two, network: str) -> None:
    validation, test, scores, study = two
    before, after = scores[network]
    background = validation.labels == 0
    for target, point in zip(TARGETS, study.networks[network].points, strict=True):
        threshold = lowest_threshold(before[background], validation.weights[background], 1e3 * target)
        assert point.threshold.value == threshold
        assert point.validation_rate.rate_hz / 1e3 == pytest.approx(rate_khz(before >= threshold, validation))
        assert point.test_rate.rate_hz / 1e3 == pytest.approx(rate_khz(after >= threshold, test))
        assert point.test_rate.n_effective == pytest.approx(effective(after >= threshold, test))
        assert point.moved == pytest.approx(
            rate_khz(after >= threshold, test) / rate_khz(before >= threshold, validation) - 1
        )
        passes = after >= threshold
        wanted = {
            "HH4b": passes[test.labels == 1].mean(),
            "ttbar": passes[test.labels == 2].mean(),
            ALL_SIGNALS: passes[test.labels > 0].mean(),
        }
        assert {name: found.value for name, found in point.efficiency.items()} == pytest.approx(wanted)
        assert set(point.efficiency_at_equal_rate) == set(wanted)


def test_a_warning_stands_where_few_events_do_and_nowhere_else(one) -> None:
    validation, test, scores, study = one
    few = 0
    for network, (before, after) in scores.items():
        for point in study.networks[network].points:
            for name, sample, values in (("validation", validation, before), ("test", test, after)):
                warned = any(text.startswith(f"{name}: rate of") for text in point.warnings)
                assert warned == (effective(values >= point.threshold.value, sample) < 100)
                few += warned
    assert 0 < few < 18, "the toy has well and badly populated rates"


def test_menu_rows_are_those_of_the_menu(one) -> None:
    validation, test, _, study = one
    background = validation.labels == 0
    of_background = {name: values[background] for name, values in validation.observables.items()}
    for index, target in enumerate(TARGETS):
        for fitted in fit_seeds(of_background, validation.weights[background], 1e3 * target):
            point = study.cuts[fitted.seed.name][index]
            passes = fitted.passes(test.observables)
            assert point.thresholds_gev == {fitted.seed.name: fitted.threshold_gev}
            assert point.test_rate.rate_hz / 1e3 == pytest.approx(rate_khz(passes, test))
            assert point.efficiency["HH4b"].value == pytest.approx(passes[test.labels == 1].mean())
            assert bool(point.warnings) == (
                min(effective(fitted.passes(validation.observables), validation), effective(passes, test)) < 100
            )
        for shares in ("equal", "optimised"):
            menu = fit_menu(validation.observables, background, validation.weights, 1e3 * target, shares=shares)
            point = study.cuts[f"menu_{shares}"][index]
            passes = menu.accepts(test.observables)
            assert point.validation_rate.rate_hz == pytest.approx(menu.rate_hz)
            assert point.test_rate.rate_hz / 1e3 == pytest.approx(rate_khz(passes, test))
            assert point.efficiency["HH4b"].value == pytest.approx(passes[test.labels == 1].mean())
            assert tuple(point.shares.values()) == menu.shares
    assert study.cuts["menu_optimised"][2].efficiency["HH4b"].value >= 0.9 * max(
        study.cuts[name][2].efficiency["HH4b"].value for name in study.cuts if not name.startswith("menu")
    )


def test_pure_rates_count_what_no_other_takes(one) -> None:
    validation, test, scores, study = one
    menu = fit_menu(validation.observables, validation.labels == 0, validation.weights, 1e5)
    decisions = menu.decisions(test.observables)
    taken = decisions.sum(axis=0)
    for seed, passes in zip(study.pure.menu.seeds, decisions, strict=True):
        assert seed.pure.rate_hz / 1e3 == pytest.approx(rate_khz(passes & (taken == 1), test))
    network = scores["deployed"][1] >= study.networks["deployed"].points[2].threshold.value
    beside = study.pure.beside["deployed"]
    assert beside.pure.rate_hz / 1e3 == pytest.approx(rate_khz(network & (taken == 0), test))
    assert beside.together.rate_hz / 1e3 == pytest.approx(rate_khz(network | (taken > 0), test))
    together = study.pure.together["deployed"]["HH4b"].value
    assert together == pytest.approx((network | (taken > 0))[test.labels == 1].mean())


def test_curves_and_turn_ons_belong_to_the_scores(one) -> None:
    _, test, scores, study = one
    after = scores["float"][1]
    (curve,) = study.networks["float"].curves
    values, weights = after[test.labels == 0], test.weights[test.labels == 0]
    order = np.argsort(-values)
    reached = np.cumsum(weights[order]) / 1e3
    for rate in (curve.rate_khz[20], curve.rate_khz[30]):
        threshold = values[order][np.searchsorted(reached, rate)]
        at = curve.efficiency[curve.rate_khz.index(rate)]
        assert (after > threshold)[test.labels == 1].mean() - 1e-9 <= at
        assert at <= (after >= threshold)[test.labels == 1].mean() + 1e-9
    assert study.ht.curves[0].signal_name == "HH4b" and study.ht.points == ()
    assert set(study.turn_ons) == {"deployed", HT_CUT}
    (turn_on,) = study.turn_ons["deployed"]
    passes = scores["deployed"][1] >= study.networks["deployed"].points[2].threshold.value
    offline = test.observables["offline_ht_gev"]
    for part in turn_on.bins:
        chosen = (test.labels == 1) & (offline >= part.low) & (offline < part.high)
        assert part.efficiency.value == pytest.approx(passes[chosen].mean())


def test_without_rates_the_background_counts_as_one(one) -> None:
    validation, test, scores, study = make(rates=False)
    background = validation.labels == 0
    share = validation.weights[background] / validation.weights[background].sum()
    for fraction, point in zip((1e-4, 1e-3, 1e-2), study.networks["deployed"].points, strict=True):
        threshold = lowest_threshold(scores["deployed"][0][background], share, fraction)
        assert point.threshold.value == threshold
        passes = scores["deployed"][1] >= threshold
        on_test = test.weights[passes & (test.labels == 0)].sum() / test.weights[test.labels == 0].sum()
        assert point.test_rate.rate_hz / 1e3 == pytest.approx(on_test)
        assert point.efficiency["HH4b"].value == pytest.approx(passes[test.labels == 1].mean())
    assert study.cuts == {} and study.pure is None and study.ht is None
    assert study.background_khz == pytest.approx({"validation": 1.0, "test": 1.0})
    assert study.networks["float"].curves[0].rate_khz[0] == pytest.approx(1e-5)
    with pytest.raises(DataError, match="a menu needs background weights that are rates"):
        make(rates=False, menu=True)


def test_a_comparison_that_cannot_be_made_says_why() -> None:
    study = make(main_khz=1e5, targets_khz=(1.0, 1e5))[3]
    (pair,) = study.differences
    assert pair.found is None and "is no cut" in pair.note
    assert study.networks["deployed"].points[0].efficiency["HH4b"].value > 0


def test_a_study_survives_json(two) -> None:
    raw = json.loads(json.dumps(two[3].to_dict()))
    assert TriggerStudy.from_dict(raw).to_dict() == two[3].to_dict()


def test_offline_variables_are_preferred_and_the_generator_is_left_out() -> None:
    sample = trigger_toys.part(1)
    assert default_turn_on(sample, (1,)) == ("offline_ht_gev",)
    absent = sample.observables | {"offline_mu1_pt_gev": np.zeros(sample.n_events)}
    assert default_turn_on(replace(sample, observables=absent), (1,)) == ("offline_ht_gev",)
    assert default_turn_on(trigger_toys.part(1, offline=False), (1,)) == ("ht_gev",)
    assert default_turn_on(replace(sample, observables={}), (1,)) == ()
    assert has_menu_observables(sample) and not has_menu_observables(trigger_toys.part(1, rates=False))


def test_words_of_a_sample_without_rates() -> None:
    text = "the highest score alone has 0.0009597 kHz on validation, above 1e-04 kHz: nothing passes"
    assert in_words(text, True) == text
    assert in_words(text, False) == (
        "the highest score alone has 0.09597 % of the background on validation, above 0.01 % of the background: "
        "nothing passes"
    )
    assert in_words("rate of 12 effective background events (below 100)", False).endswith("(below 100)")


@pytest.mark.parametrize(
    ("score", "outputs", "inputs", "step"),
    [
        (Score("head"), 1, None, 2.0**-5),
        (Score("difference", (1,), (0, 2)), 3, None, 2.0**-5),
        (Score("sum_of_squares"), 4, None, 2.0**-10),
        (Score("reconstruction"), 2, 2.0**-3, 2.0**-10),
        (Score("reconstruction"), 2, 2.0**-7, 2.0**-14),
    ],
)
def test_integers_decide_as_floats_do(score: Score, outputs: int, inputs: float | None, step: float) -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(-300, 300, (400, outputs)) * 2.0**-5
    read = None if inputs is None else rng.integers(-900, 900, (400, outputs)) * inputs
    scores = score.of(values, read)
    firmware = FirmwareScore(score, "", 2.0**-5, inputs or 2.0**-3)
    assert firmware.step == step
    codes = scores / step
    assert (codes == np.round(codes)).all(), "every score is a whole number of steps"
    for threshold in np.unique(scores)[::40]:
        integer = firmware.integer(Threshold(float(threshold), 1.0, 1.0, 0.0))
        assert isinstance(integer, int)
        assert ((codes.astype(np.int64) >= integer) == (scores >= threshold)).all()
    assert FirmwareScore.from_dict(json.loads(json.dumps(firmware.to_dict()))) == firmware
    assert firmware.integer(Threshold(math.inf, 1.0, 0.0, 2.0)) is None
    with pytest.raises(DataError, match="no multiple of the score's step"):
        firmware.integer(Threshold(step * 1.5, 1.0, 1.0, 0.0))

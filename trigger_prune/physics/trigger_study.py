"""Everything that is quoted of several networks with one trigger score, beside a cut-based menu."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.data.sample import EventSample
from trigger_prune.errors import DataError
from trigger_prune.physics.auc import auc_estimate, auc_influence
from trigger_prune.physics.efficiency_curves import EfficiencyCurve, efficiency_curves, roc_curves
from trigger_prune.physics.equal_efficiency import RankedBackground, rank_background
from trigger_prune.physics.equal_rate import EqualRateDifference, paired_efficiency_difference
from trigger_prune.physics.intervals import Estimate
from trigger_prune.physics.roc import RocCurve
from trigger_prune.physics.scored_events import BACKGROUND, ScoredEvents
from trigger_prune.physics.trigger_cuts import (
    MENU_OBSERVABLES,
    CutPoint,
    MenuPart,
    PureRates,
    fit_menus,
    menu_points,
    pure_rates,
    seed_points,
)
from trigger_prune.physics.turn_on import TurnOn, turn_on
from trigger_prune.physics.working_points import WorkingPoint, working_points

ALL_SIGNALS = "all signals"
"""Name of the union of several signal classes."""

HT_CUT = "ht"
"""The seed that has curves of its own beside the networks."""

ALL_BACKGROUND_KHZ = 1.0
"""What the background adds up to where weights are no rates: a figure in kHz is then a background efficiency."""

_LOWEST_FRACTION = 1e-5
_POINTS_PER_DECADE = 10

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class StudySettings:
    """What to quote.

    signal_classes   class indices; all others are background
    targets_khz      ascending rates; where the sample's weights are no rates, background efficiencies
    main_khz         the one of them at which networks are compared, and turn-on curves and pure rates are made
    turn_on          observables for turn-on curves, made of ``turn_on_networks`` and of the HT cut
    menu             whether to fit cuts and menus; needs the observables of MENU_OBSERVABLES and rates
    pairs            (reference, candidate) networks to compare event by event
    """

    signal_classes: tuple[int, ...]
    targets_khz: tuple[float, ...]
    main_khz: float
    turn_on: tuple[str, ...] = ()
    turn_on_networks: tuple[str, ...] = ()
    menu: bool = False
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class NetworkStudy:
    """One network, or the HT cut as if it were one (then only ``curves`` and ``rocs`` are used).

    points    one per target rate; none for a cut
    auc       of all signals against the background, on test
    curves    efficiency against rate on test, per signal; rocs: signal -> ROC curve
    """

    points: tuple[WorkingPoint, ...]
    auc: Estimate
    curves: tuple[EfficiencyCurve, ...]
    rocs: dict[str, RocCurve]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "points": [point.to_dict() for point in self.points],
            "auc": self.auc.to_dict(),
            "curves": [curve.to_dict() for curve in self.curves],
            "rocs": {
                name: {key: values.tolist() for key, values in roc.__dict__.items()} for name, roc in self.rocs.items()
            },
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> NetworkStudy:
        """Inverse of ``to_dict``."""
        return cls(
            tuple(WorkingPoint.from_dict(point) for point in raw["points"]),
            Estimate.from_dict(raw["auc"]),
            tuple(EfficiencyCurve.from_dict(curve) for curve in raw["curves"]),
            {
                name: RocCurve(**{key: np.array(values, np.float64) for key, values in roc.items()})
                for name, roc in raw["rocs"].items()
            },
        )


@dataclass(frozen=True)
class Difference:
    """Candidate minus reference for one signal at the main rate; ``found`` is None where ``note`` says why."""

    reference: str
    candidate: str
    signal_name: str
    found: EqualRateDifference | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal difference."""
        return asdict(self) | {"found": None if self.found is None else self.found.to_dict()}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Difference:
        """Inverse of ``to_dict``."""
        found = None if raw["found"] is None else EqualRateDifference.from_dict(raw["found"])
        return cls(**(raw | {"found": found}))


@dataclass(frozen=True)
class TriggerStudy:
    """Figures of test events at thresholds of validation events.

    rate_weights     False: every figure in kHz is a background efficiency instead (see ALL_BACKGROUND_KHZ)
    signal_names     signal classes; ALL_SIGNALS last when there are several
    background_khz   part -> rate of all its background
    networks         network -> its figures
    cuts             seed or menu (``menu_equal``, ``menu_optimised``) -> one point per target; empty without a menu
    ht               the HT cut as a curve; None without a menu
    turn_ons         network (or HT_CUT) -> its turn-on curves, per observable and signal class
    """

    rate_weights: bool
    targets_khz: tuple[float, ...]
    main_khz: float
    signal_names: tuple[str, ...]
    background_khz: dict[str, float]
    networks: dict[str, NetworkStudy]
    differences: tuple[Difference, ...]
    cuts: dict[str, tuple[CutPoint, ...]]
    ht: NetworkStudy | None
    pure: PureRates | None
    turn_ons: dict[str, tuple[TurnOn, ...]]

    @property
    def main(self) -> int:
        """Position of the main rate among the targets."""
        return self.targets_khz.index(self.main_khz)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` restores an equal study (but for the arrays of ROC curves)."""
        return {
            "rate_weights": self.rate_weights,
            "targets_khz": list(self.targets_khz),
            "main_khz": self.main_khz,
            "signal_names": list(self.signal_names),
            "background_khz": self.background_khz,
            "networks": {name: study.to_dict() for name, study in self.networks.items()},
            "differences": [difference.to_dict() for difference in self.differences],
            "cuts": {name: [point.to_dict() for point in points] for name, points in self.cuts.items()},
            "ht": None if self.ht is None else self.ht.to_dict(),
            "pure": None if self.pure is None else self.pure.to_dict(),
            "turn_ons": {name: [curve.to_dict() for curve in curves] for name, curves in self.turn_ons.items()},
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> TriggerStudy:
        """Inverse of ``to_dict``."""
        return cls(
            raw["rate_weights"],
            tuple(raw["targets_khz"]),
            raw["main_khz"],
            tuple(raw["signal_names"]),
            raw["background_khz"],
            {name: NetworkStudy.from_dict(study) for name, study in raw["networks"].items()},
            tuple(Difference.from_dict(difference) for difference in raw["differences"]),
            {name: tuple(CutPoint.from_dict(point) for point in points) for name, points in raw["cuts"].items()},
            None if raw["ht"] is None else NetworkStudy.from_dict(raw["ht"]),
            None if raw["pure"] is None else PureRates.from_dict(raw["pure"]),
            {name: tuple(TurnOn.from_dict(curve) for curve in curves) for name, curves in raw["turn_ons"].items()},
        )


def study_trigger(
    scores: Mapping[str, tuple[Scores, Scores]],
    validation: EventSample,
    test: EventSample,
    settings: StudySettings,
) -> TriggerStudy:
    """All figures of the networks in ``scores`` (network -> scores of validation and of test events).

    Raises DataError for scores that are not finite or do not match the events, a background or signal class without
    weight, observables that are missing, and a menu without rates.
    """
    if settings.menu and not validation.rate_weights:
        raise DataError("a menu needs background weights that are rates")
    before_part, after_part = _Part(validation, settings), _Part(test, settings)
    main = settings.targets_khz.index(settings.main_khz)
    rates = None if validation.rate_weights else _fractions()
    networks, passes = {}, {}
    for name, (before, after) in scores.items():
        networks[name] = _network(before_part.with_scores(before), after_part.with_scores(after), settings, rates)
        passes[name] = after >= networks[name].points[main].threshold.value
    cuts: dict[str, tuple[CutPoint, ...]] = {}
    ht, pure = None, None
    decisions = {name: passes[name] for name in settings.turn_on_networks}
    if settings.menu:
        fitted_on, measured_on = before_part.for_menu(), after_part.for_menu()
        equal, optimised = fit_menus(fitted_on, settings.targets_khz)
        cuts = seed_points(fitted_on, measured_on, settings.targets_khz)
        cuts["menu_equal"] = menu_points(fitted_on, measured_on, equal)
        cuts["menu_optimised"] = menu_points(fitted_on, measured_on, optimised)
        pure = pure_rates(equal[main], passes, measured_on)
        scored = after_part.with_scores(test.observables["ht_gev"])
        ht = _curves(scored, rank_background(scored[0]), rates)
        at_least = cuts[HT_CUT][main].thresholds_gev[HT_CUT]
        decisions[HT_CUT] = test.observables["ht_gev"] >= (np.inf if at_least is None else at_least)
    return TriggerStudy(
        validation.rate_weights,
        settings.targets_khz,
        settings.main_khz,
        after_part.signal_names,
        {"validation": before_part.background_khz, "test": after_part.background_khz},
        networks,
        tuple(_differences(scores, after_part, settings)),
        cuts,
        ht,
        pure,
        {
            # against HT itself an HT cut is a step by definition
            name: _turn_ons(decision, test, settings, {"ht_gev"} if name == HT_CUT else set())
            for name, decision in decisions.items()
        },
    )


def default_turn_on(sample: EventSample, signal_classes: tuple[int, ...]) -> tuple[str, ...]:
    """Observables that a turn-on curve of the signal makes sense against.

    Offline variables that most signal events have (an absent object counts 0) and that a detector could measure, so not
    the generator's pT-hat. Without any, ``ht_gev``, which is a quantity of the trigger itself; or nothing.
    """
    signal = np.isin(sample.labels, signal_classes)
    offline = tuple(
        name
        for name, values in sample.observables.items()
        if name.startswith("offline_") and "pthat" not in name and np.median(values[signal]) > 0
    )
    return offline or (("ht_gev",) if "ht_gev" in sample.observables else ())


def has_menu_observables(sample: EventSample) -> bool:
    """Whether cuts and menus can be made of the sample."""
    return sample.rate_weights and set(sample.observables) >= MENU_OBSERVABLES


class _Part:
    """One part of the sample, without scores: the signal classes one by one, and all together where there are several.

    Every row keeps its place, so the arrays of all networks match.
    """

    def __init__(self, sample: EventSample, settings: StudySettings) -> None:
        names = tuple(sample.class_names[index] for index in settings.signal_classes)
        position = np.full(sample.n_classes, BACKGROUND, np.int64)
        position[list(settings.signal_classes)] = np.arange(len(names))
        self.sample = sample
        self.selections = [(position[sample.labels], names)]
        if len(names) > 1:
            self.selections.append((np.minimum(position, 0)[sample.labels], (ALL_SIGNALS,)))
        self.signal_names = tuple(name for _, selected in self.selections for name in selected)
        background = self.selections[0][0] == BACKGROUND
        total = float(sample.weights[background].sum())
        if not total > 0:
            raise DataError(f"{sample.source}: the background has no weight, so there is no rate")
        scale = 1.0 if sample.rate_weights else 1e3 * ALL_BACKGROUND_KHZ / total
        self.weights = np.where(background, sample.weights * scale, sample.weights)
        self.background_khz = total * scale / 1e3

    def with_scores(self, scores: Scores) -> tuple[ScoredEvents, ...]:
        return tuple(
            ScoredEvents(scores, signal, self.weights, self.sample.groups, names) for signal, names in self.selections
        )

    def for_menu(self) -> MenuPart:
        return MenuPart(self.with_scores(np.zeros(self.sample.n_events)), self.sample.observables)


def _network(
    validation: tuple[ScoredEvents, ...],
    test: tuple[ScoredEvents, ...],
    settings: StudySettings,
    rates_khz: tuple[float, ...] | None,
) -> NetworkStudy:
    ranked = rank_background(test[0])
    study = _curves(test, ranked, rates_khz)
    per_selection = [
        working_points(before, after, settings.targets_khz, ranked)
        for before, after in zip(validation, test, strict=True)
    ]
    points = []
    for same in zip(*per_selection, strict=True):
        first = same[0]
        efficiency, equal = dict(first.efficiency), dict(first.efficiency_at_equal_rate)
        for other in same[1:]:
            efficiency |= other.efficiency
            equal |= other.efficiency_at_equal_rate
        points.append(replace(first, efficiency=efficiency, efficiency_at_equal_rate=equal))
    return replace(study, points=tuple(points))


def _curves(
    test: tuple[ScoredEvents, ...], ranked: RankedBackground, rates_khz: tuple[float, ...] | None
) -> NetworkStudy:
    curves = [curve for events in test for curve in efficiency_curves(events, rates_khz, ranked)]
    rocs = {name: roc for events in test for name, roc in roc_curves(events, background=ranked).items()}
    every = test[-1]
    influence = auc_influence(np.asarray(every.scores, np.float64), every.signal != BACKGROUND, every.weights)
    return NetworkStudy((), auc_estimate(influence, every.groups), tuple(curves), rocs)


def _fractions() -> tuple[float, ...]:
    """Background efficiencies of a curve, where there are no rates."""
    decades = round(-math.log10(_LOWEST_FRACTION))
    grid = ALL_BACKGROUND_KHZ * np.geomspace(_LOWEST_FRACTION, 1.0, decades * _POINTS_PER_DECADE + 1)
    return tuple(float(x) for x in grid)


def _differences(scores: Mapping[str, tuple[Scores, Scores]], test: _Part, settings: StudySettings) -> list[Difference]:
    found = []
    for reference, candidate in settings.pairs:
        pairs = zip(test.with_scores(scores[reference][1]), test.with_scores(scores[candidate][1]), strict=True)
        for first, second in pairs:
            for name in first.signal_names:
                try:
                    value = paired_efficiency_difference(first, second, settings.main_khz, name)
                except DataError as error:
                    # too few events for a bootstrap: a fact to report, no reason to lose every other figure
                    found.append(Difference(reference, candidate, name, None, error.message))
                else:
                    found.append(Difference(reference, candidate, name, value))
    return found


def _turn_ons(
    passes: NDArray[np.bool_], test: EventSample, settings: StudySettings, without: set[str]
) -> tuple[TurnOn, ...]:
    curves = []
    for variable in (name for name in settings.turn_on if name not in without):
        for index in settings.signal_classes:
            rows = np.flatnonzero(test.labels == index)
            arguments = test.observables[variable][rows], passes[rows], test.weights[rows], test.groups[rows]
            curves.append(turn_on(*arguments, variable, test.class_names[index]))
    return tuple(curves)


_RATE_IN_WORDS = re.compile(r"(\d[\d.]*(?:e[+-]?\d+)?) kHz")


def in_words(text: str, rate_weights: bool) -> str:
    """A warning as it must be read: where weights are no rates, its figures in kHz become background efficiencies."""
    if rate_weights:
        return text
    return _RATE_IN_WORDS.sub(lambda found: f"{100 * float(found[1]):.4g} % of the background", text)

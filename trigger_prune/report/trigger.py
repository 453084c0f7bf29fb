"""The trigger study as numbers for ``summary.json`` and as rows and marks for the page."""

from __future__ import annotations

from typing import Any

from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.equal_rate import EqualRateDifference
from trigger_prune.physics.intervals import Estimate
from trigger_prune.physics.rates import MINIMUM_EFFECTIVE_EVENTS, RateEstimate
from trigger_prune.physics.trigger_cuts import CutPoint, PureRates
from trigger_prune.physics.trigger_study import TriggerStudy, in_words
from trigger_prune.physics.turn_on import TurnOn
from trigger_prune.physics.working_points import WorkingPoint


def target_figures(target_khz: float, study: TriggerStudy) -> dict[str, float | None]:
    """A target as rate (None without rates) and as share of the test background."""
    return {
        "target_khz": target_khz if study.rate_weights else None,
        "target_background_efficiency": target_khz / study.background_khz["test"],
    }


def rate_figures(rate: RateEstimate, part: str, study: TriggerStudy) -> dict[str, Any]:
    """Rate (None without rates), share of the background, effective events and the warning that must go along."""
    khz, error_khz = rate.rate_hz / 1e3, rate.error_hz / 1e3
    total = study.background_khz[part]
    return {
        "rate_khz": khz if study.rate_weights else None,
        "rate_error_khz": error_khz if study.rate_weights else None,
        "background_efficiency": khz / total,
        "background_efficiency_error": error_khz / total,
        "n_effective": rate.n_effective,
        "warning": rate.warning,
    }


def working_point_figures(point: WorkingPoint | CutPoint, study: TriggerStudy) -> dict[str, Any]:
    """One working point of a network, seed or menu."""
    figures: dict[str, Any] = {
        **target_figures(point.target_khz, study),
        "validation": rate_figures(point.validation_rate, "validation", study),
        "test": rate_figures(point.test_rate, "test", study),
        "moved": point.moved,
        "moved_error": point.moved_error,
        "efficiency": _estimates(point.efficiency),
        "warnings": [in_words(text, study.rate_weights) for text in point.warnings],
    }
    if isinstance(point, CutPoint):
        return figures | {"thresholds_gev": point.thresholds_gev, "shares": point.shares}
    threshold = point.threshold
    step_khz = threshold.step_hz / 1e3
    return figures | {
        "threshold": None if threshold.passes_nothing else threshold.value,
        "step_khz": step_khz if study.rate_weights else None,
        "step_background_efficiency": step_khz / study.background_khz["validation"],
        "efficiency_at_equal_rate": _estimates(point.efficiency_at_equal_rate),
    }


def trigger_figures(
    study: TriggerStudy | None, firmware: FirmwareScore | None, luminosity: str | None
) -> dict[str, Any]:
    """Values of the ``trigger.*`` keys of summary.json, without the prefix; all None without a study."""
    if study is None or firmware is None:
        return dict.fromkeys(TRIGGER_KEYS)
    return {
        "score": {**firmware.score.to_dict(), "formula": firmware.formula, "step": firmware.step},
        "signals": list(study.signal_names),
        "rate_weights": study.rate_weights,
        "luminosity": luminosity,
        "background_khz": study.background_khz if study.rate_weights else None,
        "targets": [target_figures(target, study) for target in study.targets_khz],
        "main_target": study.main,
        "auc": {name: network.auc.to_dict() for name, network in study.networks.items()},
        "networks": {
            name: [working_point_figures(point, study) for point in network.points]
            for name, network in study.networks.items()
        },
        "thresholds_integer": [firmware.integer(point.threshold) for point in study.networks["deployed"].points],
        "cuts": {name: [working_point_figures(point, study) for point in points] for name, points in study.cuts.items()}
        or None,
        "differences": [
            {
                "reference": pair.reference,
                "candidate": pair.candidate,
                "signal": pair.signal_name,
                "note": in_words(pair.note, study.rate_weights),
                **_difference(pair.found, study),
            }
            for pair in study.differences
        ],
        "pure_rates": None if study.pure is None else _pure(study.pure, study),
        "turn_on": {name: [_turn_on(curve) for curve in curves] for name, curves in study.turn_ons.items()},
    }


TRIGGER_KEYS = {
    "score": "object: kind, signal_outputs, background_outputs, formula in words, step (grid of the deployed network's "
    "score); null without a signal class, as every trigger key is then",
    "signals": "list of signal classes; all signals together last, where there are several",
    "rate_weights": "true: background weights are rates; false: background efficiencies stand instead of kHz",
    "luminosity": "the collisions that the rates are for, in words",
    "background_khz": "object: validation, test -> rate of all background events",
    "targets": "list of target_khz, target_background_efficiency",
    "main_target": "position in that list of the target at which networks are compared",
    "auc": "object: network -> AUC of all signals against the weighted background on test, with intervals",
    "networks": "object: network -> one working point per target: threshold set on validation; validation and test "
    "(rate_khz, rate_error_khz, background_efficiency, n_effective, warning), moved = test rate / validation rate - 1, "
    "step_khz to the next lower score, efficiency per signal on test with intervals, efficiency_at_equal_rate by "
    "randomised tie-breaking, warnings",
    "thresholds_integer": "list: thresholds of the deployed network in units of score.step, null where nothing passes",
    "cuts": "object: seed, menu_equal or menu_optimised -> the same, with thresholds_gev and shares; null without a "
    "menu",
    "differences": "list: reference, candidate, signal -> difference of their efficiencies at equal rate, "
    "relative_loss and its 90 % upper limit, paired bootstrap by collision, warnings",
    "pure_rates": "object: seeds, networks, menu: rate and pure rate beside the menu of equal shares at the main "
    "target; null without a menu",
    "turn_on": "object: network or ht -> list of variable, signal, x50, x95, plateau with errors, note",
}
"""Key below ``trigger.`` -> meaning."""


def paired_difference(summary: dict[str, Any], reference: str) -> dict[str, Any] | None:
    """Entry of ``trigger.differences`` about the objective: deployed against ``reference``, all signals together.

    None where the objective is another figure, or an efficiency elsewhere than where the study compares.
    """
    trigger = summary["trigger"]
    compared = "efficiency_at_rate" if trigger["rate_weights"] else "efficiency_at_fpr"
    if trigger["differences"] is None or summary["objective"]["name"] != compared:
        return None
    found = [pair for pair in trigger["differences"] if pair["reference"] == reference]
    return next((pair for pair in found if pair["signal"] == trigger["signals"][-1]), None)


def few_events(summary: dict[str, Any], part: str, share: float = 1.0) -> str | None:
    """What to say where the objective, an efficiency, rests on too few background events; else None.

    ``share``: of the part's events that were used.
    """
    events = summary["objective"]["background_events"]
    if events is None or events[part] * share >= MINIMUM_EFFECTIVE_EVENTS:
        return None
    return (
        f"about {events[part] * share:.3g} effective background events (below {MINIMUM_EFFECTIVE_EVENTS:g}) "
        f"stand behind the {summary['objective']['label']} on {part}"
    )


def _difference(found: EqualRateDifference | None, study: TriggerStudy) -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(
            ("difference", "relative_loss", "relative_loss_limit90", "background_events", "replicas", "warnings")
        )
    return {
        "difference": found.difference.to_dict(),
        "relative_loss": found.relative_loss.to_dict(),
        "relative_loss_limit90": found.relative_loss_limit90,
        "background_events": found.background_events,
        "replicas": found.replicas,
        "warnings": [in_words(text, study.rate_weights) for text in found.warnings],
    }


def _pure(pure: PureRates, study: TriggerStudy) -> dict[str, Any]:
    return {
        "target_khz": pure.target_khz,
        "menu": {"rate": rate_figures(pure.menu.total, "test", study), "efficiency": _estimates(pure.efficiency)},
        "seeds": {
            seed.name: {
                "rate": rate_figures(seed.rate, "test", study),
                "pure": rate_figures(seed.pure, "test", study),
            }
            for seed in pure.menu.seeds
        },
        "networks": {
            name: {
                "rate": rate_figures(beside.rate, "test", study),
                "pure": rate_figures(beside.pure, "test", study),
                "together": rate_figures(beside.together, "test", study),
                "efficiency": _estimates(pure.together[name]),
            }
            for name, beside in pure.beside.items()
        },
    }


def _turn_on(curve: TurnOn) -> dict[str, Any]:
    fit = {} if curve.fit is None else curve.fit.to_dict()
    names = ("plateau", "plateau_error", "x50", "x50_error", "sigma", "sigma_error", "x95", "x95_error")
    return {
        "variable": curve.variable,
        "signal": curve.signal_name,
        **{name: fit.get(name) for name in names},
        "note": curve.note,
    }


def _estimates(found: dict[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in found.items()}


_WORDS = {
    "ht": "HT",
    "met": "missing transverse energy",
    "mht": "missing HT",
    "mhat": "invariant mass",
    "npu": "number of collisions",
}


def variable_label(name: str, trigger_level: bool) -> str:
    """Words for an axis: ``offline HT (GeV)`` of ``offline_ht_gev``; a variable of the trigger itself is marked so."""
    offline, base = name.startswith("offline_"), name.removeprefix("offline_")
    unit = " (GeV)" if base.endswith("_gev") else ""
    base = base.removesuffix("_gev")
    words = _WORDS.get(base, base.replace("_", " ").replace(" pt", " pT"))
    where = "offline " if offline else "trigger-level " if trigger_level else ""
    return f"{where}{words}{unit}"

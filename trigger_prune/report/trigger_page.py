"""What the trigger section of the page shows beside the plain figures: rows, tables, warning marks, plots."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from trigger_prune.physics.rates import MINIMUM_EFFECTIVE_EVENTS
from trigger_prune.physics.trigger_cuts import MENU_OBSERVABLES
from trigger_prune.physics.trigger_study import HT_CUT, TriggerStudy
from trigger_prune.physics.turn_on import TurnOn
from trigger_prune.report import numbers, trigger_plots
from trigger_prune.report.trigger import variable_label

_LARGE_TABLE = 3
"""From so many signals on, the table has one column per signal at one rate instead of one per rate."""

_NETWORK_ORDER = ("teacher", "float", "dense", "deployed")


@dataclass(frozen=True)
class Mark:
    """A visible warning: short ``text`` and, as ``title``, the whole sentences."""

    text: str
    title: str


@dataclass(frozen=True)
class Row:
    """``place`` and ``name`` are the keys of its working points below ``trigger``."""

    place: str
    name: str
    title: str
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """``cells`` are (position of the target, signal), one per column."""

    title: str
    headings: tuple[str, ...]
    cells: tuple[tuple[int, str], ...]
    with_rate: bool
    folded: bool


@dataclass(frozen=True)
class TriggerPage:
    """See trigger.html.j2.

    marks       (row, target) -> its mark or None; few: whether some mark is about effective events
    notes       sentences that marks refer to by letter; warnings: every warning in full
    main_marks  (title, mark) of the networks that a turn-on is drawn of
    """

    rows: tuple[Row, ...]
    tables: tuple[Table, ...]
    titles: dict[str, str]
    marks: dict[tuple[str, int], Mark | None]
    few: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    main: str
    main_marks: tuple[tuple[str, Mark], ...]
    curves: tuple[tuple[str, Markup, Markup], ...]
    turn_ons: tuple[tuple[str, Markup], ...]
    turn_on_rows: tuple[tuple[str, str, dict[str, Any]], ...]
    trigger_level: tuple[str, ...]
    menu_thresholds: dict[str, float | None]


def trigger_page(study: TriggerStudy, figures: dict[str, Any], titles: dict[str, str]) -> TriggerPage:
    """The section of ``figures`` (``summary["trigger"]``) of a study; ``titles`` names the networks."""
    titles = {"teacher": "teacher", **titles}
    rows = _rows(figures, titles)
    notes: list[str] = []
    marks: dict[tuple[str, int], Mark | None] = {}
    warnings = []
    for row in rows:
        for index, point in enumerate(figures[row.place][row.name]):
            marks[row.name, index] = _mark(point, notes)
            where = f"{row.title}, {target_text(figures['targets'][index])}"
            warnings += [f"{where}: {text}" for text in point["warnings"]]
    shown = [name for name in (*_NETWORK_ORDER, HT_CUT) if study.turn_ons.get(name)]
    level = _trigger_level(study)
    menu = figures["cuts"]["menu_equal"][study.main]["thresholds_gev"] if figures["cuts"] else {}
    main_marks = [(name, marks[name, study.main]) for name in shown]
    return TriggerPage(
        rows,
        _tables(figures, study.main),
        titles,
        marks,
        any(mark is not None and "n_eff" in mark.text for mark in marks.values()),
        tuple(notes),
        tuple(warnings),
        target_text(figures["targets"][study.main]),
        tuple((_title(name, titles), mark) for name, mark in main_marks if mark is not None),
        tuple(_curves(study)),
        tuple(_turn_ons(study, shown)),
        tuple(
            (variable_label(fit["variable"], fit["variable"] in level), _title(name, titles), fit)
            for name in shown
            for fit in figures["turn_on"][name]
        ),
        tuple(variable_label(name, False) for name in level),
        menu,
    )


def target_text(target: dict[str, float | None]) -> str:
    """``100 kHz``, or ``1 % background`` where weights are no rates."""
    if target["target_khz"] is not None:
        return f"{target['target_khz']:g} kHz"
    return f"{100 * (target['target_background_efficiency'] or 0):g} % background"


def effective_events_mark(*n_effective: float) -> str | None:
    """``n_eff 12 / 34`` when one of them is too small to trust a rate, else None."""
    if min(n_effective) >= MINIMUM_EFFECTIVE_EVENTS:
        return None
    # 99.97 must not be shown as the 100 that it does not reach
    below = (min(n, 99.9) if n < MINIMUM_EFFECTIVE_EVENTS else n for n in n_effective)
    return "n_eff " + " / ".join(f"{n:.3g}" for n in below)


def path_functions(summary: dict[str, Any]) -> dict[str, Callable[..., Markup]]:
    """Functions for the template that look numbers up by a path below ``summary["trigger"]`` and tag them with it."""

    def look_up(path: list[Any]) -> Any:
        value = summary["trigger"]
        for key in path:
            value = value[key]
        return value

    def tag(text: str, path: list[Any]) -> Markup:
        return Markup('<span class="num" data-key="trigger" data-path="{}">{}</span>').format(json.dumps(path), text)

    def path_estimate(path: list[Any]) -> Markup:
        parts = numbers.estimate_parts(look_up(path), 100)
        value = tag(f"{parts['value']}{numbers.THIN_SPACE}%", [*path, "value"])
        return value + Markup(' <span class="band">{}</span>').format(parts["band68"])

    def path_percent(path: list[Any]) -> Markup:
        return tag(numbers.percent(look_up(path)), path)

    def rate_text(path: list[Any]) -> Markup:
        raw = look_up(path)
        if raw["rate_khz"] is None:
            places = numbers.places_for(raw["background_efficiency_error"], 100)
            text = f"{100 * raw['background_efficiency']:.{places}f}{numbers.THIN_SPACE}%"
            error = f"± {100 * raw['background_efficiency_error']:.{places}f}"
            return tag(text, [*path, "background_efficiency"]) + Markup(' <span class="band">{}</span>').format(error)
        places = numbers.places_for(raw["rate_error_khz"])
        value = tag(f"{raw['rate_khz']:.{places}f}", [*path, "rate_khz"])
        return value + Markup(' <span class="band">± {}</span>').format(f"{raw['rate_error_khz']:.{places}f}")

    def rate_at(path: list[Any]) -> Markup:
        """A rate with its error and, where few events stand behind it, its warning."""
        raw = look_up(path)
        mark = effective_events_mark(raw["n_effective"])
        if mark is None:
            return rate_text(path)
        warning = Markup('<br><span class="warn" title="{}">⚠ {}</span>').format(raw["warning"], mark)
        return rate_text(path) + warning

    def test_rate(place: str, name: str, index: int) -> Markup:
        """The rate on test and, in brackets, how far it moved from validation."""
        point = look_up([place, name, index])
        text = rate_text([place, name, index, "test"])
        if point["test"]["rate_khz"] is not None:
            text += Markup(" kHz")
        if point["moved"] is None:
            return text
        moved = numbers.signed(100 * point["moved"], 0)
        plus = "+" if moved[0] in "123456789" else ""
        return text + Markup(" ({})").format(f"{plus}{moved}{numbers.THIN_SPACE}%")

    return {"path_estimate": path_estimate, "path_percent": path_percent, "rate_at": rate_at, "test_rate": test_rate}


def _rows(figures: dict[str, Any], titles: dict[str, str]) -> tuple[Row, ...]:
    cuts = figures["cuts"] or {}
    seeds = [name for name in cuts if not name.startswith("menu_") and name != HT_CUT]
    rows = [Row("cuts", name, _title(name, titles)) for name in ([HT_CUT, *seeds] if cuts else [])]
    rows += [
        Row("cuts", name, title)
        for name, title in (("menu_equal", "menu (OR), equal shares"), ("menu_optimised", "menu (OR), best shares"))
        if name in cuts
    ]
    rows += [Row("networks", name, titles[name]) for name in _NETWORK_ORDER if name in figures["networks"]]
    return tuple(rows)


def _title(name: str, titles: dict[str, str]) -> str:
    return "HT cut" if name == HT_CUT else titles.get(name, name.replace("_", " "))


def _tables(figures: dict[str, Any], main: int) -> tuple[Table, ...]:
    targets, signals = [target_text(target) for target in figures["targets"]], figures["signals"]
    if len(signals) < _LARGE_TABLE:
        return tuple(
            Table(signal, tuple(targets), tuple((i, signal) for i in range(len(targets))), False, False)
            for signal in signals
        )
    order = [main, *(i for i in range(len(targets)) if i != main)]
    return tuple(
        Table(f"At {targets[i]}", tuple(signals), tuple((i, signal) for signal in signals), True, i != main)
        for i in order
    )


def _mark(point: dict[str, Any], notes: list[str]) -> Mark | None:
    """The short text, and the letter of a note for what is not about effective events."""
    if not point["warnings"]:
        return None
    few = effective_events_mark(point["validation"]["n_effective"], point["test"]["n_effective"])
    parts = [] if few is None else [few]
    about_events = {f"{part}: {point[part]['warning']}" for part in ("validation", "test")}
    for text in point["warnings"]:
        if text not in about_events:
            if text not in notes:
                notes.append(text)
            parts.append(f"note {chr(ord('a') + notes.index(text))}")
    return Mark(", ".join(parts), "; ".join(point["warnings"]))


def _trigger_level(study: TriggerStudy) -> tuple[str, ...]:
    variables = dict.fromkeys(curve.variable for curves in study.turn_ons.values() for curve in curves)
    return tuple(name for name in variables if name in MENU_OBSERVABLES)


def _curves(study: TriggerStudy) -> list[tuple[str, Markup, Markup]]:
    return [
        (
            signal,
            Markup(trigger_plots.plot_efficiency(study, signal, f"rate{index}")),
            Markup(trigger_plots.plot_roc(study, signal, f"trigger-roc{index}")),
        )
        for index, signal in enumerate(study.signal_names)
    ]


def _turn_ons(study: TriggerStudy, shown: list[str]) -> list[tuple[str, Markup]]:
    level = _trigger_level(study)
    panels: dict[tuple[str, str], dict[str, TurnOn]] = {}
    for name in shown:
        for curve in study.turn_ons[name]:
            panels.setdefault((curve.variable, curve.signal_name), {})[name] = curve
    return [
        (signal, Markup(trigger_plots.plot_turn_on(curves, variable in level, f"turn-on{index}")))
        for index, ((variable, signal), curves) in enumerate(panels.items())
    ]

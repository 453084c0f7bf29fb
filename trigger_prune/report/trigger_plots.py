"""Figures of the trigger section: efficiency against rate, ROC and turn-on curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from trigger_prune.physics.efficiency_curves import EfficiencyCurve
from trigger_prune.physics.rates import MINIMUM_EFFECTIVE_EVENTS
from trigger_prune.physics.roc import RocCurve
from trigger_prune.physics.trigger_study import HT_CUT, TriggerStudy
from trigger_prune.physics.turn_on import TurnOn
from trigger_prune.report.numbers import THIN_SPACE
from trigger_prune.report.svg import COLOUR, SERIES, drawing, label, power_of_ten, to_svg
from trigger_prune.report.trigger import variable_label

_ROC_FLOOR = 1e-5
_SIZE = (510, 390)


@dataclass(frozen=True)
class _Style:
    colour: str
    line: object
    width: float
    text: str


_STYLES = {
    "teacher": _Style(COLOUR[SERIES[3]], (0, (1, 1.5)), 1.8, "teacher"),
    "float": _Style(COLOUR["ink"], (0, (4, 2)), 1.3, "float"),
    "dense": _Style(COLOUR["before"], "-", 1.3, "dense"),
    "deployed": _Style(COLOUR["after"], "-", 2.0, "deployed"),
    HT_CUT: _Style(COLOUR[SERIES[1]], "-", 1.6, "HT cut"),
}
"""Every curve of the section, in the order of drawing."""

_MENU_COLOUR = COLOUR[SERIES[2]]


def plot_efficiency(study: TriggerStudy, signal: str, prefix: str) -> str:
    """Efficiency of one signal against the background rate, with 68 % bands; menus as points at their targets."""
    curves = _curves(study, signal)
    with drawing(*_SIZE) as figure:
        axes = figure.add_subplot()
        for name, curve in curves.items():
            style = _STYLES[name]
            axes.plot(curve.rate_khz, curve.efficiency, color=style.colour, linestyle=style.line, linewidth=style.width)
            if name in ("deployed", HT_CUT):
                axes.fill_between(
                    curve.rate_khz, curve.low68, curve.high68, color=style.colour, alpha=0.18, linewidth=0
                )
        known = [(np.array(curve.rate_khz), np.array(curve.background_events)) for curve in curves.values()]
        for start, stop in _poorly_known(known):
            axes.axvspan(start, stop, color=COLOUR["muted"], alpha=0.13, linewidth=0)
        for target in study.targets_khz:
            axes.axvline(target, color=COLOUR["muted"], linewidth=0.9, linestyle=(0, (2, 2)))
        handles, texts = _handles(list(curves))
        menu = study.cuts.get("menu_optimised", ())
        if menu:
            points = [point.efficiency[signal] for point in menu]
            values = np.array([[p.value, p.value - p.low68, p.high68 - p.value] for p in points]).T
            rates = [point.test_rate.rate_hz / 1e3 for point in menu]
            shown = [rate > 0 for rate in rates]
            x, y, spread = np.array(rates)[shown], values[0][shown], values[1:, shown]
            axes.errorbar(x, y, spread, fmt="D", markersize=4.5, color=_MENU_COLOUR, linewidth=1.2)
            handles.append(Line2D([], [], color=_MENU_COLOUR, marker="D", markersize=4.5, linestyle=""))
            texts.append("menu")
        axes.set_xscale("log")
        first = next(iter(curves.values()))
        axes.set_xlim(first.rate_khz[0], first.rate_khz[-1])
        axes.set_ylim(0, 1.02)
        _log_ticks(axes, "x")
        axes.yaxis.set_major_formatter(_percent)
        axes.set_xlabel("background rate (kHz)" if study.rate_weights else "background efficiency")
        axes.set_ylabel("signal efficiency")
        figure.legend(handles, texts, loc="outside lower center", ncols=5)
        return to_svg(figure, prefix, f"Efficiency of {signal} against background rate")


def plot_roc(study: TriggerStudy, signal: str, prefix: str) -> str:
    """Background against signal efficiency of every network and the HT cut, on a log axis down to 1e-5."""
    found = {name: network.rocs[signal] for name, network in study.networks.items()}
    if study.ht is not None:
        found[HT_CUT] = study.ht.rocs[signal]
    curves: dict[str, RocCurve] = {name: found[name] for name in _STYLES if name in found}
    with drawing(*_SIZE) as figure:
        axes = figure.add_subplot()
        for name, curve in curves.items():
            style = _STYLES[name]
            axes.plot(
                curve.signal_efficiency, curve.background_efficiency, color=style.colour, linestyle=style.line,
                linewidth=style.width,
            )  # fmt: skip
        for start, stop in _poorly_known([(c.background_efficiency, c.background_events) for c in curves.values()]):
            axes.axhspan(start, stop, color=COLOUR["muted"], alpha=0.13, linewidth=0)
        axes.set_yscale("log")
        axes.set_xlim(0, 1)
        axes.set_ylim(_ROC_FLOOR, 1)
        _log_ticks(axes, "y")
        axes.xaxis.set_major_formatter(_percent)
        axes.set_xlabel("signal efficiency")
        axes.set_ylabel("background efficiency")
        handles, texts = _handles(list(curves))
        figure.legend(handles, texts, loc="outside lower center", ncols=5)
        return to_svg(figure, prefix, f"ROC curve of {signal}")


def plot_turn_on(curves: dict[str, TurnOn], trigger_level: bool, prefix: str) -> str:
    """Efficiency against one variable: points with 68 % intervals and the fitted error function, per network."""
    with drawing(400, 300) as figure:
        axes = figure.add_subplot()
        shown = [name for name in _STYLES if name in curves]
        low = min(part.low for curve in curves.values() for part in curve.bins)
        high = max(part.high for curve in curves.values() for part in curve.bins)
        grid = np.linspace(low, high, 160)
        for name in shown:
            curve, style = curves[name], _STYLES[name]
            # the float network is nearly the deployed one: its points would hide those
            if name != "float":
                centres = [(part.low + part.high) / 2 for part in curve.bins]
                points = [part.efficiency for part in curve.bins]
                spread = np.array([[p.value - p.low68, p.high68 - p.value] for p in points]).T
                axes.errorbar(
                    centres, [p.value for p in points], spread, fmt="o", markersize=3, color=style.colour, linewidth=1
                )
            if curve.fit is not None:
                axes.plot(
                    grid, curve.fit.efficiency(grid), color=style.colour, linestyle=style.line, linewidth=style.width
                )
        first = curves[shown[0]]
        axes.set_xlim(low, high)
        axes.set_ylim(0, 1.05)
        axes.yaxis.set_major_formatter(_percent)
        axes.set_xlabel(label(variable_label(first.variable, trigger_level)))
        axes.set_ylabel("efficiency")
        handles, texts = _handles(shown)
        figure.legend(handles, texts, loc="outside lower center", ncols=3)
        return to_svg(figure, prefix, f"Turn-on of {first.signal_name} against {first.variable}")


def _curves(study: TriggerStudy, signal: str) -> dict[str, EfficiencyCurve]:
    networks = dict(study.networks)
    if study.ht is not None:
        networks[HT_CUT] = study.ht
    found = {name: curve for name, study in networks.items() for curve in study.curves if curve.signal_name == signal}
    return {name: found[name] for name in _STYLES if name in found}


def _handles(names: list[str]) -> tuple[list[Line2D], list[str]]:
    styles = [_STYLES[name] for name in names]
    handles = [
        Line2D([], [], color=style.colour, linestyle=style.line, linewidth=style.width)  # type: ignore[arg-type]
        for style in styles
    ]
    return handles, [style.text for style in styles]


def _poorly_known(curves: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> list[tuple[float, float]]:
    """Ranges of an axis in which some curve (positions, effective background events) has fewer than 100 events."""
    edges = np.unique(np.concatenate([position for position, _ in curves]))
    few = np.zeros(max(len(edges) - 1, 0), np.bool_)
    for position, events in curves:
        order = np.argsort(position)
        position, poor = position[order], events[order] < MINIMUM_EFFECTIVE_EVENTS
        for index in np.flatnonzero(poor[:-1] | poor[1:]):
            few |= (edges[:-1] >= position[index]) & (edges[1:] <= position[index + 1])
    changes = np.flatnonzero(np.diff(np.concatenate([[0], few.astype(np.int8), [0]])))
    return [(float(edges[start]), float(edges[stop])) for start, stop in changes.reshape(-1, 2)]


def _log_ticks(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(base=10))
    axis.set_major_formatter(FuncFormatter(power_of_ten))
    axis.set_minor_formatter(NullFormatter())


def _percent(value: float, _position: float = 0.0) -> str:
    return f"{100 * value:.4g}{THIN_SPACE}%"

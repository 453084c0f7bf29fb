"""Every figure of the report, each a function that returns SVG text for a place inside HTML."""

from __future__ import annotations

import math
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from trigger_prune.report.numbers import THIN_SPACE, count, shorten, time_us
from trigger_prune.report.series import (
    RocSeries,
    SensitivitySeries,
    TrainingSeries,
    TrialSeries,
    poorly_known_below,
)
from trigger_prune.report.svg import COLOUR, SERIES, drawing, label, power_of_ten, to_svg

_MOST_CLASSES_IN_ONE_PLOT = 6
_ROC_FLOOR = 1e-5
_PHASE_MARKER = {"dense": "s", "ramp": "o", "final": "D", "trim": "^", "refine": "*"}


def _percent(value: float, _position: float = 0.0) -> str:
    """Tick label of a fraction."""
    return f"{100 * value:.4g}{THIN_SPACE}%"


def plot_roc(series: tuple[RocSeries, ...]) -> list[tuple[str, str]]:
    """(caption name, SVG) of one plot with all classes, or one small plot per class when there are many."""
    names = list(dict.fromkeys(curve.class_name for curve in series))
    limit = poorly_known_below(series)
    if len(names) <= _MOST_CLASSES_IN_ONE_PLOT:
        return [("all classes", _roc_figure(series, names, limit, "roc", (660, 470)))] if names else []
    return [
        (name, _roc_figure(tuple(c for c in series if c.class_name == name), [name], limit, f"roc{i}", (330, 280)))
        for i, name in enumerate(names)
    ]


def _roc_figure(
    series: tuple[RocSeries, ...], names: list[str], limit: float, prefix: str, size: tuple[int, int]
) -> str:
    with drawing(*size) as figure:
        axes = figure.add_subplot()
        lowest = min(float(curve.curve.background_efficiency[0]) for curve in series)
        bottom = max(_ROC_FLOOR, 10 ** math.floor(math.log10(lowest)))
        for curve in series:
            colour = COLOUR[SERIES[names.index(curve.class_name) % len(SERIES)]]
            dashed = curve.network == "float"
            axes.plot(
                curve.curve.signal_efficiency,
                curve.curve.background_efficiency,
                color=colour,
                linestyle=(0, (4, 2)) if dashed else "-",
                linewidth=1.3 if dashed else 2.0,
            )
        if limit > bottom:
            axes.axhspan(bottom, limit, color=COLOUR["muted"], alpha=0.13, linewidth=0)
        axes.set_yscale("log")
        axes.set_xlim(0, 1)
        axes.set_ylim(min(bottom, 0.1), 1)
        axes.yaxis.set_major_locator(LogLocator(base=10))
        axes.yaxis.set_major_formatter(FuncFormatter(power_of_ten))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("signal efficiency")
        axes.set_ylabel("background efficiency")
        handles = [Line2D([], [], color=COLOUR[SERIES[i % len(SERIES)]], linewidth=2) for i in range(len(names))]
        texts = [label(shorten(name)) for name in names]
        if len(names) == 1:
            handles, texts = [], []
        handles += [
            Line2D([], [], color=COLOUR["ink"], linewidth=1.3, linestyle=(0, (4, 2))),
            Line2D([], [], color=COLOUR["ink"], linewidth=2),
        ]
        axes.legend(handles, [*texts, "float", "deployed"], loc="lower right", borderaxespad=0.8)
        return to_svg(figure, prefix, f"ROC curves of {', '.join(names)}: background against signal efficiency")


def _is_fraction(quality: str) -> bool:
    """Whether a figure of merit is read in percent."""
    return "accuracy" in quality or "efficiency" in quality


def plot_sensitivity(series: tuple[SensitivitySeries, ...], baseline: float, quality: str) -> str:
    """``quality`` against sparsity of one layer at a time, with the 68 % band of an accuracy."""
    columns = min(len(series), 4 if max(len(curve.name) for curve in series) < 14 else 3)
    rows = math.ceil(len(series) / columns)
    with drawing(660, 340 + 18 * rows) as figure:
        axes = figure.add_subplot()
        axes.axhline(baseline, color=COLOUR["muted"], linewidth=1, linestyle=(0, (2, 2)))
        handles = []
        for index, curve in enumerate(series):
            colour = COLOUR[SERIES[index % len(SERIES)]]
            style = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))[index // len(SERIES) % 4]
            (line,) = axes.plot(curve.sparsity, curve.quality, color=colour, linestyle=style, marker="o", markersize=4)
            handles.append(line)
            if curve.low is not None and curve.high is not None:
                axes.fill_between(curve.sparsity, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(_percent)
        axes.set_xlabel("zero weights in this layer, all others untouched")
        axes.set_ylabel(f"validation {quality}")
        if _is_fraction(quality):
            axes.yaxis.set_major_formatter(_percent)
        figure.legend(
            handles, [label(shorten(curve.name)) for curve in series], loc="outside lower center", ncols=columns
        )
        return to_svg(figure, "sensitivity", "Sensitivity of each layer to pruning")


COST_NAMES = {
    "lut": "LUT",
    "latency_cycles": "latency (cycles)",
    "latency_p99_us": "99th percentile of the latency (µs)",
    "event_time_us": "time per event (µs)",
}
"""Cost quantity -> name on an axis."""


def plot_trials(series: TrialSeries, limit: float | None) -> str:
    """Cost against validation quality of every measured network; ``limit`` is the budget's."""
    text = time_us if series.quantity.endswith("_us") else count
    name = COST_NAMES[series.quantity]
    with drawing(660, 380) as figure:
        axes = figure.add_subplot()
        cost = [value if value > 0 else 1.0 for value in series.cost]
        axes.plot(cost, series.quality, color=COLOUR["muted"], linewidth=1, zorder=1)
        for x, y, phase, meets in zip(cost, series.quality, series.phases, series.meets_budget, strict=True):
            colour = COLOUR["before"] if phase == "dense" else COLOUR["after"]
            face = colour if meets or phase == "dense" else COLOUR["paper"]
            axes.plot(x, y, _PHASE_MARKER.get(phase, "o"), color=colour, markerfacecolor=face, markersize=7)
        axes.set_xscale("log")
        _label_trials(axes, cost, series, text)
        _widen_x(axes, [*cost, *([limit] if limit else [])], text)
        if limit:
            axes.axvline(limit, color=COLOUR["bad"], linewidth=1.2, linestyle=(0, (4, 2)))
            axes.annotate(
                f"budget {text(limit)}",
                (limit, 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(5, 0),
                textcoords="offset points",
                color=COLOUR["bad"],
                fontsize=10.5,
            )
        axes.margins(y=0.18)
        axes.set_xlabel(f"{name}, log scale" if name.endswith(")") else f"{name} (log scale)")
        axes.set_ylabel(series.quality_name)
        if _is_fraction(series.quality_name):
            axes.yaxis.set_major_formatter(_percent)
        handles = [
            Line2D([], [], color=COLOUR["before" if phase == "dense" else "after"], marker=marker, linestyle="")
            for phase, marker in _PHASE_MARKER.items()
            if phase in series.phases
        ]
        names = [phase for phase in _PHASE_MARKER if phase in series.phases]
        handles.append(Line2D([], [], color=COLOUR["after"], marker="o", linestyle="", markerfacecolor=COLOUR["paper"]))
        figure.legend(handles, [*names, "over budget"], loc="outside upper right", ncols=4)
        return to_svg(figure, "trials", f"Pruning trajectory: {name} against validation quality")


def _label_trials(axes: Axes, cost: list[float], series: TrialSeries, text_of: Callable[[float], str]) -> None:
    """Ring around the chosen network; sparsity beside the ramp's points."""
    for index, (x, y, phase) in enumerate(zip(cost, series.quality, series.phases, strict=True)):
        if phase == "ramp" and index != series.chosen:
            text = f"{100 * series.sparsity[index]:.0f}{THIN_SPACE}%"
            axes.annotate(
                text, (x, y), (8, -11), textcoords="offset points", ha="left", color=COLOUR["muted"], fontsize=10
            )
    if series.chosen is not None:
        point = (cost[series.chosen], series.quality[series.chosen])
        axes.plot(*point, "o", markersize=15, markerfacecolor="none", color=COLOUR["good"], markeredgewidth=1.8)
        axes.annotate(
            f"chosen: {text_of(series.cost[series.chosen])}",
            point,
            (0, 13),
            textcoords="offset points",
            ha="center",
            color=COLOUR["good"],
            fontweight="bold",
        )


def _widen_x(axes: Axes, values: list[float], text: Callable[[float], str]) -> None:
    """A log axis with room on both sides and readable tick labels, however narrow the range."""
    low, high = min(values), max(values)
    axes.set_xlim(low / 1.35, high * 1.35)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def plot_training(series: TrainingSeries, prefix: str) -> str:
    """Loss, accuracy, objective and sparsity of one phase, below each other."""
    panels = 1 + sum(values is not None for values in (series.accuracy, series.merit, series.sparsity))
    with drawing(500, 75 + 110 * panels) as figure:
        grid = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        epochs = range(1, len(series.train_loss) + 1)
        grid[0].plot(epochs, series.train_loss, color=COLOUR["before"], linewidth=1.4, label="training")
        grid[0].plot(epochs, series.validation_loss, color=COLOUR["after"], linewidth=1.6, label="validation")
        grid[0].plot(series.best + 1, series.validation_loss[series.best], "o", color=COLOUR["good"], markersize=5)
        grid[0].set_ylabel("loss")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
        lower = iter(grid[1:])
        if series.accuracy is not None:
            axes = next(lower)
            axes.plot(epochs, series.accuracy, color=COLOUR["after"], linewidth=1.6)
            axes.plot(series.best + 1, series.accuracy[series.best], "o", color=COLOUR["good"], markersize=5)
            axes.set_ylabel("accuracy")
            axes.yaxis.set_major_formatter(_percent)
        if series.merit is not None:
            axes = next(lower)
            axes.plot(epochs, series.merit, color=COLOUR["after"], linewidth=1.6)
            axes.plot(series.best + 1, series.merit[series.best], "o", color=COLOUR["good"], markersize=5)
            axes.set_ylabel(series.merit_name.replace(" at ", "\nat ").replace("signal ", ""))
            if _is_fraction(series.merit_name):
                axes.yaxis.set_major_formatter(_percent)
        if series.sparsity is not None:
            axes = next(lower)
            axes.plot(epochs, series.sparsity, color=COLOUR["before"], linewidth=1.6, drawstyle="steps-post")
            axes.set_ylabel("sparsity")
            axes.set_ylim(0, 1)
            axes.yaxis.set_major_formatter(_percent)
        for axes in grid:
            axes.yaxis.set_major_locator(MaxNLocator(4))
            for restart in series.restarts:
                axes.axvline(restart + 0.5, color=COLOUR["grid"], linewidth=1.4)
        grid[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        grid[-1].set_xlabel("epoch")
        figure.align_ylabels()
        return to_svg(figure, prefix, f"Training curves of phase {series.phase}")

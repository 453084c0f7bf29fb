"""Figures of the two-stage section: loss against escalated share, overflow against FIFO depth, latency, the orbit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from trigger_prune.report.numbers import THIN_SPACE, shorten
from trigger_prune.report.svg import COLOUR, SERIES, drawing, label, power_of_ten, to_svg
from trigger_prune.two_stage.findings import BestDesign, TwoStageFindings
from trigger_prune.two_stage.latency import latency_distribution
from trigger_prune.units import BUNCH_CROSSING_NS, cycles_to_ns

SIZE = (400, 345)

LOSS_STEP = 1e-3
"""Losses are on a log axis above this one and on a linear one below, as some of them are negative."""

ZOOM_SLOTS = 260
"""Slots of the orbit's magnified part: about three trains of 72."""

_DASHED: tuple[float, tuple[float, float]] = (0, (4, 2.5))
_LINES: tuple[object, ...] = ("-", _DASHED, (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)))
_MARGIN = 0.06


def plot_loss(findings: TwoStageFindings, prefix: str) -> str:
    """Relative efficiency loss against the escalated share, one line per light model; the chosen design is ringed."""
    with drawing(*SIZE) as figure:
        axes = figure.add_subplot()
        for index, curve in enumerate(findings.loss_curves):
            colour = COLOUR[SERIES[index % len(SERIES)]]
            axes.plot(
                curve.escalated, curve.relative_loss, color=colour, marker="o", markersize=4,
                linestyle=_LINES[index // len(SERIES) % len(_LINES)], label=label(shorten(curve.light_name, 28)),
            )  # fmt: skip
            best = findings.best
            if best is not None and best.point.light_name == curve.light_name:
                wanted = best.point.escalated_wanted
                at = [x for x in zip(curve.escalated, curve.relative_loss, strict=True) if math.isclose(x[0], wanted)]
                axes.plot(*zip(*at, strict=True), "o", markersize=11, markerfacecolor="none", color=COLOUR["ink"])
        if findings.max_loss is not None:
            _limit(axes, findings.max_loss, f"allowed {_percent(findings.max_loss)}", horizontal=True)
        losses = [loss for curve in findings.loss_curves for loss in curve.relative_loss]
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=LOSS_STEP, linscale=0.6)
        ticks = [0.0, *(m * 10.0**e for e in range(-3, 1) for m in (1, 3))]
        low = min(0.0, *losses)
        negative = [-t for t in ticks if low <= -t < 0]
        axes.yaxis.set_major_locator(FixedLocator([*negative, *ticks]))
        axes.yaxis.set_minor_locator(FixedLocator([]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))
        axes.set_ylim(1.3 * low if low < 0 else -0.3 * LOSS_STEP, 1.6 * max(*losses, findings.max_loss or 0, LOSS_STEP))
        shares = sorted({share for curve in findings.loss_curves for share in curve.escalated})
        axes.set_xlim(shares[0] / 1.2, shares[-1] * 1.2)
        axes.xaxis.set_major_locator(FixedLocator(_spread(shares)))
        axes.xaxis.set_minor_locator(FixedLocator([]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))
        axes.set_xlabel("escalated share of the objects")
        axes.set_ylabel("relative loss of signal efficiency")
        figure.legend(loc="outside lower center", ncols=2)
        return to_svg(figure, prefix, "Loss of signal efficiency against the escalated share, per light model")


def plot_depths(findings: TwoStageFindings, best: BestDesign, prefix: str) -> str:
    """Loss per escalated object against the FIFO depth; the chosen depth with the error of the escalated share."""
    points = [(depth, loss) for depth, loss in best.overflow_by_depth if loss > 0]
    with drawing(*SIZE) as figure:
        axes = figure.add_subplot()
        if points:
            axes.plot(*zip(*points, strict=True), color=COLOUR["after"], marker="o", markersize=4)
        work = best.working_point
        depth, loss = best.point.engine.fifo_depth, work.queue.overflow_per_object
        if loss > 0:
            low = max(work.overflow_low, loss * 1e-3)
            axes.errorbar(
                [depth], [loss], [[max(loss - low, 0)], [max(work.overflow_high - loss, 0)]],
                fmt="o", markersize=9, markerfacecolor="none", color=COLOUR["ink"], linewidth=1.2, capsize=3,
            )  # fmt: skip
        if findings.max_overflow is not None:
            text = f"allowed {findings.max_overflow:g}"
            _limit(axes, findings.max_overflow, text, horizontal=True, text_at=0.99)
        shown = [loss for _, loss in points] + [x for x in (findings.max_overflow,) if x]
        axes.set_yscale("log")
        if shown:
            axes.set_ylim(min(shown) / 3, min(max(shown) * 3, 1.0))
        _log_ticks(axes)
        axes.set_xlim(-0.4, max(depth for depth, _ in best.overflow_by_depth) + 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axes.set_xlabel("FIFO depth (objects that can wait)")
        axes.set_ylabel("lost per escalated object")
        second = axes.secondary_xaxis("top", functions=_wait_scale(best))
        second.set_xlabel("longest wait (ns)")
        second.spines["top"].set_visible(False)
        return to_svg(figure, prefix, "Overflow against FIFO depth")


def plot_latency(findings: TwoStageFindings, best: BestDesign, prefix: str) -> str:
    """When escalated objects are decided, the fixed output, and the budget."""
    latency = best.point.latency
    cycles, probability = latency_distribution(best.working_point.queue, latency)
    period = BUNCH_CROSSING_NS / latency.clock_multiple
    at = np.array([cycles_to_ns(float(c), period) for c in cycles])
    shown = probability > 0
    least = float(probability[shown].min())
    with drawing(*SIZE) as figure:
        axes = figure.add_subplot()
        floor = 10.0 ** (math.floor(math.log10(least)) - 0.5) if least > 1e-12 else 1e-12
        right = 1.04 * max(findings.latency_budget_ns, latency.output_ns)
        step_px = 0.8 * SIZE[0] * cycles_to_ns(best.working_point.queue.wait_step_cycles, period) / right
        width = min(3.0, max(0.8, 0.7 * step_px))
        axes.vlines(at[shown], floor, probability[shown], color=COLOUR["after"], linewidth=width)
        light = cycles_to_ns(latency.light_cycles + latency.control_cycles, period)
        axes.axvline(light, color=COLOUR["before"], linewidth=1.2, linestyle=_DASHED)
        axes.axvline(latency.output_ns, color=COLOUR["ink"], linewidth=1.4)
        axes.axvline(findings.latency_budget_ns, color=COLOUR["bad"], linewidth=1.4)
        axes.set_yscale("log")
        axes.set_ylim(floor, 2.0)
        _log_ticks(axes)
        axes.set_xlim(0, right)
        axes.set_xlabel("time since the crossing (ns)")
        axes.set_ylabel("share of the escalated objects")
        second = axes.secondary_xaxis("top", functions=_crossings_scale())
        second.set_xlabel("bunch crossings")
        second.spines["top"].set_visible(False)
        handles = [
            Line2D([], [], color=COLOUR["after"], linewidth=3),
            Line2D([], [], color=COLOUR["before"], linewidth=1.2, linestyle=_DASHED),
            Line2D([], [], color=COLOUR["ink"], linewidth=1.4),
            Line2D([], [], color=COLOUR["bad"], linewidth=1.4),
        ]
        texts = [
            "full score is there", "light score alone decides", f"all leave: {latency.output_ns:.0f} ns",
            f"budget: {findings.latency_budget_ns:.0f} ns",
        ]  # fmt: skip
        figure.legend(handles, texts, loc="outside lower center", ncols=2)
        return to_svg(figure, prefix, "Latency of escalated objects, the fixed output and the budget")


def plot_orbit(findings: TwoStageFindings, best: BestDesign, prefix: str) -> str:
    """Mean number of waiting objects and loss along the orbit, and the part around the fullest slot magnified."""
    queue = best.working_point.queue
    filled = np.array(findings.filled, bool)
    quantities = (
        (queue.mean_waiting, "waiting objects, mean", COLOUR["after"]),
        (queue.overflow_by_slot, "lost per escalated object", COLOUR[SERIES[1]]),
    )
    with drawing(1050, 430) as figure:
        panels = figure.subplots(2, 2, sharex="col", width_ratios=(3, 2))
        start, stop = zoom_range(queue.mean_waiting, filled)
        for column, (low, high) in enumerate(((0, len(filled)), (start, stop))):
            for axes, (values, text, colour) in zip(panels[:, column], quantities, strict=True):
                for first, last in _runs(filled[low:high]):
                    axes.axvspan(low + first, low + last, color=COLOUR["muted"], alpha=0.12, linewidth=0)
                axes.stairs(*_steps(values, low, high), color=colour, linewidth=1.0 if column == 0 else 1.5)
                axes.set_ylim(0, 1.08 * max(float(values.max()), 1e-300))
                axes.set_xlim(low, high)
                axes.margins(x=0)
                axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
                axes.yaxis.set_major_formatter(FuncFormatter(_plain_or_power))
                if column == 0:
                    axes.set_ylabel(text)
        panels[1, 0].set_xlabel("slot of the orbit")
        panels[1, 1].set_xlabel("slot, magnified")
        figure.align_ylabels(panels[:, 0])
        return to_svg(figure, prefix, "Occupancy and losses along the orbit")


def zoom_range(waiting: NDArray[np.float64], filled: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last slot of the magnified part: around the fullest slot, from a gap on where there is one near."""
    slots = len(waiting)
    if slots <= ZOOM_SLOTS:
        return 0, slots
    fullest = int(np.argmax(waiting))
    start = min(max(fullest - ZOOM_SLOTS // 2, 0), slots - ZOOM_SLOTS)
    gaps = np.flatnonzero(~filled[max(start - ZOOM_SLOTS // 3, 0) : start + 1])
    if len(gaps):
        start = max(start - ZOOM_SLOTS // 3, 0) + int(gaps[-1])
    start = min(start, slots - ZOOM_SLOTS)
    return start, start + ZOOM_SLOTS


def _runs(filled: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], filled.astype(np.int8), [0]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _steps(values: NDArray[np.float64], low: int, high: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values and edges without the edges between slots of (to the eye) equal value: less to draw."""
    part = values[low:high]
    scale = float(values.max()) or 1.0
    change = np.flatnonzero(np.abs(np.diff(np.round(part / scale, 3))) > 0) + 1
    starts = np.concatenate([[0], change]).astype(np.int64)
    return part[starts], np.append(low + starts, high)


def _wait_scale(best: BestDesign) -> Any:
    engine = best.point.engine
    per_place = cycles_to_ns(engine.ii_cycles, BUNCH_CROSSING_NS / engine.clock_multiple)
    return (lambda depth: depth * per_place, lambda ns: ns / per_place)


def _crossings_scale() -> Any:
    return (lambda ns: ns / BUNCH_CROSSING_NS, lambda crossings: crossings * BUNCH_CROSSING_NS)


def _limit(axes: Axes, value: float, text: str, *, horizontal: bool, text_at: float = 0.99) -> None:
    axes.axhline(value, color=COLOUR["bad"], linewidth=1.3, linestyle=_DASHED)
    axes.annotate(
        text, (text_at, value), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", fontsize=9.5, color=COLOUR["bad"],
    )  # fmt: skip


def _spread(values: list[float], least: float = 1.35) -> list[float]:
    """Values that stand far enough apart on a log axis for their labels."""
    found: list[float] = []
    for value in values:
        if not found or value / found[-1] >= least:
            found.append(value)
    return found


def _log_ticks(axes: Axes) -> None:
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(power_of_ten))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _percent(value: float) -> str:
    text = f"{100 * value:.3g}"
    return f"{text}{THIN_SPACE}%".replace("-", "\u2212")


def _plain_or_power(value: float, _position: float = 0.0) -> str:
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{float(mantissa):g}·{power_of_ten(10.0 ** int(exponent))}"

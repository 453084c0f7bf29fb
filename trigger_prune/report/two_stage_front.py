"""Figure of the two-stage section: resource against latency of every design, the front, and designs of one stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from trigger_prune.report.numbers import THIN_SPACE
from trigger_prune.report.svg import COLOUR, SERIES, drawing, to_svg
from trigger_prune.report.two_stage import within_loss
from trigger_prune.two_stage.findings import DesignPoint, SinglePoint, TwoStageFindings


def plot_front(findings: TwoStageFindings, prefix: str) -> str:
    """Resource against fixed latency: all designs, the smallest ones, the chosen one, and designs of one stage."""
    budget = findings.latency_budget_ns
    alone = [_Alone(s.latency.output_ns, s.resource_used, not s.problems, _tag(s)) for s in findings.singles]
    quickest = [
        min((design.latency.output_ns for design in findings.designs), default=0.0),
        min((point.ns for point in alone), default=0.0),
    ]
    right = max(1.3 * budget, 1.2 * max(quickest))
    with drawing(1050, 450) as figure:
        axes = figure.add_subplot()
        handles = [*_two_stages(axes, findings), *_full_alone(axes, alone, right), *_networks_alone(axes, findings)]
        if findings.best is not None:
            chosen = findings.best.point
            handles += axes.plot(
                [chosen.latency.output_ns], [chosen.resource_used], "o", markersize=13, markerfacecolor="none",
                markeredgewidth=1.8, color=COLOUR["ink"], label="chosen", zorder=5,
            )  # fmt: skip
        _scale(axes, [int(amount) for handle in handles for amount in np.atleast_1d(handle.get_ydata())])
        axes.axvline(budget, color=COLOUR["bad"], linewidth=1.4)
        axes.set_xlim(0, right)
        axes.annotate(
            f"budget {budget:.0f} ns", (budget, 1), (4, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="top", fontsize=9.5, color=COLOUR["bad"],
        )  # fmt: skip
        axes.set_xlabel("latency of the decision (ns)")
        axes.set_ylabel(f"{findings.resource.upper()} of the whole design")
        figure.legend(handles=handles, loc="outside lower center", ncols=5)
        return to_svg(figure, prefix, "Resource against latency of two stages and of one")


def _two_stages(axes: Axes, findings: TwoStageFindings) -> list[Line2D]:
    fine = within_loss(findings)
    pairs = list(zip(findings.designs, fine, strict=True))
    solutions = [design for design, good in pairs if good and not design.problems]
    groups = (
        ([d for d in findings.designs if d.problems], COLOUR["grid"], 3.5, "two stages, not a solution"),
        ([d for d, good in pairs if not d.problems and not good], COLOUR["before"], 3, "two stages, lose too much"),
        (solutions, COLOUR["after"], 4, "two stages, solutions"),
    )
    handles = []
    for designs, colour, size, text in groups:
        if designs:
            # many designs differ in their light score alone and lie on the same place
            places = sorted({(d.latency.output_ns, d.resource_used) for d in designs})
            handles += axes.plot(*zip(*places, strict=True), "o", markersize=size, color=colour, label=text, zorder=2)
    corners = front_line(solutions)
    if corners:
        handles += axes.plot(
            *zip(*corners, strict=True), color=COLOUR["after"], linewidth=1.6, drawstyle="steps-post",
            label="smallest two stages", zorder=3,
        )  # fmt: skip
    return handles


def _full_alone(axes: Axes, alone: list[_Alone], right: float) -> list[Line2D]:
    """Squares with their reuse factors; hollow where a limit is exceeded."""
    handles = []
    colour = COLOUR[SERIES[1]]
    for good, face, text in ((True, colour, "full alone"), (False, "none", "full alone, not a solution")):
        here = [(point.ns, point.used) for point in alone if point.good == good]
        if here:
            handles += axes.plot(
                *zip(*here, strict=True), "s", markersize=6.5, markerfacecolor=face, color=colour, label=text, zorder=4
            )
    halo = [withStroke(linewidth=3, foreground=COLOUR["paper"])]
    for point in alone:
        if point.ns <= right:
            axes.annotate(
                point.text, (point.ns, point.used), (6, -3.5), textcoords="offset points", fontsize=9,
                path_effects=halo, zorder=3.5,
            )  # fmt: skip
    return handles


def _networks_alone(axes: Axes, findings: TwoStageFindings) -> list[Line2D]:
    handles = []
    for kind, marker, colour in (("pruned", "D", COLOUR[SERIES[2]]), ("light", "^", COLOUR[SERIES[3]])):
        places = []
        for row in findings.rows:
            used = None if row.cost is None else getattr(row.cost, findings.resource)
            if row.kind == kind and row.latency is not None and used is not None:
                places.append((row.latency.output_ns, used))
        if places:
            text = f"{kind} alone"
            handles += axes.plot(*zip(*places, strict=True), marker, markersize=7, color=colour, label=text, zorder=4)
    return handles


def _scale(axes: Axes, amounts: list[int]) -> None:
    """A log axis where the amounts differ by much; linear near 0, which has a place of its own."""
    positive = [amount for amount in amounts if amount > 0]
    if positive and max(positive) / min(positive) > 20:
        if 0 in amounts:
            axes.set_yscale("symlog", linthresh=min(positive), linscale=0.4)
            axes.set_ylim(bottom=-0.2 * min(positive))
        else:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(_count))


@dataclass(frozen=True)
class _Alone:
    ns: float
    used: int
    good: bool
    text: str


def _tag(single: SinglePoint) -> str:
    copies = "" if single.copies == 1 else f" ×{single.copies}"  # noqa: RUF001
    return f"RF {single.reuse_factor}{copies}"


def front_line(designs: list[DesignPoint]) -> list[tuple[float, int]]:
    """Corners (latency, resource) of the front of these designs, by ascending latency."""
    corners: list[tuple[float, int]] = []
    for latency, used in sorted((d.latency.output_ns, d.resource_used) for d in designs):
        if not corners or used < corners[-1][1]:
            corners.append((latency, used))
    return corners


def _count(value: float, _position: float = 0.0) -> str:
    return f"{value:,.0f}".replace(",", THIN_SPACE)

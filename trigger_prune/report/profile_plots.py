"""Ranges of weights and wires as boxes over log2 of the magnitude, the range of each type as a band behind its box."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from trigger_prune.quantize.profile.measure import RangeProfile
from trigger_prune.report.numbers import shorten
from trigger_prune.report.sensitivity_plots import PALETTE

_ROW_PX = 24.0
_PANELS = (("weights and biases", ("weight", "bias")), ("wires, before the conversion", ("input", "sum", "output")))
_STYLE: Any = {
    "font.size": 10.0,
    "font.family": "sans-serif",
    "text.parse_math": False,
    "svg.hashsalt": "trigger_prune",
}


def save_profile_plots(profiles: Sequence[RangeProfile], folder: Path, name: str = "profile") -> list[Path]:
    """``NAME.svg`` and ``NAME.png``, each written under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with rc_context(_STYLE):
        canvas = draw_profile(profiles)
        for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 130})):
            path = folder / f"{name}.{kind}"
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                canvas.savefig(temporary, format=kind, **options)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            written.append(path)
    return written


def draw_profile(profiles: Sequence[RangeProfile]) -> Figure:
    """One panel for weights, one for wires: boxes from the 25th to the 75th percentile, whiskers from the 1st to the
    99th, a dot at the largest; overflow and underflow rates beside every row."""
    panels = [(title, [p for p in profiles if p.kind in kinds]) for title, kinds in _PANELS]
    panels = [(title, rows) for title, rows in panels if rows]
    heights = [len(rows) + 2.2 for _, rows in panels]
    canvas = Figure(figsize=(9.6, (sum(heights) * _ROW_PX + 60) / 72), layout="constrained", facecolor="white")
    grid = canvas.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, (title, rows) in zip(grid.flat, panels, strict=True):
        _panel(axes, title, rows)
    handles = [
        Patch(facecolor=PALETTE["series-1"], alpha=0.18, label="range of the type: LSB to largest value"),
        Patch(facecolor=PALETTE["series-2"], alpha=0.75, label="25 % to 75 % of the values other than 0"),
        Line2D([], [], color=PALETTE["ink"], linewidth=1.2, label="1 % to 99 %, median"),
        Line2D([], [], color=PALETTE["bad"], marker="o", linestyle="", markersize=4, label="largest"),
    ]
    canvas.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return canvas


def _panel(axes: Axes, title: str, rows: Sequence[RangeProfile]) -> None:
    ends: list[float] = []
    for position, row in enumerate(rows):
        y = len(rows) - 1 - position
        first, last = row.log2_range
        axes.add_patch(
            Rectangle((first, y - 0.42), last - first, 0.84, color=PALETTE["series-1"], alpha=0.18, linewidth=0)
        )
        ends += [first, last]
        if row.log2_quantiles is None or row.log2_max is None:
            continue
        low, q1, median, q3, high = row.log2_quantiles
        axes.plot([low, high], [y, y], color=PALETTE["ink"], linewidth=1.2, zorder=2)
        for end in (low, high):
            axes.plot([end, end], [y - 0.13, y + 0.13], color=PALETTE["ink"], linewidth=1.2, zorder=2)
        axes.add_patch(
            Rectangle((q1, y - 0.24), max(q3 - q1, 0.02), 0.48, color=PALETTE["series-2"], alpha=0.75, zorder=3)
        )
        axes.plot([median, median], [y - 0.24, y + 0.24], color=PALETTE["ink"], linewidth=1.4, zorder=4)
        axes.plot([row.log2_max], [y], marker="o", color=PALETTE["bad"], markersize=4, zorder=5)
        ends += [low, row.log2_max]
    axes.set_xlim(max(min(ends), -24) - 0.6, max(ends) + 0.6)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    labels = [f"{shorten(row.name)}  {row.kind}" if row.kind != row.name else row.name for row in rows]
    axes.set_yticks(range(len(rows) - 1, -1, -1), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, loc="left", color=PALETTE["ink"], fontweight="bold")
    axes.set_xlabel("log2 of the magnitude")
    axes.grid(axis="x", color=PALETTE["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.text(1.015, 1.0, "overflow", transform=axes.transAxes, ha="left", va="bottom", color=PALETTE["muted"])
    axes.text(1.135, 1.0, "underflow", transform=axes.transAxes, ha="left", va="bottom", color=PALETTE["muted"])
    beside = axes.get_yaxis_transform()
    for position, row in enumerate(rows):
        y = len(rows) - 1 - position
        colour = PALETTE["bad"] if row.overflow_rate > 0.01 else PALETTE["ink"]
        axes.text(1.015, y, rate_text(row.overflow_rate), transform=beside, va="center", color=colour)
        axes.text(1.135, y, rate_text(row.underflow_rate), transform=beside, va="center", color=PALETTE["ink"])


def rate_text(rate: float | None) -> str:
    """A rate in per cent, small ones as powers of ten."""
    if rate is None:
        return "-"
    return "0" if rate == 0 else f"{100 * rate:.2g} %" if rate >= 1e-4 else f"{rate:.1e}"

"""Figures of a full sensitivity scan: curves with intervals, and a heat map of layers against sparsities."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from trigger_prune.report.numbers import THIN_SPACE, shorten
from trigger_prune.report.svg import COLOUR, SERIES, drawing, label, to_svg
from trigger_prune.sensitivity.findings import ScanPoint
from trigger_prune.sensitivity.tolerance import drop, worst_drop

PALETTE: Mapping[str, str] = {
    "ink": "#1d1d1f",
    "muted": "#6e6e73",
    "grid": "#e3e3e6",
    "bad": "#c23b22",
    "good": "#2e7d32",
} | dict(zip(SERIES, ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#666666"), strict=True))
"""Colours of figures in files of their own; inside a page its style sheet decides."""

NAMES = {"loss": "loss", "accuracy": "accuracy", "auc": "AUC", "efficiency": "signal efficiency"}
_DASHES: tuple[object, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))
_ROW_PX = 19.0


def curves_svg(points: Sequence[ScanPoint], figure: str, tolerance: float | None = None) -> str:
    """For a place inside HTML: change of ``figure`` over sparsity, one panel per layer; see ``draw_curves``."""
    with drawing(660, _curves_height(points)) as canvas:
        draw_curves(canvas, points, figure, COLOUR, tolerance)
        return to_svg(canvas, f"scan-{figure}", f"Change of the {NAMES[figure]} with sparsity, layer by layer")


def heat_map_svg(points: Sequence[ScanPoint], figure: str) -> str:
    """For a place inside HTML: what each layer loses at each sparsity; see ``draw_heat_map``."""
    with drawing(660, _map_height(points)) as canvas:
        draw_heat_map(canvas, points, figure, COLOUR)
        return to_svg(canvas, f"heat-{figure}", f"Drop of the {NAMES[figure]} by layer and sparsity")


def save_figures(points: Sequence[ScanPoint], folder: Path, tolerance: float | None = None) -> list[Path]:
    """``curves_FIGURE.svg`` and ``heat_map_FIGURE.svg`` of every figure of the scan; none for a scan of bits alone."""
    if not _pruned(points):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    style: Any = {
        "font.size": 10.0,
        "font.family": "sans-serif",
        "text.parse_math": False,
        "svg.hashsalt": "trigger_prune",
    }
    for name in points[0].figures:
        with rc_context(style):
            curves = Canvas(figsize=(9.2, _curves_height(points) / 72), layout="constrained")
            draw_curves(curves, points, name, PALETTE, tolerance)
            written.append(_save(curves, folder / f"curves_{name}.svg"))
            heat = Canvas(figsize=(9.2, _map_height(points) / 72), layout="constrained")
            draw_heat_map(heat, points, name, PALETTE)
            written.append(_save(heat, folder / f"heat_map_{name}.svg"))
    return written


def _save(canvas: Canvas, path: Path) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        canvas.savefig(temporary, format="svg", metadata={"Date": None})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def draw_curves(
    canvas: Canvas,
    points: Sequence[ScanPoint],
    figure: str,
    colours: Mapping[str, str],
    tolerance: float | None = None,
) -> None:
    """Drop of ``figure`` (increase of a loss) over sparsity with the interval of the paired difference as a band.

    One panel per layer, one line per criterion, structure and weight bits; ``tolerance`` is a line across.
    """
    by_layer: dict[str, dict[str, list[ScanPoint]]] = {}
    for point in _pruned(points):
        by_layer.setdefault(point.layer, {}).setdefault(_line_name(point, points), []).append(point)
    lines = list(dict.fromkeys(name for curves in by_layer.values() for name in curves))
    columns = _columns(len(by_layer))
    grid = canvas.subplots(math.ceil(len(by_layer) / columns), columns, sharex=True, squeeze=False)
    handles: dict[str, Line2D] = {}
    for axes in grid.flat[len(by_layer) :]:
        axes.set_axis_off()
    for axes, (layer, curves) in zip(grid.flat, by_layer.items(), strict=False):
        for name, curve in curves.items():
            number = lines.index(name)
            curve = sorted(curve, key=lambda point: point.sparsity)
            sparsity = [point.sparsity for point in curve]
            (handles[name],) = axes.plot(
                sparsity,
                [drop(point, figure) for point in curve],
                color=colours[SERIES[number % len(SERIES)]],
                linestyle=_DASHES[number // len(SERIES) % len(_DASHES)],
                marker="o",
                markersize=3,
                linewidth=1.4,
            )
            low = [_best_drop(point, figure) for point in curve]
            high = [worst_drop(point, figure) for point in curve]
            colour = colours[SERIES[number % len(SERIES)]]
            axes.fill_between(sparsity, low, high, color=colour, alpha=0.18, linewidth=0)
        _frame(axes, layer, figure, colours, tolerance)
    columns = 3 if max(map(len, lines)) < 30 else 2
    canvas.legend(
        list(handles.values()),
        [label(name) for name in handles],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )


def _frame(axes: Axes, layer: str, figure: str, colours: Mapping[str, str], tolerance: float | None) -> None:
    axes.axhline(0, color=colours["muted"], linewidth=0.8)
    if tolerance is not None:
        axes.axhline(tolerance, color=colours["bad"], linewidth=1, linestyle=(0, (4, 2)))
    axes.set_title(shorten(layer), loc="left", color=colours["ink"])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel("sparsity of this layer")
    axes.set_ylabel("loss increase" if figure == "loss" else f"{NAMES[figure]} drop")
    if figure != "loss":
        axes.yaxis.set_major_formatter(_percent)


def draw_heat_map(canvas: Canvas, points: Sequence[ScanPoint], figure: str, colours: Mapping[str, str]) -> None:
    """Drop of ``figure`` (increase of a loss) as colour and number of a cell: a row per curve, a column per sparsity.

    Colours go with the square root of the drop, so that small drops differ to the eye; no change or a gain is blank.
    """
    pruned = _pruned(points)
    rows = list(dict.fromkeys(_row_name(point, points) for point in pruned))
    columns = sorted({point.sparsity for point in pruned})
    largest = max((drop(point, figure) for point in pruned), default=0.0)
    axes = canvas.add_subplot()
    axes.grid(visible=False)
    scale = 1.0 if figure == "loss" else 100.0
    for point in pruned:
        x, y = columns.index(point.sparsity), rows.index(_row_name(point, points))
        lost = drop(point, figure)
        share = math.sqrt(max(lost, 0.0) / largest) if largest > 0 else 0.0
        if share > 0:
            cell = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colours["bad"], alpha=0.85 * share, linewidth=0)
            axes.add_patch(cell)
        axes.text(x, y, f"{scale * lost:.2f}", ha="center", va="center", fontsize=8.5, color=colours["ink"])
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [_percent(value) for value in columns])
    axes.set_yticks(range(len(rows)), [label(name) for name in rows])
    axes.tick_params(length=0)
    unit = "loss increase (nats)" if figure == "loss" else f"{NAMES[figure]} drop (percentage points)"
    axes.set_title(unit, loc="left", color=colours["ink"])
    axes.set_xlabel("sparsity of the layer, all others untouched")


def _pruned(points: Sequence[ScanPoint]) -> list[ScanPoint]:
    return [point for point in points if point.criterion is not None]


def _line_name(point: ScanPoint, points: Sequence[ScanPoint]) -> str:
    """What tells the lines of a panel apart: of criterion, structure and bits those that differ in the scan."""
    pruned = _pruned(points)
    parts = [str(point.criterion)]
    if len({other.structure for other in pruned}) > 1:
        parts.append(str(point.structure))
    if any(other.weight_bits is not None for other in pruned):
        parts.append("own bits" if point.weight_bits is None else f"{point.weight_bits} bits")
    return ", ".join(parts)


def _row_name(point: ScanPoint, points: Sequence[ScanPoint]) -> str:
    several = len({_line_name(other, points) for other in _pruned(points)}) > 1
    return f"{shorten(point.layer)}, {_line_name(point, points)}" if several else shorten(point.layer)


def _best_drop(point: ScanPoint, figure: str) -> float:
    found = point.figures[figure]
    return found.change_low if figure == "loss" else -found.change_high


def _columns(panels: int) -> int:
    return min(panels, 2 if panels in (2, 4) else 3)


def _curves_height(points: Sequence[ScanPoint]) -> float:
    pruned = _pruned(points)
    layers = len({point.layer for point in pruned}) or 1
    lines = len({_line_name(point, points) for point in pruned})
    return 60 + 200 * math.ceil(layers / _columns(layers)) + 18 * math.ceil(lines / 2)


def _map_height(points: Sequence[ScanPoint]) -> float:
    return 90 + _ROW_PX * len({_row_name(point, points) for point in _pruned(points)})


def _percent(value: float, _position: float = 0.0) -> str:
    return f"{100 * value:.4g}{THIN_SPACE}%"

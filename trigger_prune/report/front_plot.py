"""Plot of a front of budgets: what each number of LUTs buys, one line per latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw_front(rows: Sequence[Mapping[str, Any]], label: str, path: Path) -> None:
    """Write an SVG of the merit on test events against the measured LUTs, one line per latency limit.

    rows   of ``pipeline.stages.front.FrontRow`` as plain values; those without a network are left out
    A grid whose reports state no LUTs is drawn against the processor time per event.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    met = [row for row in rows if row["test_merit"] is not None]
    quantity = "lut" if any(row["cost"].get("lut") for row in met) else "event_time_us"
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    for latency in sorted({row["latency_limit_ns"] for row in met}, key=lambda value: (value is None, value or 0.0)):
        line = sorted(
            (row["cost"][quantity], abs(row["test_merit"])) for row in met if row["latency_limit_ns"] == latency
        )
        name = "any latency" if latency is None else f"at most {latency:g} ns"
        axes.plot([x for x, _ in line], [y for _, y in line], marker="o", label=name)
    for limit in sorted({row["lut_limit"] for row in rows if row["lut_limit"]} if quantity == "lut" else ()):
        axes.axvline(limit, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xscale("log")
    axes.set_xlabel("measured LUTs" if quantity == "lut" else "processor time per event (us)")
    axes.set_ylabel(f"{label}, test events")
    if met:
        axes.legend(frameon=False)
    figure.savefig(path)
    pyplot.close(figure)

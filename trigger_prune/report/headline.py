"""The run in a few lines, for the terminal."""

from __future__ import annotations

from typing import Any

from trigger_prune.report.trigger import few_events, paired_difference


def headline(summary: dict[str, Any]) -> list[str]:
    """Cost, objective and accuracy of dense, float and deployed network, with every warning that belongs to them."""
    deployed = summary["deployed"]
    lines = [_cost_line(summary), *_objective_lines(summary)]
    if deployed["accuracy"] is not None:
        drop = summary["accuracy_drop"]
        lines.append(
            f"test accuracy {summary['float']['accuracy']:.4f} float -> {deployed['accuracy']:.4f} deployed, "
            f"{100 * drop['value']:.2f} +- {100 * drop['error']:.2f} points less"
        )
    names = ", ".join(deployed["inputs_dropped"])
    return [*lines, f"{len(deployed['inputs_used'])} inputs used" + (f", without {names}" if names else "")]


def _objective_lines(summary: dict[str, Any]) -> list[str]:
    """The objective, where accuracy does not say it already, with every warning that belongs to it."""
    objective, test = summary["objective"], summary["objective"]["test"]
    if objective["name"] in (None, "accuracy", "loss"):
        return []
    line = f"test {objective['label']} {test['float']:.4f} float -> {test['deployed']:.4f} deployed"
    pair = paired_difference(summary, "float")
    if pair is not None and pair["difference"] is not None:
        found = pair["difference"]
        line += f", {-100 * found['value']:.2f} +- {100 * found['error']:.2f} points less"
    few = few_events(summary, "test")
    return [line] if few is None else [line, f"  warning: {few}"]


def _cost_line(summary: dict[str, Any]) -> str:
    dense, deployed = summary["dense"], summary["deployed"]
    if deployed["event_time_us"] is not None:
        return (
            f"{dense['event_time_us']:.3g} us per event dense at {dense['bits']} bits -> "
            f"{deployed['event_time_us']:.3g} us deployed, 99 % of single calls within "
            f"{deployed['latency_p99_us']:.3g} us ({deployed['cost_label']})"
        )
    if deployed["lut"] is None:
        return (
            f"{dense['latency_cycles']} cycles dense at {dense['bits']} bits -> {deployed['latency_cycles']} cycles "
            f"deployed ({deployed['cost_label']})"
        )
    ratio = summary["lut_ratio"]
    fewer = "" if ratio is None else f", {ratio:.1f} times fewer"
    return (
        f"{dense['lut']} LUT dense at {dense['bits']} bits -> {deployed['lut']} LUT deployed{fewer} "
        f"({deployed['cost_label']})"
    )

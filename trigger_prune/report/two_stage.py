"""The two-stage findings as texts for the page: every number is looked up by its path in the findings' plain values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from trigger_prune.cost.report import HardwareReport
from trigger_prune.report import numbers
from trigger_prune.two_stage.findings import BestDesign, ComparedRow, TwoStageFindings
from trigger_prune.two_stage.latency import FixedLatency
from trigger_prune.units import cycles_to_ns

RESOURCES = MappingProxyType({"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram18": "BRAM18"})
"""Columns of the tables."""

KINDS = MappingProxyType(
    {
        "full": "full alone",
        "pruned": "pruned alone",
        "light": "light alone",
        "menu": "cuts",
        "two_stage": "two stages",
    }
)

VERDICTS = MappingProxyType(
    {
        "two_stage": "Build two stages",
        "single_stage": "Build one stage: the full model alone",
        "pruned_alone": "Build one stage: the pruned network alone",
        "light_alone": "Build one stage: a light model alone",
        "none": "Nothing meets the requirements",
    }
)

MEANINGS = MappingProxyType(
    {
        "t_reject": "light score below it: rejected",
        "t_accept": "light score from it on: accepted at once, without the full model",
        "t_full": "full score from it on: accepted",
        "t_overflow": "light score from it on: accepted when the FIFO is full",
    }
)
"""Threshold -> what it decides."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def small(value: float | None) -> str:
    """A probability that may be tiny: ``0.034``, ``3.4 × 10⁻⁷``."""
    if value is None:
        return numbers.MISSING
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"  # noqa: RUF001


FORMATS: MappingProxyType[str, Callable[[Any], str]] = MappingProxyType(
    {
        "count": numbers.count,
        "percent": lambda value: numbers.percent(value, 2),
        "whole_percent": lambda value: numbers.percent(value, 0),
        "hundredths": lambda value: numbers.decimal(value, 2),
        "small": small,
        "plain": lambda value: numbers.MISSING if value is None else f"{value:.4g}".replace("-", "\u2212"),
        "ns": numbers.time_ns,
    }
)


_Path = Sequence[str | int]


@dataclass(frozen=True)
class Numbers:
    """Numbers of the findings as text, each tagged with its path, so that a program can compare page and findings.

    raw   plain values of the findings (``two_stage.figures.findings_to_dict``)
    """

    raw: Mapping[str, Any]

    def value(self, path: _Path) -> Any:
        """What stands at ``path``."""
        found: Any = self.raw
        for key in path:
            found = found[key]
        return found

    def number(self, path: _Path, kind: str, scale: float = 1.0) -> Markup:
        """The number, times ``scale``, in one of the formats above."""
        value = self.value(path)
        shown = 100 * scale if kind.endswith("percent") else scale
        return _tag(FORMATS[kind](None if value is None else scale * value), path, shown)

    def with_error(self, path: _Path, value: str, error: str, scale: float = 1.0) -> Markup:
        """``value +- error`` of two fields of the object at ``path``, times ``scale``."""
        here = self.value(path)
        first, *rest = numbers.with_error(here[value], here[error], scale).split(" ± ")
        shown = _tag(first, (*path, value), scale)
        for text in rest:
            shown += Markup(' <span class="band">± {}</span>').format(_tag(text, (*path, error), scale))
        return shown


def _tag(text: str, path: _Path, scale: float) -> Markup:
    """``scale``: what the value was multiplied with before it became ``text``."""
    return Markup('<span class="num" data-key="two_stage" data-path="{}" data-scale="{}">{}</span>').format(
        json.dumps(list(path)), f"{scale:g}", text
    )


@dataclass(frozen=True)
class LatencyLine:
    """A part of the latency: ``share`` of the budget, ``offset`` of its begin."""

    name: str
    cycles: int
    crossings: float
    ns: float
    offset: float
    share: float


def total(row: ComparedRow, resource: str) -> int | None:
    """Resource of a row, FIFO and control included; None where it is not known."""
    if row.cost is None:
        return None
    values = [getattr(cost, resource) for cost in (row.cost, row.buffer) if cost is not None]
    return None if None in values else sum(values)


def stage_text(cost: HardwareReport) -> str:
    """How a number was obtained, in words; of an estimate also what it predicts."""
    predicted = f" of what {cost.predicts.value} would report" if cost.predicts else ""
    return f"{cost.stage.label}{predicted}"


def latency_lines(latency: FixedLatency, budget_ns: float, clock_period_ns: float) -> tuple[LatencyLine, ...]:
    """Light model, control, longest wait, full model, and the rest of the last crossing, in the order of time."""
    aligned = latency.output_bx * latency.clock_multiple - latency.total_cycles
    parts = (
        ("light model", latency.light_cycles),
        ("comparators, FIFO and output registers", latency.control_cycles),
        ("longest wait in the FIFO, depth × interval", latency.wait_cycles),  # noqa: RUF001
        ("full model at its reuse factor", latency.full_cycles),
        ("up to the next whole crossing", aligned),
    )
    lines, before = [], 0
    for name, cycles in parts:
        ns = cycles_to_ns(cycles, clock_period_ns)
        offset = cycles_to_ns(before, clock_period_ns) / budget_ns
        lines.append(LatencyLine(name, cycles, cycles / latency.clock_multiple, ns, offset, ns / budget_ns))
        before += cycles
    return tuple(lines)


def target_text(findings: TwoStageFindings) -> str:
    """``100 kHz``, or ``1 % background`` where weights are no rates."""
    if findings.rate_weights:
        return f"{findings.target_hz / 1e3:g} kHz"
    return f"{100 * findings.target_hz:g} % background"


def thresholds(best: BestDesign) -> tuple[tuple[str, str, bool], ...]:
    """Name, meaning, and whether anything passes, of every threshold."""
    raw = best.thresholds.to_dict()
    return tuple((name, text, raw[name] is not None) for name, text in MEANINGS.items())


def front_rows(findings: TwoStageFindings) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions of the front's designs, smallest first: those that show what efficiency costs, and the others.

    The former are best in resource and efficiency, whatever their latency, and the chosen design.
    """
    shown: list[int] = []
    others: list[int] = []
    best = -1.0
    order = sorted(
        findings.front, key=lambda i: (findings.designs[i].resource_used, -(findings.designs[i].efficiency or 0.0))
    )
    for index in order:
        design = findings.designs[index]
        better = (design.efficiency or 0.0) > best
        best = max(best, design.efficiency or 0.0)
        chosen = findings.best is not None and design == findings.best.point
        (shown if better or chosen else others).append(index)
    return tuple(shown), tuple(others)


def sum_of_parts(findings: TwoStageFindings, resource: str) -> int | None:
    """Over the parts of the chosen design; None where one does not state it."""
    found = 0
    for part in findings.best.parts if findings.best else ():
        value = getattr(part.cost, resource)
        if value is None:
            return None
        found += value
    return found


def within_loss(findings: TwoStageFindings) -> tuple[bool, ...]:
    """Which designs lose no more than is allowed: by the loss of their light model and share, without overflow.

    All of them where the limit is not known.
    """
    if findings.max_loss is None:
        return (True,) * len(findings.designs)
    losses = {
        (curve.light_name, share): loss
        for curve in findings.loss_curves
        for share, loss in zip(curve.escalated, curve.relative_loss, strict=True)
    }
    return tuple(
        losses.get((design.light_name, design.escalated_wanted), 1.0) <= findings.max_loss
        for design in findings.designs
    )


def plus_minus(text: str) -> str:
    """Sentences as the page writes them."""
    return text.replace("+-", "±")


def problem_counts(findings: TwoStageFindings) -> tuple[tuple[str, int], ...]:
    """Why designs of the search are no solutions, by kind, the most frequent first."""
    counts: dict[str, int] = {}
    for design in findings.designs:
        for kind in {_kind_of(text) for text in design.problems}:
            counts[kind] = counts.get(kind, 0) + 1
    return tuple(sorted(counts.items(), key=lambda pair: -pair[1]))


def _kind_of(problem: str) -> str:
    if problem.startswith("latency"):
        return "too slow"
    if problem.startswith("loses"):
        return "lose too much in the FIFO"
    return "too large" if ", allowed" in problem else "have a queue that never settles"

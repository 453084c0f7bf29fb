"""The two-stage findings as a page of their own, and as a section of the project's report."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from trigger_prune.report import numbers, two_stage, two_stage_front, two_stage_plots
from trigger_prune.report.files import write_text
from trigger_prune.two_stage.figures import findings_to_dict
from trigger_prune.two_stage.findings import TwoStageFindings
from trigger_prune.units import BUNCH_CROSSING_NS

SECTION_ID = "two-stage"

_SECTION = re.compile(rf'<section id="{SECTION_ID}">.*?</section><!-- {SECTION_ID} -->\n?', re.DOTALL)
_LINK = f'<a href="#{SECTION_ID}">Two stages</a> '


def two_stage_section(findings: TwoStageFindings) -> str:
    """HTML of the section; it needs the report's style sheet."""
    return _environment().get_template("two_stage.html.j2").render(_context(findings))


def render_two_stage_page(findings: TwoStageFindings, title: str) -> str:
    """A whole page that opens from disk and asks for nothing else."""
    page = _environment().get_template("two_stage_page.html.j2")
    return page.render(title=title, style=Markup(_resource("style.css")), **_context(findings))


def write_two_stage_page(findings: TwoStageFindings, path: Path, title: str) -> None:
    """Write the page; ``title`` is the project's name."""
    write_text(render_two_stage_page(findings, title), path)


def stale_section(reason: str) -> str:
    """HTML in the place of the section, where there are findings that do not belong to the report.

    ``reason`` says why, as a clause.
    """
    return _environment().get_template("two_stage_stale.html.j2").render(reason=reason)


def insert_section(html: str, section: str) -> str:
    """A report with ``section`` before its first section of findings, linked in its navigation.

    Text that is no report of this program is returned as it is.
    """
    html = remove_section(html)
    place = html.find('<section id="input">')
    bar = html.find('<a href="#input">')
    if place < 0 or not 0 <= bar < place:
        return html
    return html[:bar] + _LINK + html[bar:place] + section + "\n" + html[place:]


def remove_section(html: str) -> str:
    """The report as it was before ``insert_section``, to the last character."""
    return _SECTION.sub("", html).replace(_LINK, "")


def _context(findings: TwoStageFindings) -> dict[str, Any]:
    best = findings.best
    found = two_stage.Numbers(findings_to_dict(findings))
    latency = None if best is None else best.point.latency
    period = 0.0 if latency is None else BUNCH_CROSSING_NS / latency.clock_multiple
    sources = {two_stage.stage_text(row.cost) for row in findings.rows if row.cost is not None}
    buffers = {two_stage.stage_text(row.buffer) for row in findings.rows if row.buffer is not None}
    return {
        "f": findings,
        "best": best,
        "number": found.number,
        "with_error": found.with_error,
        "target": two_stage.target_text(findings),
        "kinds": two_stage.KINDS,
        "verdict": two_stage.VERDICTS[findings.recommendation.verdict],
        "verdicts": two_stage.VERDICTS,
        "mixed": len({single.full_stage for single in findings.singles}) > 1,
        "resources": two_stage.RESOURCES,
        "total": two_stage.total,
        "stage_text": two_stage.stage_text,
        "sources": sorted(sources),
        "buffer_sources": sorted(buffers),
        "latency": latency,
        "latency_lines": ()
        if latency is None
        else two_stage.latency_lines(latency, findings.latency_budget_ns, period),
        "thresholds": () if best is None else two_stage.thresholds(best),
        "front": two_stage.front_rows(findings),
        "parts_total": {name: two_stage.sum_of_parts(findings, name) for name in two_stage.RESOURCES},
        "problems": two_stage.problem_counts(findings),
        "solutions": sum(not design.problems for design in findings.designs),
        "plots": _plots(findings),
        "small": two_stage.small,
    }


def _plots(findings: TwoStageFindings) -> dict[str, Markup]:
    """All figures that there is something to draw for."""
    best = findings.best
    drawn: dict[str, str] = {}
    if any(curve.escalated for curve in findings.loss_curves):
        drawn["loss"] = two_stage_plots.plot_loss(findings, "two-loss")
    if findings.designs or findings.singles:
        drawn["front"] = two_stage_front.plot_front(findings, "two-front")
    if best is not None:
        drawn["depths"] = two_stage_plots.plot_depths(findings, best, "two-depths")
        drawn["latency"] = two_stage_plots.plot_latency(findings, best, "two-latency")
        drawn["orbit"] = two_stage_plots.plot_orbit(findings, best, "two-orbit")
    return {name: Markup(svg) for name, svg in drawn.items()}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=numbers.count, ns=numbers.time_ns, plus_minus=two_stage.plus_minus)
    return environment


def _resource(name: str) -> str:
    return (files("trigger_prune.report") / name).read_text(encoding="utf-8")

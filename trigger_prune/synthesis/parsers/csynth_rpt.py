"""``*_csynth.rpt``: the C synthesis report of one module as text, by Vivado HLS and Vitis HLS.

Format: AMD UG902 / UG1399, checked with Vivado HLS 2018.2 to 2019.2 and Vitis HLS 2021.1 to 2024.2. Also read: what
``hls4ml report`` prints, which stops after the table of instances. The summary of a whole design that Vitis HLS writes
as ``csynth.rpt`` has another format (csynth_summary).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import guards, values
from trigger_prune.synthesis.parsers.csynth import CsynthReport, Resources
from trigger_prune.synthesis.parsers.csynth_area import COMPONENTS, AreaSummary, read_instances
from trigger_prune.synthesis.parsers.csynth_details import DETAILS, DetailRow, read_detail
from trigger_prune.synthesis.parsers.csynth_timing import read_clock, read_latency, read_loops
from trigger_prune.synthesis.parsers.text import Section, information, part, parts, require_text, sections

_TITLE = re.compile(r"(Vivado HLS|Vitis HLS) Report for '(.+)'")
_PRINTED_BY_HLS4ML = "SYNTHESIS REPORT:"
PRINTED_COSIM = "CO-SIMULATION RESULT:"
"""Heading of the co-simulation report that ``hls4ml report`` prints below this one."""


@dataclass(frozen=True)
class CsynthText:
    """What only the text report states, around the ``CsynthReport`` that the XML states too (but for averages).

    breakdown       resources by kind of element (``Expression``, ``Instance``, ``Register``, ...); None = the tool
                    prints a dash: the kind has none, or does not count
    percent         used, in whole per cent of the part, as printed (rounded down)
    slr_available   resources of one SLR; None for a part with one die
    details         rows of the detail tables by kind, totals left out
    complete        False for what ``hls4ml report`` prints: no details but the instances
    """

    report: CsynthReport
    date: str
    build: str
    project: str
    solution: str
    breakdown: Mapping[str, Resources]
    percent: Resources
    slr_available: Resources | None
    details: Mapping[str, tuple[DetailRow, ...]]
    complete: bool


def parse_csynth_rpt(text: str, *, source: str = "csynth.rpt") -> CsynthText:
    """Read the text of a module's report; ``source`` is the name that errors give.

    Raises ReportFormatError for a missing, repeated or broken section, a cell that is no number, sums that do not add
    up, and values that contradict each other (guards.check_csynth).
    """
    text, _, _ = require_text(text, source).partition(PRINTED_COSIM)
    found = sections(text, source)
    titles = [(title, match) for title in found if (match := _TITLE.fullmatch(title))]
    if len(titles) != 1:
        raise ReportFormatError(f"{source} is not a report of one module (== Vitis HLS Report for '...')")
    title, match = titles[0]
    stated = information(found[title])
    complete = "Interface" in found
    if not complete and _PRINTED_BY_HLS4ML not in text:
        raise ReportFormatError(f"{source} has no section Interface: it is cut off")
    for wanted in ("Performance Estimates", "Utilization Estimates"):
        if wanted not in found:
            raise ReportFormatError(f"{source} has no section {wanted}")
    timing, area = found["Performance Estimates"], found["Utilization Estimates"]
    timing_parts, area_parts = parts(timing), parts(area)
    clock = read_clock(part(timing_parts, "Timing/Summary", timing), part(timing_parts, "Timing", timing).heading)
    latency = read_latency(part(timing_parts, "Latency/Summary", timing))
    summary = AreaSummary(part(area_parts, "Summary", area))
    instances, inside = read_instances(
        part(timing_parts, "Latency/Detail/Instance", timing), part(area_parts, "Detail/Instance", area)
    )
    summary.check(inside)
    solution, _, flow = stated["Solution"].partition(" (")
    version, _, build = stated["Version"].partition(" ")
    report = CsynthReport(
        version=values.version(version, f"{source}: Version"),
        family=stated["Product family"],
        part=values.part_name(stated["Target device"], f"{source}: Target device"),
        top=match[2],
        target_clock_ns=clock.target_ns,
        clock_uncertainty_ns=clock.uncertainty_ns,
        estimated_clock_ns=clock.estimated_ns,
        pipeline_type=latency.pipeline_type,
        latency_best=latency.latency_min,
        latency_average=None,
        latency_worst=latency.latency_max,
        interval_min=latency.interval_min,
        interval_max=latency.interval_max,
        used=summary.row("Total"),
        available=summary.row("Available"),
        tool=match[1],
        flow_target=flow.split(" ")[0].lower() or None,  # "Vivado IP Flow Target" is "vivado" in the XML
        latency_best_ns=latency.latency_min_ns,
        latency_worst_ns=latency.latency_max_ns,
        loops=read_loops(part(timing_parts, "Latency/Detail/Loop", timing)),
        instances=instances,
    )
    guards.check_csynth(report, source)
    return CsynthText(
        report=report,
        date=stated["Date"],
        build=build.strip("()"),
        project=stated["Project"],
        solution=solution,
        breakdown={name: summary.row(name, unknown_allowed=True) for name in COMPONENTS},
        percent=summary.percent(),
        slr_available=summary.row("Available SLR") if "Available SLR" in summary.names else None,
        details=_details(area_parts, area) if complete else {},
        complete=complete,
    )


def _details(found: dict[str, Section], section: Section) -> dict[str, tuple[DetailRow, ...]]:
    details = {}
    for kind in DETAILS:
        # Vivado HLS calls the table of DSP blocks DSP48E.
        name = "DSP48E" if kind == "DSP" and "Detail/DSP48E" in found else kind
        details[kind] = read_detail(part(found, f"Detail/{name}", section))
    return details

"""``*_csynth.xml``: the C synthesis report of Vivado HLS and Vitis HLS, as typed values.

Format: AMD UG902 / UG1399 (the tool writes it to ``PROJECT/solution1/syn/report``). Vivado HLS calls the DSP count
``DSP48E``, Vitis HLS ``DSP``. A latency the tool could not bound is written ``?`` or ``undef``.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from trigger_prune.errors import ReportFormatError

_UNKNOWN = ("?", "undef", "-", "")


@dataclass(frozen=True)
class Resources:
    """Used or available resources; None = the report does not state it. BRAM in units of 18 Kbit."""

    lut: int | None
    ff: int | None
    dsp: int | None
    bram18: int | None
    uram: int | None


@dataclass(frozen=True)
class CsynthReport:
    """One report. Latencies and intervals in clock cycles of the target clock; None = not bounded by the tool.

    ``estimated_clock_ns`` leaves out ``clock_uncertainty_ns``: the tool counts the target as met when their sum does
    not exceed ``target_clock_ns``.
    """

    version: str
    family: str
    part: str
    top: str
    target_clock_ns: float
    clock_uncertainty_ns: float | None
    estimated_clock_ns: float | None
    pipeline_type: str | None
    latency_best: int | None
    latency_average: int | None
    latency_worst: int | None
    interval_min: int | None
    interval_max: int | None
    used: Resources
    available: Resources


def parse_csynth_xml(text: str, *, source: str = "csynth.xml") -> CsynthReport:
    """Read the text of a ``*_csynth.xml``; ``source`` is the name that errors give.

    Raises ReportFormatError for text that is not XML, a missing section or entry, or a value that is not a number.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ReportFormatError(
            f"{source} is not complete XML: {error}", hint="the synthesis was stopped before it had written its report"
        ) from None
    if root.tag != "profile":
        raise ReportFormatError(f"{source} is a <{root.tag}> document, not a C synthesis report (<profile>)")
    reader = _Reader(root, source)
    user, timing = "UserAssignments", "PerformanceEstimates/SummaryOfTimingAnalysis"
    latency = "PerformanceEstimates/SummaryOfOverallLatency"
    target_clock = reader.real(user, "TargetClockPeriod")
    if target_clock is None:
        raise ReportFormatError(f"{source}: {user}/TargetClockPeriod is empty")
    return CsynthReport(
        version=reader.text("ReportVersion", "Version"),
        family=reader.text(user, "ProductFamily"),
        part=reader.text(user, "Part"),
        top=reader.text(user, "TopModelName"),
        target_clock_ns=target_clock,
        clock_uncertainty_ns=reader.real(user, "ClockUncertainty", optional=True),
        estimated_clock_ns=reader.real(timing, "EstimatedClockPeriod"),
        pipeline_type=reader.optional_text("PerformanceEstimates", "PipelineType"),
        latency_best=reader.integer(latency, "Best-caseLatency"),
        latency_average=reader.integer(latency, "Average-caseLatency", optional=True),
        latency_worst=reader.integer(latency, "Worst-caseLatency"),
        interval_min=reader.integer(latency, "Interval-min"),
        interval_max=reader.integer(latency, "Interval-max"),
        used=reader.resources("AreaEstimates/Resources"),
        available=reader.resources("AreaEstimates/AvailableResources"),
    )


class _Reader:
    """Looks entries up and says which file and section failed."""

    def __init__(self, root: ElementTree.Element, source: str) -> None:
        self.root = root
        self.source = source

    def _section(self, section: str) -> ElementTree.Element:
        found = self.root.find(section)
        if found is None:
            raise ReportFormatError(f"{self.source} has no section {section}")
        return found

    def optional_text(self, section: str, entry: str) -> str | None:
        found = self._section(section).find(entry)
        text = "" if found is None or found.text is None else found.text.strip()
        return None if text in _UNKNOWN else text

    def text(self, section: str, entry: str, *, unknown_is_error: bool = True) -> str:
        if self._section(section).find(entry) is None:
            raise ReportFormatError(f"{self.source} has no entry {section}/{entry}")
        text = self.optional_text(section, entry)
        if text is None and unknown_is_error:
            raise ReportFormatError(f"{self.source}: {section}/{entry} is empty")
        return text or ""

    def integer(self, section: str, entry: str, *, optional: bool = False) -> int | None:
        text = self._number(section, entry, optional)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            raise self._not_a_number(section, entry, text) from None

    def real(self, section: str, entry: str, *, optional: bool = False) -> float | None:
        text = self._number(section, entry, optional)
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            raise self._not_a_number(section, entry, text) from None

    def resources(self, section: str) -> Resources:
        dsp = "DSP48E" if self._section(section).find("DSP48E") is not None else "DSP"
        return Resources(
            lut=self.integer(section, "LUT"),
            ff=self.integer(section, "FF"),
            dsp=self.integer(section, dsp),
            bram18=self.integer(section, "BRAM_18K"),
            uram=self.integer(section, "URAM", optional=True),
        )

    def _number(self, section: str, entry: str, optional: bool) -> str | None:
        if optional:
            return self.optional_text(section, entry)
        return self.text(section, entry, unknown_is_error=False) or None

    def _not_a_number(self, section: str, entry: str, text: str) -> ReportFormatError:
        return ReportFormatError(f"{self.source}: {section}/{entry} is {text!r}, not a number")

"""Export reports, what Vivado made of the HLS compiler's RTL: ``*_export.rpt``, ``export_syn.rpt``, ``export_impl.rpt``
and the XML files of the same names.

Format: AMD UG902 / UG1399, checked with 2019.1 and 2019.2; later tools write the same lines. ``BRAM`` counts units of
18 Kbit (2 RAMB36 + RAMB18).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from trigger_prune.cost.report import CostStage
from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.csynth import NOTHING_STATED, Resources
from trigger_prune.synthesis.parsers.text import require_text
from trigger_prune.synthesis.parsers.xml import Element, parse_xml

T = TypeVar("T")

_HEADER = re.compile(r"(Implementation tool|Project|Solution|Device target|Report date):\s*(\S.*?)\s*")
_USAGE = re.compile(r"#=== Post-(Synthesis|Implementation) Resource usage ===\s*")
_ENTRY = re.compile(r"(SLICE|CLB|LUT|FF|DSP|BRAM|URAM|SRL|LATCH):\s*(.*?)\s*")
_CLOCK = re.compile(r"CP (required|achieved post-synthesis|achieved post-implementation):\s*(.*?)\s*")
_VERDICTS = {"Timing met": True, "Timing not met": False, "No Sequential Path": None}
_TOOL = re.compile(r"(?:Xilinx |AMD )?Vivado v\.(\S+)")


@dataclass(frozen=True)
class ExportReport:
    """One report. Counts of cells and clocks in ns; None = not stated.

    stage           vsynth (after synthesis) or pnr (after implementation)
    slice           None also for 0, which is what is printed where slices are not counted
    post_..._ns     shortest period Vivado's timing analysis allows after that step; None = not run, or no path
    timing_met      Vivado's verdict on the final step; None = no sequential path
    """

    version: str
    project: str | None
    solution: str | None
    part: str | None
    stage: CostStage
    used: Resources
    available: Resources
    slice: int | None
    clb: int | None
    srl: int | None
    latch: int | None
    required_clock_ns: float | None
    post_synthesis_ns: float | None
    post_implementation_ns: float | None
    timing_met: bool | None

    @property
    def achieved_clock_ns(self) -> float | None:
        """Of the final step."""
        return self.post_implementation_ns if self.stage is CostStage.PNR else self.post_synthesis_ns


def parse_export_rpt(text: str, *, source: str = "export.rpt") -> ExportReport:
    """Read the text; ``source`` is the name that errors give.

    Raises ReportFormatError for a missing or repeated entry, one that is no number, or a verdict against the clocks.
    """
    header: dict[str, str] = {}
    counts: dict[str, int] = {}
    clocks: dict[str, float | None] = {}
    steps: list[str] = []
    verdicts: list[str] = []
    for line in map(str.strip, require_text(text, source).splitlines()):
        if match := _HEADER.fullmatch(line):
            _once(header, match[1], match[2], source)
        elif match := _USAGE.fullmatch(line):
            steps.append(match[1])
        elif match := _ENTRY.fullmatch(line):
            _once(counts, match[1], values.whole(match[2], f"{source}: {match[1]}"), source)
        elif match := _CLOCK.fullmatch(line):
            _once(clocks, match[1], values.amount_if_known(match[2], f"{source}: CP {match[1]}"), source)
        elif line in _VERDICTS:
            verdicts.append(line)
    tool = _TOOL.match(header.get("Implementation tool", ""))
    if tool is None or len(steps) != 1 or len(verdicts) != 1:
        raise ReportFormatError(
            f"{source} is no export report: it lacks the tool, one table of resources or the verdict"
        )
    wanted = ["required", "achieved post-synthesis"] + ["achieved post-implementation"] * (steps[0] == "Implementation")
    _require(header, ("Project", "Solution", "Device target"), source)
    _require(counts, ("LUT", "FF", "DSP", "BRAM"), source)
    _require(clocks, wanted, source)
    report = ExportReport(
        version=values.version(tool[1], f"{source}: Implementation tool"),
        project=header["Project"],
        solution=header["Solution"],
        part=values.part_name(header["Device target"], f"{source}: Device target"),
        stage=CostStage.PNR if steps[0] == "Implementation" else CostStage.VSYNTH,
        used=Resources(counts["LUT"], counts["FF"], counts["DSP"], counts["BRAM"], counts.get("URAM")),
        available=NOTHING_STATED,
        slice=counts.get("SLICE") or None,
        clb=counts.get("CLB"),
        srl=counts.get("SRL"),
        latch=counts.get("LATCH"),
        required_clock_ns=clocks["required"],
        post_synthesis_ns=clocks["achieved post-synthesis"],
        post_implementation_ns=clocks.get("achieved post-implementation"),
        timing_met=_VERDICTS[verdicts[0]],
    )
    _check(report, source)
    return report


def parse_export_xml(text: str, *, source: str = "export.xml") -> ExportReport:
    """Read the XML; Vitis HLS says in it which step was run, Vivado HLS does not: then it is taken for synthesis,
    unless a routed clock is stated. Raises ReportFormatError as ``parse_export_rpt`` does.
    """
    root = parse_xml(text, source)
    timing, used = root.section("TimingReport"), root.section("AreaReport/Resources")
    run = root.find("RunData")
    kind = None if run is None else run.text("RUN_TYPE")
    if kind not in (None, "synth", "syn", "impl"):
        raise ReportFormatError(f"{source}: RunData/RUN_TYPE is {kind!r}, expected syn, synth or impl")
    version = None if run is None else run.text("VIVADO_VERSION").removeprefix("v.")
    achieved = timing.amount_if_known("AchievedClockPeriod")
    routed = timing.amount_if_known("CP_ROUTE") if timing.has("CP_ROUTE") else None
    stage = CostStage.PNR if kind == "impl" or (kind is None and routed is not None) else CostStage.VSYNTH
    met = timing.text("TIMING_MET") if run is not None else timing.optional_text("TIMING_MET")
    if met not in (None, "TRUE", "FALSE", "NA"):
        raise ReportFormatError(f"{source}: TimingReport/TIMING_MET is {met!r}, expected TRUE, FALSE or NA")
    offered = root.find("AreaReport/AvailableResources")
    if offered is not None and used.has("URAM") != offered.has("URAM"):
        raise ReportFormatError(f"{source}: AreaReport states URAM only for used or only for available resources")
    report = ExportReport(
        version="" if version is None else values.version(version, f"{source}: RunData/VIVADO_VERSION"),
        project=None,
        solution=None,
        part=None,
        stage=stage,
        used=_xml_resources(used),
        available=NOTHING_STATED if offered is None else _xml_resources(offered),
        slice=used.optional_whole("SLICE") or None,
        clb=used.optional_whole("CLB"),
        srl=used.optional_whole("SRL"),
        latch=used.optional_whole("LATCH"),
        required_clock_ns=timing.amount_if_known("TargetClockPeriod"),
        post_synthesis_ns=timing.amount_if_known("CP_SYNTH")
        if timing.has("CP_SYNTH")
        else _if(achieved, stage, "vsynth"),
        post_implementation_ns=_if(achieved, stage, "pnr"),
        timing_met={"TRUE": True, "FALSE": False}.get(met or ""),
    )
    _check(report, source)
    return report


def _xml_resources(section: Element) -> Resources:
    lut, ff, dsp, bram18 = (section.whole_if_known(tag) for tag in ("LUT", "FF", "DSP", "BRAM"))
    return Resources(lut, ff, dsp, bram18, section.optional_whole("URAM"))


def _if(value: float | None, stage: CostStage, wanted: str) -> float | None:
    return value if stage == wanted else None


def _check(report: ExportReport, source: str) -> None:
    required, achieved = report.required_clock_ns, report.achieved_clock_ns
    if None in (required, achieved, report.timing_met):
        return
    assert required is not None and achieved is not None
    # Hold and pulse width also count for the verdict, so a short enough period may still not be "met".
    if report.timing_met and achieved > required + 5e-4:
        raise ReportFormatError(f"{source} calls the timing met with {achieved} ns achieved of {required} ns required")


def _once(found: dict[str, T], key: str, value: T, source: str) -> None:
    if key in found:
        raise ReportFormatError(f"{source} states {key} twice")
    found[key] = value


def _require(found: Mapping[str, object], keys: Iterable[str], source: str) -> None:
    for key in keys:
        if key not in found:
            raise ReportFormatError(f"{source} does not state {key}")

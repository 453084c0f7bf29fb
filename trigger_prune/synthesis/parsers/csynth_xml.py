"""``csynth.xml`` and ``*_csynth.xml``: the C synthesis report of Vivado HLS and Vitis HLS.

Format: AMD UG902 / UG1399; the tool writes one file per module and one for the design (``csynth.xml``, which Vitis HLS
extends by the module hierarchy) to ``PROJECT/solution1/syn/report``. Vivado HLS calls the DSP count ``DSP48E``, Vitis
HLS ``DSP``. A latency the tool could not bound is written ``?`` or ``undef``. Checked with 2018.2 to 2024.1.
"""

from __future__ import annotations

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import guards, values
from trigger_prune.synthesis.parsers.csynth import CsynthReport, Instance, Loop, Resources
from trigger_prune.synthesis.parsers.xml import Element, parse_xml

__all__ = ["CsynthReport", "Resources", "parse_csynth_xml"]

_NOT_SET = 2**32 - 1  # the tool's way to write "no interval was requested"
_DEEPEST = 64  # a hierarchy deeper than this is no design
_KEYS = {"lut": ("LUT",), "ff": ("FF",), "dsp": ("DSP", "DSP48E"), "bram18": ("BRAM_18K",), "uram": ("URAM",)}


def parse_csynth_xml(text: str, *, source: str = "csynth.xml") -> CsynthReport:
    """Read the text of a report of one module or of the design; ``source`` is the name that errors give.

    Raises ReportFormatError for text that is not XML, a section or entry that is missing, occurs twice or is no
    number, and for values that contradict each other (guards.check_csynth).
    """
    root = parse_xml(text, source)
    user = root.section("UserAssignments")
    performance = root.section("PerformanceEstimates")
    timing = performance.section("SummaryOfTimingAnalysis")
    latency = performance.section("SummaryOfOverallLatency")
    used, available = root.section("AreaEstimates/Resources"), root.section("AreaEstimates/AvailableResources")
    for section, unit in ((user, "ns"), (timing, "ns"), (latency, "clock cycles")):
        stated = section.optional_text("unit")
        if stated not in (None, unit):
            raise ReportFormatError(f"{section.where}/unit is {stated!r}, expected {unit!r}")
    if used.has("URAM") != available.has("URAM"):
        raise ReportFormatError(f"{source}: AreaEstimates states URAM only for used or only for available resources")
    absolute = latency.all_or_none(*(f"{case}-caseRealTimeLatency" for case in ("Best", "Average", "Worst")))
    pipelined = performance.text("PipelineType") in ("yes", "function")
    stages = latency.whole_if_known if pipelined else latency.optional_whole
    if pipelined:
        latency.text("PipelineInitiationInterval")
    target_interval = user.optional_whole("TargetInitiationInterval")
    report = CsynthReport(
        version=values.version(root.section("ReportVersion").text("Version"), f"{source}: ReportVersion/Version"),
        family=user.text("ProductFamily"),
        part=values.part_name(user.text("Part"), f"{user.where}/Part"),
        top=user.text("TopModelName"),
        target_clock_ns=user.amount("TargetClockPeriod"),
        clock_uncertainty_ns=user.amount_if_known("ClockUncertainty"),
        estimated_clock_ns=timing.amount_if_known("EstimatedClockPeriod"),
        pipeline_type=performance.text("PipelineType"),
        latency_best=latency.whole_if_known("Best-caseLatency"),
        latency_average=latency.whole_if_known("Average-caseLatency"),
        latency_worst=latency.whole_if_known("Worst-caseLatency"),
        interval_min=latency.whole_if_known("Interval-min"),
        interval_max=latency.whole_if_known("Interval-max"),
        used=_resources(used),
        available=_resources(available),
        tool="Vivado HLS" if used.has("DSP48E") else "Vitis HLS",
        flow_target=user.optional_text("FlowTarget"),
        target_interval=None if target_interval == _NOT_SET else target_interval,
        pipeline_interval=_ends(latency, "PipelineInitiationInterval")[1],
        pipeline_depth=stages("PipelineDepth"),
        latency_best_ns=latency.nanoseconds("Best-caseRealTimeLatency") if absolute else None,
        latency_average_ns=latency.nanoseconds("Average-caseRealTimeLatency") if absolute else None,
        latency_worst_ns=latency.nanoseconds("Worst-caseRealTimeLatency") if absolute else None,
        loops=_loops(performance.find("SummaryOfLoopLatency"), 0),
        instances=_instances(root),
    )
    guards.check_csynth(report, source)
    return report


def _resources(section: Element) -> Resources:
    counts: dict[str, int | None] = {}
    for name, tags in _KEYS.items():
        present = [tag for tag in tags if section.has(tag)]
        if len(present) > 1:
            raise ReportFormatError(f"{section.where} states both {' and '.join(present)}")
        # Parts without UltraRAM: reports of some versions leave the line out.
        counts[name] = None if name == "uram" and not present else section.whole((present or tags)[0])
    return Resources(**counts)


def _loops(section: Element | None, level: int) -> tuple[Loop, ...]:
    """Loops in order; an inner loop follows the loop that holds it. A loop is an entry that states a trip count."""
    loops: list[Loop] = []
    for loop in section.children() if section is not None else ():
        if not loop.has("TripCount"):
            continue
        if level > _DEEPEST:
            raise ReportFormatError(f"{loop.where} is nested too deeply")
        trips, latency, iteration = (_ends(loop, tag) for tag in ("TripCount", "Latency", "IterationLatency"))
        name = loop.optional_text("Name") or loop.tag
        loops.append(Loop(name, level, *trips, *latency, *iteration, _ends(loop, "PipelineII")[1]))
        loops += _loops(loop, level + 1)
    return tuple(loops)


def _ends(loop: Element, tag: str) -> tuple[int | None, int | None]:
    """Smallest and largest value of an entry; None where it is absent or unknown."""
    entry = loop.find(tag)
    if entry is None:
        return None, None
    if entry.has("range"):
        ends = entry.section("range")
        return ends.whole_if_known("min"), ends.whole_if_known("max")
    # Vitis HLS writes a range as text too: "0 ~ 34".
    return values.whole_range(loop.text(tag), entry.where)


def _instances(root: Element) -> tuple[Instance, ...]:
    """The hierarchy that Vitis HLS writes to the design's report, each instance with its module's estimates."""
    top = root.find("RTLDesignHierarchy/TopModule")
    if top is None:
        return ()
    modules: dict[str, Element] = {}
    for module in root.section("ModuleInformation").children():
        if module.text("Name") in modules:
            raise ReportFormatError(f"{module.where} {module.text('Name')!r} occurs twice")
        modules[module.text("Name")] = module
    instances = _below(top, modules, 1)
    # A module is listed because it is used: one that is not tells of a lost or damaged entry in the hierarchy.
    unused = modules.keys() - {entry.module for entry in instances} - {top.text("ModuleName")}
    if unused:
        raise ReportFormatError(f"{top.where} has no instance of {', '.join(sorted(unused))}")
    return instances


def _below(parent: Element, modules: dict[str, Element], level: int) -> tuple[Instance, ...]:
    listed = parent.find("InstancesList")
    found: list[Instance] = []
    for entry in listed.children() if listed is not None else ():
        if level > _DEEPEST:
            raise ReportFormatError(f"{entry.where} is nested too deeply")
        name, module = entry.text("InstName"), entry.text("ModuleName")
        # Library blocks (clock enables, FIFOs) are instances too, without estimates of their own.
        known = modules.get(module)
        found.append(Instance(name, module, level) if known is None else _estimated(name, module, level, known))
        found += _below(entry, modules, level + 1)
    return tuple(found)


def _estimated(name: str, module: str, level: int, information: Element) -> Instance:
    latency = information.section("PerformanceEstimates/SummaryOfOverallLatency")
    area = information.section("AreaEstimates/Resources")
    counts: dict[str, int | None] = {}
    for key, tags in _KEYS.items():
        tag = next((tag for tag in tags if area.has(tag)), None)
        offered = f"AVAIL_{tags[0].split('_')[0]}"
        if tag is None and area.has(offered):
            raise ReportFormatError(f"{area.where} of {module} states {offered} but not {tags[0]}")
        counts[key] = None if tag is None else area.whole_if_known(tag)
    absolute = latency.all_or_none("Best-caseRealTimeLatency", "Worst-caseRealTimeLatency")
    interval = _ends(latency, "PipelineInitiationInterval")
    return Instance(
        name,
        module,
        level,
        latency_min=latency.whole_if_known("Best-caseLatency"),
        latency_max=latency.whole_if_known("Worst-caseLatency"),
        latency_min_ns=latency.nanoseconds("Best-caseRealTimeLatency") if absolute else None,
        latency_max_ns=latency.nanoseconds("Worst-caseRealTimeLatency") if absolute else None,
        interval_min=interval[0],
        interval_max=interval[1],
        pipeline_type=latency.optional_text("PipelineType"),
        used=Resources(**counts),
    )

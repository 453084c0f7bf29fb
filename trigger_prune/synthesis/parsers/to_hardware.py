"""``HardwareReport`` of every stage that a solution has reports of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from trigger_prune.cost.report import Available, CostStage, HardwareReport, LayerCost
from trigger_prune.synthesis.parsers.cosim import Cosim, CosimReport, CosimStatus, Transactions
from trigger_prune.synthesis.parsers.csynth import CsynthReport, Instance, Resources
from trigger_prune.synthesis.parsers.csynth_rpt import CsynthText
from trigger_prune.synthesis.parsers.csynth_summary import SynthesisSummary
from trigger_prune.synthesis.parsers.discover import ReportFile, Solution
from trigger_prune.synthesis.parsers.export_report import ExportReport
from trigger_prune.synthesis.parsers.timing_summary import TimingSummary
from trigger_prune.synthesis.parsers.tool_log import ToolLog
from trigger_prune.synthesis.parsers.utilization import Utilization


def to_hardware_reports(solution: Solution) -> tuple[HardwareReport, ...]:
    """One report per stage and source, in the order csynth, cosim, vsynth, pnr.

    C synthesis and logic synthesis are never mixed: each states its own resources only. ``content_hash`` is the SHA-256
    of the text of the report that states them. Two netlists of one stage (hls4ml's ``vivado_synth.rpt`` and the export
    flow's) give two reports. Reports of a stage without numbers (a co-simulation that was not run) give none.
    """
    found = [*_csynth(solution), *_cosim(solution), *_netlists(solution)]
    order = list(CostStage)
    return tuple(sorted(found, key=lambda report: order.index(report.stage)))


def csynth_hardware_report(
    parsed: CsynthReport, *, content_hash: str, layers: Iterable[LayerCost] = (), **details: Any
) -> HardwareReport:
    """``HardwareReport`` of stage csynth from one C synthesis report."""
    return HardwareReport(
        stage=CostStage.CSYNTH,
        tool=parsed.tool,
        tool_version=parsed.version,
        part=parsed.part,
        clock_period_ns=parsed.target_clock_ns,
        **_counts(parsed.used),
        latency_cycles=parsed.latency_worst,
        ii=parsed.interval_max,
        content_hash=content_hash,
        layers=tuple(layers),
        details={
            "top": parsed.top,
            "pipeline_type": parsed.pipeline_type,
            "latency_average_cycles": parsed.latency_average,
            **details,
        },
        available=_available(parsed.available),
        clock_uncertainty_ns=parsed.clock_uncertainty_ns,
        estimated_clock_ns=parsed.estimated_clock_ns,
        latency_best_cycles=parsed.latency_best,
        ii_min=parsed.interval_min,
    )


def layer_costs(instances: Iterable[Instance]) -> tuple[LayerCost, ...]:
    """A layer for each module with a schedule of its own; arithmetic blocks and FIFO controllers have none."""
    modules = [entry for entry in instances if entry.pipeline_type is not None or entry.latency_max is not None]
    names = [entry.module for entry in modules]
    return tuple(
        LayerCost(
            # A module used twice is two layers of the design.
            name=entry.module if names.count(entry.module) == 1 else f"{entry.module} ({entry.name})",
            latency_cycles=entry.latency_max,
            ii=entry.interval_max,
            **_counts(entry.used),
        )
        for entry in modules
    )


def _csynth(solution: Solution) -> list[HardwareReport]:
    file = solution.csynth()
    if file is None:
        return []
    details: dict[str, Any] = {"file": str(file.path)}
    if solution.core is not None:
        core = solution.csynth(solution.core)
        if core is not None:
            details["core"] = solution.core
            details["core_used"] = vars(_parsed(core).used)
            details["core_latency_cycles"] = _parsed(core).latency_worst
    for log in solution.of(ToolLog):
        assert isinstance(log.value, ToolLog)
        if log.value.forced_operators:
            details["forced_operators"] = log.value.forced_operators
    layers = layer_costs(_modules_inside(solution))
    return [csynth_hardware_report(_parsed(file), content_hash=file.text_sha256, layers=layers, **details)]


def _modules_inside(solution: Solution) -> list[Instance]:
    """Modules directly inside the network (inside the core where an AXI wrapper is around it)."""
    network = solution.core or solution.top
    for file in solution.of(CsynthText):
        if isinstance(file.value, CsynthText) and file.value.report.top == network:
            return list(file.value.report.instances)
    for file in solution.files:
        value = file.value
        if isinstance(value, CsynthReport | SynthesisSummary) and value.top == solution.top and value.instances:
            return _below(list(value.instances), None if solution.core is None else solution.core)
    # Vivado HLS without text reports: no hierarchy is stated. Every module is listed, nested ones too.
    return [
        Instance(
            report.top,
            report.top,
            latency_min=report.latency_best,
            latency_max=report.latency_worst,
            interval_min=report.interval_min,
            interval_max=report.interval_max,
            pipeline_type=report.pipeline_type,
            used=report.used,
        )
        for file in solution.of(CsynthReport)
        if (report := _parsed(file)).top not in (solution.top, solution.core)
    ]


def _below(instances: list[Instance], module: str | None) -> list[Instance]:
    """Instances one level below the first instance of a module (None: below the top) of a list in hierarchy order."""
    start, level = 0, 0
    if module is not None:
        start = next((i + 1 for i, entry in enumerate(instances) if entry.module == module), len(instances))
        level = instances[start - 1].level
    found = []
    for entry in instances[start:]:
        if entry.level <= level:
            break
        if entry.level == level + 1:
            found.append(entry)
    return found


def _cosim(solution: Solution) -> list[HardwareReport]:
    latencies = [file.value for file in solution.of(Cosim) if isinstance(file.value, Cosim)]
    transactions = [file.value for file in solution.of(Transactions) if isinstance(file.value, Transactions)]
    top = solution.csynth()
    clocked = None if top is None else _parsed(top)
    found = []
    for file in solution.of(CosimReport):
        assert isinstance(file.value, CosimReport)
        measured = file.value.measured
        if measured.status is CosimStatus.NOT_RUN:
            continue
        passed = measured.status is CosimStatus.PASS
        source = latencies[0] if measured.latency_max is None and latencies else measured
        best, worst, ii_min, ii = source.latency_min, source.latency_max, source.interval_min, source.interval_max
        if worst is None and transactions:
            best, worst = min(transactions[0].latency), max(transactions[0].latency)
            intervals = [cycles for cycles in transactions[0].interval if cycles is not None]
            ii_min, ii = (min(intervals), max(intervals)) if intervals else (None, None)
        found.append(
            HardwareReport(
                stage=CostStage.COSIM,
                tool=file.value.simulator or "co-simulation",
                tool_version="" if clocked is None else clocked.version,
                part="" if clocked is None else clocked.part,
                clock_period_ns=None if clocked is None else clocked.target_clock_ns,
                lut=None,
                ff=None,
                dsp=None,
                bram18=None,
                # Cycles of a simulation that gives wrong values say nothing about the design.
                latency_cycles=worst if passed else None,
                ii=ii if passed else None,
                content_hash=file.text_sha256,
                details={"file": str(file.path), "status": measured.status.value, "language": measured.language},
                latency_best_cycles=best if passed else None,
                ii_min=ii_min if passed else None,
            )
        )
    return found


def _netlists(solution: Solution) -> list[HardwareReport]:
    found = []
    for file in solution.of(Utilization):
        assert isinstance(file.value, Utilization)
        stage = file.value.stage or _stage_by_name(file)
        if stage is not None:
            found.append(_with_timing(_netlist(file.value, file, stage), file.value.design, solution))
    for file in solution.of(ExportReport):
        assert isinstance(file.value, ExportReport)
        export = file.value
        same = [i for i, report in enumerate(found) if report.stage is export.stage and _same(report, export.used)]
        for i in same:
            found[i] = _with_export(found[i], export)
        if not same:
            found.append(_with_export(_exported(export, file), export))
    return found


def _netlist(value: Utilization, file: ReportFile, stage: CostStage) -> HardwareReport:
    layers = tuple(LayerCost(row.name, **_counts(row.used)) for row in value.hierarchy if row.level == 1)
    return HardwareReport(
        stage=stage,
        tool="Vivado",
        tool_version=value.version,
        part=value.part,
        clock_period_ns=None,
        **_counts(value.used),
        latency_cycles=None,
        ii=None,
        content_hash=file.text_sha256,
        layers=layers,
        details={"file": str(file.path), "design": value.design, "state": value.state},
        available=_available(value.available),
    )


def _with_timing(report: HardwareReport, design: str, solution: Solution) -> HardwareReport:
    """Slack of the timing summary of the same stage and design, where there is exactly one."""
    timings = [
        file.value
        for file in solution.of(TimingSummary)
        if isinstance(file.value, TimingSummary)
        and file.value.design == design
        and (file.value.stage or _stage_by_name(file)) is report.stage
    ]
    if len(timings) != 1:
        return report
    clock = timings[0].limiting_clock
    return replace(
        report,
        clock_period_ns=None if clock is None else clock.period_ns,
        achieved_clock_ns=timings[0].achieved_period_ns,
        wns_ns=timings[0].slack.wns_ns,
        tns_ns=timings[0].slack.tns_ns,
    )


def _with_export(report: HardwareReport, export: ExportReport) -> HardwareReport:
    """Clocks of the export report, where no timing summary has stated them."""
    return replace(
        report,
        clock_period_ns=report.clock_period_ns or export.required_clock_ns,
        achieved_clock_ns=report.achieved_clock_ns or export.achieved_clock_ns,
        details={**report.details, "timing_met": export.timing_met},
    )


def _exported(export: ExportReport, file: ReportFile) -> HardwareReport:
    return HardwareReport(
        stage=export.stage,
        tool="Vivado",
        tool_version=export.version,
        part=export.part or "",
        clock_period_ns=None,
        **_counts(export.used),
        latency_cycles=None,
        ii=None,
        content_hash=file.text_sha256,
        details={"file": str(file.path)},
        available=_available(export.available),
    )


def _same(report: HardwareReport, used: Resources) -> bool:
    return (report.lut, report.ff, report.dsp, report.bram18) == (used.lut, used.ff, used.dsp, used.bram18)


def _stage_by_name(file: ReportFile) -> CostStage | None:
    name = file.path.name.lower()
    if "rout" in name or "placed" in name or "impl" in name:
        return CostStage.PNR
    return CostStage.VSYNTH if "syn" in name else None


def _parsed(file: ReportFile) -> CsynthReport:
    value = file.value
    assert isinstance(value, CsynthReport | CsynthText)
    return value.report if isinstance(value, CsynthText) else value


def _counts(used: Resources) -> dict[str, Any]:
    return dict(vars(used))


def _available(offered: Resources) -> Available | None:
    stated = Available(**vars(offered))
    return None if stated == Available() else stated

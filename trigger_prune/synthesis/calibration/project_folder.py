"""A synthesised hls4ml project on disk -> its design, modules and reports as samples."""

from __future__ import annotations

import re
from pathlib import Path

from trigger_prune.cost.calibration.module_names import is_hls4mls_own, parse_module
from trigger_prune.cost.calibration.samples import Origin, Samples, VsynthPair, digest, report_fingerprint
from trigger_prune.cost.calibration.tables import network_of
from trigger_prune.cost.hls.design import (
    DesignSample,
    HlsDesign,
    HlsSetting,
    LayerSample,
)
from trigger_prune.cost.report import Available, CostStage, HardwareReport, LayerCost
from trigger_prune.errors import ReportFormatError, TriggerPruneError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.calibration import project_config
from trigger_prune.synthesis.calibration.describe import drafts_of
from trigger_prune.synthesis.calibration.hls_log import HlsLog, read_hls_log
from trigger_prune.synthesis.calibration.matching import Matched, match_modules, unusable
from trigger_prune.synthesis.calibration.module_reports import ModuleReport, choose_top, holds_reports, read_modules
from trigger_prune.synthesis.parsers.discover import load_reports
from trigger_prune.synthesis.parsers.to_hardware import to_hardware_reports

REPORTS = "syn/report"
LOGS = ("vitis_hls.log", "vivado_hls.log", "hls_run.log")
NETLIST_REPORTS = ("vivado_synth.rpt", "*_utilization_synth.rpt")
_VITIS_SINCE = (2020, 2)


def find_projects(root: Path) -> tuple[Path, ...]:
    """Folders below ``root`` (or itself) that hold an hls4ml configuration, sorted."""
    return tuple(sorted(path.parent for path in root.rglob(project_config.FILE)))


def has_report(folder: Path) -> bool:
    """Whether a project has been synthesised."""
    return any(holds_reports(path) for path in folder.rglob(REPORTS))


def read_project(folder: Path, project: str, name: str) -> Samples:
    """Samples of one synthesised project.

    project   name of the unit that train/test splits keep together; ``name`` of this design, which starts with it
    Whatever the reports contradict (weights of another network, say) is left out, listed in ``skipped``, and noted in
    the design's ``notes``. Raises ReportFormatError when there is no report or no definition that can be read.
    """
    config = project_config.read_project_config(folder / project_config.FILE)
    reports = _report_folder(folder)
    modules = read_modules(reports)
    top = choose_top(modules, config.project_name)
    log = _read_log(folder)
    skipped: list[tuple[str, str]] = []
    notes: list[str] = []
    setting = _setting(top, config, log)
    drafts = drafts_of(folder, config, _top_input_type(reports))
    matched = match_modules(drafts, modules, top, log, folder.name, notes)
    layers = []
    origins = []
    network = network_of(name)
    for item in matched:
        if item.module is None:
            notes.append(f"layer {item.layer.name} has no module of its own")
            continue
        reason = unusable(item.layer) or _foreign(item.module)
        if reason:
            skipped.append((str(item.module.path), reason))
            continue
        layers.append(LayerSample(item.layer, setting, item.module.measured, project))
        origins.append(Origin(str(item.module.path), module_fingerprint(setting, item.module), network))
    report = _report(top, setting, matched)
    vsynth = _vsynth_report(folder)
    unknown = [item.layer.name for item in matched if unusable(item.layer) or (item.module and _foreign(item.module))]
    designs: tuple[DesignSample, ...] = ()
    design_origins: tuple[Origin, ...] = ()
    if unknown:
        skipped.append((str(folder), f"no estimate is possible for {', '.join(unknown[:4])}: {'; '.join(notes[:2])}"))
    else:
        design = HlsDesign(tuple(item.layer for item in matched), setting)
        designs = (DesignSample(design, report, project, name, vsynth, tuple(notes)),)
        design_origins = (Origin(str(folder), report_fingerprint(report), network),)
    return Samples(
        layers=tuple(layers),
        designs=designs,
        pairs=() if vsynth is None else (VsynthPair(report, vsynth, project),),
        skipped=tuple(skipped),
        layer_origins=tuple(origins),
        design_origins=design_origins,
    )


def _foreign(module: ModuleReport) -> str | None:
    function = parse_module(module.name).function
    return None if is_hls4mls_own(function) else f"{function} is the project's own variant of a function of hls4ml"


def module_fingerprint(setting: HlsSetting, module: ModuleReport) -> str:
    """As tables have it: the same module has the same one."""
    return digest("module", setting.version, setting.part, module.name.removesuffix("_s"), module.measured)


def _report_folder(folder: Path) -> Path:
    found = sorted(path for path in folder.rglob(REPORTS) if path.is_dir() and holds_reports(path))
    if not found:
        raise ReportFormatError(f"{folder} holds no C synthesis report", hint="synthesise the project first")
    if len(found) > 1:
        # The solutions of one project differ in directives that nothing else in the folder tells.
        raise ReportFormatError(f"{folder} holds {len(found)} solutions; which one its files describe is not known")
    return found[0]


def _vsynth_report(folder: Path) -> HardwareReport | None:
    """What Vivado's logic synthesis made of the design, where it was run once."""
    if not any(any(folder.rglob(pattern)) for pattern in NETLIST_REPORTS):
        return None
    solutions = load_reports(folder, strict=False)
    found = [report for solution in solutions for report in to_hardware_reports(solution)]
    netlists = [report for report in found if report.stage is CostStage.VSYNTH and report.lut is not None]
    return netlists[0] if len(netlists) == 1 else None


def _read_log(folder: Path) -> HlsLog:
    for name in LOGS:
        if (folder / name).is_file():
            return read_hls_log((folder / name).read_text(errors="replace"))
    return HlsLog()


def _top_input_type(reports: Path) -> FixedPoint | None:
    """Type of the first argument of the network's function, from ``solution1_data.json``."""
    path = reports.parent.parent / f"{reports.parent.parent.name}_data.json"
    if not path.is_file():
        return None
    match = re.search(r'"srcType":\s*"(ap_u?fixed<[^"]*?>)', path.read_text(errors="replace"))
    try:
        return FixedPoint.parse(match.group(1)) if match else None
    except TriggerPruneError:
        return None


def _setting(top: ModuleReport, config: project_config.ProjectConfig, log: HlsLog) -> HlsSetting:
    report = top.report
    release = tuple(int(part) for part in report.version.split(".")[:2])
    vitis = log.tool == "vitis_hls" if log.tool else release >= _VITIS_SINCE
    return HlsSetting(
        tool="vitis_hls" if vitis else "vivado_hls",
        version=report.version,
        part=report.part,
        family=report.family,
        clock_period_ns=report.target_clock_ns,
        clock_uncertainty_ns=report.clock_uncertainty_ns,
        io_type="io_stream" if config.io_type == "io_stream" else "io_parallel",
        forced_multiplier=log.forced_multiplier,
    )


def _report(top: ModuleReport, setting: HlsSetting, matched: list[Matched]) -> HardwareReport:
    report, used, offered = top.report, top.report.used, top.report.available
    return HardwareReport(
        stage=CostStage.CSYNTH,
        tool=setting.tool,
        tool_version=setting.version,
        part=setting.part,
        clock_period_ns=setting.clock_period_ns,
        lut=used.lut,
        ff=used.ff,
        dsp=used.dsp,
        bram18=used.bram18,
        latency_cycles=report.latency_worst,
        ii=report.interval_max,
        content_hash=digest(top.path.read_text()),
        layers=tuple(_layer_cost(item.layer.name, item.module) for item in matched if item.module is not None),
        uram=used.uram,
        available=Available(offered.lut, offered.ff, offered.dsp, offered.bram18, offered.uram),
        clock_uncertainty_ns=setting.clock_uncertainty_ns,
        estimated_clock_ns=report.estimated_clock_ns,
        latency_best_cycles=report.latency_best,
        ii_min=report.interval_min,
    )


def _layer_cost(name: str, module: ModuleReport) -> LayerCost:
    used, report = module.report.used, module.report
    return LayerCost(
        name,
        used.lut,
        used.ff,
        used.dsp,
        used.bram18,
        used.uram,
        report.latency_worst,
        report.interval_max,
    )

"""Reports of a whole network alone, as text: the table of instances states every module, a row of ``designs.csv`` the
layers.

Of such designs no project folder is public: no headers, no configuration. What neither file states is read off the
report: the reuse factor of a layer is the one that hls4ml accepts and that gives the multipliers of its module. Their
number is then no test of the estimates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from trigger_prune.cost.calibration.module_names import is_hls4mls_own, kind_of, parse_module
from trigger_prune.cost.calibration.rows import Row
from trigger_prune.cost.calibration.samples import Origin, Samples, digest, report_fingerprint
from trigger_prune.cost.calibration.sweep_tables import Collector
from trigger_prune.cost.calibration.table_layers import setting_of
from trigger_prune.cost.calibration.tables import csynth_report
from trigger_prune.cost.hls.conv import positions
from trigger_prune.cost.hls.design import DesignSample, HlsDesign, HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.hls.multiplier import dsp_per_multiplication
from trigger_prune.cost.hls.reuse_factor import multiplication_size, valid_reuse_factors
from trigger_prune.cost.report import LayerCost
from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.calibration.layer_list import layers_of_list
from trigger_prune.synthesis.parsers.csynth import Instance
from trigger_prune.synthesis.parsers.csynth_rpt import parse_csynth_rpt
from trigger_prune.synthesis.parsers.text import read_report

_CONFIG = re.compile(r"config(\d+)")
_ONE_CHANNEL_AT_A_TIME = ("dense", "max_pool", "softmax")
"""What differs in streams without arrays, which were written for one project and not released in this form."""
_WEIGHTED = ("dense", "conv1d", "conv2d")


def find_report(row: Row, roots: Iterable[Path]) -> Path | None:
    """The file that a row of ``designs.csv`` names, below one of ``roots``."""
    name = row.text("report")
    if name is None or not name.endswith(".rpt"):
        return None
    return next((root / name for root in roots if (root / name).is_file()), None)


def read_instance_table(path: Path, row: Row) -> Samples:
    """Layers of one report, and the design if all of its layers can be estimated; else the reason in ``skipped``.

    Raises DataError when the report is not that of the row, and as ``layers_of_list``; ReportFormatError for a damaged
    report.
    """
    report = parse_csynth_rpt(read_report(path), source=str(path)).report
    stated = csynth_report(row)
    if (report.used.lut, report.used.ff) != (stated.lut, stated.ff):
        raise DataError(f"{path} is not the report of {row.source}: its LUT and FF differ")
    setting = setting_of(row, row.text("family") or "")
    design_name, project = row.required_text("design"), row.required_text("project")
    network = f"{project}/{row.text('network_id') or design_name}"
    value_type = FixedPoint.parse(row.required_text("precision_cfg"))
    layers = [
        replace(layer, implementation="kernel_window") if _has_window(layer, design_name) else layer
        for layer in layers_of_list(row, project, value_type)
    ]
    read = Collector()
    complete: list[HlsLayer] = []
    costs: list[LayerCost] = []
    for layer, instance in _matched(layers, report.instances, str(path)):
        measured = _measured(instance)
        where = f"{path}: {instance.module}"
        known = _with_reuse_factor(layer, setting, measured)
        reason = _unusable(known, instance) if known is not None else "its multipliers fit no reuse factor"
        if known is None or reason is not None:
            read.skip(where, str(reason))
            continue
        complete.append(known)
        costs.append(_layer_cost(layer.name, instance))
        if layer.kind == "max_pool" and layer.implementation == "kernel_window":
            read.skip(where, "a pool by kernel window has no formula of its own")
            continue
        fingerprint = digest("module", setting.version, setting.part, instance.module.removesuffix("_s"), measured)
        read.layer(LayerSample(known, setting, measured, project), Origin(where, fingerprint, network))
    if len(complete) < len(layers):
        read.skip(str(path), f"no estimate of the design: {len(layers) - len(complete)} modules are left out")
    else:
        measured_design = replace(stated, layers=tuple(costs))
        notes = ("reuse factors are read off the report: the multipliers are no test",)
        sample = DesignSample(HlsDesign(tuple(complete), setting), measured_design, project, design_name, None, notes)
        read.design(sample, Origin(str(path), report_fingerprint(measured_design), network))
    return read.samples()


def _has_window(layer: HlsLayer, design_name: str) -> bool:
    return "kernel_window" in design_name and layer.kind in ("conv1d", "conv2d", "max_pool")


def _matched(layers: list[HlsLayer], instances: Iterable[Instance], where: str) -> list[tuple[HlsLayer, Instance]]:
    """Layers with their modules: hls4ml numbers the configurations of one kind in order of computation."""
    by_kind: dict[str, list[tuple[int, Instance]]] = {}
    for instance in instances:
        function = parse_module(instance.module)
        config = _CONFIG.search(instance.module)
        if config is not None:
            by_kind.setdefault(kind_of(function.function), []).append((int(config.group(1)), instance))
    queues = {kind: [instance for _, instance in sorted(found, key=lambda f: f[0])] for kind, found in by_kind.items()}
    wanted = {kind: sum(layer.kind == kind for layer in layers) for kind in {layer.kind for layer in layers}}
    found_counts: Mapping[str, int] = {kind: len(queue) for kind, queue in queues.items()}
    if wanted != found_counts:
        raise DataError(f"{where}: the modules {dict(sorted(found_counts.items()))} are not those of the layer list")
    return [(layer, queues[layer.kind].pop(0)) for layer in layers]


def _measured(instance: Instance) -> LayerEstimate:
    used = instance.used
    values = (used.lut, used.ff, used.dsp, used.bram18, instance.latency_max, instance.interval_max)
    return LayerEstimate(*(None if value is None else float(value) for value in values))


def _unusable(layer: HlsLayer, instance: Instance) -> str | None:
    function = parse_module(instance.module).function
    if not is_hls4mls_own(function):
        return f"{function} is the project's own variant of a function of hls4ml"
    if "_array" not in instance.module and layer.kind in _ONE_CHANNEL_AT_A_TIME:
        return f"{function} streams one channel at a time, as no release of hls4ml does"
    if layer.kind in _WEIGHTED and layer.strategy == "latency":
        return "the weights are unknown"
    return None


def _with_reuse_factor(layer: HlsLayer, setting: HlsSetting, measured: LayerEstimate) -> HlsLayer | None:
    """With the reuse factor that gives the multipliers of the module; None when no valid one does."""
    if layer.kind not in _WEIGHTED or layer.strategy == "latency":
        return layer
    each = dsp_per_multiplication(layer.input_type.width, layer.input_type.width, setting)
    n_in, n_out = multiplication_size(layer)
    fitting = [f for f in valid_reuse_factors(n_in, n_out) if each * -(-n_in * n_out // f) == measured.dsp and f > 1]
    if not fitting:
        return None
    steps = positions(layer, setting) if layer.kernel else 1
    return replace(layer, reuse_factor=min(fitting, key=lambda f: abs(f * steps - (measured.latency_cycles or 0.0))))


def _layer_cost(name: str, instance: Instance) -> LayerCost:
    used = instance.used
    return LayerCost(
        name,
        used.lut,
        used.ff,
        used.dsp,
        used.bram18,
        used.uram,
        instance.latency_max,
        instance.interval_max,
    )

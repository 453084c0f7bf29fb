"""Readers of the published synthesis tables: whole designs, single modules, sweeps over one dense layer.

``designs.csv``                     one row per whole network; layers as JSON; csynth and, where it was run, vsynth
``layers.csv``                      one row per module report, with the arithmetic of the weights
``dense_layers_wa_ntorc.csv``       single dense layers of wa-hls4ml-search and N-TORC, failed runs included
``ntorc_merged_by_config.csv``      the rows of N-TORC, one per configuration
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trigger_prune.cost.calibration import sweep_tables
from trigger_prune.cost.calibration.module_names import is_hls4mls_own
from trigger_prune.cost.calibration.rows import Row, read_rows
from trigger_prune.cost.calibration.samples import Origin, Samples, digest, report_fingerprint
from trigger_prune.cost.calibration.table_layers import (
    INNER_FUNCTIONS,
    layer_of,
    measured_of,
    setting_of,
)
from trigger_prune.cost.hls.design import DesignSample, HlsDesign, HlsLayer, HlsSetting, LayerSample
from trigger_prune.cost.report import Available, CostStage, HardwareReport, LayerCost
from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint

DESIGNS, LAYERS = "designs.csv", "layers.csv"


def read_tables(folder: Path) -> Samples:
    """Samples of every table in ``folder``; none when there are none. Raises DataError for a damaged table."""
    layers = _rows_if_there(folder / LAYERS, ("project", "design", "module", "config", "tool", "LUT"))
    designs = _rows_if_there(folder / DESIGNS, ("project", "design", "layers", "tool", "LUT"))
    shared = _Shared(
        {row.required_text("part"): row.text("family") or "" for row in designs},
        {row.required_text("design"): row.text("io_type") or "" for row in designs},
        _entries_by_config(designs),
    )
    by_config = {_key(row): row for row in layers if not (row.text("func") or "").startswith(INNER_FUNCTIONS)}
    read = _Reading()
    for row in designs:
        read.attempt(row, lambda row=row: _read_design(row, by_config, read))  # type: ignore[misc]
    for row in layers:
        read.attempt(row, lambda row=row: _read_layer(row, shared, read))  # type: ignore[misc]
    for name, reader in sweep_tables.READERS.items():
        rows = _rows_if_there(folder / name, sweep_tables.REQUIRED[name])
        for row in rows:
            read.attempt(row, lambda row=row, reader=reader: reader(row, read))  # type: ignore[misc]
    return read.samples()


class _Reading(sweep_tables.Collector):
    """Collects samples, and what is skipped, while rows are read."""

    def attempt(self, row: Row, action: Callable[[], None]) -> None:
        """Read a row; one that makes no sense is skipped with the reason."""
        try:
            action()
        except DataError as error:
            self.skip(row.source, error.message)


def _rows_if_there(path: Path, required: tuple[str, ...]) -> tuple[Row, ...]:
    return read_rows(path, required) if path.is_file() else ()


def _key(row: Row) -> tuple[str, str]:
    return row.required_text("design"), row.required_text("config")


def _entries_by_config(designs: tuple[Row, ...]) -> dict[tuple[str, str], dict[str, Any]]:
    """Entries of the layer lists, which state sizes that ``layers.csv`` leaves out."""
    found = {}
    for row in designs:
        try:
            entries = _entries(row)
        except DataError:
            continue  # reported where the design itself is read
        found.update({(row.required_text("design"), str(entry.get("config"))): entry for entry in entries})
    return found


@dataclass(frozen=True)
class _Shared:
    """What ``designs.csv`` knows about layers: product family by part, io_type by design, entries of the lists."""

    families: Mapping[str, str]
    io_types: Mapping[str, str]
    entries: Mapping[tuple[str, str], Mapping[str, Any]]


def _read_layer(row: Row, shared: _Shared, read: sweep_tables.Collector) -> None:
    if row.flag("dup"):
        return read.skip(row.source, "the same module report as another design's")
    if (row.text("func") or "").startswith(INNER_FUNCTIONS):
        return read.skip(row.source, "a part of another layer's module")
    if row.flag("bad_model"):
        return read.skip(row.source, "the stored model is not the synthesised network")
    if not is_hls4mls_own(row.text("func") or ""):
        return read.skip(row.source, f"{row.text('func')} is the project's own variant of a function of hls4ml")
    layer = layer_of(shared.entries.get(_key(row), {}), row)
    if layer.kind == "other":
        return read.skip(row.source, f"no formulas for {row.text('func')}")
    if layer.kind == "dense" and layer.strategy == "latency" and layer.features is None:
        return read.skip(row.source, "the weights are unknown")
    if layer.kind in ("conv1d", "conv2d", "max_pool", "zero_padding") and not layer.output_size:
        return read.skip(row.source, "the image size is not in the table")
    design, measured = row.required_text("design"), measured_of(row)
    setting = setting_of(row, shared.families.get(row.text("part") or "", ""), shared.io_types.get(design))
    fingerprint = digest("module", setting.version, setting.part, row.text("module"), measured)
    sample = LayerSample(layer, setting, measured, row.required_text("project"))
    read.layer(sample, Origin(row.text("path") or row.source, fingerprint, network_of(design)))


def _read_design(row: Row, by_config: Mapping[tuple[str, str], Row], read: sweep_tables.Collector) -> None:
    design_name, project = row.required_text("design"), row.required_text("project")
    csynth = csynth_report(row)
    vsynth = _vsynth_report(row, csynth)
    if vsynth is not None:
        read.pair(csynth, vsynth, project)
    if row.text("duplicate_of") is not None:
        return read.skip(row.source, f"a copy of {row.text('duplicate_of')}")
    if not row.flag("usable_full"):
        return read.skip(row.source, row.text("note") or "the table marks its definition as incomplete")
    entries = _entries(row)
    setting = setting_of(row, row.text("family") or "")
    layers: list[HlsLayer] = []
    costs: list[LayerCost] = []
    value_type: FixedPoint | None = None
    for entry in entries:
        module = by_config.get((design_name, str(entry.get("config"))))
        layer = layer_of({**entry, "strategy": entry.get("strategy") or row.text("strategy_eff")}, module, value_type)
        value_type = layer.output_type
        layers.append(layer)
        if module is not None:
            costs.append(_layer_cost(layer.name, module))
    report = replace(csynth, layers=tuple(costs))
    notes = tuple(note for note in (row.text("note"),) if note)
    sample = DesignSample(HlsDesign(tuple(connected(layers)), setting), report, project, design_name, vsynth, notes)
    return read.design(sample, Origin(design_name, report_fingerprint(report), network_of(design_name)))


def connected(layers: list[HlsLayer]) -> list[HlsLayer]:
    """Layers with the output type of each taken from the input of the next, where a table states widths alone."""
    fixed = list(layers)
    for i in range(len(fixed) - 1):
        here, following = fixed[i], fixed[i + 1]
        if here.output_type.width == following.input_type.width and here.kind != "other":
            output = replace(here.output_type, integer=following.input_type.integer, signed=following.input_type.signed)
            fixed[i] = replace(here, output_type=output)
    return fixed


def network_of(design: str) -> str:
    """Designs beside each other in a folder implement the same network (another reuse factor, tool or part)."""
    parts = [part for part in design.split("/") if not part.startswith(("hls4ml_prj", "myproject_prj"))]
    if not parts:
        return design
    project, rest = parts[0], parts[1:]
    siblings = rest if design.split("/")[-1].startswith("hls4ml_prj") else rest[:-1]
    return "/".join([project, *siblings])


def _entries(row: Row) -> list[dict[str, Any]]:
    try:
        entries = json.loads(row.required_text("layers"))
    except ValueError as error:
        raise DataError(f"{row.source}: layers is not JSON: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{row.source}: layers is not a list of layers")
    # A convolution computes with an inner dense layer, which has an entry of its own.
    return [entry for entry in entries if not str(entry.get("config", "")).endswith("_mult")]


def csynth_report(row: Row) -> HardwareReport:
    setting: HlsSetting = setting_of(row, row.text("family") or "")
    return HardwareReport(
        stage=CostStage.CSYNTH,
        tool=setting.tool,
        tool_version=setting.version,
        part=setting.part,
        clock_period_ns=setting.clock_period_ns,
        lut=row.integer("LUT"),
        ff=row.integer("FF"),
        dsp=row.integer("DSP"),
        bram18=row.integer("BRAM18"),
        latency_cycles=row.integer("lat_max"),
        ii=row.integer("ii_max"),
        content_hash=row.text("md5") or "",
        uram=row.integer("URAM"),
        available=Available(row.integer("av_LUT"), row.integer("av_FF"), row.integer("av_DSP"), row.integer("av_BRAM")),
        clock_uncertainty_ns=row.real("unc"),
        estimated_clock_ns=row.real("est_clk"),
        latency_best_cycles=row.integer("lat_min"),
        ii_min=row.integer("ii_min"),
    )


def _vsynth_report(row: Row, csynth: HardwareReport) -> HardwareReport | None:
    if row.text("vs_LUT") is None:
        return None
    return HardwareReport(
        stage=CostStage.VSYNTH,
        tool="vivado",
        tool_version=csynth.tool_version,
        part=csynth.part,
        clock_period_ns=csynth.clock_period_ns,
        lut=row.integer("vs_LUT"),
        ff=row.integer("vs_FF"),
        dsp=row.integer("vs_DSP"),
        # A RAMB18 that is half of a RAMB36 is counted as 0.5 tiles in some reports: whole 18K units here.
        bram18=None if (bram := row.real("vs_BRAM18")) is None else round(bram),
        latency_cycles=None,
        ii=None,
        content_hash=csynth.content_hash,
    )


def _layer_cost(name: str, module: Row) -> LayerCost:
    return LayerCost(
        name,
        module.integer("LUT"),
        module.integer("FF"),
        module.integer("DSP"),
        module.integer("BRAM"),
        latency_cycles=module.integer("lat"),
        ii=module.integer("ii"),
    )

"""Measured reports of the full model: what Vitis or Vivado HLS has left of it, one path per reuse factor.

A path is a report (``csynth.xml``), a solution, or a whole hls4ml project. Only C synthesis is read: it states both
resources and cycles, and it is what the estimates of the other reuse factors predict. A report must be of the part, of
a clock that is tried, and of the network, as far as anything beside it says so: the stamp of a project that this
program wrote, the weights in its C++, or the widths of the network's ports.
"""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.hls.design import HlsLayer
from trigger_prune.cost.hls.from_spec import design_from_spec
from trigger_prune.cost.hls.reuse_factor import MULTIPLYING_KINDS
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ReportFormatError, WrongReportError
from trigger_prune.synthesis.calibration.describe import drafts_of
from trigger_prune.synthesis.calibration.project_config import FILE as HLS4ML_FILE
from trigger_prune.synthesis.calibration.project_config import read_project_config
from trigger_prune.synthesis.hls.offline_files import STAMP
from trigger_prune.synthesis.parsers.discover import load_reports
from trigger_prune.synthesis.parsers.guards import check_not_empty
from trigger_prune.synthesis.parsers.recognise import is_candidate
from trigger_prune.synthesis.parsers.to_hardware import to_hardware_reports
from trigger_prune.target import Target
from trigger_prune.two_stage.hardware import measured_cost
from trigger_prune.two_stage.latency import CLOCK_TOLERANCE
from trigger_prune.two_stage.options import FullOption
from trigger_prune.units import BUNCH_CROSSING_NS

KEY = "two_stage.full_reports"
_PLAIN_PORTS = frozenset({"ap_none", "ap_vld"})
_PROJECT_ABOVE = 6
"""Folders that Vitis puts between an hls4ml project and a report: TOP_prj/solution1/syn/report."""


@dataclass(frozen=True)
class MeasuredOptions:
    """Options of the full model by the reports, and what a reader must know of them."""

    options: tuple[FullOption, ...]
    remarks: tuple[str, ...]


def measured_options(
    name: str,
    spec: NetworkSpec,
    target: Target,
    strategy: str,
    paths: Mapping[int, Path],
    clock_multiples: Sequence[int],
) -> MeasuredOptions:
    """One option per report of ``paths`` (reuse factor -> path).

    Raises WrongReportError, naming the file, for a path without a C synthesis report, for a report of another part,
    clock, network, reuse factor or strategy and for two of one clock; ReportFormatError for a damaged one, CostError
    for one that states no latency or interval.
    """
    options, remarks = [], []
    for factor, path in sorted(paths.items()):
        proven = _check_projects(path, spec, target, strategy, factor)
        found: dict[int, HardwareReport] = {}
        for report in _csynth_reports(path):
            file = Path(str(report.details["file"]))
            multiple = _clock_multiple(report, file, clock_multiples)
            _check_part(report, file, target)
            if not (_check_ports(file, spec) or proven):
                remarks.append(f"{KEY}: nothing in {file} says of which network it is")
            check_not_empty(report.lut, source=str(file), widest_weight_bits=_widest(spec))
            if multiple in found:
                raise WrongReportError(
                    f"{path} holds two C synthesis reports at {multiple} cycles per crossing: {file} and "
                    f"{found[multiple].details['file']}",
                    hint=f"name one of them in {KEY}",
                )
            if report.timing_met is False:
                remarks.append(f"{file}: the HLS compiler does not reach the clock period")
            found[multiple] = report
        for multiple, report in sorted(found.items()):
            cost = measured_cost(replace(report, part=target.part), multiple, f"{name}, reuse factor {factor}")
            cost = cost.with_details(report=Path(str(report.details["file"])).name)
            options.append(FullOption(name, strategy, factor, cost, multiple))
    if options:
        listed = ", ".join(dict.fromkeys(str(option.reuse_factor) for option in options))
        of = options[0].cost
        remarks.insert(
            0,
            f"{name} at reuse factor {listed} is measured by {of.tool} {of.tool_version} ({of.stage}, {KEY}); "
            "everything else is as its line says",
        )
    return MeasuredOptions(tuple(options), tuple(remarks))


def with_measured(estimates: Sequence[FullOption], measured: Sequence[FullOption]) -> tuple[FullOption, ...]:
    """The measured option where there is one of the same reuse factor and clock, in the order of both."""
    known = {(option.clock_multiple, option.reuse_factor) for option in measured}
    kept = [option for option in estimates if (option.clock_multiple, option.reuse_factor) not in known]
    return tuple(sorted((*kept, *measured), key=lambda option: (option.clock_multiple, option.reuse_factor)))


def report_files(paths: Mapping[int, Path]) -> list[Path]:
    """Files whose content decides: reports, and what lies beside them of the project, sorted."""
    found: set[Path] = set()
    for path in paths.values():
        for folder in _projects(path):
            sources = folder / "firmware"
            found |= {folder / HLS4ML_FILE, folder / STAMP, *sources.glob("*.*"), *(sources / "weights").glob("*.h")}
        if path.is_file():
            found.add(path)
        for folder_name, _, names in os.walk(path):
            found |= {Path(folder_name) / name for name in names if is_candidate(Path(name)) or name == STAMP}
    return sorted(file for file in found if file.is_file())


def _csynth_reports(path: Path) -> list[HardwareReport]:
    reports = [report for solution in load_reports(path) for report in to_hardware_reports(solution)]
    found = [report for report in reports if report.stage is CostStage.CSYNTH]
    if not found:
        stages = ", ".join(sorted({report.stage.value for report in reports}))
        raise WrongReportError(
            f"{path} holds no C synthesis report" + (f", only {stages}" if stages else ""),
            hint=f"{KEY} takes csynth.xml, or the solution or hls4ml project that holds it",
        )
    return found


def _clock_multiple(report: HardwareReport, file: Path, clock_multiples: Sequence[int]) -> int:
    period = report.clock_period_ns
    for multiple in clock_multiples:
        if period is not None and abs(period * multiple / BUNCH_CROSSING_NS - 1) <= CLOCK_TOLERANCE:
            return multiple
    wanted = " or ".join(f"{BUNCH_CROSSING_NS / multiple:.4g}" for multiple in clock_multiples)
    raise WrongReportError(
        f"{file} is for a clock period of {period} ns, the study is of {wanted} ns",
        hint="synthesise it at that period, or name its clock in two_stage.clock_multiples",
    )


def _check_part(report: HardwareReport, file: Path, target: Target) -> None:
    """Vivado's names leave out dashes and, in some reports, the speed grade."""
    stated, wanted = (part.lower().replace("-", "") for part in (report.part, target.part))
    if not stated or not wanted.startswith(stated):
        raise WrongReportError(
            f"{file} is for the part {report.part}, the target is {target.part}",
            hint="synthesise it for target.part, or change that",
        )


def _check_ports(file: Path, spec: NetworkSpec) -> bool:
    """Whether the ports of the report are those of the network; False where it does not state them plainly."""
    if file.suffix != ".xml":
        return False
    ports = []
    for port in ElementTree.fromstring(file.read_text(errors="replace")).iter("RtlPorts"):
        port_name, direction, bits, protocol = (
            (port.findtext(tag) or "").strip() for tag in ("name", "Dir", "Bits", "IOProtocol")
        )
        if port_name.startswith("ap_") or port_name.endswith("_ap_vld"):
            continue
        if protocol not in _PLAIN_PORTS or not bits.isdigit():
            return False  # a stream, or an AXI wrapper around the network
        ports.append((direction, int(bits)))
    read = sum(bits for direction, bits in ports if direction == "in")
    written = sum(direction == "out" for direction, _ in ports)
    if not read or not written:
        return False
    wanted = int(np.prod(spec.input_shape)) * spec.input_type.width
    if (read, written) != (wanted, spec.n_outputs):
        raise WrongReportError(
            f"{file} is of another network: it reads {read} bits and writes {written} values, the full model {wanted} "
            f"bits and {spec.n_outputs} values",
            hint="synthesise the full model that two_stage.full names",
        )
    return True


def _projects(path: Path) -> list[Path]:
    """hls4ml projects at or below ``path``, else the one that it lies in."""
    below = sorted(file.parent for file in path.rglob(HLS4ML_FILE)) if path.is_dir() else []
    if below:
        return below
    above = [folder for folder in list(path.parents)[:_PROJECT_ABOVE] if (folder / HLS4ML_FILE).is_file()]
    return [folder for folder in above if path.relative_to(folder).parts[0].endswith("_prj")][:1]


def _check_projects(path: Path, spec: NetworkSpec, target: Target, strategy: str, factor: int) -> bool:
    """Whether a project beside the report is of the network, by its stamp or its weights."""
    proven = False
    for folder in _projects(path):
        proven |= _check_stamp(folder / STAMP, spec)
        config = read_project_config(folder / HLS4ML_FILE)
        try:
            layers = [draft.layer for draft in drafts_of(folder, config)]
        except ReportFormatError:
            continue  # a project without its C++: the reports themselves are checked all the same
        theirs = [layer for layer in layers if layer.kind in MULTIPLYING_KINDS]
        plain = replace(target, strategy=strategy, reuse_factor=1, layers=())
        mine = [layer for layer in design_from_spec(spec, plain).layers if layer.kind in MULTIPLYING_KINDS]
        pairs = [[(layer.n_in, layer.n_out) for layer in listed] for listed in (mine, theirs)]
        weights = [[_values(layer) for layer in listed] for listed in (mine, theirs)]
        known = all(value is not None for value in weights[1])
        if pairs[0] != pairs[1] or (known and not all(map(_same, *weights))):
            raise WrongReportError(
                f"{folder} is of another network: its weights are not those of the full model",
                hint="synthesise the full model that two_stage.full names, e.g. two_stage/firmware/hls/full",
            )
        proven |= known
        largest = max(layer.reuse_factor for layer in theirs)
        if largest != factor:
            raise WrongReportError(
                f"{folder} has reuse factor {largest}, {KEY} says {factor}", hint=f"set {KEY}: {{{largest}: ...}}"
            )
        others = {layer.strategy for layer in theirs if layer.reuse_factor > 1} - {strategy.lower()}
        if others:
            raise WrongReportError(
                f"{folder} has strategy {', '.join(sorted(others))}, two_stage.strategy is {strategy}",
                hint="synthesise it in that strategy, or change the key",
            )
    return proven


def _check_stamp(stamp: Path, spec: NetworkSpec) -> bool:
    if not stamp.is_file():
        return False
    try:
        stated = json.loads(stamp.read_text())["content_hash"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WrongReportError(f"{stamp} cannot be read: {error}") from None
    if stated != spec.content_hash():
        raise WrongReportError(
            f"{stamp} is the stamp of another network ({str(stated)[:12]}), the full model is "
            f"{spec.content_hash()[:12]}",
            hint="synthesise the full model that two_stage.full names",
        )
    return True


def _values(layer: HlsLayer) -> NDArray[np.float64] | None:
    """Weights as numbers, in ascending order: hls4ml orders them by strategy."""
    if layer.weight is None or layer.weight_type is None:
        return None
    return np.sort(layer.weight.ravel() * layer.weight_type.lsb)


def _same(first: NDArray[np.float64] | None, second: NDArray[np.float64] | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)


def _widest(spec: NetworkSpec) -> int:
    return max(layer.widest_weight_bits for layer in spec.layers)

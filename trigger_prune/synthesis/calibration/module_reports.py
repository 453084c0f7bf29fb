"""Reports of a synthesis: that of the network, and those of its modules with the ports they have."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from trigger_prune.cost.hls.design import LayerEstimate
from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.csynth import CsynthReport
from trigger_prune.synthesis.parsers.csynth_rpt import parse_csynth_rpt
from trigger_prune.synthesis.parsers.csynth_xml import parse_csynth_xml
from trigger_prune.synthesis.parsers.text import read_report

XML, TEXT = "_csynth.xml", "_csynth.rpt"


@dataclass(frozen=True)
class ModuleReport:
    """One module: what it costs, and the bits of all values it reads and returns (0 = none is a plain port, or only the
    text report is there, which is not asked)."""

    name: str
    path: Path
    report: CsynthReport
    input_bits: int
    output_bits: int

    @property
    def measured(self) -> LayerEstimate:
        """Cost, as the estimates name it."""
        used = self.report.used
        values = (used.lut, used.ff, used.dsp, used.bram18, self.report.latency_worst, self.report.interval_max)
        return LayerEstimate(*(None if value is None else float(value) for value in values))


def read_modules(folder: Path) -> dict[str, ModuleReport]:
    """Reports in a ``syn/report`` folder by module name: the XML, or the text where there is no XML.

    Raises ReportFormatError for a damaged one.
    """
    found = {}
    for path in sorted(folder.glob(f"*{XML}")):
        text = read_report(path)
        name = path.name.removesuffix(XML)
        found[name] = ModuleReport(name, path, parse_csynth_xml(text, source=str(path)), *_port_bits(text))
    for path in sorted(folder.glob(f"*{TEXT}")):
        name = path.name.removesuffix(TEXT)
        if name not in found:
            report = parse_csynth_rpt(read_report(path), source=str(path)).report
            found[name] = ModuleReport(name, path, report, 0, 0)
    return found


def holds_reports(folder: Path) -> bool:
    """Whether C synthesis left its reports in a folder."""
    return any(any(folder.glob(f"*{suffix}")) for suffix in (XML, TEXT))


def _port_bits(text: str) -> tuple[int, int]:
    read = returned = 0
    for port in ElementTree.fromstring(text).iter("RtlPorts"):
        name, direction, bits = (port.findtext(tag) or "" for tag in ("name", "Dir", "Bits"))
        if not bits.isdigit():
            continue
        if name.startswith("ap_return"):
            returned += int(bits)
        elif direction == "in" and not name.startswith("ap_"):
            read += int(bits)
    return read, returned


def choose_top(modules: dict[str, ModuleReport], project: str) -> ModuleReport:
    """The network's report: that of the project's function, not that of an AXI wrapper around it.

    Raises ReportFormatError when there is none.
    """
    if project in modules:
        return modules[project]
    raise ReportFormatError(
        f"no report of {project!r} among {', '.join(sorted(modules)) or 'no reports'}",
        hint="the folder's hls4ml_config.yml names the function of the network in ProjectName",
    )

"""The HLS backends without a tool: projects are written for another machine, and the reports it makes are read back.

    FOLDER/3f9c01d2aa41-xcvu13p-5ns-csynth-7be01c55/    one hls4ml project per design, ready to be synthesised
    FOLDER/synthesise_all.sh                            runs those that have no report yet

A report may be put anywhere below the folder of its design: ``csynth.xml`` alone, or the whole project as it came back.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ArtefactError, AwaitingReportsError, CostError, ExportError
from trigger_prune.synthesis.hls.cost import CosimCost, CsynthCost, VsynthCost, require_hope
from trigger_prune.synthesis.hls.dropped import DroppedReports, Expected, read_dropped
from trigger_prune.synthesis.hls.offline_files import ALL_SCRIPT, STAMP, write_all_script, write_instructions
from trigger_prune.synthesis.hls.run import write_options
from trigger_prune.synthesis.hls.tools import RELEASE, HlsInstallation, ToolKind
from trigger_prune.synthesis.parsers.guards import check_not_empty
from trigger_prune.synthesis.store.entry import StoredRun, now
from trigger_prune.synthesis.store.identity import tool_identity
from trigger_prune.synthesis.store.key import cost_options, key_of, key_parts, network_digest
from trigger_prune.target import Target

if TYPE_CHECKING:
    from trigger_prune.cost.network import NetworkSpec
    from trigger_prune.synthesis.store.reports import ReportStore

ONLINE: Mapping[str, type[CsynthCost]] = {kind.name: kind for kind in (CsynthCost, VsynthCost, CosimCost)}
"""Backends that can be worked with in this way, by name."""

_LAST_VIVADO_HLS = (2020, 1)


@dataclass(frozen=True)
class OfflineCost:
    """A ``CostModel`` whose tools are on another machine.

    folder         where projects are written and reports are looked for; made when missing
    name           csynth, vsynth or cosim
    tool_version   release there, if it is to be a certain one: reports of another are refused
    store          reports are put into it, and those of a known ``tool_version`` are looked up
    """

    folder: Path
    name: str = "csynth"
    tool_version: str | None = None
    store: ReportStore | None = None

    @property
    def stage(self) -> CostStage:
        """Stage of the online backend of this name."""
        return ONLINE[self.name].stage

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Cost of a quantised network, by the report in its folder.

        Raises AwaitingReportsError when there is none yet (the project is there then), WrongReportError, naming the
        file, for a report of another design, part, clock or release and for a damaged one, ToolError when a log in the
        folder says that the synthesis failed, CostError (no quantised network, or a hopeless synthesis) and
        ExportError.
        """
        if not isinstance(network, fx.GraphModule):
            raise CostError(f"{type(network).__name__} is not a quantised network", hint="call quantize_model first")
        from trigger_prune.quantize.describe import describe_network

        spec = describe_network(network)
        expected = self._expected(network, spec, target)
        place = self.folder / expected.folder_name
        found = read_dropped(place, expected) if place.is_dir() else None
        if found is not None:
            report = found.reports[self.stage]
            widest = max(layer.widest_weight_bits for layer in spec.layers)
            check_not_empty(report.lut, source=f"{place}: the {self.stage} report", widest_weight_bits=widest)
            return self._kept(found, network, spec, target)
        stored = self._stored(network, spec, target)
        if stored is not None:
            return stored
        self._write(network, spec, target, expected, place)
        raise AwaitingReportsError(
            f"a design waits for synthesis: {place}",
            (place,),
            hint=f"run {self.folder / ALL_SCRIPT} where the HLS compiler is, put the {self.stage} report (or the whole "
            "project) back into the folder of its design, and run the same command again",
        )

    def _expected(self, network: fx.GraphModule, spec: NetworkSpec, target: Target) -> Expected:
        content_hash = spec.content_hash()
        stated = json.dumps(target.to_dict(), sort_keys=True)
        digest = hashlib.sha256(f"{network_digest(network, content_hash)} {stated} {self.name}".encode()).hexdigest()
        device = target.part.split("-")[0]
        return Expected(
            folder_name=f"{content_hash[:12]}-{device}-{target.clock_period_ns:g}ns-{self.name}-{digest[:8]}",
            key=digest,
            # The name of the function is in every report: it tells whose it is.
            top=f"network_{digest[:12]}",
            content_hash=content_hash,
            part=target.part,
            clock_period_ns=target.clock_period_ns,
            stage=self.stage,
            tool_version=self.tool_version,
        )

    @property
    def _compiler(self) -> HlsInstallation:
        """What is assumed to be on the other machine."""
        tool = HlsInstallation("vitis_hls", self.tool_version or "", Path("vitis_hls"))
        kind: ToolKind = "vivado_hls" if (0, 0) < tool.release <= _LAST_VIVADO_HLS else "vitis_hls"
        return replace(tool, kind=kind)

    def _write(
        self, network: fx.GraphModule, spec: NetworkSpec, target: Target, expected: Expected, place: Path
    ) -> None:
        """The project, complete or not at all."""
        tool = self._compiler
        steps = ONLINE[self.name].steps
        assert tool.backend is not None  # a compiler has one
        if (place / STAMP).is_file():
            return
        require_hope(spec, target, tool)
        from trigger_prune.export.hls4ml_project import write_hls4ml_project

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.folder))
            try:
                project = write_hls4ml_project(network, scratch / "project", target, expected.top, backend=tool.backend)
                if tool.backend == "Vitis":
                    write_options(project, steps)
                write_instructions(project, expected, tool.kind, steps)
                for left in place.iterdir() if place.is_dir() else ():
                    # a log of the user's, say; nothing in it was a report
                    left.rename(project / left.name)
                shutil.rmtree(place, ignore_errors=True)
                project.rename(place)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            write_all_script(self.folder)
        except OSError as error:
            raise ExportError(
                f"the project {place} cannot be written: {error}", hint="set cost.offline to a folder of yours"
            ) from error

    def _parts(
        self, network: fx.GraphModule, spec: NetworkSpec, target: Target, tool: str, version: str
    ) -> dict[str, Any]:
        """Key of the online backend's entry for the same design and tool."""
        identity = tool_identity(_ToolOfReport(tool=tool, version=version))
        assert identity is not None  # it was given
        return key_parts(
            network,
            spec.content_hash(),
            flow=identity.flow,
            options=cost_options(ONLINE[self.name]()),
            target=target,
            tool=identity.parts,
        )

    def _kept(
        self, found: DroppedReports, network: fx.GraphModule, spec: NetworkSpec, target: Target
    ) -> HardwareReport:
        """The report, after it was put into the store."""
        report = found.reports[self.stage]
        # "2023.2.1" stays; whatever else follows is no part of the release
        release = re.match(r"20\d\d\.\d(\.\d+)?", found.hls_version)
        if self.store is None or release is None:
            return report
        parts = self._parts(network, spec, target, found.hls_tool, release.group(0))
        try:
            run = self.store.put(StoredRun(parts, found.reports, now(), found.log, dict(found.texts), spec))
        except ArtefactError as error:
            warnings.warn(f"a report could not be stored: {error}", stacklevel=3)
            return report
        return report.with_details(store_key=run.key)

    def _stored(self, network: fx.GraphModule, spec: NetworkSpec, target: Target) -> HardwareReport | None:
        """The report of an earlier synthesis with the stated release, if the store has one."""
        release = RELEASE.fullmatch(self.tool_version or "")
        if self.store is None or release is None:
            return None
        key = key_of(self._parts(network, spec, target, f"{self._compiler.backend} HLS", release.group(0)))
        try:
            run = self.store.get(key)
        except ArtefactError as error:
            warnings.warn(f"a stored synthesis is damaged and is asked for again: {error.message}", stacklevel=3)
            return None
        report = None if run is None else run.reports.get(self.stage)
        return None if report is None else report.with_details(store_key=key)


@dataclass(frozen=True)
class _ToolOfReport(CsynthCost):
    """The csynth backend as it is on the machine that has made a report."""

    tool: str = ""
    version: str = ""

    def identity(self) -> Mapping[str, str]:
        return {"tool": self.tool, "version": self.version}

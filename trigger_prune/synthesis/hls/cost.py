"""What the vendor's tools say of the hls4ml project of a network: ``CsynthCost`` and those that go on from it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from torch import fx, nn

from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ConfigError, CostError
from trigger_prune.synthesis.hls.run import HlsRun, run_hls
from trigger_prune.synthesis.hls.steps import HlsSteps
from trigger_prune.synthesis.hls.tools import HlsInstallation, require_hls_tool, require_vivado, with_version
from trigger_prune.synthesis.parsers.guards import check_not_empty
from trigger_prune.target import Target

PROJECT_NAME = "network"

HOPELESS = 0.1
"""Estimated chance to end with a report below which a synthesis is not started."""


@dataclass(frozen=True)
class CsynthCost:
    """A ``CostModel`` that exports the hls4ml project to a scratch folder and runs C synthesis there.

    tool_version     release to use (``2023.2``); None = the best that is installed
    licences         at most so many runs at once, over all processes that share the lock folder; None = no limit
    licence_wait_s   try again for so long when the licence server has none left
    least_chance     a synthesis whose estimated chance to end is lower is not started; None = start every one
    say              gets messages about waiting
    """

    timeout_s: float = 3600.0
    memory_limit_mib: float = 32768.0
    tool_version: str | None = None
    licences: int | None = None
    licence_wait_s: float = field(default=0.0, metadata={"limit": True})
    least_chance: float | None = field(default=HOPELESS, metadata={"limit": True})
    say: Callable[[str], None] | None = field(default=None, compare=False, metadata={"limit": True})
    name: ClassVar[str] = "csynth"
    stage: ClassVar[CostStage] = CostStage.CSYNTH
    steps: ClassVar[HlsSteps] = HlsSteps()

    def identity(self) -> Mapping[str, str] | None:
        """Tool and release that ``measure`` would run; None when the tool does not tell its version.

        Raises ToolError when there is none.
        """
        tool = self._tool()
        return {"tool": f"{tool.backend} HLS", "version": tool.version} if tool.version else None

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Cost of a quantised network.

        Raises CostError (no quantised network, or a hopeless synthesis), ExportError, and ToolError: no HLS compiler,
        or it failed (then it is a ToolRunError, whose ``run`` has the steps that did end); ReportFormatError for a
        report without any logic.
        """
        return self.measure_run(network, target).require(self.stage)

    def measure_run(self, network: nn.Module, target: Target) -> HlsRun:
        """As ``measure``, with every report that the run left, its log and the texts of the reports."""
        tool = self._tool()
        if not isinstance(network, fx.GraphModule):
            raise CostError(f"{type(network).__name__} is not a quantised network", hint="call quantize_model first")
        from trigger_prune.export.hls4ml_project import write_hls4ml_project
        from trigger_prune.quantize.describe import describe_network

        spec = describe_network(network)
        if self.least_chance is not None:
            require_hope(spec, target, tool, self.least_chance)
        assert tool.backend is not None  # a compiler has one
        with tempfile.TemporaryDirectory(prefix=f"trigger_prune_{self.name}_") as scratch:
            folder = Path(scratch) / "project"
            project = write_hls4ml_project(network, folder, target, PROJECT_NAME, backend=tool.backend)
            run = run_hls(
                project,
                PROJECT_NAME,
                tool,
                self.steps,
                timeout_s=self.timeout_s,
                memory_limit_mib=self.memory_limit_mib,
                licences=self.licences,
                licence_wait_s=self.licence_wait_s,
                content_hash=spec.content_hash(),
                say=self.say,
            )
            run = self._continued(run, tool, target, Path(scratch))
        widest = max(layer.widest_weight_bits for layer in spec.layers)
        check_not_empty(run.require(self.stage).lut, source=f"the {self.stage} report", widest_weight_bits=widest)
        return run

    def _continued(self, run: HlsRun, tool: HlsInstallation, target: Target, scratch: Path) -> HlsRun:
        """What follows in the same scratch folder, for backends that go beyond the build script."""
        return run

    def _tool(self) -> HlsInstallation:
        return with_version(require_hls_tool(self.tool_version))


@dataclass(frozen=True)
class VsynthCost(CsynthCost):
    """As ``CsynthCost``, followed by Vivado's logic synthesis of the generated Verilog, which is what is reported."""

    name: ClassVar[str] = "vsynth"
    stage: ClassVar[CostStage] = CostStage.VSYNTH
    steps: ClassVar[HlsSteps] = HlsSteps(vsynth=True)


@dataclass(frozen=True)
class CosimCost(CsynthCost):
    """As ``CsynthCost``, followed by RTL simulation: latency and interval as measured, no resources."""

    name: ClassVar[str] = "cosim"
    stage: ClassVar[CostStage] = CostStage.COSIM
    steps: ClassVar[HlsSteps] = HlsSteps(cosim=True)


@dataclass(frozen=True)
class PnrCost(CsynthCost):
    """As ``CsynthCost``, followed by synthesis, placement and routing of the generated Verilog on its own.

    Latency and interval are those of C synthesis, which Vivado cannot know; area and timing are Vivado's.
    """

    name: ClassVar[str] = "pnr"
    stage: ClassVar[CostStage] = CostStage.PNR

    def _continued(self, run: HlsRun, tool: HlsInstallation, target: Target, scratch: Path) -> HlsRun:
        from trigger_prune.synthesis.vivado.run import run_vivado
        from trigger_prune.synthesis.vivado.scripts import vivado_project_of_hls

        csynth = run.require(CostStage.CSYNTH)
        vivado = run_vivado(
            vivado_project_of_hls(run.project, run.name, scratch / "vivado", target.part, target.clock_period_ns),
            require_vivado(beside=tool),
            timeout_s=self.timeout_s,
            memory_limit_mib=self.memory_limit_mib,
            licences=self.licences,
            latency_cycles=csynth.latency_cycles,
            ii=csynth.ii,
            content_hash=csynth.content_hash,
            say=self.say,
        )
        vivado.require(CostStage.PNR)
        return replace(run, reports={**run.reports, **vivado.reports}, log=run.log + vivado.log)


def require_hope(spec: NetworkSpec, target: Target, tool: HlsInstallation, least_chance: float = HOPELESS) -> None:
    """Raise CostError when C synthesis of the network will most likely not end (``cost.hls.feasibility``).

    A network that has no description for the estimates is not judged.
    """
    from trigger_prune.cost.hls.calibration import shipped_calibration
    from trigger_prune.cost.hls.feasibility import DEFAULTS, FAMILY, require_feasible
    from trigger_prune.cost.hls.from_spec import HLS_VERSION, design_from_spec

    try:
        design = design_from_spec(spec, target, tool.version or HLS_VERSION)
    except ConfigError:
        return  # hls4ml itself says what it does not take
    if tool.kind == "vivado_hls":
        design = replace(design, setting=replace(design.setting, tool="vivado_hls"))
    require_feasible(design, shipped_calibration().parameters(FAMILY, DEFAULTS), least=least_chance)

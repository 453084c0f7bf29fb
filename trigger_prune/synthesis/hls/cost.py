"""``CsynthCost``: the HLS compiler's own estimate for the hls4ml project of a network."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import fx, nn

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import CostError
from trigger_prune.synthesis.hls.run import run_csynth
from trigger_prune.synthesis.hls.tools import require_hls_tool
from trigger_prune.target import Target

PROJECT_NAME = "network"


@dataclass(frozen=True)
class CsynthCost:
    """A ``CostModel`` that exports the hls4ml project to a scratch folder and runs C synthesis there."""

    timeout_s: float = 3600.0
    memory_limit_mib: float = 32768.0
    name = "csynth"
    stage = CostStage.CSYNTH

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Cost of a quantised network.

        Raises ToolError (no HLS compiler on PATH, or it failed), ExportError, ReportFormatError.
        """
        tool = require_hls_tool()
        if not isinstance(network, fx.GraphModule):
            raise CostError(f"{type(network).__name__} is not a quantised network", hint="call quantize_model first")
        from trigger_prune.export.hls4ml_project import write_hls4ml_project
        from trigger_prune.quantize.describe import describe_network

        with tempfile.TemporaryDirectory(prefix="trigger_prune_csynth_") as scratch:
            folder = Path(scratch) / "project"
            project = write_hls4ml_project(network, folder, target, PROJECT_NAME, backend=tool.backend)
            return run_csynth(
                project,
                PROJECT_NAME,
                tool,
                self.timeout_s,
                self.memory_limit_mib,
                content_hash=describe_network(network).content_hash(),
            )
